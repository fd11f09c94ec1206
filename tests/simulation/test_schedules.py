"""Meshes under faults: hundreds of small ones, a large one, and whether broken rules show in them.

Each plays in a process of its own in which sets have a fixed order, so that a seed that fails here fails again by `make simulate SEED=n`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.broken_rules import BROKEN

ROOT = Path(__file__).parents[2]
SEEDS = 300
LEAST_ROOM = 2 << 20
"""KiB that the largest mesh may take."""
PATIENCE = 3_000
"""Seconds, on a machine many times slower than any."""
MEASURED = (
    "import resource, runpy, sys; sys.argv[0] = 'simulate'\n"
    "try: runpy.run_module('tests.simulation', run_name='__main__')\n"
    "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def simulate(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "tests.simulation"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.timeout(PATIENCE)
def test_hundreds_of_meshes_go_through_whatever_happens() -> None:
    done = simulate("--seeds", str(SEEDS), "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds" in done.stdout


@pytest.mark.timeout(PATIENCE)
def test_two_hundred_pods_with_a_hundred_thousand_models() -> None:
    done = simulate("--large", code=MEASURED)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "200 pods, 100000 models" in done.stdout
    (peak,) = re.findall(r"^peak (\d+)$", done.stdout, re.MULTILINE)
    assert int(peak) < LEAST_ROOM, f"{int(peak) >> 10} MiB"


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_noticed(rule: str) -> None:
    done = simulate("--broken", rule, "--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "notices: " in done.stdout


def test_a_seed_plays_the_same_again() -> None:
    digests = [re.findall(r"^digest (\w+)", simulate("--seed", "4").stdout, re.MULTILINE) for _ in range(2)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 1


def test_a_seed_that_goes_wrong_is_told_with_the_command_that_plays_it_again() -> None:
    done = simulate(
        "--seeds",
        "1",
        "--first",
        "1",
        code="""
import sys
from unittest.mock import patch
from tests.simulation import __main__ as simulate, schedule
wrong = lambda world: iter(["all of it"])
with patch.object(schedule.invariants, "quiet", wrong):
    sys.exit(simulate.main())
""",
    )
    assert done.returncode == 1
    assert "make simulate SEED=1" in done.stdout
    assert "all of it" in done.stdout
