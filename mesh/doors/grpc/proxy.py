"""Any method of any service, proxied as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import grpc

from mesh.doors.grpc.status import Context, abort
from mesh.doors.ports import Serving
from mesh.wire.call import Call, Metadata
from mesh.wire.headers import balanced
from mesh.wire.shapes import shape_of


class Proxy(grpc.GenericRpcHandler):
    """Answers whatever no other handler does; a method that is known to be unary gets the cheaper handler."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """A handler for the method; the same one serves all calls of it."""
        method = handler_call_details.method.removeprefix("/")
        if shape_of(method).unary:
            return grpc.unary_unary_rpc_method_handler(_Unary(self._serving, method).answer)
        return grpc.stream_stream_rpc_method_handler(_Stream(self._serving, method).answer)


class _Unary:
    """Calls of one unary method."""

    def __init__(self, serving: Serving, method: str) -> None:
        self._serving, self._method = serving, method

    async def answer(self, payload: bytes, context: Context) -> bytes:
        """One message in, one out."""
        try:
            answer = await self._serving.unary(call_of(self._method, context), payload)
        except Exception as error:
            await abort(context, error)
        if answer.headers:
            await context.send_initial_metadata(answer.headers)
        if answer.trailers:
            context.set_trailing_metadata(answer.trailers)
        return answer.payload


class _Stream:
    """Calls of one streaming or unknown method."""

    def __init__(self, serving: Serving, method: str) -> None:
        self._serving, self._method = serving, method

    async def answer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Any number of messages both ways."""
        answered = False
        try:
            stream = await self._serving.stream(call_of(self._method, context), requests)
            with closing(stream):
                await context.send_initial_metadata(stream.headers)
                answered = True
                async for message in stream:
                    yield message
        except Exception as error:
            await abort(context, error, answered=answered)
        context.set_trailing_metadata(stream.trailers)


def call_of(method: str, context: Context) -> Call:
    """What is asked, as the mesh carries it."""
    metadata: Metadata = tuple((str(key), value) for key, value in context.invocation_metadata() or ())
    remaining = context.time_remaining()
    # Without a deadline it is None, which the type stubs leave out.
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining  # type: ignore[redundant-expr]
    return Call(method, metadata, None, deadline, balanced(metadata))
