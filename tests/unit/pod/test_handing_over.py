"""Callers wait for a copy and get it, an error, or nothing; whoever leaves holds nothing."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.cache.copies import Copy, State
from mesh.core.errors import LoadFailed, MeshError
from mesh.core.events import LoadWanted, ModelDeleted
from mesh.core.ids import ModelId
from tests.support.waiting import until_async
from tests.unit.pod.bench import INFO, Bench, settled, turns

M = ModelId("m")


async def copy_of(caller: asyncio.Task[Copy | None]) -> Copy:
    copy = await caller
    assert copy is not None
    return copy


async def test_a_caller_gets_the_copy_and_counts_as_its_call(bench: Bench) -> None:
    copy = await bench.serving("m")
    assert (copy.calls, copy.state) == (1, State.READY)
    bench.conductor.leave(copy)
    assert copy.calls == 0


async def test_a_thousand_callers_share_one_load(bench: Bench) -> None:
    await bench.known("m")
    callers = [bench.call("m") for _ in range(1000)]
    await bench.loading("m")
    bench.loaded("m")
    copies = await asyncio.gather(*callers)
    assert bench.ordered == ["load m"]
    assert len({id(copy) for copy in copies}) == 1
    assert copies[0] is not None
    assert copies[0].calls == 1000


async def test_callers_that_leave_before_the_load_ends_do_not_end_it(bench: Bench) -> None:
    await bench.known("m")
    callers = [bench.call("m") for _ in range(10)]
    await bench.loading("m")
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    copy = bench.pod.copy(M)
    assert copy is not None
    assert copy.waiting == 0
    bench.loaded("m")
    assert (copy.state, copy.calls) == (State.READY, 0)


async def test_a_caller_that_leaves_when_the_copy_is_already_handed_over_gives_it_back(bench: Bench) -> None:
    await bench.known("m")
    leaver, stayer = bench.call("m"), bench.call("m")
    await bench.loading("m")
    bench.loaded("m")
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert (await copy_of(stayer)).calls == 1


async def test_a_caller_that_has_left_but_was_not_yet_noticed_gives_it_back_too(bench: Bench) -> None:
    await bench.known("m")
    leaver, stayer = bench.call("m"), bench.call("m")
    await bench.loading("m")
    leaver.cancel()
    bench.loaded("m")
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert (await copy_of(stayer)).calls == 1


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_copy_that_goes_in_the_same_moment_is_not_held_up_by_a_caller_that_left(bench: Bench, leaves_first: bool) -> None:
    await bench.known("m")
    leaver = bench.call("m")
    await bench.loading("m")
    if leaves_first:
        leaver.cancel()
    bench.loaded("m")
    bench.tell(ModelDeleted(M))
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await settled(lambda: bench.unloads, "the unload")
    bench.unloaded("m")
    assert not bench.pod.cache.leaving


async def test_an_error_reaches_every_caller_as_its_own(bench: Bench) -> None:
    await bench.known("m")
    callers = [bench.call("m") for _ in range(50)]
    await bench.loading("m")
    bench.failed("m", "no such file")
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert {(type(error), str(error)) for error in errors} == {(LoadFailed, "no such file")}
    assert len({id(error) for error in errors}) == 50
    assert {len(traceback.extract_tb(error.__traceback__)) for error in errors if isinstance(error, MeshError)} == {1}


async def test_a_refusal_while_a_failure_stands_is_an_error_of_its_own_too(bench: Bench) -> None:
    await bench.known("m")
    first = bench.call("m")
    await bench.loading("m")
    bench.failed("m", "no such file")
    errors = [(await asyncio.gather(caller, return_exceptions=True))[0] for caller in (first, bench.call("m"), bench.call("m"))]
    assert [str(error) for error in errors] == ["no such file"] * 3
    assert len({id(error) for error in errors}) == 3
    assert bench.ordered == ["load m", "unload m"]


async def test_a_model_that_is_deleted_while_it_loads_answers_with_nothing(bench: Bench) -> None:
    await bench.known("m")
    caller = bench.call("m")
    await bench.loading("m")
    bench.tell(ModelDeleted(M))
    assert await caller is None


async def test_what_comes_up_while_something_is_decided_is_decided_next(bench: Bench) -> None:
    order: list[str] = []

    def look(instruction: object) -> None:
        order.append(type(instruction).__name__)
        if len(order) == 1:
            bench.tell(LoadWanted(ModelId("second"), INFO, bench.conductor.now()))
            assert bench.pod.copy(ModelId("second")) is None, "an event was handled inside another"

    await bench.known("m", "second")
    bench.conductor.watch(look)
    bench.tell(LoadWanted(M, INFO, bench.conductor.now()))
    assert bench.pod.copy(ModelId("second")) is not None
    await bench.loading("m")
    bench.loaded("m")
    await bench.loading("second")


async def test_what_falls_due_is_told() -> None:
    bench = await Bench(failure_expiry=20).known("m")
    caller = bench.call("m")
    await bench.loading("m")
    bench.failed("m")
    await asyncio.gather(caller, return_exceptions=True)

    async def over() -> bool:
        return bench.pod.cache.failures.of(M) is None

    await until_async(over, "the failure is forgotten")
    await bench.stop()


async def test_whoever_waits_when_the_pod_stops_is_let_go(bench: Bench) -> None:
    await bench.known("m")
    caller = bench.call("m")
    await bench.loading("m")
    bench.conductor.stop()
    with pytest.raises(asyncio.CancelledError):
        await caller


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 1)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.sampled_from(["loaded", "failed", "delete", "unloaded", "turn"]), st.integers(0, 1)),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(STEPS)
def test_whatever_happens_the_calls_of_a_copy_are_those_who_hold_it(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_happens(steps))


async def _happens(steps: list[tuple[str, int]]) -> None:
    crowd = Crowd(await Bench(slots=1).known(*NAMES))
    for step, which in steps:
        await getattr(crowd, step)(which)
    await turns(20)
    crowd.check()
    await crowd.go()


NAMES = ("m", "n")


class Crowd:
    """Callers of two models, and a runtime that answers now and then."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.callers: list[asyncio.Task[Copy | None]] = []
        self.gone: set[asyncio.Task[Copy | None]] = set()

    async def call(self, which: int) -> None:
        self.callers.append(self.bench.call(NAMES[which]))

    async def cancel(self, which: int) -> None:
        if self.callers:
            self.callers[which % len(self.callers)].cancel()

    async def leave(self, which: int) -> None:
        caller = self.callers[which % len(self.callers)] if self.callers else None
        if caller is not None and caller not in self.gone and (copy := _held(caller)) is not None:
            self.gone.add(caller)
            self.bench.conductor.leave(copy)

    async def loaded(self, which: int) -> None:
        if NAMES[which] in self.bench.loads:
            self.bench.loaded(NAMES[which])

    async def failed(self, which: int) -> None:
        if NAMES[which] in self.bench.loads:
            self.bench.failed(NAMES[which])

    async def unloaded(self, which: int) -> None:
        if NAMES[which] in self.bench.unloads:
            self.bench.unloaded(NAMES[which])

    async def delete(self, which: int) -> None:
        self.bench.tell(ModelDeleted(ModelId(NAMES[which])))

    async def turn(self, _which: int) -> None:
        await turns(3)

    def check(self) -> None:
        """Who holds a copy is counted on it, who waits is counted as waiting, and nobody else."""
        cache = self.bench.pod.cache
        held = [copy for caller in self.callers if caller not in self.gone and (copy := _held(caller)) is not None]
        for copy in [*cache.current.values(), *cache.leaving.values()]:
            assert copy.calls == sum(one is copy for one in held), copy
        for model, copy in cache.current.items():
            assert copy.waiting == sum(not caller.done() for caller in self.callers if caller.get_name() == model), copy

    async def go(self) -> None:
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)
        await self.bench.stop()


def _held(caller: asyncio.Task[Copy | None]) -> Copy | None:
    """What a caller got, if it is over and got something."""
    return None if not caller.done() or caller.cancelled() or caller.exception() is not None else caller.result()
