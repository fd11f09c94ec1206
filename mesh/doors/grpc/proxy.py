"""Any method of any service, proxied as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import grpc

from mesh.doors.grpc.status import Context, Farewell, abort, silent
from mesh.doors.ports import Serving
from mesh.wire.attempts import taken_from
from mesh.wire.call import Call, Metadata
from mesh.wire.headers import balanced
from mesh.wire.shapes import shape_of


class Proxy(grpc.GenericRpcHandler):
    """Answers whatever no other handler does; a method that is known to be unary gets the cheaper handler.

    Args:
        serving: carries out the calls.
        read: reads a call from its method and context; may raise a `MeshError`, which ends the call.
        farewell: what is added to the end of each answer.
    """

    def __init__(self, serving: Serving, read: Callable[[str, Context], Call] | None = None, farewell: Farewell = silent) -> None:
        self._serving, self._read, self._farewell = serving, read or call_of, farewell
        self._unary: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """A handler for the method; the same one serves all calls of it."""
        method = handler_call_details.method.removeprefix("/")
        if (known := self._unary.get(method)) is not None:
            return known
        if shape_of(method).unary:
            # Only described methods come here, so the names that callers make up are not kept.
            answer = _Unary(self._serving, method, self._read, self._farewell).answer
            return self._unary.setdefault(method, grpc.unary_unary_rpc_method_handler(answer))
        return grpc.stream_stream_rpc_method_handler(_Stream(self._serving, method, self._read, self._farewell).answer)


class _Method:
    """Calls of one method."""

    def __init__(self, serving: Serving, method: str, read: Callable[[str, Context], Call], farewell: Farewell) -> None:
        self._serving, self._method, self._read, self._farewell = serving, method, read, farewell

    def _end(self, context: Context, trailers: Metadata) -> None:
        trailers = (*trailers, *self._farewell(None))
        if trailers:
            context.set_trailing_metadata(trailers)


class _Unary(_Method):
    async def answer(self, payload: bytes, context: Context) -> bytes:
        """One message in, one out."""
        try:
            answer = await self._serving.unary(self._read(self._method, context), payload)
        except Exception as error:
            await abort(context, error, farewell=self._farewell)
        if answer.headers:
            await context.send_initial_metadata(answer.headers)
        self._end(context, answer.trailers)
        return answer.payload


class _Stream(_Method):
    async def answer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Any number of messages both ways."""
        answered = False
        try:
            stream = await self._serving.stream(self._read(self._method, context), requests)
            with closing(stream):
                await context.send_initial_metadata(stream.headers)
                answered = True
                async for message in stream:
                    yield message
        except Exception as error:
            await abort(context, error, answered=answered, farewell=self._farewell)
        self._end(context, stream.trailers)


def call_of_lane(method: str, context: Context) -> Call:
    """What the express lane hands over, with what it tried before. Nobody but the lane may be read so."""
    call = call_of(method, context)
    told = taken_from(call.metadata)
    return call if told.metadata is call.metadata else replace(call, metadata=told.metadata, attempt=told.attempt, chosen=told.chosen)


def call_of(method: str, context: Context) -> Call:
    """What is asked, as the mesh carries it."""
    metadata: Metadata = tuple(context.invocation_metadata() or ())
    remaining = context.time_remaining()
    # Without a deadline it is None, which the type stubs leave out.
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining  # type: ignore[redundant-expr]
    return Call(method, metadata, None, deadline, balanced(metadata))
