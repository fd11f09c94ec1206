"""Whatever happens in whatever order: sums agree with copies, slots stay in bounds, and nobody is left waiting."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.core.cache.copies import Copy, State
from mesh.core.errors import Code
from mesh.core.events import (
    LoadWanted,
    ModelDeleted,
    RuntimeEvent,
    RuntimeForgot,
    RuntimeLost,
    RuntimeReleased,
    RuntimeReturned,
    RuntimeWithheld,
    TimePassed,
)
from mesh.core.ids import ModelId
from tests.unit.core.stage import INFO, Stage, names

models = st.sampled_from(names(6))
sizes = st.integers(1, 400)


class World(RuleBasedStateMachine):
    """A pod and everything that can happen to it; the runtime answers what it was told, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(capacity=1000, default=150, slots=2, watched=True)
        self.calls: list[Copy] = []
        self.lost = False

    def in_state(self, *states: State) -> list[Copy]:
        return [copy for copy in self.stage.copies() if copy.state in states]

    @rule(model=models, urgent=st.booleans(), waits=st.booleans(), age=st.integers(0, 10**7))
    def wanted(self, model: str, urgent: bool, waits: bool, age: int) -> None:
        used = self.stage.now if urgent else self.stage.now - age
        self.stage.want(model, urgent=urgent, waits=waits, last_used=used)

    @rule(model=models)
    def called(self, model: str) -> None:
        copy = self.stage.pod.enter(ModelId(model), self.stage.now)
        if copy is not None:
            self.calls.append(copy)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def call_ended(self, data: Any) -> None:
        self.stage.leave(self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1))))

    @rule(model=models)
    def waiting_caller_left(self, model: str) -> None:
        self.stage.stop_waiting(model)

    @precondition(lambda self: self.in_state(State.LOADING))
    @rule(data=st.data(), size=sizes, outcome=st.sampled_from(["ok", "unsized", "failed", "refused", "away"]))
    def load_ended(self, data: Any, size: int, outcome: str) -> None:
        name = str(data.draw(st.sampled_from(self.in_state(State.LOADING))).id)
        match outcome:
            case "ok":
                self.stage.loaded(name, size)
            case "unsized":
                self.stage.loaded_unsized(name)
            case "failed":
                self.stage.failed(name)
            case "refused":
                self.stage.failed(name, code=Code.INVALID_ARGUMENT)
            case "away":
                self.stage.failed(name, code=Code.UNAVAILABLE)

    @precondition(lambda self: self.in_state(State.SIZING))
    @rule(data=st.data(), size=st.none() | sizes)
    def sized(self, data: Any, size: int | None) -> None:
        self.stage.measured(str(data.draw(st.sampled_from(self.in_state(State.SIZING))).id), size)

    @precondition(lambda self: self.in_state(State.UNLOADING))
    @rule(data=st.data(), well=st.booleans())
    def unload_ended(self, data: Any, well: bool) -> None:
        name = str(data.draw(st.sampled_from(self.in_state(State.UNLOADING))).id)
        _ = self.stage.unloaded(name) if well else self.stage.unload_failed(name)

    @precondition(lambda self: self.in_state(State.SIZING, State.READY, State.DRAINING, State.UNLOADING))
    @rule(data=st.data())
    def forgotten(self, data: Any) -> None:
        copies = self.in_state(State.SIZING, State.READY, State.DRAINING, State.UNLOADING)
        self.stage.tell(RuntimeForgot(data.draw(st.sampled_from(copies)).id))

    @rule(model=models)
    def deleted(self, model: str) -> None:
        self.stage.tell(ModelDeleted(ModelId(model)))

    @rule(
        event=st.sampled_from(
            [
                RuntimeLost(down=True),
                RuntimeLost(down=False),
                RuntimeReturned(emptied=True),
                RuntimeReturned(emptied=False),
                RuntimeWithheld(calls=True),
                RuntimeWithheld(calls=False),
                RuntimeReleased(),
            ]
        )
    )
    def runtime_went_or_came(self, event: RuntimeEvent) -> None:
        self.stage.tell(event)

    @rule(millis=st.integers(1, 200_000))
    def time_passed(self, millis: int) -> None:
        self.stage.later(millis)
        self.stage.tell(TimePassed())

    @invariant()
    def sums_agree(self) -> None:
        self.stage.check()
        for entered in self.stage.entered.values():
            self.calls += entered
        self.stage.entered.clear()
        assert self.stage.pod.cache.next_id(ModelId("probe")).number > 0

    def teardown(self) -> None:
        """Once the world answers and callers leave, nobody waits and every slot is free."""
        stage = self.stage
        stage.tell(RuntimeReturned(emptied=True))
        for _ in range(500):
            self.sums_agree()
            while self.calls:
                stage.leave(self.calls.pop())
            busy = self.in_state(State.LOADING, State.SIZING, State.UNLOADING)
            if not busy:
                break
            for copy in busy:
                self.answer(copy)
        assert not any(copy.waiting for copy in stage.copies())
        assert not any(stage.waiting.values())
        assert stage.pod.cache.slots_used == 0
        assert stage.pod.cache.space.granted <= stage.pod.cache.space.capacity or len(stage.pod.cache.current) == 1

    def answer(self, copy: Copy) -> None:
        match copy.state:
            case State.LOADING:
                self.stage.loaded(str(copy.id))
            case State.SIZING:
                self.stage.measured(str(copy.id), None)
            case State.UNLOADING:
                self.stage.unloaded(str(copy.id))


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_the_same_events_give_the_same_instructions() -> None:
    def run() -> list[object]:
        pod = Stage().pod
        told: list[object] = []
        for number, name in enumerate([*names(12), "m3", "m1"]):
            told.append(pod.handle(LoadWanted(ModelId(name), INFO, Stage().now, urgent=True), Stage().now))
            told.append(number)
        return told

    assert run() == run()
