"""Waiting for a server ends when the server does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.storage.servers import process
from tests.support.processes import Died


def test_a_server_that_ends_early_is_quoted_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('the disk is full'); raise SystemExit(3)"]
    with (
        process("the store", command, tmp_path / "log") as running,
        pytest.raises(Died, match=r"the store ended with 3.*\n.*the disk is full"),
    ):
        running.until(lambda: False)


def test_what_it_did_before_its_end_counts(tmp_path: Path) -> None:
    with process("the store", [sys.executable, "-c", "open('done', 'w')"], tmp_path / "log") as running:
        running.until((tmp_path / "done").exists, "wrote")
