"""What others see of a pod: itself and nobody of the same name, soon when it matters, and nothing of its former life."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

import pytest

from mesh.core.errors import Conflict, PeerUnavailable
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import ChangeRecord
from mesh.core.registry.edits import AddCopy, CreateModel, Edit, RecordFailure, SettleCopy
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis
from mesh.pod import membership
from mesh.pod.membership import Hello, Membership
from mesh.pod.peer_lines import Greeting
from mesh.settings import Settings
from mesh.store.memory import MemoryRegistry, MemoryStore
from mesh.store.registry import Trouble
from tests.unit.pod.bench import turns
from tests.unit.pod.newcomer import INFO, ME, OTHER, Newcomer, true

SETTINGS = Settings(service_name="mesh", pod_address="10.0.0.1", zone="z", labels=("a", "b"), version="main-20240301-1")
FORMER = InstanceRecord(start_time=Millis(1), endpoint="10.0.0.9:8080")


class Member(Newcomer):
    """A pod and what it says of itself."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__()
        self.registry, self.calls = registry, 0
        self.membership = Membership(registry, self.conductor, SETTINGS, lambda: self.calls)
        self.written: list[InstanceRecord] = []
        registry.listen_to_instances(lambda pod, record: self.written.append(record) if pod == ME and record else None)

    async def shows(self, condition: Callable[[InstanceRecord], object]) -> InstanceRecord:
        await true(lambda: ME in self.registry.instances and condition(self.registry.instances[ME]))
        return self.registry.instances[ME]


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def member(store: MemoryStore) -> AsyncIterator[Member]:
    registry = store.registry()
    made = Member(registry)
    yield made
    await made.membership.stop()
    made.conductor.stop()
    await registry.close()


@pytest.fixture
async def others(store: MemoryStore) -> AsyncIterator[MemoryRegistry]:
    registry = store.registry()
    yield registry
    await registry.close()


# Identity


def says(pod: str, *, started: int = 1, service: str = "mesh") -> Hello:
    async def hello(endpoint: str, timeout: float) -> Greeting:
        assert (endpoint, timeout) == (FORMER.endpoint, 5.0)
        return Greeting(PodId(pod), Millis(started), service, "1")

    return hello


async def silent(endpoint: str, timeout: float) -> Greeting:
    raise PeerUnavailable(f"no pod answers at {endpoint}")


async def test_a_living_pod_of_the_same_id_forbids_the_start(member: Member, others: MemoryRegistry) -> None:
    await others.publish(ME, FORMER)
    await true(lambda: ME in member.registry.instances)
    with pytest.raises(Conflict, match=r"another pod of the mesh mesh has the id me and answers at 10\.0\.0\.9:8080; .* WKUBE_POD_NAME"):
        await member.membership.check_identity(says("me"))


async def test_a_record_of_a_former_life_does_not(member: Member, others: MemoryRegistry) -> None:
    await member.membership.check_identity(silent)
    await others.publish(ME, FORMER)
    await true(lambda: ME in member.registry.instances)
    await member.membership.check_identity(silent)


@pytest.mark.parametrize(
    "answer",
    [says("somebody"), says("me", service="another"), says("me", started=10_000_000_000)],
    ids=["another pod has the address now", "of another mesh", "this pod itself"],
)
async def test_nor_does_who_else_answers_there(member: Member, others: MemoryRegistry, answer: Hello) -> None:
    await others.publish(ME, FORMER)
    await true(lambda: ME in member.registry.instances)
    await member.membership.check_identity(answer)


async def test_a_router_that_cannot_be_asked_counts_as_gone(member: Member, others: MemoryRegistry) -> None:
    await others.publish(ME, InstanceRecord(start_time=Millis(1)))
    await true(lambda: ME in member.registry.instances)
    await member.membership.check_identity(silent)


async def test_a_pod_that_takes_the_id_later_is_told_of(member: Member, others: MemoryRegistry, caplog: pytest.LogCaptureFixture) -> None:
    await member.membership.join("10.0.0.1:8080")
    with caplog.at_level(logging.ERROR):
        await others.publish(ME, FORMER)
        await true(lambda: "another pod has written its record under the id of this one" in caplog.text)


# The record


