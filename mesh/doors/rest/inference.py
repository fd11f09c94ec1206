"""Calls of models over REST: infer and metadata, each one message through `Serving` and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from mesh.core.errors import Cancelled, Malformed
from mesh.doors.ports import Directory, Serving
from mesh.doors.rest import answers, binary, body_proto, body_v2, headers, metadata, reading
from mesh.doors.rest.fields import Object
from mesh.protocols.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelMetadataRequest
from mesh.wire.attempts import believed
from mesh.wire.call import Answer, Call, Target
from mesh.wire.headers import balanced

SERVICE = "inference.GRPCInferenceService"
LARGE = 65_536
"""Messages from this size on, in bytes, are transcoded in a thread, so that none holds the event loop for more than a few milliseconds."""

RAW_KEYS = ("raw_input_contents", "rawInputContents")


class Inference:
    """The routes under `/v2/models/NAME`.

    Args:
        lane_key: by which the express lane is known, which tells what it tried; empty if there is none.

    Attributes:
        max_message: the largest body taken, in bytes, packed or unpacked.
    """

    def __init__(self, serving: Serving, directory: Directory, max_message: int, lane_key: str = "") -> None:
        self._serving = serving
        self._lane_key = lane_key
        self._directory = directory
        self.max_message = max_message

    async def metadata(self, request: Request) -> Response:
        """GET: what the model takes and gives; loads it if need be. Shapes are numbers."""
        name, version = named(request)
        message = ModelMetadataRequest(name=name, version=version)
        answer = await self._call(request, name, "ModelMetadata", message.SerializeToString())
        extra = headers.outward(answer.headers) | headers.request_id(answer.trailers)
        return Response(orjson.dumps(metadata.write(answer.payload)), headers=extra, media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """GET: 200 if a call now would be served, else 503; never loads. A name nobody knows is 404."""
        name, _ = named(request)
        ready = self._directory.model_ready(name)
        return Response(orjson.dumps({"name": name, "ready": ready}), 200 if ready else 503, media_type="application/json")

    async def infer(self, request: Request) -> Response:
        """POST: one inference; the answer comes in the form asked in."""
        name, version = named(request)
        body = await reading.whole(request, self.max_message)
        part, tail = binary.split(body, request.headers.get(binary.HEADER))
        large = len(body) >= LARGE
        message, reply = await asyncio.to_thread(decode, part, tail) if large else decode(part, tail)
        message.model_name, message.model_version = name, version
        answer = await self._call(request, name, "ModelInfer", message.SerializeToString())
        large = len(answer.payload) >= LARGE
        text, length = await asyncio.to_thread(encode, answer.payload, reply) if large else encode(answer.payload, reply)
        extra = headers.outward(answer.headers) | headers.request_id(answer.trailers)
        if length is None:
            return Response(text, headers=extra, media_type="application/json")
        return Response(text, headers=extra | {binary.HEADER: str(length)}, media_type="application/octet-stream")

    async def _call(self, request: Request, name: str, method: str, payload: bytes) -> Answer:
        inward, attempt, chosen = believed(headers.inward(request.headers.raw), self._lane_key)
        granted = headers.timeout(request.headers.get("grpc-timeout"))
        deadline = None if granted is None else asyncio.get_running_loop().time() + granted
        call = Call(
            f"{SERVICE}/{method}",
            inward,
            Target(either=name),
            deadline,
            balanced(inward),
            attempt=attempt,
            chosen=chosen,
            headers=request.headers.raw,
        )
        return await while_connected(request.receive, self._serving.unary(call, payload))


def named(request: Request) -> tuple[str, str]:
    """Name and version of the model in the path, whose segments are still percent-encoded (see `app.Entrance`).

    Raises:
        Malformed: they decode to something that is no UTF-8.
    """
    try:
        path = request.path_params
        return unquote(path["name"], errors="strict"), unquote(path.get("version", ""), errors="strict")
    except UnicodeDecodeError:
        raise Malformed(f"{request.scope['path']}: the percent-encoded bytes are no UTF-8") from None


def decode(part: bytes, tail: binary.Tail) -> tuple[ModelInferRequest, body_v2.Reply | None]:
    """The message of a body in either form; the reply is None for the proto3 JSON form.

    Raises:
        Malformed: says what is wrong, and where.
    """
    document = reading.parse(part)
    if _is_proto(document):
        tail.finish()
        return body_proto.read(document), None
    return body_v2.read(document, tail)


def _is_proto(document: Object) -> bool:
    """`contents` in a tensor or raw contents at the top make the proto3 JSON form; `data` and binary sizes the v2 form."""
    inputs = document.get("inputs")
    tensors = [item for item in inputs if isinstance(item, dict)] if isinstance(inputs, list) else []
    proto = any(key in document for key in RAW_KEYS) or any("contents" in tensor for tensor in tensors)
    if proto and any("data" in tensor for tensor in tensors):
        raise Malformed("the request mixes two forms: 'data' (v2) and 'contents' or raw contents (proto3 JSON); send one of them")
    return proto


def encode(payload: bytes, reply: body_v2.Reply | None) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON part if raw tensors follow.

    Raises:
        BadAnswer: the runtime's answer cannot be read.
    """
    response = answers.parse(ModelInferResponse(), payload)
    return (body_proto.write(response), None) if reply is None else body_v2.write(response, reply)


async def while_connected(receive: Receive, answering: Awaitable[Answer]) -> Answer:
    """Awaits the answer, and cancels it if the client leaves meanwhile. The body must have been read.

    Raises:
        Cancelled: the client left.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await answering
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise Cancelled("the client left before the answer") from None
        raise
    finally:
        watcher.cancel()
