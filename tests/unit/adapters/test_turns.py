"""One model's operations in order, different models' together, a purge alone."""

from __future__ import annotations

import asyncio

import pytest

from runtime_adapters.turns import Turns, to_end


async def hold(turns: Turns, model: str, log: list[str], release: asyncio.Event, name: str) -> None:
    async with turns.of(model):
        log.append(f"{name} begins")
        await release.wait()
        log.append(f"{name} ends")


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_model_in_order_of_arrival() -> None:
    turns, log, release = Turns(), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, "m", log, release, str(number))) for number in range(3)]
    await settle()
    assert log == ["0 begins"]
    release.set()
    await asyncio.gather(*tasks)
    assert log == [f"{number} {what}" for number in range(3) for what in ("begins", "ends")]


async def test_different_models_at_the_same_time() -> None:
    turns, log, release = Turns(), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, name, log, release, name)) for name in "ab"]
    await settle()
    assert log == ["a begins", "b begins"]
    release.set()
    await asyncio.gather(*tasks)


async def test_a_purge_waits_for_all_and_all_wait_for_a_purge() -> None:
    turns, log, first, later = Turns(), list[str](), asyncio.Event(), asyncio.Event()
    later.set()

    async def purge() -> None:
        async with turns.alone():
            log.append("purge begins")
            await settle()
            log.append("purge ends")

    tasks = [asyncio.create_task(hold(turns, "a", log, first, "a"))]
    await settle()
    tasks.append(asyncio.create_task(purge()))
    await settle()
    tasks.append(asyncio.create_task(hold(turns, "b", log, later, "b")))
    await settle()
    assert log == ["a begins"]
    first.set()
    await asyncio.gather(*tasks)
    assert log == ["a begins", "a ends", "purge begins", "purge ends", "b begins", "b ends"]


async def test_a_cancelled_holder_and_a_cancelled_waiter_give_their_turn_back() -> None:
    turns, log, release = Turns(), list[str](), asyncio.Event()
    holder = asyncio.create_task(hold(turns, "m", log, release, "holder"))
    waiter = asyncio.create_task(hold(turns, "m", log, release, "waiter"))
    await settle()
    for task in (waiter, holder):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with turns.alone():
        log.append("nobody else")
    release.set()
    await hold(turns, "m", log, release, "next")
    assert log == ["holder begins", "nobody else", "next begins", "next ends"]


async def test_work_that_must_end_ends_although_its_caller_is_cancelled() -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await release.wait()
        ended.set()

    task = asyncio.create_task(to_end(work()))
    await settle()
    task.cancel()
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
