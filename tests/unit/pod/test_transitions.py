"""Transitions on the pod that leads: copies are loaded on other pods, then calls go to the target; what stands in the way is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.aliases import DeleteAlias, SetAlias, TryAgain
from mesh.core.edits import AddCopy, CreateModel, Edit, MarkReady, RecordFailure, RemoveCopy
from mesh.core.errors import DeadlineExceeded, Leaving, LoadFailed, MeshError, Nowhere, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.instances import InstanceRecord
from mesh.core.records import AliasRecord, ModelInfo
from mesh.core.units import Millis
from mesh.pod import transitions
from mesh.pod.clock import WallClock
from mesh.pod.transitions import Transitions
from mesh.store.memory import MemoryRegistry, MemoryStore
from tests.unit.pod.bench import settled, turns
from tests.unit.pod.pods import becomes

A = AliasId("a")
OLD, NEW, NEWER = ModelId("old"), ModelId("new"), ModelId("newer")
INFO = ModelInfo("test", "path")
NOW = Millis(10**12)


class Unsteady(MemoryRegistry):
    """A registry whose store does not answer while a test says so, and whose changes show before who made them knows, as with etcd."""

    away = False
    slow: asyncio.Event | None = None
    read_only = False

    async def change(self, edit: Edit) -> MeshError | None:
        if self.slow is not None:
            await self.slow.wait()
        if self.away:
            raise StoreUnavailable("the store does not answer")
        refusal = await super().change(edit)
        await asyncio.sleep(0)
        return refusal


class World:
    """Pods of one mesh, of which each has a registry and transitions; models load when the test says so.

    Attributes:
        loading: copies that load.
        ordered: (model, pods to avoid) of each wish for a copy.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = self.store.registry()
        self.loading: dict[tuple[ModelId, PodId], asyncio.Future[None]] = {}
        self.ordered: list[tuple[ModelId, frozenset[PodId]]] = []
        self.refusals: list[MeshError] = []
        self.places: list[PodId] = []
        self.pods: dict[PodId, tuple[Unsteady, Transitions]] = {}

    async def pod(self, name: str, *, leads: bool = True, read_only: bool = False) -> Transitions:
        """One more pod; the first that is to lead does."""
        registry, pod = Unsteady(self.store), PodId(name)
        registry.read_only = read_only
        made = Transitions(pod, WallClock(), registry, self)
        self.pods[pod] = registry, made
        self.places.append(pod)
        await registry.publish(pod, InstanceRecord(endpoint="127.0.0.1:1"))
        if leads:
            await registry.stand_for_leader(pod)
        await settled(lambda: pod in self.registry.instances, f"{name} lives")
        return made

    async def ends(self, name: str) -> None:
        """A pod ends, and with it what it did."""
        registry, made = self.pods.pop(PodId(name))
        self.places.remove(PodId(name))
        await registry.close()
        await made.stop()

    # What `Loads` does, over all pods

    async def ensure(self, model: ModelId, *, last_used: Millis, wait: bool, avoid: frozenset[PodId]) -> None:
        assert wait
        self.ordered.append((model, avoid))
        if self.refusals:
            raise self.refusals.pop(0)
        record = self.registry.models[model]
        chosen = next((pod for pod in record.copies if pod not in avoid), None)
        if chosen is None:
            chosen = next((pod for pod in self.places if pod not in {*avoid, *record.copies, *record.failed}), None)
            if chosen is None:
                raise LoadFailed(next(iter(record.failures.values()))) if record.failed else Nowhere("Nowhere available to load")
            await self.change(AddCopy(model, chosen, NOW, last_used))
            self.loading[model, chosen] = asyncio.get_running_loop().create_future()
        if chosen not in record.ready:
            await asyncio.shield(self.loading[model, chosen])

    async def comes(self, model: ModelId, pod: str) -> None:
        """Waits until a pod loads a model."""
        await settled(lambda: (model, PodId(pod)) in self.loading, f"a load of {model} on {pod}")

    async def loaded(self, model: ModelId, pod: str) -> None:
        await self.change(MarkReady(model, PodId(pod), NOW, NOW))
        self.loading.pop((model, PodId(pod))).set_result(None)

    async def failed(self, model: ModelId, pod: str, text: str = "broken") -> None:
        await self.change(RecordFailure(model, PodId(pod), NOW, NOW, text, NOW))
        future = self.loading.pop((model, PodId(pod)))
        future.set_exception(LoadFailed(text))
        future.exception()

    # The registry

    async def change(self, edit: Edit) -> None:
        assert await self.registry.change(edit) is None

    async def holds(self, model: ModelId, *pods: str) -> None:
        """A model that serves on these pods."""
        await self.change(CreateModel(model, INFO, NOW))
        for pod in map(PodId, pods):
            await self.change(AddCopy(model, pod, NOW, NOW))
            await self.change(MarkReady(model, pod, NOW, NOW))

    async def point(self, target: ModelId, **more: Any) -> None:
        await self.change(SetAlias(A, target, NOW, info=INFO, auto_delete=True, load_now=True, **more))

    async def moving(self, *pods: str) -> World:
        """An alias on its way from a model that serves on some pods."""
        await self.holds(OLD, *pods)
        await self.change(SetAlias(A, OLD, NOW))
        await self.point(NEW)
        await settled(lambda: all(registry.aliases.get(A) == self.alias for registry, _ in self.pods.values()), "all pods know it")
        return self

    @property
    def alias(self) -> AliasRecord:
        return self.registry.aliases[A]

    async def becomes(self, condition: Callable[[AliasRecord], object]) -> None:
        await settled(lambda: condition(self.alias), f"the alias is {self.alias}")

    async def stop(self) -> None:
        for name in list(self.pods):
            await self.ends(name)
        await self.registry.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()


