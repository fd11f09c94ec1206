"""Every store that a mesh can have its registry in; a new one is added here and has to pass the whole suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from mesh.store.memory import MemoryRegistry
from mesh.store.registry import Registry

STORES: dict[str, Callable[[], Registry]] = {"memory": MemoryRegistry}


@pytest.fixture(params=list(STORES))
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    """An empty registry, closed afterwards."""
    made = STORES[request.param]()
    yield made
    await made.close()
