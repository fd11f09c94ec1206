"""Streams: the first message names the model and is kept until the first answer; a stream holds its copy until it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack

from mesh.core.dataplane import Rule
from mesh.core.errors import Malformed
from mesh.core.ids import ModelId
from mesh.pod.targets import Named, Targets
from mesh.wire import fields
from mesh.wire.call import Call, Metadata
from mesh.wire.exchange import StreamCall


class Requests:
    """The request side of a stream: each message gets the concrete model's id, and none may name another model."""

    def __init__(self, source: AsyncIterator[bytes], targets: Targets, call: Call, rule: Rule) -> None:
        self._source, self._targets, self._call, self._rule = source, targets, call, rule
        self._first: bytes | None = None
        self._sent = 0
        self._named: Named | None = None
        self._path: tuple[int, ...] = ()

    async def first(self) -> bytes:
        """The first message; empty if the caller sends none.

        A stream that headers name needs no message to be routed, but waiting for one keeps replays simple.
        """
        try:
            self._first = await anext(self._source)
        except StopAsyncIteration:
            self._first = None
        return self._first or b""

    def bind(self, named: Named, path: tuple[int, ...]) -> None:
        """Says which model the stream is for, and where messages carry its id for the runtime."""
        self._named, self._path = named, path

    @property
    def replayable(self) -> bool:
        """Whether nothing beyond the kept first message was sent yet."""
        return self._sent <= 1

    async def replay(self, model: ModelId) -> AsyncIterator[bytes]:
        """All messages from the first on, for one try."""
        if self._first is None:
            return
        self._sent = 1
        yield self._addressed(self._first, model)
        async for message in self._source:
            self._sent += 1
            self._check(message)
            yield self._addressed(message, model)

    def _addressed(self, message: bytes, model: ModelId) -> bytes:
        return fields.replace(message, self._path, model.encode()) if self._path else message

    def _check(self, message: bytes) -> None:
        """Refuses a message that names another model than the first."""
        assert self._named is not None
        if not self._rule.path:
            return
        found = fields.read(message, self._rule.path)
        if found is None or found.decode(errors="replace") in ("", self._named.alias, self._named.model):
            return
        name = self._named.alias or self._named.model
        raise Malformed(f"a message of this stream names model {found.decode(errors='replace')!r}, but the stream is for {name!r}")


class ServedStream:
    """The answering side of a stream that the runtime accepted; frees its copy and its place when it ends."""

    def __init__(self, place: AbstractContextManager[None]) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(place)
        self._call: StreamCall | None = None
        self._head: bytes | None = None
        self.headers: Metadata = ()

    async def begin(self, call: StreamCall) -> None:
        """Waits for the first answer, so that a copy the runtime does not know can still be replaced."""
        self._call = call
        try:
            self._head = await call.next()
        except BaseException:
            call.cancel()
            raise
        self.headers = call.headers

    def keep(self, leave: Callable[[], None]) -> None:
        """Leaves the copy when the stream ends."""
        self._stack.callback(leave)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Response messages in order."""
        assert self._call is not None
        try:
            message = self._head
            while message is not None:
                yield message
                message = await self._call.next()
        finally:
            self.close()

    @property
    def trailers(self) -> Metadata:
        """Known once the iteration is over."""
        return self._call.trailers if self._call else ()

    def close(self) -> None:
        """Ends the stream, if it has not ended, and frees what it held."""
        if self._call is not None:
            self._call.cancel()
        self._stack.close()
