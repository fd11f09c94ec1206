"""Claims, local folders, and disks that are too small."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from runtime_adapters.errors import AdapterError
from runtime_adapters.storage import tree
from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.puller import Puller
from tests.integration.storage.conftest import Disk
from tests.integration.storage.servers import Bucket, WebServer

ROOM = 1 << 20


async def refused(disk: Disk, path: str, key: str = "key", /, **params: str) -> AdapterError:
    with pytest.raises(AdapterError) as failure:
        await disk.puller.pull("model", path, ModelKey(storage_key=key, storage_params=params))
    assert disk.empty()
    return failure.value


@pytest.fixture
def claim(disk: Disk) -> Path:
    """A mounted claim with one model in it."""
    disk.configure(key={"type": "pvc", "name": "models"})
    folder = disk.claims / "models"
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "digits.joblib").write_bytes(b"a model")
    return folder


class TestAClaim:
    async def test_a_file_is_linked_not_copied(self, disk: Disk, claim: Path) -> None:
        pulled = await disk.pull("some/digits.joblib")
        assert pulled.model.readlink() == claim / "some" / "digits.joblib"
        disk.puller.remove("model")
        assert disk.empty()
        assert (claim / "some" / "digits.joblib").read_bytes() == b"a model"

    @pytest.mark.parametrize("path", ["", "/", "."])
    async def test_its_root_may_be_the_model(self, disk: Disk, claim: Path, path: str) -> None:
        pulled = await disk.pull(path)
        assert pulled.model.name == "_model"
        assert pulled.model.readlink() == claim

    async def test_a_second_pull_replaces_the_first(self, disk: Disk, claim: Path) -> None:
        await disk.pull("some/digits.joblib")
        await disk.pull("some")
        assert [path.name for path in (disk.root / "model").iterdir()] == ["some"]

    async def test_nothing_outside_can_be_reached(self, disk: Disk, claim: Path) -> None:
        (disk.claims.parent / "secret").write_bytes(b"secret")
        (claim / "link").symlink_to(disk.claims.parent)
        (claim / "absolute").symlink_to("/etc")
        for path in ("../../secret", "link/secret", "some/../../../secret", "absolute/passwd"):
            error = await refused(disk, path)
            assert error.status == grpc.StatusCode.NOT_FOUND
            assert repr(path) in error.message
            assert "claim 'models'" in error.message

    async def test_a_link_inside_is_followed_within_the_claim(self, disk: Disk, claim: Path) -> None:
        (claim / "latest").symlink_to("/some")
        pulled = await disk.pull("latest/digits.joblib")
        assert pulled.model.read_bytes() == b"a model"

    async def test_one_that_is_not_mounted(self, disk: Disk, claim: Path) -> None:
        for name in ("absent", "../storage-config", ".."):
            error = await refused(disk, "some", name=name)
            assert error.status == grpc.StatusCode.FAILED_PRECONDITION
            assert repr(name) in error.message

    async def test_no_claims_at_all(self, disk: Disk) -> None:
        puller = Puller(disk.root, disk.config, disk.claims / "nowhere")
        with pytest.raises(AdapterError, match=r"the PVC mount base '.*nowhere' doesn't exist"):
            await puller.pull("model", "x", ModelKey(storage_params={"type": "pvc", "name": "models"}))


class TestALocalFolder:
    async def test_an_entry_opens_it(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "shelf").mkdir()
        (tmp_path / "shelf" / "m").write_bytes(b"m")
        for kind in ("local", "file"):
            disk.configure(key={"type": kind, "path": str(tmp_path / "shelf")})
            assert (await disk.pull("m")).model.read_bytes() == b"m"

    async def test_a_request_cannot_open_one(self, disk: Disk, tmp_path: Path) -> None:
        disk.configure(key={"type": "local", "path": str(tmp_path)}, s3={"type": "s3"})
        for key, params in (("key", {"path": "/etc"}), ("s3", {"type": "local", "path": "/etc"})):
            error = await refused(disk, "passwd", key, **params)
            assert error.status == grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_folder_that_is_not_there(self, disk: Disk) -> None:
        disk.configure(key={"type": "local", "path": "/nowhere/at/all"})
        error = await refused(disk, "m")
        assert error.status == grpc.StatusCode.FAILED_PRECONDITION


class TestASmallDisk:
    @pytest.fixture
    def small(self, disk: Disk) -> Iterator[Disk]:
        """The model folder on a file system of one MiB."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(disk.root)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        yield disk
        subprocess.run(["umount", str(disk.root)], check=True)

    async def test_an_object_that_does_not_fit(self, small: Disk, bucket: Bucket) -> None:
        bucket.put({"large/a": b"x" * ROOM, "large/b": b"y" * ROOM, "small/a": b"z"})
        small.configure(key=bucket.entry)
        error = await refused(small, "large")
        assert error.status == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no space left" in error.message
        await small.pull("small")

    async def test_a_file_that_fills_it_on_the_way(self, small: Disk, web: WebServer) -> None:
        web.files["/m"] = b"x" * (2 * ROOM)
        small.configure(key={"type": "http", "url": web.url})
        error = await refused(small, "m")
        assert error.status == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no space left" in error.message


class TestDiskUsage:
    def test_links_are_followed_and_circles_end(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "b").write_bytes(b"123")
        (tmp_path / "folder" / "circle").symlink_to(tmp_path)
        (tmp_path / "dangling").symlink_to("nowhere")
        (tmp_path / "relative").symlink_to("a")
        assert tree.disk_usage(tmp_path) == 5 + 3 + 5
        assert tree.disk_usage(tmp_path / "a") == 5
        assert tree.disk_usage(tmp_path / "absent") is None