async def test_the_record_says_who_the_pod_is_and_where(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    record = await member.shows(lambda record: record)
    assert record == InstanceRecord(
        start_time=Millis(10_000_000_000),
        version=1_709_251_200_001,
        location="10.0.0.1",
        zone="z",
        labels=("a", "b"),
        lru_time=NEVER,
        capacity=record.capacity,
        load_threads=4,
        endpoint="10.0.0.1:8080",
    )
    assert record.capacity > 0


async def test_traces_of_a_former_life_go_before_the_pod_is_seen(member: Member, others: MemoryRegistry) -> None:
    held, failed = ModelId("held"), ModelId("failed")
    for model in (held, failed):
        await others.change(CreateModel(model, INFO, Millis(1)))
        await others.change(AddCopy(model, ME, Millis(2), Millis(2)))
        await others.change(AddCopy(model, OTHER, Millis(2), Millis(2)))
    await others.change(RecordFailure(failed, ME, Millis(2), Millis(3), "broken", Millis(2)))
    await true(lambda: failed in member.registry.models and member.registry.models[failed].failed)
    await member.membership.join("10.0.0.1:8080")
    assert [list(member.registry.models[model].copies) for model in (held, failed)] == [[OTHER], [OTHER]]
    assert not member.registry.models[failed].failed


async def test_what_matters_is_told_without_being_asked(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    member.clock.time += 2_000
    member.load("a")
    assert (await member.shows(lambda record: record.count)).count == 1


async def test_what_comes_too_soon_is_told_later(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    member.clock.time += 1_900
    member.load("a")
    assert (await member.shows(lambda record: record.count)).count == 1


async def test_what_does_not_matter_is_not_told(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    await member.shows(lambda record: record)
    member.clock.time += 2_000
    member.load(*(f"m{number}" for number in range(20)))
    await member.shows(lambda record: record.count == 20)
    member.clock.time += 3_000
    member.load("one more")
    await true(lambda: not member.membership._news.is_set())
    member.clock.time += 3_000
    member.load(*(f"n{number}" for number in range(10)))
    await member.shows(lambda record: record.count == 31)
    assert [record.count for record in member.written] == [0, 20, 31]


async def test_a_record_that_vanishes_comes_back(member: Member, store: MemoryStore) -> None:
    await member.membership.join("10.0.0.1:8080")
    await member.shows(lambda record: record)
    store.write({("instances", ME): None})
    await true(lambda: len(member.written) == 2)
    await member.shows(lambda record: record.endpoint == "10.0.0.1:8080")


async def test_busyness_is_told(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    member.clock.time += 60_000
    member.calls = 120
    member.load("a")
    assert (await member.shows(lambda record: record.count)).rpm == 120


async def test_leaving_is_told_at_once(member: Member) -> None:
    await member.membership.leave()
    assert not member.registry.instances, "a pod that never came cannot leave"
    await member.membership.join("10.0.0.1:8080")
    await member.membership.leave()
    await member.shows(lambda record: record.shutting_down)


# A start without the store


async def test_a_pod_that_starts_while_the_store_is_away_appears_when_it_is_back_and_says_what_is_true(
    member: Member, others: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "AGAIN", (0.001, 0.002))
    for model in ("former", "failed"):
        await others.change(CreateModel(ModelId(model), INFO, Millis(1)))
    await others.change(AddCopy(ModelId("former"), ME, Millis(1), Millis(1)))
    await others.change(RecordFailure(ModelId("failed"), ME, Millis(1), Millis(1), "broken", Millis(1)))
    ordered: list[Edit] = []
    member.conductor.watch(lambda order: ordered.append(order.edit) if isinstance(order, ChangeRecord) else None)
    registry = member.registry
    registry.trouble = Trouble(Millis(1), "the store is away")
    await member.membership.join("10.0.0.1:8080")
    await turns()
    assert not ordered
    registry.trouble = None
    await member.shows(lambda record: record.endpoint == "10.0.0.1:8080")
    await true(lambda: len(ordered) == 2)
    assert {type(edit) for edit in ordered} == {SettleCopy}
    for edit in ordered:
        await others.change(edit)
    assert not others.models[ModelId("former")].copies
    assert not others.models[ModelId("failed")].failed
    assert registry.leader == ME


async def test_the_pods_record_waits_while_the_store_is_away(member: Member) -> None:
    await member.membership.join("10.0.0.1:8080")
    member.registry.trouble = Trouble(Millis(1), "the store is away")
    before = len(member.written)
    member.conductor.pod.leaving = True
    member.membership._news.set()
    await turns()
    assert len(member.written) == before
    member.registry.trouble = None
    member.membership._news.set()
    await member.shows(lambda record: record.shutting_down)
