"""Transitions: copies of the target are loaded, then calls go to it; who waits for that learns of its end."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.errors import DeadlineExceeded, Nowhere
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD
from mesh.core.registry.aliases import DeleteAlias, SetAlias, TryAgain
from mesh.core.registry.edits import Edit
from mesh.pod.clock import WallClock
from mesh.store.memory import MemoryRegistry
from tests.unit.pod.bench import turns
from tests.unit.pod.moving import INFO, NEW, NEWER, NOW, OLD, A, World


async def test_calls_go_to_the_target_once_it_serves(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    assert world.alias.active == OLD
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)
    assert OLD in world.registry.models, "it was registered by itself"
    assert world.ordered == [(NEW, frozenset())]


async def test_the_successor_of_a_model_that_serves_finds_room_as_one_that_is_called(world: World) -> None:
    """When the old model was called last stands in its record hours later; in a full mesh with a young cache an old use finds no room."""
    await world.pod("p1")
    begun = WallClock().now()
    await world.moving("p1")
    await world.comes(NEW, "p1")
    assert world.uses[0] >= begun


async def test_the_successor_of_a_model_that_has_no_copy_is_as_old_as_that_one(world: World) -> None:
    await world.pod("p1")
    begun = WallClock().now()
    await world.moving()
    await world.comes(NEW, "p1")
    assert world.uses[0] < begun - AGE_ON_LOAD / 2


async def test_where_no_pod_has_room_for_either_calls_go_to_the_target(world: World) -> None:
    await world.pod("p1")
    world.refusals.append(Nowhere("Nowhere available to load"))
    await world.moving()
    await world.becomes(lambda alias: alias.active == NEW)
    assert len(world.ordered) == 1


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
