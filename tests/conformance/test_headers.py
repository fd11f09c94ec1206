"""Which metadata name the model, which travel to the runtime, and which come back."""

from __future__ import annotations

import grpc
import pytest
from grpc import StatusCode

from tests.support.client import Client, answer, example, refused, to


def seen(client: Client, model: str, *metadata: tuple[str, str | bytes]) -> dict[str, list[bytes]]:
    """The metadata that reached the runtime."""
    found: dict[str, list[bytes]] = {}
    for item in client.predict(model, "test:metadata", metadata=metadata).headers:
        found.setdefault(item.name, []).append(item.value)
    return found


def test_a_call_must_name_a_model(client: Client) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly="must include mm-model-id header"):
        client.predict("")


def test_a_call_must_not_name_a_model_and_an_alias(client: Client, model: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly="must include only one of model id and vmodel id"):
        client.predict(model, metadata=(("mm-vmodel-id", "v"),))


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("mm-model-id", "", "provided model-id header must be non-empty"),
        ("mm-model-id-bin", b"", "provided model-id header must be non-empty"),
        ("mm-vmodel-id", "", "provided vmodel-id header must be non-empty"),
        ("mm-vmodel-id-bin", b"", "provided vmodel-id header must be non-empty"),
    ],
)
def test_a_name_must_not_be_empty(client: Client, name: str, value: str | bytes, text: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly=text):
        client.predict("", metadata=((name, value),))


def test_a_binary_name_must_be_text(client: Client) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "mm-model-id-bin"):
        client.predict("", metadata=(("mm-model-id-bin", b"\xff\xfe"),))


def test_a_name_beyond_ascii_travels_in_the_binary_header(client: Client) -> None:
    name = "modèle-模型"
    client.register(name)
    headers = seen(client, "", ("mm-model-id-bin", name.encode()))
    assert headers["mm-model-id-bin"] == [name.encode()]
    assert "mm-model-id" not in headers
    client.set_alias("ältere", name)
    assert client.said("", metadata=(("mm-vmodel-id-bin", "ältere".encode()),)) == answer(name)


def test_the_binary_header_counts_only_without_the_plain_one(client: Client, model: str) -> None:
    client.register(model)
    headers = seen(client, model, ("mm-model-id-bin", b"another"))
    assert headers["mm-model-id"] == [model.encode()]
    assert headers["mm-model-id-bin"] == [model.encode()]


def test_the_runtime_sees_the_concrete_id_of_an_alias(client: Client, model: str) -> None:
    client.register(model)
    client.set_alias(f"{model}-alias", model)
    headers = seen(client, "", ("mm-vmodel-id", f"{model}-alias"))
    assert headers["mm-model-id"] == headers["mm-model-id-bin"] == [model.encode()]
    assert not [name for name in headers if name.startswith("mm-vmodel")]


def test_the_caller_s_own_metadata_reach_the_runtime(client: Client, model: str) -> None:
    client.register(model)
    sent: tuple[tuple[str, str | bytes], ...] = (
        ("authorization", "Bearer abc"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "7"),
        ("x", "short"),
        ("x-many", "one"),
        ("x-many", "two"),
        ("x-data-bin", b"\x00\x01\xff"),
    )
    headers = seen(client, model, *sent)
    for name, _ in sent:
        wanted = [value if isinstance(value, bytes) else value.encode() for key, value in sent if key == name]
        assert headers[name] == wanted


def test_what_is_meant_for_the_mesh_stays_there(client: Client, model: str) -> None:
    client.register(model)
    headers = seen(client, model, ("mm-balanced", "true"), ("mm-required", "all"), ("mm-anything", "1"), ("tas-model-id", "x"))
    assert {name for name in headers if name.startswith(("mm-", "tas-"))} == {"mm-model-id", "mm-model-id-bin"}


def test_the_runtime_s_metadata_come_back(client: Client, model: str) -> None:
    client.register(model)
    answered, call = client.predictor.predict.with_call(example.PredictRequest(text="x"), metadata=to(model), timeout=20)
    assert answered.results[0].category == answer(model, "x")
    headers = dict(call.initial_metadata())
    assert (headers["x-runtime"], headers["x-runtime-bin"]) == ("example", b"\xff\x00")
    assert dict(call.trailing_metadata())["x-runtime-trailer"] == model.encode().hex()


def test_a_large_request_and_a_large_answer_pass(client: Client, model: str) -> None:
    client.register(model)
    text = "x" * (2 << 20)
    assert client.said(model, text) == answer(model, text)
    assert len(client.predict(model, "test:fill:3000000").request) == 3_000_000


def test_a_request_passes_byte_for_byte(client: Client, model: str) -> None:
    client.register(model)
    # Field 99, unknown to every contract, before the known ones.
    payload = b"\x98\x06\x07" + example.PredictRequest(text="test:bytes").SerializeToString()
    got = example.PredictResponse.FromString(client.raw("mmesh.ExamplePredictor/predict", payload, to(model)))
    assert sorted(got.request) == sorted(payload)


def test_balanced_calls_are_served_too(client: Client, model: str) -> None:
    client.register(model)
    for value in ("true", "false", "maybe"):
        assert client.said(model, metadata=(("mm-balanced", value),)) == answer(model)


def test_a_compressed_request_is_understood(client: Client, model: str) -> None:
    client.register(model)
    request = example.PredictRequest(text="y" * 10_000)
    got = client.predictor.predict(request, metadata=to(model), timeout=20, compression=grpc.Compression.Gzip)
    assert got.results[0].category == answer(model, request.text)
