"""An etcd that lost its data, or was replaced by another, is noticed; what it lost is not taken for deleted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping

from mesh.core.aliases import SetAlias
from mesh.core.ids import AliasId, ModelId
from mesh.core.records import AliasRecord, ModelRecord
from mesh.core.units import Millis
from tests.integration.etcd.changing import change_many, counted
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.unit.store.edits import INFO, Witness, create
from tests.unit.store.stores import eventually

A, B = ModelId("a"), ModelId("b")


async def test_an_etcd_that_lost_everything_is_followed_afresh(own_etcd: Etcd, opener: Opener) -> None:
    registry = await opener(own_etcd.address)
    await change_many(registry, ["a", "b"], 10)
    witness = Witness(registry)
    own_etcd.kill()
    shutil.rmtree(own_etcd.folder / "data")
    own_etcd.start()
    await eventually(lambda: not registry.models, "the mirror is empty as etcd is")
    assert sorted(witness.told, key=str) == [("a", None), ("b", None)]
    assert await registry.change(create("a")) is None
    assert counted(witness, "a") == [None, 0]


async def test_what_an_etcd_lost_is_told_as_a_loss_to_who_can_make_it_good(own_etcd: Etcd, opener: Opener) -> None:
    registry = await opener(own_etcd.address)
    await registry.change(SetAlias(AliasId("alias"), A, Millis(1), info=INFO))
    await change_many(registry, ["b"], 5)
    witness = Witness(registry)
    losses: list[tuple[Mapping[ModelId, ModelRecord], Mapping[AliasId, AliasRecord]]] = []
    registry.listen_to_losses(lambda models, aliases: losses.append((models, aliases)))
    own_etcd.kill()
    shutil.rmtree(own_etcd.folder / "data")
    own_etcd.start()
    await eventually(lambda: losses)
    models, aliases = losses[0]
    assert (set(models), set(aliases), models[B].refs) == ({"a", "b"}, {"alias"}, 5)
    assert not registry.models
    assert await registry.change(create("a")) is None
    assert counted(witness, "a") == [0], "no deletion was told"
    assert len(losses) == 1


async def test_an_etcd_that_was_emptied_and_has_come_further_than_before_is_told_from_the_old_one(own_etcd: Etcd, opener: Opener) -> None:
    async with Way(own_etcd.port) as way:
        registry = await opener(f"127.0.0.1:{way.port}")
        await registry.change(SetAlias(AliasId("alias"), A, Millis(1), info=INFO))
        await registry.change(create("b"))
        witness = Witness(registry)
        losses: list[set[str]] = []
        registry.listen_to_losses(lambda models, aliases: losses.append({*models, *aliases}))
        before, cluster = registry._mirror.revision, registry._watcher._cluster
        way.shut()
        own_etcd.kill()
        shutil.rmtree(own_etcd.folder / "data")
        own_etcd.start()
        # Another pod came first, and brings the new etcd further than the old one was.
        other = await opener(own_etcd.address)
        await change_many(other, ["b", "c"], before)
        assert other._mirror.revision > before
        assert other._watcher._cluster == cluster, "nothing but the marker tells them apart"
        way.reopen()
        await eventually(lambda: losses)
        assert losses == [{"a", "alias"}]
        await eventually(lambda: registry.models == other.models)
        assert {name for name, _ in witness.told} == {"b", "c"}


async def test_two_pods_that_come_at_once_agree_on_the_marker(etcd: Etcd, opener: Opener, service: str) -> None:
    pods = await asyncio.gather(*(opener(etcd.address) for _ in range(5)))
    assert {pod._watcher._marker for pod in pods} == {etcd.get(f"/mm/{service}/mesh/marker").encode()}
    later = await opener(etcd.address)
    assert later._watcher._marker == pods[0]._watcher._marker
