"""An etcd that lost its data, was put back to an old state, or was replaced: nothing that is known is lost, nothing deleted returns."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import DeleteAlias, SetAlias
from mesh.core.registry.edits import DeleteModel
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis
from mesh.store.etcd import EtcdRegistry
from tests.integration.etcd.changing import change_many
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.unit.store.edits import INFO, Count, Witness, create
from tests.unit.store.stores import eventually

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")
ALIAS = AliasId("alias")


def stored(etcd: Etcd, service: str) -> dict[str, dict[str, object]]:
    """Models and aliases as etcd has them."""
    found = etcd.below(f"/mm/{service}/")
    return {key.rpartition("/")[2]: json.loads(text) for key, text in found.items() if "/registry/" in key or "/vmodels/" in key}


def wipe(etcd: Etcd) -> None:
    etcd.kill()
    shutil.rmtree(etcd.folder / "data")
    etcd.start()


def back_up(etcd: Etcd) -> Path:
    """A copy of its data, made while it is down."""
    etcd.stop()
    shutil.copytree(etcd.folder / "data", backup := etcd.folder / "backup")
    etcd.start()
    return backup


def put_back(etcd: Etcd, backup: Path) -> None:
    etcd.kill()
    shutil.rmtree(etcd.folder / "data")
    shutil.copytree(backup, etcd.folder / "data")
    etcd.start()


def point(alias: str, model: str) -> SetAlias:
    return SetAlias(AliasId(alias), ModelId(model), Millis(1), info=INFO)


async def test_what_an_etcd_lost_is_shown_throughout_and_written_again(own_etcd: Etcd, opener: Opener, service: str) -> None:
    registry = await opener(own_etcd.address)
    await registry.change(point("alias", "a"))
    await change_many(registry, ["b"], 5)
    witness = Witness(registry)
    wipe(own_etcd)
    await eventually(lambda: set(stored(own_etcd, service)) == {"a", "b", "alias"}, "everything is in etcd again")
    assert registry.models[B].refs == 5
    assert registry.aliases[ALIAS].active == A
    assert None not in [record for _, record in witness.told], "no deletion was told"
    assert await registry.change(Count("b")) is None
    assert registry.models[B].refs == 6


async def test_a_change_of_what_is_not_written_again_yet_writes_it(own_etcd: Etcd, opener: Opener, service: str) -> None:
    async with Way(own_etcd.port) as way:
        registry = await opener(f"127.0.0.1:{way.port}")
        await change_many(registry, ["b"], 5)
        await registry._reseeder.close()
        registry._reseeder.look = lambda: None  # type: ignore[method-assign] # it must not be quicker
        wipe(own_etcd)
        await eventually(lambda: registry._mirror.owed, "the loss is noticed")
        assert await registry.change(Count("b")) is None
        assert stored(own_etcd, service)["b"]["refs"] == 6
        assert not registry._mirror.owed


async def test_an_etcd_that_was_emptied_and_has_come_further_than_before_is_told_from_the_old_one(
    own_etcd: Etcd, opener: Opener, service: str
) -> None:
    async with Way(own_etcd.port) as way:
        registry = await opener(f"127.0.0.1:{way.port}")
        await registry.change(point("alias", "a"))
        await registry.change(create("b"))
        before, cluster = registry._mirror.revision, registry._watcher.cluster
        way.shut()
        wipe(own_etcd)
        # Another pod came first, and brings the new etcd further than the old one was.
        other = await opener(own_etcd.address)
        await change_many(other, ["b", "c"], before)
        assert other._mirror.revision > before
        assert other._watcher.cluster == cluster, "nothing but the marker tells them apart"
        way.reopen()
        await eventually(lambda: set(stored(own_etcd, service)) == {"a", "b", "c", "alias"})
        await eventually(lambda: dict(registry.models) == dict(other.models))
        assert registry.models[B].refs == before, "what was made anew in the new etcd counts"


async def test_two_pods_that_come_at_once_agree_on_the_marker(etcd: Etcd, opener: Opener, service: str) -> None:
    pods = await asyncio.gather(*(opener(etcd.address) for _ in range(5)))
    assert {pod._mirror.marker for pod in pods} == {etcd.get(f"/mm/{service}/mesh/marker")}
    later = await opener(etcd.address)
    assert later._mirror.marker == pods[0]._mirror.marker


# An old backup is put back


async def test_an_old_backup_brings_back_no_deleted_model_and_no_old_target(own_etcd: Etcd, opener: Opener, service: str) -> None:
    registry = await opener(own_etcd.address)
    await registry.change(create("deleted"))
    await registry.change(point("alias", "a"))
    await registry.change(point("dropped", "c"))
    await change_many(registry, ["b"], 2)
    backup = back_up(own_etcd)
    assert await registry.change(DeleteModel(ModelId("deleted"))) is None
    assert await registry.change(DeleteAlias(AliasId("dropped"))) is None
    assert await registry.change(point("alias", "b2")) is None
    assert await registry.change(create("new")) is None
    witness = Witness(registry)
    known = dict(registry.models)
    put_back(own_etcd, backup)
    await eventually(lambda: set(stored(own_etcd, service)) == {"a", "b", "b2", "c", "new", "alias"} and not registry._mirror.owed)
    assert stored(own_etcd, service)["alias"]["amid"] == "b2"
    assert registry.aliases[ALIAS].active == "b2"
    assert set(registry.models) == set(known)
    assert ModelId("deleted") not in [name for name, record in witness.told if record], "nobody was told that it is there"
    fresh = await opener(own_etcd.address)
    assert dict(fresh.models) == dict(registry.models)
    assert dict(fresh.aliases) == dict(registry.aliases)


async def test_what_users_write_after_an_old_backup_was_put_back_stays(own_etcd: Etcd, opener: Opener, service: str) -> None:
    async with Way(own_etcd.port) as way:
        late, here = await opener(f"127.0.0.1:{way.port}"), await opener(own_etcd.address)
        await here.change(create("deleted"))
        await here.change(point("alias", "a"))
        backup = back_up(own_etcd)
        await here.change(DeleteModel(ModelId("deleted")))
        await here.change(point("alias", "b"))
        await eventually(lambda: ModelId("deleted") not in late.models and late.aliases[ALIAS].target == "b")
        way.shut()
        put_back(own_etcd, backup)
        await eventually(lambda: "deleted" not in stored(own_etcd, service), "the pod that is there deleted it again")
        other = ModelInfo("another-type")
        assert await here.change(create("deleted", other)) is None
        assert await here.change(point("alias", "c")) is None
        way.reopen()
        await eventually(lambda: ModelId("deleted") in late.models and late.models[ModelId("deleted")].info == other)
        await eventually(lambda: late.aliases[ALIAS].target == "c")
        await eventually(lambda: not late._mirror.owed)
        assert here.aliases[ALIAS].target == "c"
        assert stored(own_etcd, service)["alias"]["tmid"] == "c"


async def test_a_pod_that_missed_a_deletion_does_not_bring_the_model_back_after_a_reset(
    own_etcd: Etcd, opener: Opener, service: str
) -> None:
    async with Way(own_etcd.port) as way:
        late, here = await opener(f"127.0.0.1:{way.port}"), await opener(own_etcd.address)
        for name in ("deleted", "kept"):
            await here.change(create(name))
        await here.change(point("alias", "a"))
        await eventually(lambda: ALIAS in late.aliases and ModelId("deleted") in late.models)
        way.shut()
        await here.change(DeleteModel(ModelId("deleted")))
        await here.change(point("alias", "b"))
        wipe(own_etcd)
        await eventually(lambda: "kept" in stored(own_etcd, service))
        way.reopen()
        await eventually(lambda: ModelId("deleted") not in late.models and late.aliases[ALIAS].target == "b", "the late one learns it")
        await eventually(lambda: not late._mirror.owed and not here._mirror.owed)
        assert "deleted" not in stored(own_etcd, service)
        assert here.aliases[ALIAS].target == "b"


async def test_a_backup_that_was_written_to_further_than_a_pod_had_seen_is_known_by_the_mark_of_the_pod_that_came_first(
    own_etcd: Etcd, opener: Opener, service: str
) -> None:
    async with Way(own_etcd.port) as way:
        late, here = await opener(f"127.0.0.1:{way.port}"), await opener(own_etcd.address)
        await here.change(create("doomed"))
        backup = back_up(own_etcd)
        await eventually(lambda: here.trouble is None and late.trouble is None)
        await here.change(DeleteModel(ModelId("doomed")))
        await here.change(create("new"))
        await eventually(lambda: set(late.models) == {"new"})
        way.shut()
        seen, marker = late._mirror.revision, late._mirror.marker
        put_back(own_etcd, backup)
        await eventually(lambda: set(stored(own_etcd, service)) == {"new"}, "the first pod put it right")
        await change_many(here, ["busy"], seen)
        assert here._mirror.revision > seen, "the revision tells nothing any more"
        witness = Witness(late)
        way.reopen()
        await eventually(lambda: set(late.models) == {"new", "busy"})
        assert late._mirror.marker == here._mirror.marker != marker
        assert None not in [record for _, record in witness.told]
        assert set(stored(own_etcd, service)) == {"new", "busy"}


async def test_the_same_backup_put_back_twice(own_etcd: Etcd, opener: Opener, service: str) -> None:
    registry = await opener(own_etcd.address)
    await registry.change(create("deleted"))
    await registry.change(point("alias", "a"))
    backup = back_up(own_etcd)
    await registry.change(DeleteModel(ModelId("deleted")))
    for target in ("b", "c"):
        await registry.change(point("alias", target))
        put_back(own_etcd, backup)
        await eventually(lambda: "deleted" not in stored(own_etcd, service) and not registry._mirror.owed)
        assert stored(own_etcd, service)["alias"]["amid"] == target
        await eventually(lambda: answers(registry), "changes are taken again")


def answers(registry: EtcdRegistry) -> bool:
    return registry.trouble is None


@pytest.mark.parametrize("pods", [3])
async def test_many_pods_restore_together_and_write_each_record_about_once(own_etcd: Etcd, opener: Opener, service: str, pods: int) -> None:
    all_of_them = [await opener(own_etcd.address) for _ in range(pods)]
    names = [f"m{number}" for number in range(300)]
    await change_many(all_of_them[0], names, 0)
    for pod in all_of_them:
        await eventually(lambda pod=pod: len(pod.models) == len(names))  # type: ignore[misc] # default
    wipe(own_etcd)

    def records() -> list[dict[str, int]]:
        found: list[dict[str, int]] = json.loads(own_etcd.ctl("get", "--prefix", f"/mm/{service}/registry/", "-w", "json")).get("kvs", [])
        return found

    await eventually(lambda: len(records()) == len(names))
    for pod in all_of_them:
        await eventually(lambda pod=pod: not pod._mirror.owed)  # type: ignore[misc] # default
        assert set(pod.models) == set(names)
    assert all(record["version"] == 1 for record in records()), "each was written by one pod, once"
