"""A pod that starts while etcd is away knows what it knew; one that comes back to another etcd than it left remembers what was deleted."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import DeleteModel
from mesh.core.registry.instances import InstanceRecord
from mesh.store.etcd import EtcdRegistry, open_etcd
from mesh.store.etcd.snapshot import GONE
from tests.integration.etcd.server import Etcd, settings
from tests.integration.etcd.test_resets import back_up, point, put_back, stored, wipe
from tests.unit.store.edits import Witness, create
from tests.unit.store.stores import eventually

A, B, ALIAS = ModelId("a"), ModelId("b"), AliasId("alias")
Remembering = Callable[[], Awaitable[EtcdRegistry]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pod" / "registry.snapshot"


@pytest.fixture
async def remembering(own_etcd: Etcd, service: str, path: Path) -> AsyncIterator[Remembering]:
    """Opens the registry of one pod, which has a snapshot, again and again."""
    opened: list[EtcdRegistry] = []

    async def make() -> EtcdRegistry:
        given = {"snapshot": path, "snapshot_every": 0.05}
        opened.append(await open_etcd(settings(f"etcd:{own_etcd.address}", service).model_copy(update=given)))
        return opened[-1]

    yield make
    for registry in opened:
        await registry.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def gone_in(path: Path) -> list[str]:
    """Names of the models that a snapshot knows to be deleted."""
    lines = [line.split(b"\t") for line in gzip.decompress(content(path)).splitlines()]
    return [json.loads(line[2]) for line in lines if line[0] == f"{GONE}registry".encode()]


def tear(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(content(path))[:-30]))


async def test_it_starts_without_etcd_and_learns_what_changed_when_etcd_comes(
    own_etcd: Etcd, remembering: Remembering, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    first = await remembering()
    for model in ("a", "b"):
        await first.change(create(model))
    await first.change(point("alias", "a"))
    await first.publish(PodId("pod-1"), InstanceRecord(endpoint="10.0.0.1:8080"))
    await eventually(lambda: first.instances)
    await first.close()
    own_etcd.stop()
    second = await remembering()
    assert (set(second.models), set(second.aliases)) == ({A, B}, {ALIAS})
    assert second.models == first.models
    assert second.trouble is not None
    assert second.trouble.snapshot > 0
    assert "starting from the snapshot of the registry, because etcd does not answer" in caplog.text
    with pytest.raises(StoreUnavailable, match=r"does not answer .* since 20.*; the request can be repeated"):
        await second.change(create("c"))
    # What others write while this pod is not there yet.
    witness = Witness(second)
    own_etcd.start()
    await eventually(lambda: second.trouble is None and second._begun_from is None)
    assert await second.change(create("c")) is None
    assert await second.change(DeleteModel(B)) is None
    assert [name for name, _ in witness.told] == ["c", "b"], "what is as it was is not told again"


async def test_what_was_deleted_while_etcd_and_the_pod_were_away_is_told(own_etcd: Etcd, remembering: Remembering, service: str) -> None:
    first = await remembering()
    for model in ("a", "b"):
        await first.change(create(model))
    await first.close()
    own_etcd.ctl("del", f"/mm/{service}/registry/a")
    own_etcd.stop()
    second = await remembering()
    assert set(second.models) == {A, B}
    witness = Witness(second)
    own_etcd.start()
    await eventually(lambda: set(second.models) == {B})
    assert witness.told == [("a", None)]
    assert "a" not in stored(own_etcd, service)


async def test_without_a_snapshot_the_start_fails(own_etcd: Etcd, remembering: Remembering) -> None:
    own_etcd.stop()
    with pytest.raises(StoreUnavailable, match="Problem connecting to etcd"):
        await remembering()


async def test_a_torn_snapshot_is_as_none(own_etcd: Etcd, remembering: Remembering, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await (await remembering()).close()
    tear(path)
    registry = await remembering()
    assert registry.trouble is None
    assert caplog.text.count("is not used: its end is missing, or its checksum is wrong; the next one replaces it") == 1
    await registry.close()
    own_etcd.stop()
    caplog.clear()
    await remembering()
    assert "is not used" not in caplog.text


async def test_all_pods_and_etcd_were_away_and_etcd_lost_everything(own_etcd: Etcd, remembering: Remembering, service: str) -> None:
    first = await remembering()
    await first.change(point("alias", "a"))
    await first.close()
    wipe(own_etcd)
    second = await remembering()
    assert set(second.models) == {A}
    await eventually(lambda: set(stored(own_etcd, service)) == {"a", "alias"})


async def test_a_deletion_is_remembered_over_a_restart(own_etcd: Etcd, remembering: Remembering, service: str, path: Path) -> None:
    first = await remembering()
    await first.change(create("a"))
    await first.change(create("b"))
    backup = back_up(own_etcd)
    await eventually(lambda: first.trouble is None)
    assert await first.change(DeleteModel(A)) is None
    # The last snapshot of all is left out where one takes long; this one came of itself.
    await eventually(lambda: gone_in(path) == ["a"], "the snapshot has the deletion")
    await first.close()
    second = await remembering()
    assert len(second._mirror.deletions) == 1
    await second.close()
    put_back(own_etcd, backup)
    third = await remembering()
    await eventually(lambda: set(stored(own_etcd, service)) == {"b"})
    assert set(third.models) == {B}


async def test_what_was_deleted_while_the_pod_was_not_there_is_remembered_as_well(
    own_etcd: Etcd, remembering: Remembering, service: str
) -> None:
    first = await remembering()
    for model in ("a", "b"):
        await first.change(create(model))
    await first.close()
    backup = back_up(own_etcd)
    own_etcd.ctl("del", f"/mm/{service}/registry/a")
    second = await remembering()
    await eventually(lambda: len(second._mirror.deletions) == 1)
    put_back(own_etcd, backup)
    await eventually(lambda: second.trouble is None and set(stored(own_etcd, service)) == {"b"})
    assert set(second.models) == {B}


async def test_a_snapshot_is_written_while_the_pod_runs_and_a_folder_that_refuses_it_is_told_of(
    remembering: Remembering, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = await remembering()
    await eventually(path.exists)
    before = content(path)
    await registry.change(create("a"))
    await eventually(lambda: content(path) != before)
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    await registry.change(create("b"))
    await eventually(lambda: f"the snapshot {path} (MESH_SNAPSHOT_PATH) is not written" in caplog.text)
    assert await registry.change(create("c")) is None
    caplog.clear()
    path.parent.unlink()
    path.parent.mkdir()
    await eventually(path.exists)
    assert "is not written" not in caplog.text, "once is enough"