async def test_calls_go_to_the_target_once_it_serves(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    assert world.alias.active == OLD
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)
    assert OLD in world.registry.models, "it was registered by itself"
    assert world.ordered == [(NEW, frozenset())]


async def test_a_model_that_was_made_for_the_alias_goes_when_the_next_one_serves(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)
    await world.point(NEWER)
    await turns()
    # One place only, and a pod may hold several models.
    await world.comes(NEWER, "p1")
    assert world.registry.models[NEW].refs == 1
    await world.loaded(NEWER, "p1")
    await world.becomes(lambda alias: alias.active == NEWER)
    assert NEW not in world.registry.models


async def test_each_further_copy_is_loaded_on_another_pod_after_the_first_has_proved_well(world: World) -> None:
    for name in ("p1", "p2", "p3"):
        await world.pod(name)
    await world.moving("p1", "p2", "p3")
    await world.comes(NEW, "p1")
    assert len(world.ordered) == 1
    await world.loaded(NEW, "p1")
    await world.comes(NEW, "p2")
    await world.comes(NEW, "p3")
    await world.loaded(NEW, "p3")
    await turns(50)
    assert world.alias.active == OLD
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: alias.active == NEW)
    assert [sorted(avoid) for _, avoid in world.ordered] == [[], ["p1"], ["p1", "p2"]]


async def test_where_there_is_no_room_for_as_many_calls_go_to_what_there_is_and_the_log_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1", "p2")
    await world.comes(NEW, "p1")
    world.places.remove(PodId("p2"))
    with caplog.at_level(logging.WARNING):
        await world.loaded(NEW, "p1")
        await world.becomes(lambda alias: alias.active == NEW)
    world.places.append(PodId("p2"))
    (line,) = caplog.records
    assert line.message == "transition ended with fewer copies than the model before has"
    assert (line.__dict__["missing"], line.__dict__["cause"]) == ("1", "Nowhere available to load")


async def test_a_pod_that_goes_takes_its_copy_out_of_the_count(world: World) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1", "p2")
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.comes(NEW, "p2")
    await world.ends("p2")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_target_that_fails_is_told_of_with_its_cause_and_the_old_model_serves(world: World) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.failed(NEW, "p1", "no such file")
    await world.becomes(lambda alias: alias.failed)
    assert (world.alias.active, world.alias.cause) == (OLD, "no such file")


