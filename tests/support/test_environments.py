"""What tests have installed for them is made beforehand, and its absence is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import environments


def test_what_is_not_made_is_not_made_by_a_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESH_CACHE", str(tmp_path))
    with pytest.raises(environments.NotMade, match="'etcd' is not installed; run `make environments`"):
        environments.made("etcd")
    with pytest.raises(environments.NotMade, match="'storage' is not installed"):
        environments.azurite()
    with pytest.raises(environments.NotMade, match="'torchserve' is not installed; run `make test-torch`"):
        environments.made("torchserve")
    assert list(tmp_path.iterdir()) == []


def test_where_all_is_made_nothing_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    assert environments.main() == 0
    assert capfd.readouterr() == ("", "")
