"""Former documents of services outlive the mesh, beside the one in force; nothing that is wrong with them is fatal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mesh.local.documents import Documents
from mesh.local.history import MOST, History
from mesh.manifests.parsing import Applied, parse_value


def service(path: str, canary: int | None = None, name: str = "a", **annotations: str) -> Applied:
    predictor: dict[str, Any] = {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"path": path}}}
    if canary is not None:
        predictor["canaryTrafficPercent"] = canary
    metadata = {"name": name, "annotations": {f"mesh.kserve.io/{key}": value for key, value in annotations.items()}}
    value = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata, "spec": {"predictor": predictor}}
    return parse_value(value, f"{name}.yaml")


class Mesh:
    """Documents and their history, as a mesh has them."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.documents = Documents(folder, "n")
        self.history = History(folder / ".history", lambda _, text: self.said.append(text), count(1).__next__)
        self.documents.read(lambda _, text: self.said.append(text))
        self.history.read()

    def apply(self, *batch: Applied) -> Mesh:
        for one in batch:
            before = self.documents.held.get((one.document.kind, one.document.name))
            self.documents.put(one)
            self.history.note(one, before)
        return self

    def paths(self, name: str = "a") -> list[str]:
        past = self.history.of(service("", name=name))
        return [one.applied.raw["spec"]["predictor"]["model"]["storage"]["path"] for one in past.documents]

    @property
    def base(self) -> str | None:
        """The path of the model that goes before the canary's where nothing is known."""
        found = self.history.registration(next(self.documents.of("InferenceService"))).base
        return found.path if found is not None else None


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "documents"
    assert not list(tmp_path.glob("**/.*.json.*")), "nothing is left half written"


def test_former_documents_are_there_after_a_restart_in_their_order(folder: Path) -> None:
    Mesh(folder).apply(service("1"), service("2"), service("3"), service("1"), service("x", name="b"))
    again = Mesh(folder)
    assert (again.paths(), again.paths("b"), again.said) == (["1", "2", "3"], ["x"], [])
    assert [one.at for one in again.history.of(service("1")).documents] == [1, 2, 3], "each since it came first"
    assert {path.stat().st_mode & 0o777 for path in folder.glob(".history/*/*.json")} == {0o600}


def test_of_documents_with_the_same_model_the_latest_is_kept(folder: Path) -> None:
    mesh = Mesh(folder).apply(service("1"), service("1", versions="7"))
    (former,) = mesh.history.of(service("1")).documents
    assert former.applied.document.metadata.annotations == {"mesh.kserve.io/versions": "7"}


def test_the_oldest_go_but_never_the_one_in_force_nor_the_stable_one(folder: Path) -> None:
    numbers = range(1, MOST + 4)
    mesh = Mesh(folder).apply(*(service(str(number)) for number in numbers))
    assert mesh.paths() == [str(number) for number in numbers][-MOST:]
    mesh = Mesh(folder).apply(service("4"), *(service(f"c{number}", 10) for number in range(MOST + 2)))
    assert mesh.paths() == ["4", *(f"c{number}" for number in range(3, MOST + 2))]
    assert mesh.base == "4"


def test_the_document_before_the_first_one_with_a_canary_is_the_stable_one(folder: Path) -> None:
    mesh = Mesh(folder).apply(service("1"))
    assert mesh.base is None
    assert mesh.apply(service("2", 10)).base == "1"
    assert mesh.apply(service("2", 50)).base == "1"
    assert mesh.apply(service("3", 5)).base == "1"
    assert Mesh(folder).base == "1", "also after a restart"
    assert mesh.apply(service("1", 5)).base is None, "the stable one itself"
    assert mesh.apply(service("3", 100)).base is None, "it was promoted"
    assert mesh.apply(service("4", 0)).base == "3"
    assert mesh.apply(service("4")).base is None
    assert Mesh(folder.parent / "other").apply(service("1", 10)).base is None, "there was none before"


def test_the_stable_version_is_registered_with_what_holds_for_the_service_now(folder: Path) -> None:
    mesh = Mesh(folder).apply(service("1"), service("2", 10, **{"min-copies": "2", "versions": "5"}))
    wanted = mesh.history.registration(service("2", 10, **{"min-copies": "2", "versions": "5"}))
    assert wanted.base
    assert (wanted.share, wanted.base.share, wanted.base.keep, wanted.base.bounds.least) == (10, None, 5, 2)


def test_a_service_from_before_there_was_a_history_has_the_document_that_it_had(folder: Path) -> None:
    mesh = Mesh(folder)
    mesh.documents.put(service("1"))
    assert mesh.apply(service("2", 10)).paths() == ["1", "2"]
    assert mesh.base == "1"


@pytest.mark.parametrize("text", ["{", "[]", '{"documents": []}', '{"documents": [{"model": "x", "at": 1, "document": {}}]}'])
def test_what_cannot_be_read_is_told_and_skipped(folder: Path, text: str) -> None:
    Mesh(folder).apply(service("1"), service("x", name="b"))
    bad = folder / ".history" / "inferenceservice" / "a.json"
    bad.write_text(text)
    mesh = Mesh(folder)
    assert f"{bad} is skipped, so these versions cannot be gone back to: " in mesh.said[0]
    assert (len(mesh.said), mesh.paths(), mesh.paths("b"), list(mesh.documents.held)) == (
        1,
        [],
        ["x"],
        [("InferenceService", "a"), ("InferenceService", "b")],
    )


def test_a_document_under_another_models_name_is_none_of_it(folder: Path) -> None:
    Mesh(folder).apply(service("1"))
    file = folder / ".history" / "inferenceservice" / "a.json"
    file.write_text(file.read_text().replace('"path": "1"', '"path": "2"'))
    assert "the document is not that of a__isvc-" in Mesh(folder).said[0]


def test_a_history_goes_with_its_service(folder: Path) -> None:
    mesh = Mesh(folder).apply(service("1"), service("2"))
    mesh.history.forget(service("2"))
    mesh.history.forget(service("2"))
    assert (mesh.paths(), list(folder.glob(".history/*/*"))) == ([], [])


def test_a_disk_that_refuses_is_told_and_not_fatal(folder: Path) -> None:
    folder.mkdir()
    (folder / ".history").write_text("no folder")
    mesh = Mesh(folder).apply(service("1"))
    assert "cannot be written, so what was before is not kept" in mesh.said[0]
    mesh.history.forget(service("1"))
    assert "cannot be removed" in mesh.said[1]
