from __future__ import annotations

import pytest

from mesh.settings import describe


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which no setting is set."""
    for setting in describe():
        for name in setting["names"]:
            monkeypatch.delenv(name, raising=False)
