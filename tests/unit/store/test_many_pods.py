"""Pods that share a store: each sees the others' changes in order, who lives, what operators set, and who leads."""

from __future__ import annotations

import asyncio

from mesh.core.errors import Referenced, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy, DeleteModel
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from mesh.store.registry import Registry
from tests.unit.store.edits import INFO, Count, CountIfFewer, Witness, create
from tests.unit.store.stores import Store, eventually

A, B = ModelId("a"), ModelId("b")
ONE, TWO, THREE = PodId("abcdef-00001"), PodId("abcdef-00002"), PodId("abcdef-00003")


def pods_told(registry: Registry) -> list[tuple[PodId, InstanceRecord | None]]:
    """Filled with what the registry tells of pods."""
    told: list[tuple[PodId, InstanceRecord | None]] = []
    registry.listen_to_instances(lambda pod, record: told.append((pod, record)))
    return told


def leadership_told(registry: Registry) -> list[bool]:
    """Filled with what the registry tells of this pod's leadership."""
    told: list[bool] = []
    registry.listen_to_leadership(told.append)
    return told


# Records


async def test_what_one_pod_writes_the_others_see(store: Store) -> None:
    one, two = await store.open(), await store.open()
    await one.change(SetAlias(AliasId("alias"), A, Millis(1), info=INFO))
    await eventually(lambda: A in two.models and AliasId("alias") in two.aliases)
    assert (await store.open()).models == two.models == one.models


async def test_all_pods_hear_all_changes_in_one_order(store: Store) -> None:
    pods = [await store.open() for _ in range(3)]
    await pods[0].change(create("a"))
    await pods[0].change(create("b"))
    for pod in pods:
        await eventually(lambda pod=pod: len(pod.models) == 2)  # type: ignore[misc] # default
    witnesses = [Witness(pod) for pod in pods]
    await asyncio.gather(*(pod.change(Count(model)) for pod in pods for model in "abab" * 5))
    for witness in witnesses:
        await eventually(lambda witness=witness: len(witness.told) >= 60)  # type: ignore[misc] # default
        assert witness.told == witnesses[0].told
    assert [record.refs for record in witnesses[0].of("a") if isinstance(record, ModelRecord)] == list(range(1, 31))


async def test_pods_that_count_in_one_record_lose_nothing(store: Store) -> None:
    pods = [await store.open() for _ in range(3)]
    await pods[0].change(create("a"))
    await asyncio.gather(*(eventually(lambda pod=pod: A in pod.models) for pod in pods))  # type: ignore[misc] # default
    edits = [Count("a") for _ in range(30)]
    await asyncio.gather(*(pods[number % 3].change(edit) for number, edit in enumerate(edits)))
    await asyncio.gather(*(eventually(lambda pod=pod: pod.models[A].refs == 30) for pod in pods))  # type: ignore[misc] # default
    assert sum(edit.attempts for edit in edits) > 30, "nobody met anybody"


async def test_what_a_pod_only_read_must_hold_against_others(store: Store) -> None:
    pods = [await store.open() for _ in range(2)]
    await pods[0].change(create("a"))
    await pods[0].change(create("b"))
    await eventually(lambda: len(pods[1].models) == 2)
    edits = [CountIfFewer(*names, limit=5) for _ in range(8) for names in (("a", "b"), ("b", "a"))]
    refusals = await asyncio.gather(*(pods[number % 2].change(edit) for number, edit in enumerate(edits)))
    assert sum(isinstance(refusal, Referenced) for refusal in refusals) == 11
    assert pods[0].models[A].refs + pods[0].models[B].refs == 5


async def test_an_edit_is_decided_on_what_is_not_on_what_a_late_mirror_shows(store: Store) -> None:
    one, two = await store.open(), await store.open()
    for number in range(20):
        model = ModelId(f"model-{number}")
        await one.change(create(model))
        assert await two.change(AddCopy(model, TWO, Millis(1), Millis(1))) is None
        assert TWO in two.models[model].copies, "and the mirror shows it on return"
        await one.change(DeleteModel(model))
        assert isinstance(await two.change(AddCopy(model, TWO, Millis(2), Millis(2))), Unknown)
        assert model not in two.models


# Pods


async def test_a_pod_is_seen_until_it_closes(store: Store) -> None:
    pod, other = await store.open(), await store.open()
    told = pods_told(other)
    await pod.publish(ONE, InstanceRecord(count=1))
    await pod.publish(ONE, record := InstanceRecord(count=2, zone="z", labels=("a", "b"), endpoint="10.0.0.1:8080", unknown={"future": 1}))
    await eventually(lambda: other.instances == {ONE: record})
    await eventually(lambda: pod.instances == {ONE: record}, "a pod sees itself")
    await pod.close()
    await eventually(lambda: not other.instances)
    assert told == [(ONE, InstanceRecord(count=1)), (ONE, record), (ONE, None)]


