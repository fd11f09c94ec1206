"""A pod leaves its runtime alone, by its own will: loads wait, then calls too; and what is known of the runtime is another matter."""

from __future__ import annotations

import pytest

from mesh.core.errors import RuntimeDown
from mesh.core.events import RuntimeLost, RuntimeReleased, RuntimeReturned, RuntimeWithheld
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import Outcome
from mesh.core.registry.instances import InstanceRecord
from tests.unit.core.stage import Stage

M = ModelId("m")


def test_withheld_from_loads_it_serves_what_it_has_and_loads_begin_when_it_is_released() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=False))
    stage.leave(stage.enter("m"))
    assert stage.want("other") == []
    assert stage.tell(RuntimeReleased()) == ["load other#1"]


def test_a_load_under_way_ends_as_it_would() -> None:
    stage = Stage()
    stage.want("m")
    stage.tell(RuntimeWithheld(calls=False))
    stage.loaded("m#1")
    assert stage.released == [("m", Outcome.ENTERED, None)]


def test_withheld_from_calls_they_wait_and_enter_when_it_is_released() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=True))
    assert stage.pod.enter(M, stage.now) is None
    assert stage.want("m") == []
    stage.tell(RuntimeReleased())
    assert stage.released[-1] == ("m", Outcome.ENTERED, None)
    assert stage.copy("m#1").calls == 1


def test_who_waits_is_sent_to_other_pods() -> None:
    stage = Stage()
    stage.pod.pods.instance_changed(PodId("there"), InstanceRecord(endpoint="there:1"))
    stage.want("m")
    stage.tell(RuntimeWithheld(calls=False))
    ((model, outcome, error),) = stage.released
    assert (model, outcome, type(error)) == ("m", Outcome.FAILED, RuntimeDown)


def test_an_interrupted_way_to_the_runtime_does_not_end_it() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=True))
    stage.want("m")
    stage.tell(RuntimeLost(down=False))
    stage.tell(RuntimeReturned(emptied=False))
    assert stage.pod.enter(M, stage.now) is None
    assert stage.copy("m#1").waiting == 1


def test_a_runtime_that_began_anew_is_withheld_no_more() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=True))
    stage.want("m")
    stage.tell(RuntimeLost(down=True))
    assert stage.tell(RuntimeReturned(emptied=True)) == ["load m#2"]
    stage.loaded("m#2")
    assert stage.released[-1] == ("m", Outcome.ENTERED, None)


@pytest.mark.parametrize("down", [True, False])
def test_a_runtime_that_is_lost_meanwhile_is_not_there_because_it_is_released(down: bool) -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=True))
    stage.tell(RuntimeLost(down=down))
    assert stage.want("other") == []
    assert stage.tell(RuntimeReleased()) == []
    assert (stage.pod.cache.paused, stage.pod.cache.down) == (True, down)
    assert stage.tell(RuntimeReturned(emptied=False)) == ["load other#1"]


def test_a_later_wish_to_withhold_loads_does_not_let_calls_in() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeWithheld(calls=True))
    stage.tell(RuntimeWithheld(calls=False))
    assert stage.pod.enter(M, stage.now) is None
