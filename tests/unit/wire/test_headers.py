"""Headers name models; what travels on is everything but the mesh's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.ids import ModelId
from mesh.wire.call import Metadata, Target
from mesh.wire.headers import balanced, from_runtime, target_of, to_runtime

DIGITS = ModelId("digits")


def target(models: tuple[str, ...] = (), aliases: tuple[str, ...] = (), every: bool = False) -> Target:
    return Target(models=models, aliases=aliases, all_required=every)  # type: ignore[arg-type]


# What a call names


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), None),
        ((("authorization", "x"), ("mm-required", "all"), ("mm-balanced", "true")), None),
        ((("mm-model-id", "a"),), target(("a",))),
        ((("mm-model-id-bin", "модель".encode()),), target(("модель",))),
        ((("mm-model-id-bin", b"b"), ("mm-model-id", "a")), target(("a",))),
        ((("mm-vmodel-id", "a"),), target((), ("a",))),
        ((("mm-vmodel-id-bin", "模型".encode()),), target((), ("模型",))),
        ((("mm-vmodel-id-bin", b"b"), ("mm-vmodel-id", "a")), target((), ("a",))),
        ((("tas-model-id", "old"),), target(("old",))),
        ((("tas-model-id", "old"), ("mm-model-id", "a")), target(("a",))),
        ((("tas-model-id", "old"), ("mm-model-id-bin", b"a")), target(("a",))),
        ((("tas-model-id", "old"), ("mm-vmodel-id", "a")), target((), ("a",))),
        ((("mm-model-id", "a"), ("x", "y"), ("mm-model-id", "b"), ("mm-model-id", "a")), target(("a", "b", "a"))),
        ((("mm-vmodel-id-bin", b"a"), ("mm-vmodel-id-bin", b"b")), target((), ("a", "b"))),
        ((("mm-model-id", "a"), ("mm-required", "ALL"), ("mm-model-id", "b")), target(("a", "b"), (), True)),
        ((("mm-required", "any"), ("mm-model-id", "a")), target(("a",))),
    ],
)
def test_headers_name_models_or_aliases(metadata: Metadata, expected: Target | None) -> None:
    assert target_of(metadata) == expected


@pytest.mark.parametrize("model", ["mm-model-id", "mm-model-id-bin"])
@pytest.mark.parametrize("alias", ["mm-vmodel-id", "mm-vmodel-id-bin"])
def test_models_and_aliases_together_are_refused(model: str, alias: str) -> None:
    with pytest.raises(Malformed, match=r"^must include only one of model id and vmodel id$"):
        target_of(tuple((name, b"a" if name.endswith("-bin") else "a") for name in (alias, model)))


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ((("mm-model-id", ""),), "model"),
        ((("mm-model-id-bin", b""),), "model"),
        ((("mm-model-id", "a"), ("mm-model-id", "")), "model"),
        ((("tas-model-id", ""),), "model"),
        ((("mm-vmodel-id", ""),), "vmodel"),
        ((("mm-vmodel-id-bin", b""),), "vmodel"),
    ],
)
def test_an_empty_id_is_refused(metadata: Metadata, kind: str) -> None:
    with pytest.raises(Malformed, match=f"^provided {kind}-id header must be non-empty$"):
        target_of(metadata)


def test_an_id_that_is_not_text_is_refused_by_name() -> None:
    with pytest.raises(Malformed, match=r"^header mm-vmodel-id-bin is not UTF-8 at byte 1; send the id as UTF-8$"):
        target_of((("mm-vmodel-id-bin", b"a\xff"),))


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("True", False), ("1", False), ("false", False), ("", False)])
def test_only_true_means_that_the_caller_balances(value: str, expected: bool) -> None:
    assert balanced((("x", "true"), ("mm-balanced", value))) is expected


def test_without_the_header_nobody_balances() -> None:
    assert balanced((("x", "true"),)) is False


# What travels on

OWN: Metadata = (
    ("mm-model-id", "alias"),
    ("mm-anything", "x"),
    ("grpc-timeout", "1S"),
    ("tas-model-id", "x"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python"),
    ("te", "trailers"),
)
OTHERS: Metadata = (
    ("mm", "short names pass"),
    ("m", "1"),
    ("traceparent", "00-1-2-03"),
    ("x-data-bin", b"\x00\xff"),
    ("x-twice", "1"),
    ("x-twice", "2"),
)


def test_the_runtime_gets_the_callers_headers_and_the_concrete_model() -> None:
    mixed = OTHERS[:2] + OWN + OTHERS[2:]
    assert to_runtime(mixed, DIGITS) == (*OTHERS, ("mm-model-id-bin", b"digits"), ("mm-model-id", "digits"))


@pytest.mark.parametrize("model", ["модель", "a\x7f", "a\n", "a\x00", "é"])
def test_a_model_that_is_not_plain_ascii_is_named_in_the_binary_header_only(model: str) -> None:
    assert to_runtime((), ModelId(model)) == (("mm-model-id-bin", model.encode()),)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_a_model_of_plain_ascii_is_named_in_both(model: str) -> None:
    assert to_runtime((), ModelId(model)) == (("mm-model-id-bin", model.encode()), ("mm-model-id", model))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_runtime_finds_the_model_that_the_mesh_named(model: str) -> None:
    assert target_of(to_runtime(OWN, ModelId(model))) == target((model,))


def test_the_caller_gets_the_runtimes_headers_without_the_reserved_ones() -> None:
    assert from_runtime(OWN + OTHERS) == OTHERS
