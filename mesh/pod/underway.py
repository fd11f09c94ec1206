"""Which tasks run a call on which copy, so that calls which outlive the drain limit can be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.core.copies import Copy
from mesh.core.errors import Leaving
from mesh.core.ids import CopyId
from mesh.core.instructions import EndCalls, Instruction


class Underway:
    """Calls in progress by copy."""

    def __init__(self) -> None:
        self._tasks: dict[CopyId, set[asyncio.Task[object]]] = {}
        self._ended: set[asyncio.Task[object]] = set()

    def watch(self, instruction: Instruction) -> None:
        """Ends the calls of a copy when the core says so."""
        if isinstance(instruction, EndCalls):
            for task in self._tasks.get(instruction.copy, ()):
                self._ended.add(task)
                task.cancel()

    @contextmanager
    def on(self, copy: Copy) -> Iterator[None]:
        """Counts the current task's call on a copy.

        Raises:
            Leaving: the call was ended because the copy leaves.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.setdefault(copy.id, set()).add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise Leaving(f"model {copy.id.model} is leaving this pod and the call outlived MESH_DRAIN_LIMIT; try again") from None
        finally:
            self._ended.discard(task)
            running = self._tasks[copy.id]
            running.discard(task)
            if not running:
                del self._tasks[copy.id]
