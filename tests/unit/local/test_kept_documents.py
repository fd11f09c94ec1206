"""Applied documents are kept on disk; nothing that is wrong with one loses another."""

import base64
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import Conflict, Malformed, Unknown
from mesh.local import volumes
from mesh.local.documents import Documents, shown
from mesh.manifests.documents import Secret
from mesh.manifests.parsing import Applied, parse_value


def service(name: str = "a", path: str = "x", **metadata: str) -> Applied:
    value = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, **metadata},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"path": path}}}},
    }
    return parse_value(value, f"{name}.yaml")


def predictor(name: str = "a") -> Applied:
    value: dict[str, Any] = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "Predictor", "metadata": {"name": name}}
    return parse_value({**value, "spec": {"modelType": {"name": "sklearn"}}}, f"{name}.yaml")


def secret(**data: str) -> Secret:
    value = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage-config"}, "stringData": data}
    document = parse_value(value, "secret.yaml").document
    assert isinstance(document, Secret)
    return document


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    return Documents(tmp_path / "documents", "modelmesh-serving")


def reread(documents: Documents) -> tuple[Documents, list[str]]:
    said: list[str] = []
    fresh = Documents(documents.folder, documents.namespace)
    fresh.read(lambda _, what: said.append(what))
    return fresh, said


def test_what_was_applied_is_there_after_a_restart(documents: Documents) -> None:
    assert [documents.put(service()), documents.put(service()), documents.put(service(path="y"))] == ["created", "unchanged", "configured"]
    documents.put(service("n" * 253))
    fresh, said = reread(documents)
    assert fresh.held == {key: parse_value(one.raw, str(fresh.held[key].origin)) for key, one in documents.held.items()}
    assert said == []
    fresh.remove("InferenceService", "n" * 253)
    assert [one.document.name for one in reread(fresh)[0].of("InferenceService")] == ["a"]


def test_a_damaged_file_is_told_and_kept_and_the_others_are_read(documents: Documents) -> None:
    documents.put(service())
    bad = documents.folder / "inferenceservice" / "bad.json"
    bad.write_text('{"kind": "InferenceService", ')
    fresh, said = reread(documents)
    assert list(fresh.held) == [("InferenceService", "a")]
    assert str(bad) in said[0]
    assert bad.exists()


def test_a_document_of_another_namespace_is_refused_with_what_to_do(documents: Documents) -> None:
    documents.check([service(namespace="modelmesh-serving"), service("b")])
    with pytest.raises(Malformed, match=r"a\.yaml: InferenceService a is for the namespace 'other'.*mesh up --namespace other"):
        documents.check([service(namespace="other")])


def test_a_name_belongs_to_a_service_or_a_predictor(documents: Documents) -> None:
    documents.put(service())
    with pytest.raises(Conflict, match="Predictor already exists with the same name from a different source"):
        documents.check([predictor()])
    with pytest.raises(Conflict):
        documents.check([service("b"), predictor("b")])


def test_an_unknown_name_is_answered_with_those_there_are(documents: Documents) -> None:
    with pytest.raises(Unknown, match="there is no InferenceService 'b'; there is none"):
        documents.get("InferenceService", "b")
    documents.put(service())
    with pytest.raises(Unknown, match="there is no InferenceService 'b'; there are a"):
        documents.get("InferenceService", "b")


def test_a_document_is_shown_with_namespace_and_the_status_of_now() -> None:
    applied = service()
    applied.raw["status"] = {"old": True}
    value = shown(applied, "modelmesh-serving", {"url": "u"})
    assert value["metadata"]["namespace"] == "modelmesh-serving"
    assert value["status"] == {"url": "u"}
    assert "namespace" not in applied.raw["metadata"]


def test_a_claim_is_a_folder_or_a_mapped_one(tmp_path: Path) -> None:
    pvc, mine = tmp_path / "pvc", tmp_path / "mine"
    pvc.mkdir()
    mine.mkdir()
    volumes.map_claims(pvc, {"c": mine})
    assert volumes.make_claim(pvc, "c").resolve() == mine
    volumes.make_claim(pvc, "d")
    assert volumes.claims(pvc) == {"c": str(mine), "d": str(pvc / "d")}
    volumes.map_claims(pvc, {})
    assert list(volumes.claims(pvc)) == ["d"]


def test_a_mapping_never_hides_files_and_needs_a_folder(tmp_path: Path) -> None:
    pvc, mine = tmp_path / "pvc", tmp_path / "mine"
    (pvc / "c").mkdir(parents=True)
    mine.mkdir()
    (pvc / "c" / "model").touch()
    with pytest.raises(Conflict, match="has a folder with files already"):
        volumes.map_claims(pvc, {"c": mine})
    assert (pvc / "c" / "model").exists()
    with pytest.raises(Malformed, match="there is no such folder"):
        volumes.map_claims(pvc, {"e": tmp_path / "none"})


def test_storage_keys_become_files_that_follow_the_secret(tmp_path: Path) -> None:
    before = volumes.storage_keys(secret(one='{"type": "s3"}', two="{}"), "f")
    volumes.write_keys(tmp_path, before, {})
    value = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage-config"}}
    encoded = parse_value({**value, "data": {"one": base64.b64encode(b'{"type": "gcs"}').decode()}}, "f").document
    assert isinstance(encoded, Secret)
    volumes.write_keys(tmp_path, volumes.storage_keys(encoded, "f"), before)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": '{"type": "gcs"}'}
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("key", "text"), [("../x", "{}"), (".hidden", "{}"), ("k", "not json"), ("k", "[]")])
def test_a_key_that_is_no_file_name_or_no_object_is_refused(key: str, text: str) -> None:
    with pytest.raises(Malformed, match="f: Secret storage-config: "):
        volumes.storage_keys(secret(**{key: text}), "f")
