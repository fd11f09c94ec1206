"""What runs in the background ends with the pod, and is told of if it breaks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mesh.pod.tasks import Tasks
from tests.unit.pod.bench import settled


async def test_what_breaks_is_told_with_its_name_and_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> None:
        raise LookupError("nobody expects this")

    tasks = Tasks()
    with caplog.at_level(logging.ERROR):
        tasks.begin(breaks(), "counting")
        await settled(lambda: caplog.records, "the log has it")
    assert caplog.messages == ["broke, which is a bug: counting"]
    assert "nobody expects this" in caplog.text
    await tasks.stop()


async def test_stopping_ends_what_runs_and_returns_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[str] = []

    async def lasts() -> None:
        try:
            steps.append("begun")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("ended")

    tasks = Tasks()
    tasks.begin(lasts(), "waiting")
    await settled(lambda: steps, "it runs")
    await tasks.stop()
    assert (steps, caplog.messages) == (["begun", "ended"], [])
