"""An environment that pods need is made in a process of its own: what goes wrong is told, and a mesh that ends ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.core.errors import Failed
from mesh.local import environments, making


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CACHE", str(tmp_path / "cache"))


async def test_what_cannot_be_made_is_told_in_pips_words() -> None:
    told: list[str] = []
    wanted = environments.of_list("image-mine", "this is == no requirement\n")
    with pytest.raises(Failed, match="this is == no requirement"):
        await making.make(wanted, told.append)
    assert told[0] == "making a virtual environment"
    assert not wanted.made


async def test_one_that_is_given_up_ends_at_once_and_leaves_nothing_that_counts_as_made() -> None:
    begun = asyncio.Event()
    wanted = environments.of_list("image-mine", "# nothing\n")
    task = asyncio.create_task(making.make(wanted, lambda _: begun.set()))
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not wanted.made
