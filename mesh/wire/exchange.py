"""A call made as bytes on a channel: one message or a stream, each way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol, TypeGuard

import grpc
from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined] # not in its type stubs

from mesh.core.errors import Code, MeshError
from mesh.wire.call import Answer, Metadata, RuntimeStatus
from mesh.wire.headers import from_runtime

_METHODS_KEPT = 256
"""Prepared methods a channel keeps; callers may send any number of method names."""


class Exchange:
    """Calls of any method on one channel; payloads stay bytes.

    Args:
        channel: to whoever answers.
        passes: what of an answer's headers and trailers is told.
    """

    def __init__(self, channel: aio.Channel, passes: Callable[[Metadata], Metadata] = from_runtime) -> None:
        self._channel, self._passes = channel, passes
        self._unary: OrderedDict[str, aio.UnaryUnaryMultiCallable[bytes, bytes]] = OrderedDict()

    async def unary(self, method: str, payload: bytes, metadata: Metadata, timeout: float | None) -> Answer:
        """One message each way; `timeout` in seconds.

        Raises:
            RuntimeStatus: the answer was another status than OK.
        """
        call = self._method(method)(payload, timeout=timeout, metadata=_Sent(metadata))
        try:
            reply = await call
            headers, trailers = await call.initial_metadata(), await call.trailing_metadata()
            return Answer(reply, self._passes(_pairs(headers)), self._passes(_pairs(trailers)))
        except aio.AioRpcError as error:
            raise _status_of(error, self._passes) from None

    def stream(self, method: str, requests: AsyncIterator[bytes], metadata: Metadata, timeout: float | None) -> StreamCall:
        """Any number of messages each way."""
        multi: aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(f"/{method}")
        return StreamCall(multi(timeout=timeout, metadata=_Sent(metadata)), requests, self._passes)

    def ask(self, method: str, payload: bytes, metadata: Metadata, timeout: float | None) -> StreamCall:
        """One message there, any number back.

        A status that comes before the request is written gets lost where gRPC writes messages one by one; not so here.
        """
        multi: aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(f"/{method}")
        return StreamCall(multi(payload, timeout=timeout, metadata=_Sent(metadata)), None, self._passes)

    def _method(self, method: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
        found = self._unary.get(method)
        if found is None:
            found = self._unary[method] = self._channel.unary_unary(f"/{method}")
            if len(self._unary) > _METHODS_KEPT:
                self._unary.popitem(last=False)
        return found


class _Sent(aio.Metadata):
    """Metadata of a call, which gRPC only counts and goes through once: its own class would first sort them by name, for look-ups."""

    def __init__(self, pairs: Metadata) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._pairs)


class Answering(Protocol):
    """The answering side of a stream, wherever it goes."""

    headers: Metadata
    """Known with the first message or the end."""
    trailers: Metadata
    """Known with the end."""

    async def next(self) -> bytes | None:
        """The next response message; None after the last. Raises what ended the stream instead."""
        ...

    def cancel(self) -> None:
        """Ends the stream from this side; has to be called at its end, too. Doing it again changes nothing."""
        ...


_Streaming = aio.StreamStreamCall[bytes, bytes] | aio.UnaryStreamCall[bytes, bytes]


class StreamCall:
    """One stream; requests that are still to come are pumped by a task of its own."""

    def __init__(
        self, call: _Streaming, requests: AsyncIterator[bytes] | None, passes: Callable[[Metadata], Metadata] = from_runtime
    ) -> None:
        self._call, self._passes = call, passes
        self._fault: MeshError | None = None
        self._pump = asyncio.get_running_loop().create_task(self._send(call, requests)) if _takes_more(call) and requests else None
        self.headers: Metadata = ()
        self.trailers: Metadata = ()

    async def next(self) -> bytes | None:
        """The next response message; None after the last.

        Raises:
            RuntimeStatus: the stream ended with another status than OK.
            MeshError: a request message was refused on the way.
        """
        try:
            message = await self._call.read()
            if isinstance(message, bytes):
                self.headers = self.headers or self._passes(_pairs(await self._call.initial_metadata()))
                return message
            await self._end()
            return None
        except aio.AioRpcError as error:
            raise self._fault or _status_of(error, self._passes) from None
        except asyncio.CancelledError:
            if self._fault is not None:
                raise self._fault from None
            raise

    async def _end(self) -> None:
        self.headers = self.headers or self._passes(_pairs(await self._call.initial_metadata()))
        self.trailers = self._passes(_pairs(await self._call.trailing_metadata()))
        code = await self._call.code()
        if self._fault is not None:
            raise self._fault
        if code is not grpc.StatusCode.OK:
            raise RuntimeStatus(Code[code.name], await self._call.details() or "", self.headers, self.trailers)

    async def _send(self, call: aio.StreamStreamCall[bytes, bytes], requests: AsyncIterator[bytes]) -> None:
        try:
            async for message in requests:
                await _write(call, message)
            await call.done_writing()
        except MeshError as error:
            self._fault = error
            self._call.cancel()
        except (aio.AioRpcError, asyncio.InvalidStateError, cygrpc.InternalError):
            # The stream ended from the other side; its status is read there.
            pass

    def cancel(self) -> None:
        """Ends the stream from this side."""
        if self._pump is not None:
            self._pump.cancel()
        self._call.cancel()


async def _write(call: aio.StreamStreamCall[bytes, bytes], message: bytes) -> None:
    """As `call.write`, which lets a write that fails because the stream ended take the place of the status that it ended with.

    Raises:
        InternalError, AioRpcError, InvalidStateError: the stream ended.
    """
    await call.wait_for_connection()
    if call.done():
        raise asyncio.InvalidStateError
    await call._cython_call.send_serialized_message(message)  # type: ignore[attr-defined]


def _takes_more(call: _Streaming) -> TypeGuard[aio.StreamStreamCall[bytes, bytes]]:
    return isinstance(call, aio.StreamStreamCall)


def _pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    return tuple(metadata) if metadata is not None else ()


def _status_of(error: aio.AioRpcError, passes: Callable[[Metadata], Metadata]) -> RuntimeStatus:
    headers, trailers = passes(_pairs(error.initial_metadata())), passes(_pairs(error.trailing_metadata()))
    return RuntimeStatus(Code[error.code().name], error.details() or "", headers, trailers)
