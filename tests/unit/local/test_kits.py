"""Which runtimes have pods, how many, and what those are made of: documents, `--runtime` and folders that stand for images together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import Conflict, Failed, Malformed
from mesh.local import in_force, kits
from mesh.local.documents import Documents
from mesh.local.images import Images
from mesh.local.in_force import InForce
from mesh.local.kits import DEFAULT, Missing, Share
from mesh.local.options import UpOptions
from mesh.local.servers.base import Place
from mesh.local.servers.custom import Custom
from mesh.manifests.documents import ServingRuntime
from mesh.manifests.parsing import Applied, parse_value
from mesh.manifests.runtimes import PodPlan

IMAGE = "registry.example.com/mine:1"


def document(name: str = "mine", *, server: str = "mlserver", image: str = IMAGE, kind: str = "ServingRuntime", **spec: Any) -> Applied:
    """A runtime's document; without `server` it has a server of its own."""
    container: dict[str, Any] = {"name": server or "own", "image": image, "resources": {"requests": {"memory": "1Gi"}}}
    container |= spec.pop("container", {})
    adapter = {"builtInAdapter": {"serverType": server, "memBufferBytes": 1024, **spec.pop("adapter", {})}} if server else {}
    value = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [{"name": "mine", "autoSelect": True}],
            "multiModel": True,
            "containers": [container],
            **adapter,
            **spec,
        },
    }
    return parse_value(value, "test")


