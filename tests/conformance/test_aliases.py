"""Aliases ("virtual models"): names that clients call while the model behind them changes."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from mesh.protocols import model_mesh_pb2 as mm
from tests.support.client import AliasStatus, Client, Status, answer, refused
from tests.support.mesh import RuntimeProcess
from tests.support.waiting import until

INFO = mm.ModelInfo(type="example")


@pytest.fixture
def alias(model: str) -> str:
    return f"alias-{model}"


@pytest.fixture
def first(client: Client, model: str, alias: str) -> str:
    """A loaded model with the alias pointing at it."""
    name = client.loaded(f"{model}-1")
    client.set_alias(alias, name)
    return name


def via(client: Client, alias: str) -> str:
    """What a call of the alias is answered."""
    return client.said("", metadata=(("mm-vmodel-id", alias),))


def gist(status: AliasStatus) -> tuple[str, str, str]:
    return AliasStatus.VModelStatus.Name(status.status), status.activeModelId, status.targetModelId


def test_an_unknown_alias_is_a_status_and_no_error(client: Client, alias: str) -> None:
    status = client.alias(alias)
    assert gist(status) == ("NOT_FOUND", "", "")
    assert status.activeModelStatus.status == Status.NOT_FOUND


def test_calling_an_unknown_alias_is_an_error(client: Client, alias: str) -> None:
    with refused(StatusCode.NOT_FOUND, exactly="vmodel not found"):
        via(client, alias)


def test_deleting_an_unknown_alias_succeeds(client: Client, alias: str) -> None:
    client.delete_alias(alias)


def test_an_alias_points_at_an_existing_model(client: Client, model: str, alias: str) -> None:
    client.loaded(model)
    status = client.set_alias(alias, model)
    assert gist(status) == ("DEFINED", model, model)
    assert status.activeModelStatus.status == Status.LOADED
    assert not status.HasField("targetModelStatus")
    assert client.alias(alias) == status
    assert via(client, alias) == answer(model)


def test_a_model_with_an_alias_cannot_be_forgotten(client: Client, first: str, alias: str) -> None:
    with refused(StatusCode.FAILED_PRECONDITION, exactly=f"Model {first} has referents"):
        client.unregister(first)
    client.delete_alias(alias)
    client.unregister(first)
    assert client.status(first).status == Status.NOT_FOUND


def test_an_alias_moves_to_a_new_model(client: Client, model: str, alias: str, first: str) -> None:
    second = f"{model}-2"
    status = client.set_alias(alias, second, path="p", expectedTargetModelId=first, sync=True)
    assert gist(status) == ("DEFINED", second, second)
    assert status.activeModelStatus.status == Status.LOADED
    assert via(client, alias) == answer(second)
    again = client.set_alias(alias, second, path="p", expectedTargetModelId=first, sync=True)
    assert gist(again) == ("DEFINED", second, second)
    assert client.status(first).status == Status.LOADED, "a model that was registered by itself stays"
    client.unregister(first)


def test_nobody_is_unserved_while_an_alias_moves(client: Client, runtime: RuntimeProcess, model: str, alias: str, first: str) -> None:
    second = f"{model}-2"
    with runtime.holding(f"load:{second}"):
        status = client.set_alias(alias, second, path="p")
        assert gist(status) == ("TRANSITIONING", first, second)
        assert status.targetModelStatus.status == Status.LOADING
        runtime.awaited("loadModel", second)
        assert via(client, alias) == answer(first)
        now = client.alias(alias)
        assert gist(now) == gist(status)
        assert now.targetModelStatus.status == Status.LOADING
        request = mm.SetVModelRequest(vModelId=alias, targetModelId=second, modelInfo=mm.ModelInfo(type="example", path="p"), sync=True)
        waiting = client.mesh.setVModel.future(request, timeout=30)
    assert gist(waiting.result()) == ("DEFINED", second, second)
    assert via(client, alias) == answer(second)
    assert runtime.loads(second) == 1


def test_a_move_to_a_model_that_is_loaded_happens_at_once(client: Client, model: str, alias: str, first: str) -> None:
    second = client.loaded(f"{model}-2")
    assert gist(client.set_alias(alias, second)) == ("DEFINED", second, second)


def test_force_does_not_wait_for_the_new_model(client: Client, runtime: RuntimeProcess, model: str, alias: str, first: str) -> None:
    second = f"{model}-2"
    with runtime.holding(f"load:{second}"):
        assert gist(client.set_alias(alias, second, path="p", force=True)) == ("DEFINED", second, second)
    assert via(client, alias) == answer(second)


def test_a_model_made_for_an_alias_goes_with_it(client: Client, runtime: RuntimeProcess, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    client.set_alias(alias, first, path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)
    client.set_alias(alias, second, path="p", autoDeleteTargetModel=True, sync=True)
    until(lambda: client.status(first).status == Status.NOT_FOUND)
    runtime.awaited("unloadModel", first)
    client.delete_alias(alias)
    until(lambda: client.status(second).status == Status.NOT_FOUND)
    runtime.awaited("unloadModel", second)


def test_a_model_with_two_aliases_goes_with_the_last(client: Client, model: str, alias: str) -> None:
    for name in (alias, f"{alias}-2"):
        client.set_alias(name, model, path="p", autoDeleteTargetModel=True)
    client.delete_alias(alias)
    assert client.status(model).status == Status.NOT_LOADED
    client.delete_alias(f"{alias}-2")
    assert client.status(model).status == Status.NOT_FOUND


def test_a_deleted_alias_leaves_a_model_that_was_there_before(client: Client, first: str, alias: str) -> None:
    client.delete_alias(alias)
    status = client.alias(alias)
    assert gist(status) == ("NOT_FOUND", "", "")
    assert status.activeModelStatus.status == Status.NOT_FOUND
    assert client.status(first).status == Status.LOADED


def test_an_alias_stays_where_it_is_if_the_new_model_does_not_load(client: Client, model: str, alias: str, first: str) -> None:
    broken, third = f"{model}-broken", f"{model}-3"
    status = client.set_alias(alias, broken, path="FAILALWAYS_broken", sync=True, autoDeleteTargetModel=True)
    assert gist(status) == ("TRANSITION_FAILED", first, broken)
    assert status.targetModelStatus.status == Status.LOADING_FAILED
    assert [error.endswith("broken") for error in status.targetModelStatus.errors] == [True]
    assert via(client, alias) == answer(first)
    assert gist(client.set_alias(alias, third, path="p", sync=True)) == ("DEFINED", third, third)
    until(lambda: client.status(broken).status == Status.NOT_FOUND)


def test_a_model_that_is_not_resident_makes_way_for_none_that_is_broken(client: Client, model: str, alias: str) -> None:
    first, broken = f"{model}-1", f"{model}-broken"
    client.set_alias(alias, first, path="p", autoDeleteTargetModel=True)
    status = client.set_alias(alias, broken, path="FAILALWAYS_broken", loadNow=True, sync=True, autoDeleteTargetModel=True)
    assert gist(status) == ("TRANSITION_FAILED", first, broken)
    assert status.activeModelStatus.status == Status.NOT_LOADED
    assert [error.endswith("broken") for error in status.targetModelStatus.errors] == [True]
    assert via(client, alias) == answer(first)


def test_a_model_that_failed_to_load_makes_way_at_once(client: Client, runtime: RuntimeProcess, model: str, alias: str) -> None:
    broken, second = f"{model}-broken", f"{model}-2"
    client.set_alias(alias, broken, path="FAILALWAYS_broken", loadNow=True, sync=True, autoDeleteTargetModel=True)
    with runtime.holding(f"load:{second}"):
        assert gist(client.set_alias(alias, second, path="p", loadNow=True, autoDeleteTargetModel=True)) == ("DEFINED", second, second)
    assert via(client, alias) == answer(second)
    assert client.status(broken).status == Status.NOT_FOUND


def test_a_move_can_be_taken_back(client: Client, runtime: RuntimeProcess, model: str, alias: str, first: str) -> None:
    second = f"{model}-2"
    with runtime.holding(f"load:{second}"):
        client.set_alias(alias, second, path="p", autoDeleteTargetModel=True)
        assert gist(client.set_alias(alias, first)) == ("DEFINED", first, first)
    until(lambda: client.status(second).status == Status.NOT_FOUND)
    assert via(client, alias) == answer(first)
    client.delete_alias(alias)
    client.unregister(first)


def test_an_expected_target_guards_a_move(client: Client, model: str, alias: str, first: str) -> None:
    with refused(StatusCode.FAILED_PRECONDITION, "Existing target model", "does not match expected"):
        client.set_alias(alias, f"{model}-2", path="p", expectedTargetModelId=f"{model}-0")
    with refused(StatusCode.FAILED_PRECONDITION, exactly=f"vmodel {alias}-new not found"):
        client.set_alias(f"{alias}-new", f"{model}-2", path="p", expectedTargetModelId=first)
    assert client.status(f"{model}-2").status == Status.NOT_FOUND
    assert gist(client.set_alias(f"{alias}-new", first, expectedTargetModelId=first)) == ("DEFINED", first, first)


def test_load_now_loads(client: Client, runtime: RuntimeProcess, model: str, alias: str) -> None:
    assert client.set_alias(alias, model, path="p").activeModelStatus.status == Status.NOT_LOADED
    status = client.set_alias(f"{alias}-2", model, path="p", loadNow=True, sync=True)
    assert status.activeModelStatus.status == Status.LOADED
    assert runtime.loads(model) == 1


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"vModelId": "", "targetModelId": "m"}, StatusCode.INVALID_ARGUMENT, "Must provide vModelId"),
        ({"vModelId": "v", "targetModelId": ""}, StatusCode.INVALID_ARGUMENT, "targetModelId"),
        ({"vModelId": "v-no", "targetModelId": "m-no"}, StatusCode.NOT_FOUND, "Target model m-no not found"),
        ({"vModelId": "v-no", "targetModelId": "m", "updateOnly": True, "modelInfo": INFO}, StatusCode.NOT_FOUND, "vmodel v-no not found"),
        ({"vModelId": "v-no", "targetModelId": "m", "modelInfo": mm.ModelInfo(path="p")}, StatusCode.INVALID_ARGUMENT, "type"),
    ],
    ids=["no-alias", "no-target", "unknown-target", "update-only", "no-type"],
)  # fmt: skip
def test_what_is_wrong_with_a_move_is_told(client: Client, fields: dict[str, object], code: StatusCode, text: str) -> None:
    with refused(code, text):
        client.mesh.setVModel(mm.SetVModelRequest(**fields), timeout=20)  # type: ignore[arg-type]


def test_a_target_must_have_the_attributes_that_it_has(client: Client, alias: str, first: str) -> None:
    with refused(StatusCode.ALREADY_EXISTS, "already exists with different attribute values"):
        client.set_alias(alias, first, path="another")


def test_models_and_aliases_have_names_of_their_own(client: Client, model: str) -> None:
    client.register(model)
    client.set_alias(model, f"{model}-2", path="p")
    assert client.said(model) == answer(model)
    assert via(client, model) == answer(f"{model}-2")


def test_an_alias_has_an_owner(client: Client, model: str, alias: str) -> None:
    client.register(model)
    name = "test-vmodel-owner1"
    assert client.set_alias(name, model, owner="owner1").owner == "owner1"
    assert client.set_alias(name, model, owner="owner1").owner == "owner1"
    assert client.set_alias(name, model).owner == "owner1"
    with refused(StatusCode.ALREADY_EXISTS, exactly='vmodel test-vmodel-owner1 already exists with different owner "owner1"'):
        client.set_alias(name, model, owner="owner2")
    assert gist(client.alias(name, "owner2")) == ("NOT_FOUND", "", "")
    assert client.alias(name, "owner1").owner == client.alias(name).owner == "owner1"
    client.delete_alias(name, "owner2")
    assert client.alias(name).status == AliasStatus.DEFINED
    client.delete_alias(name, "owner1")
    assert client.alias(name).status == AliasStatus.NOT_FOUND
