"""Which tasks run a call on which copy, so that calls which outlive the drain limit can be ended."""

from __future__ import annotations

import asyncio

from mesh.core.cache.copies import Copy
from mesh.core.errors import Outlived
from mesh.core.ids import CopyId, ModelId
from mesh.core.instructions import EndCalls, Instruction


def outlived(model: ModelId) -> str:
    """What callers are told whose call on a copy lasts too long."""
    return f"model {model} is leaving this pod and the call outlived MESH_DRAIN_LIMIT; try again"


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

    def on(self, copy: Copy) -> _Running:
        """A context in which the current task's call on a copy counts.

        Raises:
            Outlived: at its end; the call was ended because the copy leaves.
        """
        return _Running(self._tasks, self._ended, copy)


class _Running:
    __slots__ = ("_copy", "_ended", "_task", "_tasks")

    def __init__(self, tasks: dict[CopyId, set[asyncio.Task[object]]], ended: set[asyncio.Task[object]], copy: Copy) -> None:
        self._tasks, self._ended, self._copy = tasks, ended, copy

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._tasks.setdefault(self._copy.id, set()).add(task)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        task, copy = self._task, self._copy.id
        running = self._tasks[copy]
        running.discard(task)
        if not running:
            del self._tasks[copy]
        if task in self._ended:
            self._ended.discard(task)
            if isinstance(error, asyncio.CancelledError):
                task.uncancel()
                raise Outlived(outlived(copy.model)) from None
