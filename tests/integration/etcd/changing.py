"""Many changes of a registry, and what a listener heard of them."""

from __future__ import annotations

import asyncio

from mesh.core.registry.records import ModelRecord
from mesh.store.etcd import EtcdRegistry
from tests.unit.store.edits import Count, Witness, create


def counted(witness: Witness, name: str) -> list[int | None]:
    """The references that were told of a model, None for its deletion."""
    return [record.refs if isinstance(record, ModelRecord) else None for record in witness.of(name)]


async def change_many(registry: EtcdRegistry, names: list[str], times: int, *, at_once: int = 32) -> None:
    """Makes each model and counts it so many times, many changes at a time."""
    turns = asyncio.Semaphore(at_once)

    async def one(name: str) -> None:
        async with turns:
            assert await registry.change(create(name)) is None
            for _ in range(times):
                assert await registry.change(Count(name)) is None

    await asyncio.gather(*map(one, names))
