"""What a pod could not write of its copies while the store was away is true in the records when the store is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import ChangeRecord, Instruction
from mesh.core.registry.edits import AddCopy, Edit, MarkReady, RecordFailure
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from mesh.pod.record_writer import RecordWriter
from mesh.store.memory import MemoryRegistry
from mesh.store.registry import Trouble
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench

M, HERE, THERE = ModelId("m"), PodId("here"), PodId("there")


class Store(MemoryRegistry):
    """A registry that is away for as long as the test says.

    Attributes:
        refused: edits that it did not take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused: list[Edit] = []

    async def change(self, edit: Edit) -> MeshError | None:
        if self.away:
            self.refused.append(edit)
            raise StoreUnavailable("the store does not answer")
        return await super().change(edit)


class Pod(Bench):
    """A bench whose writes go through the writer."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.registry = self.management._registry = Store()
        self.view = type(self.view)(self.pod, self.store.models, self.view.own, self.view.outdated)
        self.writer = RecordWriter(self.conductor, self.store, pause=(0.0, 0.01))

    def carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, ChangeRecord):
            self.writer.write(instruction)
        else:
            super().carry_out(instruction)

    def record(self) -> ModelRecord:
        return self.store.models[M]

    async def stop(self) -> None:
        await self.writer.stop()
        await super().stop()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    await made.known("m")
    yield made
    await made.stop()


async def tried(pod: Pod, times: int) -> None:
    """So many writes failed: the writer asks again and again."""

    async def enough() -> bool:
        return len(pod.store.refused) >= times

    await until_async(enough, f"{times} writes fail")


async def shows(pod: Pod, copies: set[PodId], ready: set[PodId]) -> None:
    async def so() -> bool:
        record = pod.record()
        return (set(record.copies), set(record.ready)) == (copies, ready) and not record.failed

    await until_async(so, f"copies {copies}, ready {ready}")


async def test_a_copy_that_was_loaded_meanwhile_is_in_the_record_once_the_store_is_back(pod: Pod) -> None:
    pod.store.away = True
    caller = pod.call("m")
    await pod.loading("m")
    pod.loaded("m")
    copy = await caller
    assert copy is not None
    await tried(pod, 5)
    assert not pod.record().copies
    pod.store.away = False
    await shows(pod, {HERE}, {HERE})
    assert (pod.record().copies[HERE], pod.record().ready[HERE]) == (copy.created, copy.loaded_at)


async def test_a_load_does_not_wait_for_a_store_that_is_known_to_be_away(pod: Pod) -> None:
    pod.store.trouble = Trouble(Millis(1), "the store is away since then")
    caller = pod.call("m")
    await pod.loading("m")
    pod.loaded("m")
    assert await caller is not None
    assert not pod.record().copies, "the store, which answers in fact, was not asked"
    pod.store.trouble = None
    await shows(pod, {HERE}, {HERE})


async def test_a_load_that_another_pod_began_meanwhile_stays_beside_it(pod: Pod) -> None:
    pod.store.away = True
    pod.call("m")
    await pod.loading("m")
    await tried(pod, 1)
    pod.store.away = False
    await pod.store.change(AddCopy(M, THERE, Millis(7), Millis(7)))
    await shows(pod, {HERE, THERE}, set())
    pod.loaded("m")
    await shows(pod, {HERE, THERE}, {HERE})


async def test_a_copy_that_went_meanwhile_is_out_of_the_record(pod: Pod) -> None:
    copy = await pod.serving("m")
    await shows(pod, {HERE}, {HERE})
    pod.conductor.leave(copy)
    pod.store.away = True
    pod.pod.cache.out = []
    pod.pod.cache.evict(copy, ModelId("another"))
    for order in pod.pod.cache.out:
        pod.carry_out(order)
    await tried(pod, 3)
    assert set(pod.record().copies) == {HERE}
    pod.store.away = False
    await shows(pod, set(), set())


async def test_a_failure_that_is_over_stands_no_longer(pod: Pod) -> None:
    await pod.store.change(RecordFailure(M, HERE, Millis(1), Millis(1), "broken", Millis(1)))
    pod.store.away = True
    caller = pod.call("m")
    await pod.loading("m")
    pod.loaded("m")
    await caller
    await tried(pod, 2)
    pod.store.away = False
    await shows(pod, {HERE}, {HERE})


async def test_writes_of_one_model_keep_their_order_though_the_first_takes_long(pod: Pod) -> None:
    go, change = asyncio.Event(), MemoryRegistry.change

    async def slow(edit: Edit) -> MeshError | None:
        if isinstance(edit, AddCopy):
            await go.wait()
        return await change(pod.store, edit)

    pod.store.change = slow  # type: ignore[method-assign] # the first of two takes long
    pod.writer.write(ChangeRecord(AddCopy(M, HERE, Millis(1), Millis(1))))
    pod.writer.write(ChangeRecord(MarkReady(M, HERE, Millis(1), Millis(2))))
    await asyncio.sleep(0)
    go.set()
    await shows(pod, {HERE}, {HERE})
