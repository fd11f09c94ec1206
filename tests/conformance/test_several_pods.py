"""Any pod answers for any model, wherever it is loaded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from grpc import StatusCode

from tests.support.client import Client, Status, answer, example, refused, to
from tests.support.cluster import Cluster
from tests.support.waiting import until


def in_two_places(three: Cluster, model: str, but: int) -> str:
    """A model with a copy on each pod but one: what is busy sends its caller to another copy, made for that."""
    client = three[but].client
    client.register(model, kind=f"off-{but}")
    with refused(StatusCode.RESOURCE_EXHAUSTED):
        client.predict(model, "test:error:code=RESOURCE_EXHAUSTED:message=make another")
    others = {0, 1, 2} - {but}
    until(lambda: all(_ready(three, pod, model) == others for pod in range(3)), "every pod sees both copies")
    return model


def _ready(three: Cluster, pod: int, model: str) -> set[int]:
    copies = three[pod].facts(f"models/{model}")["copies"]
    return {number for number, one in enumerate(three.pods) for copy in copies if copy["pod"] == one.id and copy["state"] == "ready"}


@pytest.mark.parametrize("through", range(3))
def test_one_copy_answers_through_every_pod(three: Cluster, model: str, through: int) -> None:
    client = three[through].client
    client.register(model)
    for pod in three.pods:
        assert pod.client.said(model) == answer(model)
    assert three.loads(model) == 1
    assert len(three.held(model)) == 1
    (holder,) = three.held(model)
    status = three[through].client.status(model)
    assert status.status == Status.LOADED
    assert [copy.location for copy in status.modelCopyInfos] == [three[holder].id]


@pytest.mark.parametrize("place", range(3))
def test_a_model_is_loaded_where_its_type_lets_it(three: Cluster, model: str, place: int) -> None:
    three[(place + 1) % 3].client.register(model, kind=f"on-{place}")
    for pod in three.pods:
        assert pod.client.said(model) == answer(model)
    assert [pod.runtime.loads(model) for pod in three.pods] == [int(number == place) for number in range(3)]


def test_many_small_calls_through_one_pod(three: Cluster, model: str) -> None:
    client = three[1].client
    client.register(model, kind="on-2")
    with ThreadPoolExecutor(8) as callers:
        said = list(callers.map(lambda number: client.said(model, str(number)), range(600)))
    assert said == [answer(model, str(number)) for number in range(600)]
    assert client.status(model).status == Status.LOADED


def test_large_calls_through_another_pod(three: Cluster, model: str) -> None:
    three[0].client.register(model, kind="on-0")
    text = "x" * (2 << 20)
    for _ in range(20):
        assert three[2].client.said(model, text) == answer(model, text)


@pytest.mark.parametrize("through", range(3))
def test_one_call_asks_models_of_several_pods(three: Cluster, model: str, through: int) -> None:
    client, names = three[through].client, [f"{model}-{number}" for number in (2, 0, 1)]
    for name in names:
        three[0].client.register(name, kind=f"on-{name[-1]}")
    metadata = tuple(("mm-model-id", name) for name in names)
    got = client.predictor.multiPredict(example.MultiPredictRequest(text="all"), metadata=metadata, timeout=30)
    assert {name: one.results[0].category for name, one in got.predictions.items()} == {name: answer(name, "all") for name in names}
    assert [pod.runtime.loads(f"{model}-{number}") for number, pod in enumerate(three.pods)] == [1, 1, 1]


def test_an_alias_is_called_through_pods_that_hold_nothing_of_it(three: Cluster, model: str) -> None:
    three[0].client.set_alias(f"{model}-alias", model, kind="on-0", loadNow=True, sync=True)
    for pod in three.pods:
        assert pod.client.said("", metadata=(("mm-vmodel-id", f"{model}-alias"),)) == answer(model)
        assert pod.client.alias(f"{model}-alias").activeModelStatus.status == Status.LOADED
    assert three.loads(model) == 1


def test_what_was_registered_a_moment_ago_is_known_to_every_pod(three: Cluster, model: str) -> None:
    for number in range(30):
        name, asked = f"{model}-{number}", [three[(number + step) % 3].client for step in range(3)]
        asked[0].set_alias(f"{name}-alias", name, kind="example")
        assert asked[1].said(name) == answer(name)
        assert asked[2].said("", metadata=(("mm-vmodel-id", f"{name}-alias"),)) == answer(name)


def test_what_one_pod_registers_another_forgets(three: Cluster, model: str) -> None:
    three[0].client.loaded(model, kind="on-1")
    three[2].client.unregister(model)
    assert three[2].client.status(model).status == Status.NOT_FOUND
    until(lambda: all(pod.client.status(model).status == Status.NOT_FOUND for pod in three.pods), "all pods know")
    three[1].runtime.awaited("unloadModel", model, at="end")
    with refused(StatusCode.NOT_FOUND, exactly="model not found"):
        three[0].client.predict(model)


def test_a_load_that_is_asked_for_elsewhere_is_told_of_as_if_it_were_here(three: Cluster, model: str) -> None:
    client = three[0].client
    with three[1].runtime.holding(f"load:{model}"):
        assert client.register(model, kind="on-1", load=True).status == Status.LOADING
        three[1].runtime.awaited("loadModel", model)
        until(lambda: all(pod.client.status(model).status == Status.LOADING for pod in three.pods), "all pods know")
    until(lambda: all(pod.client.status(model).status == Status.LOADED for pod in three.pods), "all pods know")
    assert client.ensure(model, sync=True).status == Status.LOADED
    assert three.loads(model) == 1


def test_a_thousand_calls_of_one_cold_model_through_all_pods_cause_one_load(three: Cluster, model: str) -> None:
    three[0].client.register(model)
    calls = [three[number % 3].client.predicting(model) for number in range(1000)]
    assert {call.result().results[0].category for call in calls} == {answer(model)}
    assert three.loads(model) == 1
    assert sum(three.calls(model)) == 1000


def test_all_wait_for_the_one_load_wherever_they_came_in(three: Cluster, model: str) -> None:
    three[0].client.register(model)
    gates = [pod.runtime.holding(f"load:{model}") for pod in three.pods]
    for gate in gates:
        gate.__enter__()
    try:
        calls = [three[number % 3].client.predicting(model) for number in range(90)]
        until(lambda: three.loads(model), "the load begins")
        # Only one who did not follow the load under way would begin another.
        until(lambda: all(pod.facts(f"models/{model}")["state"] == "LOADING" for pod in three.pods), "all pods know of it")
        assert not any(call.done() for call in calls)
    finally:
        for gate in gates:
            gate.__exit__(None, None, None)
    assert {call.result().results[0].category for call in calls} == {answer(model)}
    assert three.loads(model) == 1


def asked(three: Cluster, model: str, through: int, times: int, **more: Any) -> list[int]:
    """How many of some calls, one after the other, came to each runtime."""
    before = three.calls(model)
    for _ in range(times):
        three[through].client.predict(model, **more)
    return [now - then for now, then in zip(three.calls(model), before, strict=True)]


def test_calls_spread_over_two_copies(three: Cluster, model: str) -> None:
    in_two_places(three, model, but=1)

    def evenly() -> bool:
        # What the pods heard of each other's load before, under other tests, counts for a moment.
        return asked(three, model, 1, 20) == [10, 0, 10]

    until(evenly, "of two that are idle the one is next whose turn was longer ago")


def test_a_caller_that_balances_itself_is_served_where_it_asks(three: Cluster, model: str) -> None:
    in_two_places(three, model, but=2)
    assert asked(three, model, 0, 20, metadata=(("mm-balanced", "true"),)) == [20, 0, 0]
    until(lambda: asked(three, model, 0, 20)[1], "one that does not is served elsewhere too")


def test_a_pod_without_a_copy_passes_calls_on_that_are_balanced_too(three: Cluster, model: str) -> None:
    three[0].client.loaded(model, kind="on-0")
    for pod in three.pods:
        assert pod.client.said(model, metadata=(("mm-balanced", "true"),)) == answer(model)
    assert three.held(model) == {0}


def test_new_clients_find_all_that_old_ones_registered(three: Cluster, model: str) -> None:
    three[0].client.loaded(model)
    with Client.insecure(three[2].router.address) as fresh:
        assert fresh.predictor.predict(example.PredictRequest(text="x"), metadata=to(model), timeout=30).results


def test_figures_of_the_whole_mesh_are_told_by_one_pod(three: Cluster, model: str) -> None:
    three[0].client.register(model)

    def telling() -> list[str]:
        return [pod.id for pod in three.pods if "\nmodelmesh_models_managed_total " in pod.router.scrape()]

    assert telling() == [one["id"] for one in three[0].facts("pods")["pods"] if one["leads"]]
