"""Settings of scaling that make no sense are named."""

from __future__ import annotations

import pytest

from mesh.core.errors import Malformed
from mesh.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("MM_SCALEUP_RPM_THRESHOLD", "9", 'MM_SCALEUP_RPM_THRESHOLD="9": .* greater than or equal to 10'),
        ("MM_CONC_SCALEUP_BANDWIDTH_PCT", "201", "less than or equal to 200 .*limits concurrency"),
        ("MM_CONC_SCALEUP_BANDWIDTH_PCT", "9", "greater than or equal to 10"),
        ("MESH_RATE_INTERVAL_MS", "0", "greater than or equal to 50"),
        ("MESH_SECOND_COPY_MIN_AGE_MS", "2400001", "MESH_SECOND_COPY_MIN_AGE_MS is greater than MESH_SECOND_COPY_MAX_AGE_MS"),
    ],
)
def test_what_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, fault: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Malformed, match=fault):
        Settings.load()