async def test_a_blocked_transition_goes_on_when_the_failures_are_gone(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.failed(NEW, "p1")
    await world.becomes(lambda alias: alias.failed)
    await world.change(TryAgain(A, NEW))
    await world.comes(NEW, "p1")
    assert not world.alias.failed
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_blocked_transition_goes_on_when_a_pod_comes(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    assert world.alias.cause == "Nowhere available to load"
    await world.pod("p2")
    await world.comes(NEW, "p2")
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: (alias.active, alias.cause) == (NEW, ""))
    world.places.append(PodId("p1"))


async def test_who_asks_again_is_not_left_to_wait_for_another_reason(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    world.places.append(PodId("p1"))
    await world.change(TryAgain(A, NEW))
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_what_a_pod_tells_of_itself_in_passing_tries_nothing_again(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    before = len(world.ordered)
    registry, _ = world.pods[PodId("p1")]
    for rpm in range(5):
        await registry.publish(PodId("p1"), InstanceRecord(endpoint="127.0.0.1:1", rpm=rpm))
    await turns(50)
    assert len(world.ordered) == before
    world.places.append(PodId("p1"))


async def test_a_failure_that_no_record_bears_out_is_asked_about_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose failure was cleared by hand hears of it a little later."""
    monkeypatch.setattr(transitions, "DOUBT", 0.001)
    await world.pod("p1")
    world.refusals += [LoadFailed("broken before")] * 3
    await world.moving("p1")
    await becomes(lambda: (NEW, PodId("p1")) in world.loading)
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_pod_that_ends_blames_no_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "LOOK", 0.001)
    await world.pod("p1")
    world.refusals += [Leaving("pod p1 is shutting down and loads nothing more; try again")] * 3
    await world.moving("p1")
    await becomes(lambda: (NEW, PodId("p1")) in world.loading)
    assert not world.alias.failed


async def test_a_model_that_cannot_be_loaded_gives_way_before_its_successor_is_there(world: World) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.change(RecordFailure(OLD, PodId("p1"), NOW, NOW, "broken", NOW))
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_model_that_is_evicted_meanwhile_does_not_give_way_to_a_broken_one(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.change(RemoveCopy(OLD, PodId("p1"), NOW, NOW, NOW))
    await turns(50)
    assert world.alias.active == OLD
    await world.failed(NEW, "p1")
    await world.becomes(lambda alias: alias.failed)
    assert world.alias.active == OLD


# Who does it


async def test_nothing_happens_without_a_leader_and_nothing_is_lost(world: World) -> None:
    await world.pod("p1", leads=False)
    await world.moving("p1")
    await turns(50)
    assert world.ordered == []
    registry, _ = world.pods[PodId("p1")]
    await registry.stand_for_leader(PodId("p1"))
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_one_pod_of_many_does_it_and_the_next_takes_over(world: World) -> None:
    for name in ("p1", "p2", "p3"):
        await world.pod(name)
    await world.moving("p3")
    await world.comes(NEW, "p1")
    assert len(world.ordered) == 1
    await world.ends("p1")
    await world.change(RemoveCopy(NEW, PodId("p1"), NOW, NOW, NOW))
    await settled(lambda: len(world.ordered) == 2, "the next leader asks for it")
    await world.comes(NEW, "p2")
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: alias.active == NEW)
    assert len(world.ordered) == 2


async def test_one_pod_stands_in_for_a_leader_of_another_kind(world: World) -> None:
    """A router of ModelMesh that leads loads models only on its like."""
    java = world.store.registry()
    await java.publish(PodId("java"), InstanceRecord())
    await java.stand_for_leader(PodId("java"))
    for name in ("p2", "p1"):
        await world.pod(name)
    await world.moving("p2")
    await settled(lambda: world.ordered, "somebody works on it")
    await turns(50)
    assert len(world.ordered) == 1
    await world.ends("p1")
    await settled(lambda: len(world.ordered) == 2, "the next one does")
    await java.close()
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_store_that_is_away_holds_it_up_and_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "STORE", 0.001)
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    registry, _ = world.pods[PodId("p1")]
    registry.away = True
    await world.loaded(NEW, "p1")
    await turns(50)
    assert world.alias.active == OLD
    registry.away = False
    await becomes(lambda: world.alias.active == NEW)


async def test_who_loses_the_lead_while_the_end_is_not_written_leaves_it_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "STORE", 0)
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    registry, _ = world.pods[PodId("p1")]
    registry.away, registry.slow = True, asyncio.Event()
    await world.loaded(NEW, "p1")
    await turns(20)
    world.store.write({("candidates", "_p1"): None})
    await settled(lambda: not registry.leads, "the lead is lost")
    registry.slow.set()
    await turns(20)
    registry.away = False
    await turns(50)
    assert world.alias.active == OLD


async def test_while_the_registry_is_read_only_nothing_is_begun(world: World) -> None:
    await world.pod("p1", read_only=True)
    await world.moving("p1")
    await turns(50)
    assert world.ordered == []


@pytest.mark.parametrize(
    "end", [DeleteAlias(A), SetAlias(A, OLD, NOW), SetAlias(A, NEW, NOW, force=True)], ids=["deleted", "back", "forced"]
)
async def test_a_transition_that_is_no_longer_wanted_ends(world: World, end: Edit) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.change(end)
    await turns(50)
    before = dict(world.registry.aliases)
    if NEW in world.registry.models:
        await world.loaded(NEW, "p1")
    await turns(50)
    assert world.registry.aliases == before
    assert len(world.ordered) == 1


async def test_a_target_that_is_replaced_is_not_waited_for(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.point(NEWER)
    await world.comes(NEWER, "p1")
    await world.loaded(NEWER, "p1")
    await world.becomes(lambda alias: alias.active == NEWER)
    assert NEW not in world.registry.models


# Who waits for it


async def test_a_pod_that_does_not_lead_waits_for_the_end_as_well(world: World) -> None:
    await world.pod("p1")
    other = await world.pod("p2")
    await world.moving("p1")
    waiting = asyncio.ensure_future(other.follow(A, NEW, 60))
    await world.comes(NEW, "p1")
    await turns()
    assert not waiting.done()
    await world.loaded(NEW, "p1")
    await waiting
    assert world.pods[PodId("p2")][0].aliases[A].active == NEW


@pytest.mark.parametrize("how", ["fails", "deleted", "replaced"])
async def test_who_waits_learns_of_other_ends_too(world: World, how: str) -> None:
    made = await world.pod("p1")
    await world.moving("p1")
    waiting = asyncio.ensure_future(made.follow(A, NEW, 60))
    await world.comes(NEW, "p1")
    assert not waiting.done()
    if how == "fails":
        await world.failed(NEW, "p1")
    else:
        await world.change(DeleteAlias(A) if how == "deleted" else SetAlias(A, NEWER, NOW, info=INFO))
    await waiting


async def test_nobody_waits_for_ever(world: World) -> None:
    made = await world.pod("p1")
    await world.moving("p1")
    with pytest.raises(DeadlineExceeded, match="vmodel a: the transition to new is not over after 0 s; it goes on"):
        await made.follow(A, NEW, 0)


# Many pods, one alias


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([OLD, NEW, NEWER]), st.sampled_from(["set", "force", "now", "delete", "again"])), max_size=6),
        min_size=2,
        max_size=4,
    )
)
def test_references_are_what_aliases_point_at_however_many_pods_set_them(pods: list[list[tuple[ModelId, str]]]) -> None:
    async def run() -> None:
        world = World()
        registries = [world.store.registry() for _ in pods]
        await world.pod("p1")
        world.refusals += [Nowhere("Nowhere available to load")] * 2

        async def work(registry: MemoryRegistry, alias: AliasId, steps: list[tuple[ModelId, str]]) -> None:
            for model, how in steps:
                if how == "delete":
                    await registry.change(DeleteAlias(alias))
                elif how == "again":
                    await registry.change(TryAgain(alias, model))
                else:
                    edit = SetAlias(alias, model, NOW, info=INFO, auto_delete=True, force=how == "force", load_now=how == "now")
                    await registry.change(edit)

        names = [AliasId("a"), AliasId("b")]
        await asyncio.gather(
            *(work(registry, names[at % 2], steps) for at, (registry, steps) in enumerate(zip(registries, pods, strict=True)))
        )
        await turns(50)
        for model, pod in list(world.loading):
            await world.loaded(model, pod)
        await turns(200)
        pointing = [{alias.active, alias.target} for alias in world.registry.aliases.values()]
        assert {name: record.refs for name, record in world.registry.models.items()} == {
            name: sum(name in targets for targets in pointing) for name in set().union(*pointing)
        }
        for registry in registries:
            await registry.close()
        await world.stop()

    asyncio.run(run())
