"""The machine is whole: for every state and every event there is a rule, or it is known that they cannot meet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.core.cache.copies import State
from mesh.core.cache.rules import RULES
from mesh.core.errors import Code, Unknown
from mesh.core.events import (
    CopyEvent,
    CopySpared,
    EditDone,
    EditFailed,
    EditRefused,
    LastCallEnded,
    LoadFailed,
    LoadSucceeded,
    ModelDeleted,
    RuntimeForgot,
    SizeMeasured,
    SizePredicted,
    TimePassed,
    UnloadFailed,
    UnloadSucceeded,
)
from mesh.core.ids import CopyId, ModelId
from mesh.core.pod import BrokenRuleError
from mesh.core.registry.edits import ReadModel
from tests.unit.core.stage import Stage, copy_id

M = ModelId("m")
EVENTS: dict[type[object], Callable[[CopyId], CopyEvent | ModelDeleted | TimePassed]] = {
    EditDone: EditDone,
    EditRefused: lambda copy: EditRefused(copy, Unknown("gone")),
    EditFailed: lambda copy: EditFailed(copy, Unknown("away")),
    SizePredicted: lambda copy: SizePredicted(copy, None),
    LoadSucceeded: lambda copy: LoadSucceeded(copy, None),
    LoadFailed: lambda copy: LoadFailed(copy, Code.INTERNAL, "broken"),
    SizeMeasured: lambda copy: SizeMeasured(copy, None),
    LastCallEnded: LastCallEnded,
    UnloadSucceeded: UnloadSucceeded,
    UnloadFailed: lambda copy: UnloadFailed(copy, "busy"),
    RuntimeForgot: RuntimeForgot,
    CopySpared: lambda copy: CopySpared(copy, ReadModel(copy.model), "not needed"),
    ModelDeleted: lambda copy: ModelDeleted(copy.model),
    TimePassed: lambda _: TimePassed(),
}
IMPOSSIBLE: dict[State, set[type[object]]] = {
    State.REGISTERING: {*EVENTS} - {EditDone, EditRefused, EditFailed, SizePredicted, ModelDeleted},
    **{state: {*EVENTS} - {ModelDeleted} for state in (State.QUEUED, State.CLAIMING)},
    State.LOADING: {*EVENTS} - {LoadSucceeded, LoadFailed, ModelDeleted, TimePassed},
    State.SIZING: {*EVENTS} - {SizeMeasured, RuntimeForgot, ModelDeleted},
    State.READY: {*EVENTS} - {RuntimeForgot, ModelDeleted, CopySpared, EditDone, EditRefused, EditFailed},
    State.DRAINING: {LoadSucceeded, LoadFailed, SizePredicted, UnloadSucceeded, UnloadFailed},
    State.UNLOADING: {SizePredicted},
}
"""Pairs that cannot meet: what answers an instruction comes only while the instruction is carried out."""


def in_state(state: State) -> Stage:
    """A pod whose copy m#1 is in that state."""
    stage = Stage(capacity=250, default=100, slots=2, registers=state is not State.REGISTERING, predicts=state is State.REGISTERING)
    match state:
        case State.QUEUED:
            stage.want("a")
            stage.want("b")
        case State.CLAIMING:
            stage.holding(["a", "b"])
            stage.enter("a")
            stage.enter("b")
        case _:
            pass
    stage.want("m", waits=state in (State.REGISTERING, State.QUEUED, State.CLAIMING, State.LOADING))
    if state in (State.SIZING, State.READY, State.DRAINING, State.UNLOADING):
        stage.loaded_unsized("m#1")
    if state in (State.READY, State.DRAINING, State.UNLOADING):
        stage.measured("m#1", None)
    if state is State.DRAINING:
        stage.enter("m")
    if state in (State.DRAINING, State.UNLOADING):
        stage.tell(ModelDeleted(M))
    assert stage.copy("m#1").state is state
    return stage


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
@pytest.mark.parametrize("event", EVENTS)
def test_every_pair_has_a_rule_or_cannot_meet(state: State, event: type[object]) -> None:
    stage = in_state(state)
    assert ((state, event) in RULES) != (event in IMPOSSIBLE[state])
    copy, told = stage.copy("m#1"), EVENTS[event](copy_id("m#1"))
    if isinstance(told, TimePassed) and copy.due is None:
        return
    if event in IMPOSSIBLE[state]:
        with pytest.raises(BrokenRuleError, match="no rule for"):
            stage.tell(told)
        return
    stage.tell(told)
    stage.check()


def test_a_copy_that_is_gone_hears_nothing() -> None:
    assert not any(state is State.GONE for state, _ in RULES)
