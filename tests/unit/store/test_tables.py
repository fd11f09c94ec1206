"""Records that are kept packed are the same as those of a dictionary, whatever comes and goes, and however they came."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.records import AliasRecord, Bounds, ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.store.etcd import packing
from mesh.store.etcd.layout import ALIASES, MODELS, Table, decode, encode
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.packing import Packer
from mesh.store.etcd.tables import AliasTable, ModelTable
from mesh.store.tables import RECENT, RecordTable, in_order, is_noted, noted

NAMES = st.sampled_from(["a", "b", "ä", "model-\U0001f600", "x" * 40])
MODEL_RECORDS = st.builds(
    ModelRecord,
    st.builds(ModelInfo, st.text(min_size=1, max_size=5), st.text(max_size=9), st.text(max_size=30)),
    copies=st.dictionaries(st.just(PodId("pod")), st.just(Millis(5))),
    refs=st.integers(0, 2),
    auto_delete=st.booleans(),
    last_used=st.integers(0, 2**50).map(Millis),
    unknown=st.dictionaries(st.just("more"), st.integers(0, 100)),
)
IDS = st.sampled_from(["m", "n"]).map(ModelId)
ALIAS_RECORDS = st.builds(
    AliasRecord, IDS, IDS, st.sampled_from(["", "isvc", "ksp"]), failed=st.booleans(), bounds=st.sampled_from([Bounds(), Bounds(1)])
)
STEPS = st.sampled_from(["put", "put with text", "load", "remove", "aside", "forget", "same"])


def tables() -> list[tuple[Table, RecordTable]]:
    return [(MODELS, ModelTable()), (ALIASES, AliasTable(lambda model: model))]


@given(st.data())
@pytest.mark.parametrize("kind", [0, 1])
def test_a_table_equals_a_dictionary(kind: int, data: st.DataObject) -> None:
    layout, table = tables()[kind]
    plain: dict[str, tuple[object, int]] = {}
    aside: dict[str, int] = {}
    for revision in range(1, data.draw(st.integers(1, 15))):
        step, name, record = data.draw(STEPS), data.draw(NAMES), data.draw([MODEL_RECORDS, ALIAS_RECORDS][kind])
        text = encode(layout, record, f"{revision}")
        match step:
            case "put" | "put with text":
                table.put(name, record, revision, text if step == "put with text" else None)
                plain[name] = (record, revision)
                aside.pop(name, None)
            case "load" if name not in plain and name not in aside:
                if table.load(name, text, revision):
                    plain[name] = (record, revision)
            case "remove":
                table.remove(name)
                plain.pop(name, None)
                aside.pop(name, None)
            case "aside":
                table.put_aside(name, revision, "cannot be read")
                aside[name] = revision
            case "forget":
                table.forget_revisions()
                plain = {name: (known, 0) for name, (known, _) in plain.items()}
                aside = dict.fromkeys(aside, 0)
            case "same" if name in plain and table.same(name, text, revision):
                assert plain[name][0] == record
                plain[name] = (record, revision)
    assert dict(table) == {name: record for name, (record, _) in plain.items()}
    assert list(table) == sorted(plain)
    assert set(table.noted) == {name for name, (record, _) in plain.items() if is_noted(record)}
    assert dict(noted(table)) == {name: record for name, (record, _) in plain.items() if is_noted(record)}
    revisions = {name: revision for name, (_, revision) in plain.items()} | aside
    assert dict(table.revisions()) == revisions
    assert all(table.all_revisions().of(name) == revision for name, revision in revisions.items())
    for name in ("a", "b", "none"):
        known = table.known(name)
        assert (known.record, known.revision) == (plain.get(name, (None, 0))[0], revisions.get(name, 0))
        assert bool(known.fault) == (name in aside)
        assert (name in table) == (name in plain)


@given(st.data())
@pytest.mark.parametrize("kind", [0, 1])
def test_to_load_many_at_once_is_to_load_each(kind: int, data: st.DataObject) -> None:
    (layout, at_once), (_, each) = tables()[kind], tables()[kind]
    for revision in range(1, data.draw(st.integers(1, 5))):
        records = data.draw(st.dictionaries(NAMES, [MODEL_RECORDS, ALIAS_RECORDS][kind]))
        names = sorted(records)
        texts = [encode(layout, records[name], data.draw(st.sampled_from(["", "a-1", "ä"]))) for name in names]
        left = [at for at, name in enumerate(names) if not each.load(name, texts[at], revision)]
        assert at_once.load_all(list(names), list(texts), [revision] * len(names)) == left
        assert dict(at_once) == dict(each)
        assert list(at_once.revisions()) == list(each.revisions())
        assert at_once.noted == each.noted


def test_a_table_without_a_shorter_way_loads_nothing() -> None:
    assert RecordTable().load_all(["a", "b"], [b"{}", b"{}"], [1, 2]) == [0, 1]


def test_an_alias_that_points_at_a_model_shares_its_id() -> None:
    mirror = Mirror()
    models, aliases = mirror.tables[MODELS.name], mirror.tables[ALIASES.name]
    model = ModelId("a-model")
    models.put(model, ModelRecord(ModelInfo("t"), refs=1), 1)
    for number in range(3):
        text = b'{"o":"isvc","amid":"a-model","tmid":"a-model"}'
        assert aliases.load(f"alias-{number}", text, 2)
        entry = aliases.names.find(f"alias-{number}")
        kept = models.names.find("a-model")
        assert entry is not None
        assert kept is not None
        assert entry.value is kept.name
    assert aliases[AliasId("alias-1")] == AliasRecord(model, model, "isvc")
    assert not aliases.load("other", b'{"o":"ksp","amid":"a-model","tmid":"a-model"}', 3)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"nonsense", b'{"refs":"1"}', b'{"type":5}', b'{"lu":1.5}', b'{"autoDel":1}', b'{"instanceIds":{"pod":5}}', b'{"new":1}'],
)
def test_what_is_not_plain_is_left_to_who_reads_it_whole(text: bytes) -> None:
    table = ModelTable()
    assert not table.load("m", text, 1)
    assert dict(table) == {}


def test_records_in_use_are_read_once_and_others_forgotten() -> None:
    table = ModelTable()
    for number in range(RECENT + 10):
        table.put(f"{number:05}", ModelRecord(ModelInfo("t", f"{number}")), 1)
    assert table["00000"] is table["00000"]
    assert [record.info.path for record in table.values()][-1] == f"{RECENT + 9}"
    assert len(table._recent) <= RECENT
    table.put("00001", ModelRecord(ModelInfo("t", "new")), 2)
    assert table["00001"].info.path == "new"
    with pytest.raises(KeyError):
        table["none"]
    assert table.get("none", 5) == 5


def test_a_mirror_that_is_a_dictionary_has_an_order_and_noted_records_too() -> None:
    plain = {"b": ModelRecord(ModelInfo("t"), refs=1), "a": ModelRecord(ModelInfo("t"))}
    assert in_order(plain).after("") == ["a", "b"]
    assert [name for name, _ in noted(plain)] == ["a"]


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(1, 5))
def test_what_was_packed_is_unpacked(texts: list[bytes], look: int) -> None:
    before = packing.LOOK
    packing.LOOK = look
    try:
        packer = Packer()
        packed = [packer.pack(text) for text in texts]
        assert [packer.unpack(one) for one in packed] == texts
    finally:
        packing.LOOK = before


def test_records_of_a_kind_become_small_even_if_nobody_knew_the_kind() -> None:
    rng = random.Random(1)
    words = [f"{rng.getrandbits(100):x}" for _ in range(8)]
    packer = Packer()

    def text(number: int) -> bytes:
        fields = {word: word[::-1] for word in words}
        return orjson.dumps({**fields, "own": f"{rng.randrange(10**9)}-{number}"})

    sizes = [len(packer.pack(text(number))) for number in range(2000)]
    assert sizes[0] > 200
    assert max(sizes[-100:]) < 80
    assert decode(MODELS, packer.unpack(packer.pack(b"{}"))) == ModelRecord(ModelInfo("NLCLASSIFIER"))
