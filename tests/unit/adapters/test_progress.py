"""A long download says how far it is."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime_adapters.storage import transfer
from runtime_adapters.storage.transfer import Item, Part, download


async def halves(part: Part) -> AsyncIterator[bytes]:
    middle = (part.start + part.end) // 2
    yield b"x" * (middle - part.start)
    yield b"x" * (part.end - middle)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    return [(vars(record)["bytes"], vars(record)["of"]) for record in caplog.records if record.message == "downloading"]


async def test_bytes_and_total_are_told_while_it_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(transfer, "REPORT_EVERY", 0.0)
    await download("bucket models", [Item("model", 1000, None, tmp_path / "model")], halves)
    assert lines(caplog) == [(500, 1000), (1000, 1000)]


async def test_what_is_quick_tells_only_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await download("bucket models", [Item("model", 1000, None, tmp_path / "model")], halves)
    assert lines(caplog) == []
    assert caplog.records[-1].message == "downloaded"
