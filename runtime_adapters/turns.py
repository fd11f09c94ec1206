"""Whose turn it is: operations on one model strictly one after another, on different models side by side, a purge alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")


class Turns:
    """Locks by model id that exist only while somebody holds or wants them, and one lock over all.

    Leaving a turn never waits, so a cancelled holder always gives it back.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._running = 0
        self._purge = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def of(self, model_id: str) -> AsyncIterator[None]:
        """Hold the turn of one model; in order of arrival."""
        lock = self._locks.setdefault(model_id, asyncio.Lock())
        self._users[model_id] = self._users.get(model_id, 0) + 1
        try:
            async with lock:
                while not self._open.is_set():
                    await self._open.wait()
                self._running += 1
                self._idle.clear()
                try:
                    yield
                finally:
                    self._running -= 1
                    if not self._running:
                        self._idle.set()
        finally:
            self._users[model_id] -= 1
            if not self._users[model_id]:
                del self._users[model_id], self._locks[model_id]

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold every turn: begins when nothing runs, and nothing begins meanwhile."""
        async with self._purge:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()


async def to_end(work: Awaitable[_T]) -> _T:
    """Await `work` to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    For clean-up, and for threads, which cannot be cancelled and must not write on after their caller went on to clean up.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as lost
        raise asyncio.CancelledError
    return task.result()
