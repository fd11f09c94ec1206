"""One call, several models: each gets it, and the answers become one message."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from tests.support.client import Client, Metadata, answer, example, refused
from tests.support.mesh import RuntimeProcess


@pytest.fixture
def models(client: Client, model: str) -> list[str]:
    names = [f"{model}-{number}" for number in range(3)]
    for name in names:
        client.register(name)
    return names


def named(models: list[str], *more: tuple[str, str | bytes], header: str = "mm-model-id") -> Metadata:
    return (*((header, name) for name in models), *more)


def merged(client: Client, metadata: Metadata, text: str = "hi") -> dict[str, str]:
    got = client.predictor.multiPredict(example.MultiPredictRequest(text=text), metadata=metadata, timeout=30)
    return {name: item.results[0].category for name, item in got.predictions.items()}


def test_the_answers_of_all_models_are_merged(client: Client, models: list[str]) -> None:
    assert merged(client, named(models)) == {name: answer(name, "hi") for name in models}


def test_repeated_fields_are_concatenated_in_the_order_of_the_headers(client: Client, models: list[str]) -> None:
    for order in (models, models[::-1]):
        got = client.predictor.predict(example.PredictRequest(text="x"), metadata=named(order), timeout=30)
        assert [item.category for item in got.results if item.category] == [answer(name, "x") for name in order]


def test_unknown_models_are_left_out(client: Client, models: list[str], model: str) -> None:
    assert set(merged(client, named([*models, f"{model}-unknown"]))) == set(models)


@pytest.mark.parametrize("value", ["all", "ALL", "All"])
def test_unknown_models_fail_the_call_if_all_are_required(client: Client, models: list[str], model: str, value: str) -> None:
    with refused(StatusCode.NOT_FOUND):
        merged(client, named([*models, f"{model}-unknown"], ("mm-required", value)))
    assert set(merged(client, named(models, ("mm-required", value)))) == set(models)


def test_a_call_for_unknown_models_only_says_so(client: Client, model: str) -> None:
    with refused(StatusCode.NOT_FOUND, exactly="none of the requested models were found"):
        merged(client, named([f"{model}-x", f"{model}-y"]))


def test_any_other_failure_fails_the_call(client: Client, models: list[str], model: str) -> None:
    client.register(f"{model}-broken", "FAILALWAYS_broken")
    with refused(StatusCode.INTERNAL, "broken"):
        merged(client, named([*models, f"{model}-broken"]))


def test_aliases_can_be_named_too(client: Client, models: list[str]) -> None:
    for name in models:
        client.set_alias(f"alias-of-{name}", name)
    got = merged(client, named([f"alias-of-{name}" for name in models], header="mm-vmodel-id"))
    assert got == {name: answer(name, "hi") for name in models}


def test_an_empty_name_among_them_is_refused(client: Client, models: list[str]) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly="provided model-id header must be non-empty"):
        merged(client, named([*models, ""]))


def test_four_parts_run_at_a_time(client: Client, runtime: RuntimeProcess, model: str) -> None:
    names = [client.loaded(f"{model}-{number}") for number in range(7)]
    with runtime.holding(*(f"call:{name}" for name in names)):
        request = example.MultiPredictRequest(text="test:hold")
        call = client.predictor.multiPredict.future(request, metadata=named(names), timeout=30)
        for name in names[:4]:
            runtime.awaited("hold", name)
    assert len(call.result().predictions) == 7
    running = most = 0
    for line in runtime.journal():
        if line["call"] == "multiPredict" and line["model"] in names:
            running += 1 if line["at"] == "start" else -1
            most = max(most, running)
    assert most == 4
