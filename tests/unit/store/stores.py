"""A store as the suite uses it: several pods open registries on it, and an operator sets parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mesh.store.memory import MemoryStore
from mesh.store.registry import Registry
from tests.support.waiting import until_async


class Store(Protocol):
    """What all registries of one mesh share."""

    async def open(self) -> Registry:
        """Another pod's registry."""
        ...

    def set_parameter(self, name: str, value: str | None) -> None:
        """What an operator does; None removes it."""
        ...

    async def close(self) -> None:
        """Closes what was opened."""
        ...


class MemoryOfSeveral:
    """One memory, several pods of this process."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory
        self._opened: list[Registry] = []

    async def open(self) -> Registry:
        self._opened.append(self._memory.registry())
        return self._opened[-1]

    def set_parameter(self, name: str, value: str | None) -> None:
        self._memory.set_parameter(name, value)

    async def close(self) -> None:
        for registry in self._opened:
            await registry.close()


async def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Waits for what a mirror will show."""

    async def ask() -> object:
        return condition()

    await until_async(ask, what)
