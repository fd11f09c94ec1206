"""`mesh get pods` says when a pod cannot reach its registry, and when it began without it."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.cli.client import Control
from mesh.cli.get import Choice, pods
from mesh.cli.output import Format


class OnePod(Control):
    """A mesh of one pod, whose router tells this of its registry."""

    def __init__(self, registry: dict[str, Any] | None) -> None:
        self._router = {} if registry is None else {"registry": registry}

    def get(self, path: str, **params: Any) -> Any:
        if path == "wanted":
            return []
        return [{"name": "pod-0", "state": "ready", "router": self._router, "peer": "", "processes": []}]


@pytest.mark.parametrize(
    ("registry", "told"),
    [
        (None, "ready "),
        ({"state": "ready"}, "ready "),
        ({"state": "away"}, "ready; registry away "),
        ({"state": "away, started from a snapshot"}, "ready; registry away, started from a snapshot "),
    ],
)
def test_the_state_of_a_pod_has_that_of_its_registry(
    capsys: pytest.CaptureFixture[str], registry: dict[str, Any] | None, told: str
) -> None:
    pods(OnePod(registry), Format.table, Choice())
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pod-0")]
    assert line.removeprefix("pod-0").strip().startswith(told)
