from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.pod.bench import Bench
from tests.unit.pod.moving import World


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.stop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()
