"""What payload processors do, and which of them `MM_PAYLOAD_PROCESSORS` asks for."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mesh.telemetry.cloudevents import headers_of
from mesh.telemetry.payloads import Headers, Payload, Processor

_log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for a receiver to take a payload."""
_ANY = ("", "*")
_PIECE = 48 * 1024
"""Bytes put into base64 at a time, a multiple of three: the event loop's thread gets its turn in between."""


class Logger:
    """Writes a line about each payload."""

    name = "logger"

    def process(self, payload: Payload) -> None:
        """As of `Processor`."""
        _log.info(
            "payload",
            extra={
                "id": payload.id,
                "kind": payload.kind,
                "model": payload.model,
                "vmodel": payload.alias or None,
                "method": payload.method,
                "status": payload.status.name if payload.status else None,
                "bytes": None if payload.data is None else len(payload.data),
            },
        )

    def close(self) -> None:
        """Nothing to end."""


class Remote:
    """Posts each payload to a URI; any status of 200 to 299 means that it was taken.

    Args:
        uri: with its query, which ModelMesh sends too.
        write: makes the headers and the body.
    """

    def __init__(self, name: str, uri: str, write: Callable[[Payload], tuple[dict[str, str], bytes | Iterator[bytes]]]) -> None:
        import httpx

        self.name, self._uri, self._write = name, uri, write
        self._client = httpx.Client(timeout=TIMEOUT)

    def process(self, payload: Payload) -> None:
        """As of `Processor`."""
        headers, body = self._write(payload)
        answer = self._client.post(self._uri, content=body, headers=headers)
        if not answer.is_success:
            raise RuntimeError(f"{self._uri} answers {answer.status_code}")

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


@dataclass(frozen=True, slots=True)
class Matching:
    """Another processor for some payloads only.

    Attributes:
        model: a concrete model or an alias; empty means any.
        method: pkg.Service/Method; empty means any.
    """

    then: Processor
    model: str = ""
    method: str = ""

    @property
    def name(self) -> str:
        """The other's."""
        return self.then.name

    def process(self, payload: Payload) -> None:
        """As of `Processor`."""
        if self.model in ("", payload.model, payload.alias) and self.method in ("", payload.method):
            self.then.process(payload)

    def close(self) -> None:
        """Ends the other."""
        self.then.close()


def as_json(payload: Payload) -> tuple[dict[str, str], Iterator[bytes]]:
    """The body that ModelMesh posts."""
    document = {
        "id": payload.id,
        "modelid": payload.model,
        "vModelId": payload.alias,
        "kind": payload.kind,
        "status": payload.status.name if payload.status else "",
        "metadata": _texts(payload.headers),
        "data": "",
    }
    before, data = json.dumps(document).removesuffix('"}').encode(), payload.data or b""
    length = len(before) + -(-len(data) // 3) * 4 + 2
    return {"content-type": "application/json", "content-length": str(length)}, _body(before, data)


def _body(before: bytes, data: bytes) -> Iterator[bytes]:
    yield before
    for start in range(0, len(data), _PIECE):
        yield base64.b64encode(data[start : start + _PIECE])
    yield b'"}'


def _texts(headers: Headers) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in headers}


def read_processors(text: str, source: str) -> Callable[[], Sequence[Processor]] | None:
    """What `MM_PAYLOAD_PROCESSORS` asks for; None if it asks for nothing that can be done, which is logged.

    Args:
        text: URIs with spaces between.
        source: of CloudEvents; a URI reference without an end slash.
    """
    makers = [maker for uri in text.split() if (maker := _maker(uri, source)) is not None]
    return (lambda: [maker() for maker in makers]) if makers else None


def _maker(uri: str, source: str) -> Callable[[], Processor] | None:
    import httpx  # slow to import, and few pods post payloads

    try:
        parts = urlsplit(uri)
        cloud, _, scheme = parts.scheme.rpartition("+")
        model, method = _filter(parts.query), _filter(parts.fragment)
        where = parts._replace(scheme=scheme, fragment="").geturl()
        if parts.scheme == "logger":
            return lambda: Matching(Logger(), model, method)
        if scheme not in ("http", "https") or cloud not in ("", "cloudevents"):
            raise ValueError("its scheme is none of logger, http, https, cloudevents+http and cloudevents+https")
        if not httpx.URL(where).host:
            raise ValueError("it names no host")
    except (ValueError, httpx.InvalidURL) as error:
        _log.error("a payload processor of MM_PAYLOAD_PROCESSORS is left out: %s: %s", uri, error)
        return None
    if cloud:
        return lambda: Matching(Remote(uri, where, lambda payload: (headers_of(payload, source), payload.data or b"")), model, method)
    return lambda: Matching(Remote(uri, where, as_json), model, method)


def _filter(text: str) -> str:
    """A model or method to match; empty for any."""
    name = unquote(text).removeprefix("/")
    return "" if name in _ANY else name
