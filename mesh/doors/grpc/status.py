"""The one place where an error of the mesh, or a status of the runtime, becomes a gRPC status."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Never

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from mesh.core.errors import Bug, Malformed, MeshError
from mesh.wire.call import REQUEST_ID, Metadata, RuntimeStatus
from mesh.wire.callers import Caller

log = logging.getLogger(__name__)

Context = aio.ServicerContext[Any, Any]
LONGEST_MESSAGE = 4096
"""Bytes of a message on the wire; all metadata of an answer must fit in the 8 KiB that clients take."""

Method = Callable[[Any, Context], Awaitable[Message]]

Farewell = Callable[[Exception | None], Metadata]
"""What a door adds to the end of each answer; told the error that ends it, None for OK."""


def silent(_: Exception | None) -> Metadata:
    """Adds nothing."""
    return ()


def unary(method: Method, request: type[Message], farewell: Farewell = silent) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that takes and gives messages; garbage and errors become a status here."""

    async def answer(payload: bytes, context: Context) -> bytes:
        try:
            try:
                message = request.FromString(payload)
            except DecodeError as error:
                raise Malformed(f"the request is not a {request.DESCRIPTOR.full_name}: {error}") from None
            answer = (await method(message, context)).SerializeToString()
        except Exception as error:
            await abort(context, error, farewell=farewell)
        trailers = farewell(None)
        if trailers:
            context.set_trailing_metadata(trailers)
        return answer

    return grpc.unary_unary_rpc_method_handler(answer)


async def abort(context: Context, error: Exception, *, answered: bool = False, farewell: Farewell = silent) -> Never:
    """Ends the call with the status of an error; a runtime's own passes with its details and trailers.

    Args:
        context: the call.
        error: any.
        answered: whether headers or messages were sent already.
        farewell: what the door adds.
    """
    trailers: Metadata = ()
    if isinstance(error, RuntimeStatus):
        if error.headers and not answered:
            await context.send_initial_metadata(_pairs(error.headers))
        code, details, trailers = error.code.name, error.details, error.trailers
    else:
        if not isinstance(error, MeshError):
            number = uuid.uuid4().hex[:12]
            log.error("unexpected error %s", number, exc_info=error, extra={"caller": str(caller_of(context))})
            error = Bug(f"unexpected error {number}; the router's log has the cause")
        code, details = error.code.name, _fitting(error.message)
    if isinstance(error, MeshError) and error.request:
        trailers = ((REQUEST_ID, error.request),)
    await context.abort(grpc.StatusCode[code], details, _pairs((*trailers, *farewell(error))))


def caller_of(context: Context) -> Caller:
    """Who calls. On a Unix socket nobody does but the express lane, which tells for whom."""
    peer = context.peer()
    if peer.startswith("unix:") and (told := Caller.told(tuple(context.invocation_metadata() or ()))) is not None:
        return told
    subject = next(iter(context.auth_context().get("x509_subject", ())), None)
    return Caller(peer, subject.decode("utf-8", "replace") if subject is not None else None)


def _fitting(message: str) -> str:
    """A message cut so that it fits on the wire, where every byte that is not plain ASCII takes three."""
    cost = 0
    for kept, letter in enumerate(message):
        cost += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode("utf-8", "replace"))
        if cost > LONGEST_MESSAGE:
            return message[:kept] + "…"
    return message


def _pairs(metadata: Metadata) -> Sequence[tuple[str, str | bytes]]:
    return metadata
