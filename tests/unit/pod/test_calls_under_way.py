"""Calls that outlive the drain limit of their copy are ended; nobody else is."""

from __future__ import annotations

import asyncio

import pytest

from mesh.core.cache.copies import Copy
from mesh.core.errors import Code, Outlived
from mesh.core.events import ModelDeleted
from mesh.core.instructions import EndCalls, UnloadModel
from mesh.pod.underway import Underway
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench, turns


async def long(underway: Underway, copy: Copy) -> None:
    """A call that would take for ever."""
    with underway.on(copy):
        await asyncio.Event().wait()


async def test_the_calls_of_a_copy_are_ended_with_a_reason(bench: Bench) -> None:
    copy, other, underway = await bench.serving("m"), await bench.serving("other"), Underway()
    ended = [asyncio.ensure_future(long(underway, copy)) for _ in range(3)]
    untouched = asyncio.ensure_future(long(underway, other))
    await turns()
    underway.watch(EndCalls(copy.id))
    results = await asyncio.gather(*ended, return_exceptions=True)
    assert [type(result) for result in results] == [Outlived] * 3
    assert isinstance(results[0], Outlived)
    assert results[0].code is Code.UNAVAILABLE
    assert "model m" in str(results[0])
    assert "MESH_DRAIN_LIMIT" in str(results[0])
    assert not untouched.done()
    untouched.cancel()


async def test_a_caller_that_leaves_is_cancelled_as_ever(bench: Bench) -> None:
    copy, underway = await bench.serving("m"), Underway()
    task = asyncio.ensure_future(long(underway, copy))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_instructions_end_nothing(bench: Bench) -> None:
    copy, underway = await bench.serving("m"), Underway()
    task = asyncio.ensure_future(long(underway, copy))
    await turns()
    underway.watch(UnloadModel(copy.id))
    await turns()
    assert not task.done()
    task.cancel()


async def test_a_call_that_is_over_is_not_ended(bench: Bench) -> None:
    copy, underway = await bench.serving("m"), Underway()
    go = asyncio.Event()

    async def call() -> str:
        with underway.on(copy):
            pass
        await go.wait()
        return "done"

    task = asyncio.ensure_future(call())
    await turns()
    underway.watch(EndCalls(copy.id))
    go.set()
    assert await task == "done"


async def test_who_was_ended_can_go_on_with_something_else(bench: Bench) -> None:
    copy, underway = await bench.serving("m"), Underway()

    async def call() -> str:
        try:
            await long(underway, copy)
        except Outlived:
            await asyncio.sleep(0)
        return "elsewhere"

    task = asyncio.ensure_future(call())
    await turns()
    underway.watch(EndCalls(copy.id))
    assert await task == "elsewhere"
    assert task.cancelling() == 0


async def test_the_drain_limit_ends_what_holds_up_an_unload() -> None:
    bench = Bench(drain_limit=20)
    copy, underway = await bench.serving("m"), Underway()
    bench.conductor.watch(underway.watch)

    async def call() -> None:
        try:
            await long(underway, copy)
        finally:
            bench.conductor.leave(copy)

    task = asyncio.ensure_future(call())
    await turns()
    await bench.management.unregister("m")
    bench.tell(ModelDeleted(copy.id.model))

    async def unloads() -> bool:
        return bool(bench.unloads)

    await until_async(unloads, "the unload")
    with pytest.raises(Outlived):
        await task
    await bench.stop()
