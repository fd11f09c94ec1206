"""Pods that nobody calls."""

from __future__ import annotations

import asyncio

from mesh.simulation import ModelTraits, RuntimeTraits, World

PODS, SETTLING, WATCHED = 100, 900.0, 900.0
"""Pods; seconds until they have nothing left to load early, and seconds in which writes are counted then."""
MOST = 0.1
"""Records that each may write a second: a hundred for a thousand pods, for what a pod writes does not grow with their number."""


def test_an_idle_mesh_hardly_writes() -> None:
    written: list[int] = []

    async def story(world: World) -> None:
        world.seed_models({f"model-{number}": ModelTraits() for number in range(200)})
        for _ in range(PODS):
            await world.add_pod(runtime=RuntimeTraits(capacity=4 << 30))
        await asyncio.sleep(SETTLING)
        before = world.store.revision
        assert before > PODS, "each wrote its own record at least"
        await asyncio.sleep(WATCHED)
        written.append(world.store.revision - before)

    world = World(seed=1)
    world.run(story)
    assert world.complaints == []
    assert written[0] < MOST * PODS * WATCHED, f"{written[0] / WATCHED:.2f} records a second"
