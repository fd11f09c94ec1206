"""Loads that fail: what their callers learn, and when the mesh tries again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from grpc import RpcError, StatusCode

from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import INSTANCE_ID, REGISTRIES, Mesh, RuntimeProcess, a_mesh
from tests.support.waiting import until

EXPIRY_MS = 2_000


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Mesh]:
    """A pod that remembers failures for two seconds only."""
    with a_mesh(tmp_path_factory.mktemp("forgetful"), environment={"MM_LOAD_FAILURE_EXPIRY_TIME_MS": str(EXPIRY_MS), **store}) as mesh:
        yield mesh


def check_failed(status: Status, text: str) -> None:
    assert status.status == Status.LOADING_FAILED
    assert len(status.errors) == 1
    assert status.errors[0].endswith(text)
    (copy,) = status.modelCopyInfos
    assert (copy.location, copy.copyStatus) == (INSTANCE_ID, Status.LOADING_FAILED)
    assert time.time() * 1000 - 15_000 < copy.time <= time.time() * 1000 + 1_000


def test_a_failed_load_is_a_status_with_its_cause(client: Client, model: str) -> None:
    status = client.register(model, "FAIL_there is no such file", load=True, sync=True)
    check_failed(status, "there is no such file")
    assert client.status(model) == status
    check_failed(client.ensure(model, sync=True), "there is no such file")


def test_a_call_for_a_model_that_does_not_load_tells_why(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "FAILALWAYS_the file is broken")
    with refused(StatusCode.INTERNAL) as refusal:
        client.predict(model)
    assert refusal.details.endswith("the file is broken")
    assert client.status(model).status == Status.LOADING_FAILED


def test_calls_after_a_failure_do_not_load_again_at_once(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "FAILALWAYS_broken")
    for _ in range(5):
        with refused(StatusCode.INTERNAL, "broken"):
            client.predict(model)
    assert runtime.loads(model) == 1


def test_all_who_wait_for_a_load_learn_of_its_failure(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "FAILALWAYS_broken")
    with runtime.holding(f"load:{model}"):
        waiting = [client.predicting(model) for _ in range(10)]
        runtime.awaited("loadModel", model)
    for call in waiting:
        with refused(StatusCode.INTERNAL, "broken"):
            call.result()


def test_what_a_failed_load_may_have_left_is_unloaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "FAILALWAYS_half of it is in memory", load=True, sync=True)
    runtime.awaited("unloadModel", model, at="end")
    assert runtime.order("loadModel", "unloadModel")[-4:] != []
    assert [line["call"] for line in runtime.journal() if line["model"] == model and line["at"] == "start"][-1] == "unloadModel"


def test_registering_the_model_anew_forgets_its_failure(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "FAIL_not yet", load=True, sync=True)
    client.unregister(model)
    client.loaded(model, "FAIL_not yet")
    assert runtime.loads(model) == 2


def test_a_failure_expires_even_under_continuous_calls(forgetful: Mesh, model: str) -> None:
    client, runtime = forgetful.client, forgetful.runtime
    client.register(model, "FAIL_not yet")
    with refused(StatusCode.INTERNAL) as refusal:
        client.predict(model)
    assert refusal.details.endswith("not yet")

    def served() -> bool:
        try:
            return client.said(model) == answer(model)
        except RpcError:
            return False

    until(served, "the failure to expire")
    assert runtime.loads(model) == 2
    assert client.status(model).status == Status.LOADED
    assert not client.status(model).errors


def test_a_model_that_keeps_failing_is_tried_again_and_again_but_not_at_every_call(forgetful: Mesh, model: str) -> None:
    client, runtime = forgetful.client, forgetful.runtime
    client.register(model, "FAILALWAYS_never")
    calls = 0

    def tried_again() -> bool:
        nonlocal calls
        calls += 1
        with refused(StatusCode.INTERNAL, "never"):
            client.predict(model)
        return runtime.loads(model) >= 2

    until(tried_again, "another load")
    assert calls > 2, "most calls were answered from the remembered failure"


def test_a_failed_model_does_not_stand_in_the_way_of_others(client: Client, model: str) -> None:
    client.register(model, "FAILALWAYS_broken", load=True, sync=True)
    other = client.loaded(f"{model}-other")
    assert client.said(other) == answer(other)
