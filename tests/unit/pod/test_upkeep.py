"""The keepers of a pod: copies that users want are ordered, dead pods forgotten, records put right, free space filled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.explaining.decisions import Kind
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy, Edit, MarkReady, RecordFailure, RemoveCopy
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.janitor import SETTLED
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.reaping import GRACE
from mesh.core.registry.records import Bounds, ModelRecord
from mesh.core.units import Millis
from mesh.pod import minimum, proactive, reaper
from mesh.pod.census import Census
from mesh.pod.janitor import JanitorKeeper
from mesh.pod.minimum import MinimumKeeper
from mesh.pod.proactive import ProactiveKeeper
from mesh.pod.reaper import Reaper
from mesh.store.memory import MemoryRegistry
from tests.unit.pod.bench import INFO, Bench, settled

HERE, DEAD, OTHER = PodId("here"), PodId("dead"), PodId("other")
M = ModelId("m")
OLD = Millis(1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimum, "SETTLE", 0.0)
    monkeypatch.setattr(reaper, "PAUSE", 0.0)
    monkeypatch.setattr(proactive, "PACE", 0.0)


class Site:
    """A bench whose pod leads and sees what the registry shows, as a router's does. Its clock shows `later` ms after the start."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.registry = bench, bench.registry
        self.later = 0
        start = bench.conductor.now()
        bench.conductor.now = lambda: Millis(start + self.later)  # type: ignore[method-assign]
        pod = bench.pod
        pod.models = self.registry.models

        def model_changed(model: ModelId, record: ModelRecord | None) -> None:
            for event in pod.record_changed(model, record):
                bench.conductor.tell(event)

        self.registry.listen(model_changed, pod.alias_changed)
        self.registry.listen_to_instances(pod.pod_changed)
        self.mentions = Mentions({})
        self.registry.listen(self.mentions.model_changed, lambda _alias, _record: None)

    async def live(self, *, leads: bool = True) -> Site:
        await self.registry.publish(HERE, self.bench.pod.figures(InstanceRecord(endpoint="127.0.0.1:1")))
        if leads:
            await self.registry.stand_for_leader(HERE)
        await settled(lambda: HERE in self.registry.instances and self.registry.leads == leads, "it lives")
        return self

    async def change(self, edit: Edit) -> None:
        assert await self.registry.change(edit) is None

    async def bound(self, alias: str, bounds: Bounds, target: str = M) -> None:
        now = self.bench.conductor.now()
        await self.change(SetAlias(AliasId(alias), ModelId(target), now, info=INFO, bounds=bounds))

    async def held_by(self, pod: PodId, model: str = M) -> None:
        """Another pod's copy, as its record shows it."""
        await self.change(AddCopy(ModelId(model), pod, OLD, OLD))
        await self.change(MarkReady(ModelId(model), pod, OLD, OLD))

    def decided(self, kind: Kind) -> list[str]:
        return [decision.reason for decision in self.bench.pod.cache.decisions if decision.kind is kind]

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[MinimumKeeper]:
        keeper = MinimumKeeper(self.registry, self.bench.conductor, self.bench.loads_of_models, self.mentions)
        task = asyncio.get_running_loop().create_task(keeper.keep())
        try:
            yield keeper
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def site(bench: Bench) -> Site:
    return Site(bench)


# What users want kept


async def test_a_minimum_is_loaded_and_its_decision_can_be_made_again(site: Site) -> None:
    await site.live()
    async with site.keeping():
        await site.bound("a", Bounds(1))
        await site.bench.loading("m")
        site.bench.loaded("m")
        await settled(lambda: HERE in site.registry.models[M].ready, "it is ready")
    assert site.bench.ordered == ["load m"]
    (decision,) = [one for one in site.bench.pod.cache.decisions if one.kind is Kind.SCALE_UP]
    assert decision.evidence is not None
    assert (decision.outcome, decision.evidence.again()) == ("order", "order")


async def test_what_had_a_minimum_before_a_pod_came_to_lead_is_loaded_then(site: Site) -> None:
    await site.live(leads=False)
    await site.bound("a", Bounds(1))
    async with site.keeping():
        await asyncio.sleep(0.01)
        assert site.bench.ordered == []
        await site.registry.stand_for_leader(HERE)
        await site.bench.loading("m")


async def test_a_pinned_model_is_loaded_again_when_its_pod_dies(site: Site) -> None:
    await site.live()
    other = site.registry._store.registry()
    await other.publish(OTHER, InstanceRecord(endpoint="127.0.0.1:2"))
    await settled(lambda: OTHER in site.registry.instances, "the other lives")
    async with site.keeping():
        await site.bound("a", Bounds(pinned=True))
        await site.held_by(OTHER)
        await asyncio.sleep(0.01)
        assert site.bench.ordered == []
        await other.close()
        await site.bench.loading("m")
    assert site.decided(Kind.SCALE_UP) == ["pinned: 1 wanted, 0 on pods that live and stay"]


async def test_what_is_to_be_preloaded_is_loaded_when_the_mesh_is_new(site: Site) -> None:
    await site.bound("a", Bounds(preload=True))
    now = site.bench.conductor.now()
    await site.registry.publish(HERE, InstanceRecord(endpoint="127.0.0.1:1", start_time=now))
    await site.registry.stand_for_leader(HERE)
    async with site.keeping():
        await site.bench.loading("m")
        site.bench.loaded("m")
        await settled(lambda: site.bench.pod.copy(M), "it is there")
    assert site.decided(Kind.SCALE_UP) == ["preload: 1 wanted, 0 on pods that live and stay"]


