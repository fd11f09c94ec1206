"""Configuration files count from the moment they change; a faulty change leaves the former in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.core.errors import Malformed
from mesh.core.routing.dataplane import Dataplane
from mesh.pod import live_files
from mesh.pod.live_files import LiveFile
from tests.support.waiting import until_async

OPEN, CLOSED = '{"allowOtherRpcs": true}', '{"allowOtherRpcs": false}'
METHOD = "any.Service/Method"


class Rules:
    """Rules of methods from a file."""

    def __init__(self, path: Path) -> None:
        self.reads = 0
        self.dataplane = Dataplane.DEFAULT
        self.file = LiveFile(path, "MM_DATAPLANE_CONFIG_PATH", self._apply)

    def _apply(self, text: str) -> None:
        self.reads += 1
        self.dataplane = Dataplane.parse(text)

    def allow(self) -> bool:
        return self.dataplane.rule(METHOD) is not None

    async def become(self, allowed: bool) -> None:
        async def are() -> bool:
            return self.allow() == allowed

        await until_async(are, f"the rules {'allow' if allowed else 'forbid'} it")

    async def read_times(self, count: int) -> None:
        async def were() -> bool:
            return self.reads >= count

        await until_async(were, f"{count} reads")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_files, "PERIOD", 0.002)


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Rules]:
    rules = Rules(path)
    rules.file.load()
    watching = asyncio.ensure_future(rules.file.watch())
    yield rules
    assert not watching.done(), "nothing that a file says ends the watching"
    watching.cancel()


async def test_a_change_counts(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(OPEN)
    async with watched(path) as rules:
        assert rules.allow()
        path.write_text(CLOSED)
        await rules.become(False)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rpcConfigs": 3}', '{"allowOtherRpcs": "yes"}', '{"rpcConfigs": {"a/b": {"idExtractionPath": [0]}}}']
)
async def test_a_faulty_change_leaves_the_former_in_force(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config"
    path.write_text(CLOSED)
    with caplog.at_level(logging.ERROR):
        async with watched(path) as rules:
            path.write_text(text)
            await rules.read_times(2)
            assert not rules.allow()
            path.write_text(OPEN)
            await rules.become(True)
    told = [record for record in caplog.records if "faulty" in record.getMessage()]
    # A write that is seen half done is a fault of its own.
    assert told
    assert all(record.__dict__["path"] == str(path) and record.__dict__["cause"] for record in told)


async def test_a_fault_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, other = tmp_path / "config", tmp_path / "other"
    path.write_text(OPEN)
    other.write_text("{")
    async with watched(path) as rules:
        other.rename(path)
        await rules.read_times(2)
        await asyncio.sleep(0.05)
        assert rules.reads == 2
    assert [record.levelname for record in caplog.records if "faulty" in record.getMessage()] == ["ERROR"]


async def test_a_swap_of_links_counts(tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted ConfigMap: the file is a link through `..data`, which is swapped."""
    for version, text in (("v1", CLOSED), ("v2", OPEN)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config").write_text(text)
    data, path = tmp_path / "..data", tmp_path / "config"
    data.symlink_to("v1")
    path.symlink_to("..data/config")
    async with watched(path) as rules:
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").rename(data)
        await rules.become(True)


async def test_a_file_that_is_away_or_unreadable_for_a_moment_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(OPEN)
    async with watched(path) as rules:
        path.unlink()
        await asyncio.sleep(0.02)
        path.write_bytes(b"\xff\xfe")
        await asyncio.sleep(0.02)
        assert rules.allow()
        path.write_text(CLOSED)
        await rules.become(False)


async def test_a_file_that_is_missing_at_the_start_names_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "config"
    with pytest.raises(Malformed, match=f"^MM_DATAPLANE_CONFIG_PATH={path} cannot be read: No such file"):
        Rules(path).file.load()


async def test_a_file_that_says_nonsense_at_the_start_names_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("{")
    with pytest.raises(Malformed, match=f"^MM_DATAPLANE_CONFIG_PATH={path}: "):
        Rules(path).file.load()
    path.write_bytes(b"\xff")
    with pytest.raises(Malformed, match=f"^MM_DATAPLANE_CONFIG_PATH={path} cannot be read: .*utf-8"):
        Rules(path).file.load()
