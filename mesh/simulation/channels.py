"""Channels as gRPC's, with something simulated at their other end: whatever makes calls on them does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any

import grpc
from grpc import aio

from mesh.wire.call import Metadata, RuntimeStatus

Unary = Callable[[str, Any, Metadata, float | None], Awaitable[tuple[Any, Metadata]]]
"""Answers a call of a method (without the leading slash) with a message, metadata, and seconds that are left; message and trailers.

Raises:
    RuntimeStatus: the call ends with that status.
"""
Watch = Callable[[str], AsyncIterator[Any]]
"""Answers a call of a method with many messages. Errors as of `Unary`."""


class SimulatedChannel(aio.Channel):
    """A channel to `unary` and `watch`; closing it ends nothing but itself."""

    def __init__(self, unary: Unary, watch: Watch | None = None) -> None:
        self._unary, self._watch = unary, watch

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Calls with one message each way."""
        unary, name = self._unary, method.removeprefix("/")
        return lambda request, *, timeout=None, metadata=(), **_: _Call(unary, name, request, metadata, timeout)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """Calls with many messages back."""
        watch = self._watch
        if watch is None:
            raise NotImplementedError("the simulation has no streams of calls")
        return lambda _request, **__: _messages(watch(method.removeprefix("/")))

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """Not simulated."""
        raise NotImplementedError("the simulation has no streams of calls")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """Not simulated."""
        raise NotImplementedError("the simulation has no streams of calls")

    async def close(self, grace: float | None = None) -> None:
        """Nothing is kept open between calls."""

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        """Connections come about with calls."""
        return grpc.ChannelConnectivity.IDLE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Not simulated."""
        raise NotImplementedError

    async def channel_ready(self) -> None:
        """Connections come about with calls."""


class _Call:
    """One call under way: awaited once, then asked for its metadata."""

    __slots__ = ("_answer", "_asked", "_trailers")

    def __init__(
        self, answer: Unary, method: str, request: Any, metadata: Iterable[tuple[str, str | bytes]], timeout: float | None
    ) -> None:
        self._answer = answer
        self._asked = (method, request, tuple(metadata), timeout)
        self._trailers: Metadata = ()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._made().__await__()

    async def _made(self) -> Any:
        try:
            message, self._trailers = await self._answer(*self._asked)
        except RuntimeStatus as status:
            raise _error(status) from None
        return message

    async def initial_metadata(self) -> Metadata:
        return ()

    async def trailing_metadata(self) -> Metadata:
        return self._trailers


async def _messages(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for message in answers:
            yield message
    except RuntimeStatus as status:
        raise _error(status) from None


def _error(status: RuntimeStatus) -> aio.AioRpcError:
    code = getattr(grpc.StatusCode, status.code.name)
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*status.trailers), details=status.details)