async def test_a_model_that_cannot_be_loaded_is_tried_now_and_then_only(site: Site) -> None:
    await site.live()
    async with site.keeping() as keeper:
        await site.bound("a", Bounds(1))
        await site.bench.loading("m")
        site.bench.failed("m")
        await settled(lambda: keeper._minimum.timers.next_due(), "a pause")
        await asyncio.sleep(0.01)
    assert site.bench.ordered.count("load m") == 1


async def test_a_mesh_whose_models_have_what_is_asked_for_writes_nothing(site: Site) -> None:
    await site.live()
    async with site.keeping():
        await site.bound("a", Bounds(1))
        await site.bench.loading("m")
        site.bench.loaded("m")
        await settled(lambda: HERE in site.registry.models[M].ready, "it is ready")
        store = site.registry._store
        before = store.next_revision
        await Reaper(site.registry, site.bench.conductor, site.mentions).reap()
        await JanitorKeeper(site.registry, site.bench.conductor, site.mentions, 1.0).sweep()
        await asyncio.sleep(0.05)
        assert store.next_revision == before


# Dead pods


async def test_a_dead_pod_is_forgotten_after_the_grace_by_the_leader_alone(site: Site) -> None:
    await site.bench.known("m", "n")
    await site.held_by(DEAD)
    await site.change(RecordFailure(ModelId("n"), DEAD, OLD, OLD, "broken", OLD))
    before = dict(site.registry.models)
    reaping = Reaper(site.registry, site.bench.conductor, site.mentions)
    site.later = 10 * GRACE
    await reaping.reap()
    await site.live()
    await reaping.reap()
    site.later += GRACE - 1
    await reaping.reap()
    assert dict(site.registry.models) == before
    site.later += 1
    await reaping.reap()
    assert not site.mentions.of(DEAD)
    assert len(site.decided(Kind.REPAIR)) == 2
    assert all(decision.evidence and decision.evidence.again() == "forget" for decision in site.bench.pod.cache.decisions)


async def test_nobody_is_forgotten_while_the_registry_is_read_only(site: Site) -> None:
    class ReadOnly(MemoryRegistry):
        read_only = True

    await site.bench.known("m")
    await site.held_by(DEAD)
    await site.live()
    registry = ReadOnly(site.registry._store)
    await registry.stand_for_leader(OTHER)
    reaping = Reaper(registry, site.bench.conductor, site.mentions)
    for _ in range(2):
        await reaping.reap()
        site.later += 10 * GRACE
    assert DEAD in site.registry.models[M].copies
    await registry.close()


# Records


async def test_what_a_record_missed_is_put_right(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.live()
    copy = await site.bench.serving("m")
    await settled(lambda: HERE in site.registry.models[M].ready, "it is ready")
    keeper = JanitorKeeper(site.registry, site.bench.conductor, site.mentions, 1.0)
    right = site.registry.models[M]
    # As if the write and its repair were both lost: nobody hears of this change.
    monkeypatch.setattr(site.bench.pod, "record_changed", lambda _model, _record: ())
    await site.change(RemoveCopy(M, HERE, copy.created, copy.last_used, copy.created))
    await keeper.sweep()
    assert HERE not in site.registry.models[M].copies, "it may be on its way"
    site.later = 10 * SETTLED
    await keeper.sweep()
    await settled(lambda: HERE in site.registry.models[M].copies, "it is written again")
    assert (site.registry.models[M].copies, site.registry.models[M].ready) == (right.copies, right.ready)
    assert site.decided(Kind.REPAIR) == ["the record did not say what is true of the copy here, and is written again"]


async def test_a_use_in_the_far_future_gives_way(site: Site) -> None:
    await site.live()
    await site.bench.known("m")
    await site.change(AddCopy(M, OTHER, OLD, NEVER))
    keeper = JanitorKeeper(site.registry, site.bench.conductor, site.mentions, 1.0)
    keeper.model_changed(M, site.registry.models[M])
    await keeper.sweep()
    assert site.registry.models[M].last_used < site.bench.conductor.now()


# Free space


async def test_the_leader_loads_what_was_used_last_into_free_space(site: Site) -> None:
    models = [f"m{number}" for number in range(6)]
    await site.bench.known(*models)
    for number, model in enumerate(models):
        await site.change(AddCopy(ModelId(model), DEAD, OLD, Millis(site.bench.conductor.now() - 10_000 + number)))
        await site.change(RemoveCopy(ModelId(model), DEAD, OLD, OLD, OLD))
    keeper = ProactiveKeeper(site.registry, site.bench.conductor, site.bench.loads_of_models, Census(site.registry), 1.0)
    await site.live()
    record = site.registry.instances[HERE]
    await keeper.fill()
    wanted = set(site.bench.pod.cache.current)
    room = (record.capacity - record.capacity // 8) // 2 // 100
    assert wanted == set(map(ModelId, models[-room:]))
    assert len(site.decided(Kind.SCALE_UP)) == room


async def test_a_store_that_does_not_answer_stops_no_keeper(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "LOOK", 0.0)
    await site.live()
    asked = 0

    async def away(_edit: Edit) -> MeshError | None:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("the store does not answer")

    await site.bench.known("m")
    await site.held_by(DEAD)
    reaping = Reaper(site.registry, site.bench.conductor, site.mentions)
    await reaping.reap()
    site.later += 2 * GRACE
    monkeypatch.setattr(site.registry, "change", away)
    task = asyncio.get_running_loop().create_task(reaping.keep())
    await settled(lambda: asked, "the store is asked")
    assert not task.done()
    task.cancel()