class Given:
    """Options, documents and folders of one mesh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents = Documents(folder / "documents", "default")

    def in_force(self, **options: Any) -> InForce:
        given = UpOptions(self.folder, **options)
        return InForce(given, self.documents, Images(self.folder / "images.json", given.images))

    def apply(self, *documents: Applied) -> None:
        for one in documents:
            self.documents.put(one)

    def image(self, **files: str) -> Path:
        folder = self.folder / "image"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return folder


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_what_is_named_has_pods_and_every_document_of_the_users(given: Given) -> None:
    given.apply(document(), document("off", disabled=True), document("one-model", multiModel=False))
    assert list(given.in_force().wanted()) == ["mine", DEFAULT]
    several = given.in_force(runtimes={"triton": Share(2, 3), "openvino": None}, pods=4)
    assert {name: one.share for name, one in several.wanted().items()} == {
        "mine": Share(1, 1),
        "ovms-1.x": Share(4, 4),
        "triton-2.x": Share(2, 3),
    }


def test_replicas_of_a_document_go_before_what_the_command_line_says(given: Given) -> None:
    given.apply(document(replicas=2))
    assert given.in_force(runtimes={"mine": Share(5, 5)}).wanted()["mine"].share == Share(2, 2)


def test_a_name_that_is_no_runtime_is_told_with_those_there_are(given: Given) -> None:
    with pytest.raises(Malformed, match=r"--runtime nothing: there is no such runtime; there are mlserver-1.x, ovms-1.x"):
        given.in_force(runtimes={"nothing": None}).wanted()
    assert kits.resolve("openvino", {}) == kits.resolve("ovms", {}) == "ovms-1.x"


@pytest.mark.parametrize("text", ["", ",", "a,", "a=", "a=x", "a=1..", "a=0", "a=3..1", "a=101", "a,a", "=2"])
def test_an_option_that_cannot_be_read_is_told_as_it_was_given(text: str) -> None:
    with pytest.raises(Malformed, match="--runtime ") as refusal:
        kits.parse_runtimes(text)
    assert refusal.value.message.startswith(f"--runtime {text}: ")


def test_an_option_names_runtimes_and_their_numbers() -> None:
    assert kits.parse_runtimes("mlserver, triton=2,mine=1..3") == {"mlserver": None, "triton": Share(2, 2), "mine": Share(1, 3)}


def test_an_image_without_folder_is_missing_and_the_four_servers_need_none(given: Given) -> None:
    given.apply(document(), document("known", image="seldonio/mlserver:1.3.2"))
    wanted = given.in_force().wanted()
    assert wanted["known"].kit
    assert wanted["mine"].kit is None
    assert f"image {IMAGE}: no folder here stands for it" in wanted["mine"].missing
    assert f"`mesh up --image {IMAGE}=DIR`" in wanted["mine"].missing


def test_a_folder_gives_environment_and_code_and_its_entry_point_runs_the_server(given: Given) -> None:
    given.apply(document())
    folder = given.image(environment="mlserver", entrypoint="#!/bin/sh")
    kit = given.in_force(images={IMAGE: folder}).wanted()["mine"].kit
    assert kit
    assert (kit.environment.name, kit.image and kit.image.entrypoint) == ("mlserver", folder / "entrypoint")
    made = given.in_force(images={IMAGE: folder}, environments={"mlserver": given.folder}).wanted()["mine"].kit
    assert made
    assert (made.environment.path, made.environment.made) == (given.folder, True)


def test_a_folder_that_is_wrong_leaves_the_others_their_pods(given: Given) -> None:
    given.apply(document())
    wanted = given.in_force(images={IMAGE: given.image(environment="nothing")}).wanted()
    assert wanted["mine"].kit is None
    assert "'nothing' is no list of `mesh environment list`" in wanted["mine"].missing
    assert wanted[DEFAULT].kit


def test_documents_that_make_no_pod_anywhere_are_refused_and_those_that_wait_for_an_image_are_not(given: Given) -> None:
    there = given.in_force()
    there.check([document()])
    with pytest.raises(Malformed, match="leaves no room for models beside memBufferBytes"):
        there.check([document(adapter={"memBufferBytes": 1 << 30})])
    with pytest.raises(Malformed, match=r"builtInAdapter.serverType 'nothing' is not known; there are mlserver, ovms"):
        there.check([document(server="nothing")])


def test_the_last_runtime_with_pods_is_not_taken_away(given: Given) -> None:
    given.apply(document(image="seldonio/mlserver:1"))
    only = given.in_force(runtimes={"mine": None})
    with pytest.raises(Conflict, match="no runtime would be left that has pods here"):
        only.check((), without=("ServingRuntime", "mine"))
    given.in_force().check((), without=("ServingRuntime", "mine"))


def test_what_is_missing_of_a_runtime_that_was_named_stops_the_start_and_of_a_document_does_not(given: Given) -> None:
    given.apply(document())
    options = UpOptions(given.folder, runtimes={"mlserver": None}, environments={"mlserver": given.folder})
    assert in_force.ahead(options) == []
    with pytest.raises(Malformed, match=f"mine: image {IMAGE}: no folder here stands for it"):
        in_force.ahead(UpOptions(given.folder, runtimes={"mine": None}))
    with pytest.raises(Malformed, match="there is no such folder"):
        in_force.ahead(UpOptions(given.folder, images={"another": given.folder / "no"}))


def test_what_a_machine_does_not_take_over_is_noted(given: Given) -> None:
    variables = [{"name": "MLSERVER_GRPC_PORT", "value": "9000"}, {"name": "MLSERVER_MODEL_IMPLEMENTATION", "value": "mine.Model"}]
    adapter = {"env": [{"name": "ROOT_MODEL_DIR", "value": "/x"}]}
    one = document(image="", container={"env": variables, "args": ["--fast"]}, adapter=adapter)
    given.apply(one)
    notes = "\n".join(given.in_force().wanted()["mine"].notes)
    assert "env MLSERVER_GRPC_PORT is not taken over" in notes
    assert "MODEL_IMPLEMENTATION" not in notes
    assert "builtInAdapter.env ROOT_MODEL_DIR is not taken over" in notes
    assert "command and args of the container mlserver are not taken over" in notes


def test_the_shell_is_offered_the_servers_that_are_not_named_yet() -> None:
    assert kits.completed("") == ["mlserver", "ovms", "torchserve", "triton"]
    assert kits.completed("triton=2,t") == ["triton=2,torchserve"]
    assert kits.completed("nothing") == []


# A server of one's own


def custom(given: Given, **spec: Any) -> tuple[Custom, PodPlan, Place]:
    applied = document(server="", **spec)
    assert isinstance(applied.document, ServingRuntime)
    found = Images(given.folder / "images.json", {IMAGE: given.folder / "image"})
    kit = kits.kit(applied.document, found, {})
    assert isinstance(kit.server, Custom)
    place = Place(
        "own", kit.environment.path, given.folder / "s", given.folder / "m", given.folder / "log", {"grpc": 1, "data": 2}, {"PATH": "/bin"}
    )
    kit.server.prepare(place, kit.plan)
    return kit.server, kit.plan, place


def test_it_runs_the_folders_entry_point_there_and_is_told_where_to_listen(given: Given) -> None:
    folder = given.image(entrypoint="#!/bin/sh")
    server, plan, place = custom(given, grpcEndpoint="port:8085", grpcDataEndpoint="port:8001")
    command = server.command(place, plan)
    assert (list(command.argv), command.folder) == ([str(folder / "entrypoint")], folder)
    assert command.environment["MESH_GRPC_ENDPOINT"] == "port:1"
    assert command.environment["MESH_GRPC_DATA_ENDPOINT"] == server.data_endpoint(place) == "port:2"
    assert command.environment["ROOT_MODEL_DIR"] == str(place.models)
    assert server.adapter(place, plan) == {"MODEL_SERVER_ENDPOINT": "port:1"}


def test_one_endpoint_for_both_is_one_port_and_sockets_lie_in_the_pods_folder(given: Given) -> None:
    given.image(entrypoint="#!/bin/sh")
    server, plan, place = custom(given, grpcEndpoint="unix:/tmp/mine.sock", grpcDataEndpoint="unix:/tmp/mine.sock")
    assert server.data_endpoint(place) == server.endpoint(place) == f"unix:{place.folder}/grpc.sock"
    assert server.changed(plan) == {}
    two, _, _ = custom(given, grpcEndpoint="unix:/tmp/mine.sock", grpcDataEndpoint="port:8001")
    assert two.data_endpoint(place) == "port:2"


def test_its_own_variables_follow_what_the_mesh_chooses_and_command_and_arguments_may_name_them(given: Given) -> None:
    given.image()
    container = {
        "env": [{"name": "LISTEN", "value": "8085"}, {"name": "SERVE", "value": "port:8001"}, {"name": "MODE", "value": "fast"}],
        "command": ["python", "-m", "mine"],
        "args": ["--port=$(LISTEN)", "--mode=$(MODE)", "$(UNKNOWN)"],
    }
    server, plan, place = custom(given, grpcEndpoint="port:8085", grpcDataEndpoint="port:8001", container=container)
    assert list(server.command(place, plan).argv) == ["python", "-m", "mine", "--port=1", "--mode=fast", "$(UNKNOWN)"]
    assert server.changed(plan) == {"LISTEN": "8085", "SERVE": "port:8001"}


def test_nothing_to_run_is_told_with_what_to_do(given: Given) -> None:
    given.image()
    with pytest.raises(Failed, match=r"make an executable .*/entrypoint, or give the container own a command"):
        custom(given)


def test_it_needs_a_folder_even_for_an_image_of_a_server_that_the_mesh_knows(given: Given) -> None:
    applied = document(server="", image="seldonio/mlserver:1")
    assert isinstance(applied.document, ServingRuntime)
    with pytest.raises(Missing, match="no folder here stands for it"):
        kits.kit(applied.document, Images(given.folder / "images.json", {}), {})
