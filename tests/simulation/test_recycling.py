"""Model servers that leak memory: it shows, and they begin anew without a call that fails, one pod at a time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mesh.core.errors import MeshError, RuntimeUnavailable
from mesh.core.explaining.decisions import Kind
from mesh.pod.recycling import BY_ITSELF, LOADS, QUIET, Recycler
from mesh.runtime.process import RuntimeProcess
from mesh.simulation import ModelTraits, RuntimeTraits, World
from mesh.simulation.pod import SimulatedPod

MIB = 1 << 20
LEAKING = RuntimeTraits(leak=4 * MIB)
"""Room for ten models of the default size."""
LIMIT = str(150 * MIB)
SETTINGS = {"memory_interval": 1_000, "recycle_runtime": LIMIT}
LONG = 3_600.0
"""Seconds in which something should come about."""


def play(story: Callable[[World], Awaitable[None]], **settings: Any) -> World:
    world = World(7, settings={**SETTINGS, **settings})
    world.run(story)
    assert world.complaints == []
    return world


class Callers:
    """Clients that call one model after another through any pod, which makes the pods load and unload all the time."""

    def __init__(self, world: World, models: list[str]) -> None:
        self._world, self._models, self._dice = world, models, random.Random(1)
        self._tasks = [asyncio.ensure_future(self._call()) for _ in range(4)]

    async def _call(self) -> None:
        while True:
            await self._world.call(self._dice.choice(self._models), at=self._dice.choice(self._world.up()), deadline=60)
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        """Stops calling; no call may have failed."""
        for task in self._tasks:
            task.cancel()
        assert [called for called in self._world.calls if called.error is not None] == []


async def comes_about(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.05)


def memory(pod: SimulatedPod) -> dict[str, Any]:
    told: dict[str, Any] = pod.living.facts.pod()["memory"]
    return told


def recycler(pod: SimulatedPod) -> Callable[[], Awaitable[str]]:
    living = pod.living
    process = RuntimeProcess(living.runtime.spi.channel)
    return Recycler(living.conductor, living.registry, living.membership, living.loads, living.serving.travels, process, back=60).run


async def busy(world: World, pods: int, runtime: RuntimeTraits = LEAKING, models: int = 40) -> Callers:
    for _ in range(pods):
        await world.add_pod(runtime=runtime)
    names = [f"model-{number}" for number in range(models)]
    for name in names:
        await world.register(name, at=world.up()[0])
    return Callers(world, names)


def test_every_leaking_server_of_a_mesh_begins_anew_one_at_a_time_and_no_call_fails() -> None:
    most_down = 0

    async def story(world: World) -> None:
        nonlocal most_down
        callers = await busy(world, 3)
        pods = list(world.pods.values())

        def all_anew() -> bool:
            nonlocal most_down
            most_down = max(most_down, sum(not pod.runtime.up for pod in pods))
            return all(memory(pod).get("recycled") for pod in pods)

        await comes_about(all_anew)
        await callers.end()
        for pod in pods:
            assert memory(pod)["put_off"] is None
            (decision, *_) = pod.living.conductor.pod.cache.decisions.find(kind=Kind.RECYCLE)
            assert decision.evidence is not None
            assert decision.evidence.again() == decision.outcome == "recycle"

    play(story)
    assert most_down == 1


def test_a_single_pods_calls_wait_for_the_new_server() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, models=20)
        (pod,) = world.pods.values()
        await comes_about(lambda: memory(pod).get("recycled"))
        assert pod.runtime.lives == 2
        assert pod.runtime.leaked < 50 * MIB
        await callers.end()

    play(story)


def test_nobody_who_does_not_want_it_has_a_server_ended_but_sees_the_leak() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, models=20)
        (pod,) = world.pods.values()
        await comes_about(lambda: pod.runtime.leaked > 1000 * MIB)
        told = memory(pod)
        await callers.end()
        assert told["state"] == "growing"
        assert told["unused_bytes"] == pytest.approx(pod.runtime.leaked, rel=0.3)
        assert told["held_bytes"] > told["empty_bytes"] + told["models_bytes"]
        assert "leaks memory" in told["why"]
        assert (pod.runtime.lives, told["recycled"], told["recycle_at_bytes"]) == (1, 0, None)

    play(story, recycle_runtime="")


def test_a_server_that_gives_memory_back_is_left_alone() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, RuntimeTraits(leak=0), models=20)
        (pod,) = world.pods.values()
        await comes_about(lambda: pod.runtime.unloads > 300)
        await callers.end()
        assert memory(pod)["state"] == "steady"
        assert pod.runtime.lives == 1

    play(story, recycle_runtime="1")


def test_a_runtime_that_does_not_tell_is_asked_once() -> None:
    async def story(world: World) -> None:
        pod = await world.add_pod()
        await asyncio.sleep(60)
        assert memory(pod)["state"] == "unknown"
        assert "RuntimeProcess" in memory(pod)["why"]

    play(story)


def test_a_call_that_takes_long_is_not_cut_off_and_the_server_goes_on() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, models=20)
        (pod,) = world.pods.values()
        world.models["long"] = ModelTraits(latency=20 * QUIET)
        await world.register("long", at=pod)
        # It began before the server leaked so much, and is not over when it is to be ended.
        await comes_about(lambda: memory(pod).get("unused_bytes", 0) > 110 * MIB)
        running = asyncio.ensure_future(world.call("long", at=pod, deadline=LONG))
        await comes_about(lambda: memory(pod)["put_off"])
        assert "took longer than" in memory(pod)["put_off"]
        assert not running.done()
        assert (await running).model == "long"
        assert pod.runtime.lives == 1
        await callers.end()

    play(story)


def test_a_load_under_way_ends_before_the_server_does() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, models=20)
        (pod,) = world.pods.values()
        world.models["heavy"] = ModelTraits(load_time=LOADS / 2)
        await world.register("heavy", at=pod)
        loading = asyncio.ensure_future(world.call("heavy", at=pod, deadline=LONG))
        await comes_about(lambda: "heavy" in pod.runtime.held)
        assert await world.ask(pod, recycler(pod)()) == ""
        assert pod.runtime.lives == 2
        assert (await loading).model == "heavy"
        await callers.end()

    play(story, recycle_runtime="")


def test_a_load_that_takes_too_long_is_not_cut_off_and_the_server_goes_on() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, RuntimeTraits(leak=4 * MIB, load_timeout=20 * LOADS), models=20)
        (pod,) = world.pods.values()
        world.models["endless"] = ModelTraits(load_time=10 * LOADS)
        await world.register("endless", at=pod)
        loading = asyncio.ensure_future(world.call("endless", at=pod, deadline=LONG))
        await comes_about(lambda: "endless" in pod.runtime.held)
        with pytest.raises(RuntimeUnavailable, match="1 loads took longer than 30 s to end"):
            await world.ask(pod, recycler(pod)())
        assert (await loading).model == "endless"
        assert pod.runtime.lives == 1
        await callers.end()

    play(story, recycle_runtime="")


def test_a_server_that_dies_while_its_copies_move_is_not_ended_once_more() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 2)
        pod = next(iter(world.pods.values()))
        await asyncio.sleep(30)
        recycling = asyncio.ensure_future(world.ask(pod, recycler(pod)()))
        await comes_about(lambda: pod.living.conductor.pod.cache.paused)
        pod.runtime.go_down()
        await asyncio.sleep(1)
        pod.runtime.come_back()
        assert await recycling == BY_ITSELF
        assert pod.runtime.lives == 2
        await callers.end()

    play(story, recycle_runtime="")


def test_a_pod_that_is_to_end_meanwhile_ends_and_its_server_is_left_to_it() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 3)
        pod = next(iter(world.pods.values()))
        await asyncio.sleep(30)
        recycling = asyncio.ensure_future(world.ask(pod, recycler(pod)()))
        await comes_about(lambda: pod.living.conductor.pod.cache.paused)
        await world.end_pod(pod)
        with pytest.raises(MeshError):
            await recycling
        assert pod.runtime.lives == 1
        await asyncio.sleep(10)
        await callers.end()

    play(story, recycle_runtime="")


def test_a_way_to_the_adapter_that_breaks_meanwhile_lets_nothing_in() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 1, models=20)
        (pod,) = world.pods.values()
        await asyncio.sleep(30)
        world.models["long"] = ModelTraits(latency=QUIET / 2)
        await world.register("long", at=pod)
        running = asyncio.ensure_future(world.call("long", at=pod, deadline=LONG))
        await comes_about(lambda: pod.runtime.running["long"])
        recycling = asyncio.ensure_future(world.ask(pod, recycler(pod)()))
        await comes_about(lambda: pod.living.conductor.pod.cache.down)
        while not recycling.done():
            # Each time the watch finds the server there, as long as it is.
            pod.runtime.break_watches()
            assert pod.living.conductor.pod.cache.down or pod.runtime.lives == 2
            await asyncio.sleep(0.4)
        assert (await recycling, (await running).model, pod.runtime.lives) == ("", "long", 2)
        await callers.end()

    play(story, recycle_runtime="")


def test_what_only_one_pod_can_run_waits_for_its_server_through_any_pod() -> None:
    constraints = json.dumps({"rare": {"required": ["rt:rare"]}})

    async def story(world: World) -> None:
        rare = await world.add_pod(runtime=LEAKING, labels=("rt:rare",))
        await world.add_pod(runtime=RuntimeTraits())
        names = [f"rare-{number}" for number in range(20)]
        for name in names:
            await world.register(name, at=rare, kind="rare")
        callers = Callers(world, names)
        await comes_about(lambda: memory(rare).get("recycled"))
        await callers.end()
        assert rare.runtime.lives == 2

    play(story, type_constraints=constraints)


def test_while_a_pod_leaves_none_begins_anew() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 2)
        first, second = world.pods.values()
        again = recycler(second)
        await world.ask(first, first.living.membership.leave())
        await asyncio.sleep(1)
        assert await world.ask(second, again()) == f"pod {first.name} is shutting down"
        assert second.runtime.lives == 1
        await callers.end()

    play(story, recycle_runtime="")


def test_of_two_pods_that_begin_at_once_one_waits() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 2)
        pods = list(world.pods.values())
        said = await asyncio.gather(*(world.ask(pod, recycler(pod)()) for pod in pods))
        assert list(said) == ["", f"pod {pods[0].name} recycles its model server"]
        assert [pod.runtime.lives for pod in pods] == [2, 1]
        await asyncio.sleep(1)
        assert [record.recycling for record in pods[0].living.registry.instances.values()] == [False, False]
        await callers.end()

    play(story, recycle_runtime="")


def test_a_server_that_cannot_be_ended_goes_on_and_its_copies_stand_in_the_records_again() -> None:
    async def story(world: World) -> None:
        callers = await busy(world, 2)
        pod = next(iter(world.pods.values()))
        await asyncio.sleep(30)
        pod.runtime.kept = "its process belongs to another user"
        with pytest.raises(RuntimeUnavailable, match="another user"):
            await world.ask(pod, recycler(pod)())
        await asyncio.sleep(1)
        living = pod.living
        current = {model for model, copy in living.conductor.pod.cache.current.items() if copy.registered}
        shown = {model for model, record in living.registry.models.items() if living.conductor.pod.id in record.copies}
        assert current
        assert current == shown
        assert pod.runtime.lives == 1
        await callers.end()

    play(story, recycle_runtime="")
