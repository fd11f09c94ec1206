"""Payloads as CloudEvents 1.0 in the binary mode of HTTP, of the types that KServe's logger sends."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from mesh.telemetry.payloads import Payload

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
"""Types of events, as KServe's logger has them."""
_PLAIN = "".join(chr(number) for number in range(0x21, 0x7F) if chr(number) not in '"%')
"""Characters that stand for themselves in headers (CloudEvents, HTTP protocol binding 1.0.2, 3.1.3.2)."""


def headers_of(payload: Payload, source: str) -> dict[str, str]:
    """The attributes of an event as headers of HTTP; its body is the message as it is.

    The id of a call's first request and response is the same, by which KServe's consumers join them; since source and id together have to
    be unique, the source names the kind. Further messages of a stream have their number in the id.

    Args:
        payload: the message.
        source: URI reference of the pod, without an end slash.
    """
    attributes = {
        "specversion": "1.0",
        "type": REQUEST if payload.status is None else RESPONSE,
        "source": f"{source}/{payload.kind}",
        "id": f"{payload.id}-{payload.number}" if payload.number else payload.id,
        "time": datetime.fromtimestamp(payload.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "inferenceservicename": payload.alias or payload.model or "",
        "component": "predictor",
        "modelid": payload.model or "",
        "method": payload.method,
        "status": payload.status.name if payload.status else "",
        "traceparent": next((value for name, value in payload.headers if name == "traceparent" and isinstance(value, str)), ""),
    }
    told = {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in attributes.items() if value}
    return {**told, "content-type": "application/protobuf"} if payload.data is not None else told
