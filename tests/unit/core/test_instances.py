"""A pod's record reads and writes what ModelMesh writes, and keeps what it does not know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.registry.instances import NEVER, InstanceRecord, instance_from_json, instance_to_json
from mesh.core.routing.hops import Load
from mesh.core.units import Millis, Units
from tests.unit.core.stage import HERE, Stage, names

JAVA = {
    "startTime": 1700000000000,
    "vers": 1690000000001,
    "loc": "10.0.0.7",
    "zone": "dal10",
    "labels": ["mt:onnx", "pv:v2"],
    "lruTime": 1700000001000,
    "count": 3,
    "cap": 65536,
    "used": 1200,
    "lThreads": 4,
    "lInProg": 1,
    "rpm": 77,
    "shutdown": True,
    "actionable": True,
    "somethingNew": [1, {"kept": None}],
}

numbers = st.integers(0, 2**62)
records = st.builds(
    InstanceRecord,
    numbers.map(Millis),
    numbers,
    st.text(),
    st.text(),
    st.lists(st.text()).map(lambda labels: tuple(sorted(labels))),
    numbers.map(Millis),
    numbers,
    numbers.map(Units),
    numbers.map(Units),
    numbers,
    numbers,
    numbers,
    st.booleans(),
    st.text(),
    numbers,
    numbers.map(Units),
    st.booleans(),
    st.dictionaries(st.sampled_from(["future", "other"]), st.none() | st.integers() | st.text()),
)


@given(records)
def test_what_is_written_is_read(record: InstanceRecord) -> None:
    assert instance_from_json(instance_to_json(record)) == record


def test_a_java_router_is_read_field_for_field_and_written_back_as_it_was() -> None:
    record = instance_from_json(JAVA)
    assert (record.location, record.zone, record.labels) == ("10.0.0.7", "dal10", ("mt:onnx", "pv:v2"))
    assert (record.count, record.capacity, record.used, record.load_threads, record.loads_in_progress) == (3, 65536, 1200, 4, 1)
    assert (record.lru_time, record.rpm, record.shutting_down, record.endpoint) == (1700000001000, 77, True, "")
    assert instance_to_json(record) == JAVA


def test_empty_fields_are_left_out_but_what_makes_java_notice_never_is() -> None:
    assert instance_to_json(InstanceRecord()) == {"lruTime": NEVER, "actionable": True}


def test_a_changed_copy_keeps_the_rest() -> None:
    assert instance_to_json(instance_from_json(JAVA).with_(shutting_down=False, endpoint="10.0.0.7:8080")) == {
        **{name: value for name, value in JAVA.items() if name != "shutdown"},
        "meshEndpoint": "10.0.0.7:8080",
    }


@pytest.mark.parametrize("data", [None, 7, [], {"cap": "much"}, {"labels": 3}, {"count": None}, {"labels": None}], ids=repr)
def test_what_modelmesh_would_not_write_is_refused(data: Any) -> None:
    with pytest.raises(Malformed, match="instance record is not what ModelMesh writes"):
        instance_from_json(data)


def test_a_pod_tells_how_busy_it_is_and_how_old_its_cache() -> None:
    stage = Stage()
    assert stage.pod.load(stage.now) == Load(0, at=stage.now)
    stage.holding(["m"])
    stage.pod.pods.began(HERE)
    assert stage.pod.load(Millis(stage.now + 5)) == Load(1, stage.now, Millis(stage.now + 5))


def test_a_pod_counts_what_is_about_to_be_loaded_as_used_up_to_the_room_it_has() -> None:
    stage = Stage(capacity=1000, default=100, slots=1)
    for name in names(3):
        stage.want(name)
    told = stage.pod.figures(InstanceRecord())
    assert (told.count, told.used) == (3, 300)
    for name in names(20):
        stage.want(name)
    assert stage.pod.figures(InstanceRecord()).used == stage.pod.cache.policy.room
