"""Records of one shape are kept as the words in which they differ: each comes back as it was, and none is taken for what it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.store.etcd import shapes
from mesh.store.etcd.layout import MODELS, STAMP, encode
from mesh.store.etcd.shapes import Shapes
from mesh.store.etcd.tables import ModelTable

WORDS = st.sampled_from(
    ["", "team-1", "team-2", "classifier-0123", "%s", "\\", '"', "ä", "\u2028", "a b", "1234567890123", "x.y_z", "{}", "\n"]
)
VALUES = st.one_of(
    st.lists(WORDS, max_size=4).map("/".join),
    st.builds(lambda part, word: orjson.dumps({part: word}).decode(), WORDS, WORDS),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(10**9, 10**16),
    st.booleans(),
)
SPACES = st.sampled_from(["", "", " ", "\n\t"])


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Flat JSON objects, spaced oddly, some with a field twice."""
    fields = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "c%d", 'd"', "1234567890"]), VALUES), max_size=5))
    space = draw(SPACES)
    parts = [f"{orjson.dumps(name).decode()}{space}:{space}{orjson.dumps(value).decode()}" for name, value in fields]
    return ("{" + f"{space},{space}".join(parts) + "}").encode()


INFOS = st.builds(
    ModelInfo,
    st.sampled_from(["mt:sklearn", "mt:onnx:1"]),
    st.sampled_from(["a/b", "a/c", "team/c", "%d"]),
    st.sampled_from(['{"bucket":"b"}', '{"bucket":"c"}', '{"\\\\u00e9":"c"}', "1234567890123"]),
)
RECORDS = st.builds(
    ModelRecord,
    INFOS,
    refs=st.sampled_from([0, 1, 1, 2, 10**10]),
    auto_delete=st.booleans(),
    last_used=st.sampled_from([0, 5, 1795450696464, 1795450696465, 10**16, 2**60]).map(Millis),
    unknown=st.sampled_from([{}, {}, {}, {"new": "a"}]),
)


@pytest.fixture(autouse=True)
def _bounds_as_they_were() -> Iterator[None]:
    bounds = {name: getattr(shapes, name) for name in ("TRIED", "REMEMBERED", "MOST", "LOOKS")}
    yield
    for name, value in bounds.items():
        setattr(shapes, name, value)


@given(st.lists(objects(), max_size=30), st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 30))
def test_what_was_packed_comes_back_to_the_byte(texts: list[bytes], tried: int, remembered: int, most: int, looks: int) -> None:
    shapes.TRIED, shapes.REMEMBERED, shapes.MOST, shapes.LOOKS = tried, remembered, most, looks
    known, packed = Shapes(), list[tuple[bytes, bytes]]()
    for text in texts:
        if (small := known.pack(text)) is None:
            known.learn(text)
            small = known.pack(text)
        if small is not None:
            assert small[0] < most
            packed.append((text, small))
    # What was packed before more was learned does not depend on that.
    assert all(known.unpack(small) == text for text, small in packed)


@given(st.lists(RECORDS, min_size=2, max_size=8), RECORDS, st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=2))
def test_what_has_the_shape_of_plain_records_is_plain(
    learnt: list[ModelRecord], other: ModelRecord, changes: list[tuple[int, bytes]]
) -> None:
    table = ModelTable()
    for number, record in enumerate(learnt):
        table.load(f"{number}", encode(MODELS, record, f"{number}-a"), 1)
    text = encode(MODELS, other, "5-b")
    for at, new in changes:
        at %= len(text)
        text = text[:at] + new + text[at + 1 :]
    if (packed := table.packer.fit(text)) is not None:
        assert table.packer.unpack(packed) == text
        data = orjson.loads(text)
        assert data["refs"] > 0
        fresh = ModelTable()
        assert fresh.load("m", text, 1)
        assert not fresh.noted


def record(number: int, **more: Any) -> bytes:
    info = ModelInfo(
        f"mt:format-{number % 20}", f"team-{number % 7}/model-{number}", f'{{"bucket":"models","path":"team-{number % 7}/{number}"}}'
    )
    return encode(MODELS, ModelRecord(info, refs=1, last_used=Millis(1795450696464 + number), unknown=more), f"{number:x}")


def test_a_few_records_are_enough_to_know_their_shape() -> None:
    known = Shapes()
    missed = 0
    for number in range(1000):
        packed = known.pack(record(number))
        if packed is None:
            missed += 1
            known.learn(record(number))
        else:
            assert len(packed) < 60
            assert known.unpack(packed) == record(number)
    assert missed < 10


def test_where_no_two_records_have_one_shape_nothing_is_looked_at_for_ever() -> None:
    shapes.LOOKS = 50
    known = Shapes()
    for number in range(100):
        known.learn(record(number, **{f"field-{number}": 1}))
        assert known.pack(record(number, **{f"field-{number}": 1})) is None
    known.learn(record(1))
    known.learn(record(2))
    assert known.pack(record(1)) is None


def test_nothing_is_learned_of_a_text_so_long_that_it_would_hold_everything_up() -> None:
    known = Shapes()
    for number in range(3):
        known.learn(record(number, long="a" * shapes.LONGEST))
    assert known.pack(record(1, long="a" * shapes.LONGEST)) is None


def test_a_shape_that_was_crowded_out_is_tried_again_when_it_comes_again() -> None:
    shapes.TRIED = 1
    known = Shapes()
    one, other = [record(number) for number in (1, 2)], [record(number, z="a") for number in (1, 2)]
    for text in (*one, *other):
        known.learn(text)
    assert known.pack(one[0]) is None
    first = known.pack(other[0])
    known.learn(one[0])
    assert first is not None
    assert known.pack(one[0]) is not None
    assert known.unpack(first) == other[0]


def test_a_stamp_that_is_no_text_makes_no_shape() -> None:
    table = ModelTable()
    for number in range(5):
        text = orjson.dumps({"type": "t", "refs": 1, STAMP: {"type": f"{number}"}})
        assert table.load(f"{number}", text, 1)
        assert table.packer.fit(text) is None
        assert table[f"{number}"] == ModelRecord(ModelInfo("t"), refs=1)
