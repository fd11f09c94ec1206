"""Whatever JSON arrives: it is understood or refused with a reason, never an unexpected error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.doors.rest import binary, inference, tensors
from mesh.doors.rest.body_proto import CONTENTS
from mesh.doors.rest.body_v2 import Reply
from mesh.doors.rest.errors import BadAnswer
from mesh.doors.rest.parameters import CHOICES

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["x", "NaN", "QQ==", "1", "base64", *tensors.TABLE])
)
KEYS = st.sampled_from(
    [
        *("id", "inputs", "outputs", "name", "datatype", "shape", "data", "parameters", "contents", "rawInputContents", "content_type"),
        *(*CONTENTS, *CONTENTS.values(), *CHOICES.values(), binary.SIZE, binary.WANTED, binary.WANTED_ALL),
    ]
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)
TENSOR = st.fixed_dictionaries(
    {"name": st.just("x") | ANYTHING, "datatype": st.sampled_from(list(tensors.TABLE)) | ANYTHING},
    optional={
        "shape": st.lists(st.integers(0, 3), max_size=3) | ANYTHING,
        "data": st.lists(SCALARS, max_size=4) | ANYTHING,
        "parameters": st.dictionaries(KEYS, ANYTHING, max_size=2) | ANYTHING,
        "contents": st.dictionaries(KEYS, st.lists(SCALARS, max_size=3) | ANYTHING, max_size=2) | ANYTHING,
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | ANYTHING},
    optional={"id": ANYTHING, "outputs": st.lists(TENSOR, max_size=2) | ANYTHING, "parameters": ANYTHING, "rawInputContents": ANYTHING},
)


@settings(max_examples=400)
@given(REQUEST | ANYTHING, st.binary(max_size=8))
def test_any_document_is_read_or_refused(document: Any, tail: bytes) -> None:
    # Any other exception fails the test.
    with contextlib.suppress(Malformed):
        message, _ = inference.decode(json.dumps(document).encode(), binary.Tail(tail))
        assert all(len(item.name) for item in message.inputs)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        inference.decode(body, binary.Tail())


@given(st.binary(max_size=100), st.booleans())
def test_any_answer_of_a_runtime_is_written_or_named_bad(payload: bytes, proto: bool) -> None:
    with contextlib.suppress(BadAnswer):
        text, _ = inference.encode(payload, None if proto else Reply())
        assert isinstance(json.loads(text), dict)