async def test_who_comes_later_sees_who_is_there(store: Store) -> None:
    one = await store.open()
    await one.publish(ONE, InstanceRecord(count=1))
    two = await store.open()
    await two.publish(TWO, InstanceRecord(count=2))
    await eventually(lambda: set(one.instances) == set(two.instances) == {ONE, TWO})


async def test_a_pod_that_took_over_the_name_outlives_who_had_it(store: Store) -> None:
    former, pod, other = await store.open(), await store.open(), await store.open()
    await former.publish(ONE, InstanceRecord(count=1))
    await pod.publish(ONE, InstanceRecord(count=2))
    await former.close()
    await pod.publish(TWO, InstanceRecord())
    await eventually(lambda: TWO in other.instances)
    assert other.instances[ONE].count == 2


# Parameters


async def test_parameters_are_text_that_operators_change(store: Store) -> None:
    store.set_parameter("logger_level", "DEBUG")
    pod = await store.open()
    assert pod.parameters == {"logger_level": "DEBUG"}
    told: list[tuple[str, str | None]] = []
    pod.listen_to_parameters(lambda name, value: told.append((name, value)))
    store.set_parameter("disable", "true")
    store.set_parameter("logger_level", None)
    await eventually(lambda: pod.parameters == {"disable": "true"})
    assert told == [("disable", "true"), ("logger_level", None)]


# The leader


async def test_nobody_leads_until_somebody_stands(store: Store) -> None:
    pod = await store.open()
    assert (pod.leader, pod.leads) == (None, False)
    told = leadership_told(pod)
    await pod.stand_for_leader(ONE)
    await eventually(lambda: pod.leads)
    assert (pod.leader, told) == (ONE, [True])


async def test_who_stood_first_leads_and_the_next_follows_when_it_goes(store: Store) -> None:
    pods = {name: await store.open() for name in (TWO, ONE, THREE)}
    told = {name: leadership_told(pod) for name, pod in pods.items()}
    for name, pod in pods.items():
        await pod.stand_for_leader(name)
    for leader, next_one in ((TWO, ONE), (ONE, THREE)):
        for pod in pods.values():
            await eventually(lambda pod=pod, leader=leader: pod.leader == leader)  # type: ignore[misc] # default
        assert [name for name, pod in pods.items() if pod.leads] == [leader]
        assert told[next_one] == []
        await pods.pop(leader).close()
        assert told[leader] == [True, False]
    await eventually(lambda: pods[THREE].leads)


async def test_of_many_that_stand_at_once_one_leads_and_all_agree(store: Store) -> None:
    pods = {PodId(f"abcdef-{number:05}"): await store.open() for number in range(6)}
    told = {name: leadership_told(pod) for name, pod in pods.items()}
    await asyncio.gather(*(pod.stand_for_leader(name) for name, pod in pods.items()))
    await eventually(lambda: len({pod.leader for pod in pods.values()}) == 1 and any(pod.leads for pod in pods.values()))
    (leader,) = {pod.leader for pod in pods.values()}
    assert [name for name, pod in pods.items() if pod.leads] == [leader]
    assert leader is not None
    assert told[leader][-1]


async def test_standing_again_neither_loses_the_place_nor_is_told(store: Store) -> None:
    one, two = await store.open(), await store.open()
    told = leadership_told(one)
    await one.stand_for_leader(ONE)
    await two.stand_for_leader(TWO)
    await one.stand_for_leader(ONE)
    await two.publish(TWO, InstanceRecord())
    await eventually(lambda: TWO in one.instances)
    assert (one.leads, two.leads, told) == (True, False, [True])


async def test_a_listener_that_fails_does_not_keep_others_from_hearing(store: Store) -> None:
    pod = await store.open()

    def broken(*_: object) -> None:
        raise ValueError("of no use")

    pod.listen(broken, broken)
    pod.listen_to_leadership(broken)
    pod.listen_to_instances(broken)
    witness, told, pods = Witness(pod), leadership_told(pod), pods_told(pod)
    assert await pod.change(create("a")) is None
    await pod.publish(ONE, InstanceRecord())
    await pod.stand_for_leader(ONE)
    await eventually(lambda: told == [True] and pods == [(ONE, InstanceRecord())])
    assert [name for name, _ in witness.told] == ["a"]
