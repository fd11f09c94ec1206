"""Documents come as people write them; what is wrong is said with file, line, column, field and fault."""

from pathlib import Path

import pytest

from mesh.core.errors import Malformed
from mesh.manifests.documents import KINDS, InferenceService, PersistentVolumeClaim
from mesh.manifests.parsing import Applied, parse
from mesh.manifests.reading import read_path, read_text

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SERVICE = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storage:
        path: x
"""


def documents(text: str) -> list[Applied]:
    return parse(read_text(text, "f.yaml"))


def refusal(text: str) -> str:
    with pytest.raises(Malformed) as caught:
        documents(text)
    return caught.value.message


def test_the_walkthroughs_folder_is_a_claim_and_a_service() -> None:
    kinds = [type(one.document) for one in parse(read_path(str(EXAMPLES / "walkthrough")))]
    assert kinds == [PersistentVolumeClaim, InferenceService]


def test_several_documents_lists_and_json_are_the_same_to_us() -> None:
    several = SERVICE.format(name="a") + "---\n---\n" + SERVICE.format(name="b")
    assert [one.document.name for one in documents(several)] == ["a", "b"]
    item = '{"metadata": {"name": "c"}, "spec": {"predictor": {"sklearn": {"storageUri": "s3://b/x"}}}}'
    listed = '{\n\t"kind": "InferenceServiceList", "apiVersion": "v1",\n\t"items": [' + item + "]}"
    assert [one.document.name for one in documents(listed)] == ["c"]
    whole = "kind: List\napiVersion: v1\nitems:\n" + "".join("- " + SERVICE.format(name="d").replace("\n", "\n  ").rstrip() + "\n")
    assert [one.document.name for one in documents(whole)] == ["d"]


def test_unknown_fields_are_kept_and_nulls_are_absent() -> None:
    one = documents(SERVICE.format(name="a") + "        schemaPath: null\n  transformer: {of: later}\nstatus: {old: true}\n")[0]
    assert one.raw["spec"]["transformer"] == {"of": "later"}
    assert one.document.model_dump()["status"] == {"old": True}


def test_anchors_and_merges_are_expanded() -> None:
    text = "x: &f {name: sklearn}\n" + SERVICE.format(name="a").replace(
        "      modelFormat:\n        name: sklearn", "      modelFormat: {<<: *f}"
    )
    document = documents(text)[0].document
    assert isinstance(document, InferenceService)
    assert document.spec.predictor.model
    assert document.spec.predictor.model.model_format.name == "sklearn"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "name: sklearn",
            "name: 3",
            "f.yaml:9:15: spec.predictor.model.modelFormat.name: must be a text, not the number 3; write it in quotes",
        ),
        ("storage:\n        path: x", "storage: x", "f.yaml:10:16: spec.predictor.model.storage: must be a mapping, not the text 'x'"),
        ("modelFormat:\n        name: sklearn", "runtime: r", "f.yaml:8:7: spec.predictor.model.modelFormat: is missing"),
        ("name: {name}", "name: Big_Name", "f.yaml:4:9: metadata.name: must be lower-case letters"),
        (
            "kind: InferenceService",
            "kind: InferenceServise",
            "f.yaml:2:7: kind: 'InferenceServise' is not known here; did you mean InferenceService?",
        ),
        ("v1beta1", "v1", "f.yaml:1:13: apiVersion: must be serving.kserve.io/v1beta1 for InferenceService, not 'serving.kserve.io/v1'"),
        ("  name: {name}", "  name: a\n  name: b", "f.yaml:5:3: the key 'name' stands here a second time"),
        ("  predictor:", " - predictor:", "f.yaml:6:2: spec: must be a mapping, not the list"),
    ],
)
def test_a_fault_is_named_with_its_place(old: str, new: str, said: str) -> None:
    assert old in SERVICE
    assert refusal(SERVICE.replace(old, new).replace("{name}", "a")).startswith(said)


def test_text_that_is_no_yaml_is_refused_with_the_line() -> None:
    assert refusal("kind: a\n  b: [1\n").startswith("f.yaml:2:4: not valid YAML: ")
    assert refusal('{"kind": "InferenceService",\n "spec": }}').startswith("f.yaml:2:")


def test_the_known_kinds_are_listed_for_an_unknown_one() -> None:
    said = refusal("apiVersion: v1\nkind: Deployment\n")
    assert all(kind in said for kind in KINDS)


def test_every_fault_of_every_document_is_told_at_once() -> None:
    bad = SERVICE.format(name="a").replace("path: x", "path: 1").replace("name: sklearn", "name: 2")
    lines = refusal(bad + "---\nkind: 7\n").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["f.yaml:9:15", "f.yaml:11:15", "f.yaml:13:7"]


@pytest.mark.parametrize(
    ("text", "said"), [("", "no document"), ("- a\n", "must be a mapping"), ("a", "must be a mapping"), ("kind:", "is missing")]
)
def test_what_is_no_document_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_an_alias_that_contains_itself_or_explodes_is_refused() -> None:
    assert "refers to something that contains it" in refusal("kind: &a [*a]\n")
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "more than 1000000 values" in refusal(bomb)


def test_another_deployment_mode_is_refused_and_none_is_taken() -> None:
    text = SERVICE.format(name="a").replace("  name: a\n", "  name: a\n  annotations: {serving.kserve.io/deploymentMode: Serverless}\n")
    assert "f.yaml:5:51: metadata.annotations: serving.kserve.io/deploymentMode is 'Serverless'" in refusal(text)
    assert len(documents(SERVICE.format(name="a"))) == 1


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="there is no such file"):
        read_path(str(tmp_path / "none.yaml"))
    with pytest.raises(Malformed, match=r"holds no \.yaml"):
        read_path(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(Malformed, match="byte 3 is not UTF-8"):
        read_path(str(tmp_path))
