"""What pods are put into: time that jumps, processes that end, links that break, a store that is late, away and reset."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh.core.errors import DeadlineExceeded, Leaving, StoreUnavailable
from mesh.core.ids import ModelId, PodId
from mesh.simulation import ModelTraits, RuntimeTraits, World
from mesh.simulation.loop import Process, StuckError
from mesh.simulation.store import TTL

DAY = 86_400.0


def play(story: Callable[[World], Awaitable[None]], seed: int = 0) -> World:
    """A world after a story in which nothing went wrong that never may."""
    world = World(seed)
    world.run(story)
    assert world.complaints == []
    return world


async def mesh(world: World, pods: int = 2, *models: str) -> None:
    for _ in range(pods):
        await world.add_pod()
    for model in models:
        await world.register(model, at=world.up()[0])


def test_time_jumps() -> None:
    async def story(world: World) -> None:
        await asyncio.sleep(DAY)

    assert play(story).now == pytest.approx(DAY)


def test_whoever_waits_for_ever_is_found() -> None:
    async def story(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match="waits for ever"):
        play(story)


def test_a_killed_process_does_nothing_more() -> None:
    did: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            did.append("worked")
        finally:
            did.append("cleaned up")

    async def story(world: World) -> None:
        process = Process("one")
        process.begin(work())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(5)
        assert did == []

    play(story)


def test_a_call_is_answered_by_a_copy_of_its_model() -> None:
    async def story(world: World) -> None:
        await mesh(world, 3, "digits")
        first, second = [await world.call("digits", at=world.pods["pod-2"], deadline=30) for _ in range(2)]
        assert (first.model, first.cold, second.model, second.cold) == ("digits", True, "digits", False)
        assert second.server == first.server
        assert [pod.name for pod in world.holders("digits")] == [first.server]

    assert play(story).counts == {"calls": 2, "loads": 1}


def test_clients_of_a_killed_pod_learn_it_at_once_and_others_go_on() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2, "digits")
        world.models["digits"].latency = 5
        there, here = world.up()
        running = asyncio.ensure_future(world.call("digits", at=there, deadline=60))
        await asyncio.sleep(3)
        world.kill(there)
        ended = await running
        assert isinstance(ended.error, Leaving)
        assert world.now < 3.5
        assert (await world.call("digits", at=here, deadline=60)).model == "digits"

    play(story)


def test_what_is_sent_over_a_link_that_is_cut_for_a_moment_arrives_late() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2, "digits")
        served = (await world.call("digits", at=world.up()[0], deadline=30)).server
        entry = next(pod for pod in world.up() if pod.name != served)
        world.network.cut("pod-0", "pod-1")
        calling = asyncio.ensure_future(world.call("digits", at=entry, deadline=30))
        await asyncio.sleep(2)
        assert not calling.done()
        world.network.mend("pod-0", "pod-1")
        assert (await calling).executed == [served]

    play(story)


def test_over_a_link_that_stays_cut_a_call_is_broken_and_goes_elsewhere() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2, "digits")
        served = (await world.call("digits", at=world.up()[0], deadline=30)).server
        entry = next(pod for pod in world.up() if pod.name != served)
        world.network.cut("pod-0", "pod-1")
        called = await world.call("digits", at=entry, deadline=60)
        assert called.executed == [entry.name]
        assert called.broken

    play(story)


def test_a_deadline_ends_a_call_for_its_client() -> None:
    async def story(world: World) -> None:
        await mesh(world, 1, "digits")
        world.models["digits"].load_time = 20
        called = await world.call("digits", at=world.up()[0], deadline=2)
        assert isinstance(called.error, DeadlineExceeded)
        assert called.ended == pytest.approx(called.begun + 2, abs=0.1)

    play(story)


def test_a_store_that_is_away_refuses_changes_and_takes_them_afterwards() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2)
        world.store.leave()
        with pytest.raises(StoreUnavailable):
            await world.register("digits", at=world.up()[0])
        world.store.come_back()
        await world.register("digits", at=world.up()[0])
        assert "digits" in world.store.records["models"]

    play(story)


def test_mirrors_are_late_and_each_shows_its_own_writes_at_once() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2)
        writer, reader = world.up()
        reader.registry.lag = 5.0
        await world.register("digits", at=writer)
        assert ModelId("digits") in writer.registry.models
        assert ModelId("digits") not in reader.registry.models
        assert len(reader.registry.models) == len(list(reader.registry.models)) == 0
        await asyncio.sleep(6)
        assert reader.registry.models == {"digits": writer.registry.models[ModelId("digits")]}

    play(story)


def test_a_killed_pod_is_gone_for_others_when_its_lease_is_over() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2)
        dead, witness = world.up()
        world.kill(dead)
        assert PodId("pod-0") in witness.registry.instances
        await asyncio.sleep(TTL + 1)
        assert PodId("pod-0") not in witness.registry.instances

    play(story)


def test_what_a_reset_of_the_store_loses_is_told_as_lost_and_written_again() -> None:
    async def story(world: World) -> None:
        await mesh(world, 2, "digits")
        await world.call("digits", at=world.up()[0], deadline=30)
        world.store.restore()
        assert not world.store.records["models"]
        await asyncio.sleep(30)
        assert world.store.records["models"].keys() == {"digits"}
        assert world.store.records["instances"].keys() == {"pod-0", "pod-1"}
        assert (await world.call("digits", at=world.up()[1], deadline=30)).cold is False

    play(story)


def test_a_runtime_that_restarts_has_nothing_loaded() -> None:
    async def story(world: World) -> None:
        await mesh(world, 1, "digits")
        (pod,) = world.up()
        await world.call("digits", at=pod, deadline=30)
        pod.runtime.go_down()
        await asyncio.sleep(1)
        pod.runtime.come_back()
        assert pod.runtime.held == {}
        assert (await world.call("digits", at=pod, deadline=30)).model == "digits"

    assert play(story).counts["loads"] == 2


def test_a_router_that_overfills_its_runtime_is_complained_of() -> None:
    async def story(world: World) -> None:
        pod = await world.add_pod(runtime=RuntimeTraits(capacity=1 << 30))
        world.models.update({name: ModelTraits(size=600 << 20) for name in "ab"})
        pod.runtime.held["a"] = 600 << 20
        pod.runtime.foretold.add("a")
        await world.register("b", at=pod)
        await world.call("b", at=pod, deadline=30)

    world = World()
    world.run(story)
    assert "beyond its capacity" in world.complaints[0]


def test_clocks_may_be_wrong() -> None:
    async def story(world: World) -> None:
        right, wrong = await world.add_pod(), await world.add_pod(skew=-5_000, drift=1.0)
        await asyncio.sleep(1_000)
        assert wrong.clock.now() - right.clock.now() == pytest.approx(-4_000, abs=2)

    play(story)
