"""Every store that a mesh can have its registry in; a new one is added here, or has these fixtures of its own, and passes the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from mesh.store.memory import MemoryStore
from mesh.store.registry import Registry
from tests.unit.store.stores import MemoryOfSeveral, Store

STORES: dict[str, Callable[[], Store]] = {"memory": lambda: MemoryOfSeveral(MemoryStore())}


@pytest.fixture(params=list(STORES))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store; the registries that were opened on it are closed afterwards."""
    made = STORES[request.param]()
    yield made
    await made.close()


@pytest.fixture
async def registry(store: Store) -> Registry:
    """An empty registry."""
    return await store.open()
