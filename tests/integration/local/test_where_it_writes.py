"""A mesh leaves nothing outside its data folder, the environment cache and the context file."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.integration.local.rig import EXAMPLES, Shell


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_home_temporary_and_working_folder_stay_empty_and_the_context_goes_with_the_mesh(shell: Shell, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "temporary", "working")}
    for place in places.values():
        place.mkdir()
    shell.cwd = places["working"]
    shell.extra = {"HOME": str(places["home"]), "TMPDIR": str(places["temporary"]), "PYTHONPATH": str(EXAMPLES.parent)}
    shell.up()
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"))
    shutil.copy(EXAMPLES / "models" / "mnist-svm.joblib", shell.data / "pvc" / "my-models-pvc")
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")
    assert shell.digit() == ["8"]
    assert files(tmp_path / "state") == ["mesh/current.json"]
    shell.ok("down")
    assert {name: files(place) for name, place in places.items()} == {"home": [], "temporary": [], "working": []}
    assert files(tmp_path / "state") == []
