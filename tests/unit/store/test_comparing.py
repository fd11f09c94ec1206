"""A first reading keeps plain records a portion at a time, and tells of all others; later ones tell what differs."""

from __future__ import annotations

import pytest
from aetcd import rpc

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.store.etcd.comparing import PORTION, Comparison
from mesh.store.etcd.layout import ALIASES, INSTANCES, MODELS, Layout, encode, end_of
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.reading import Page

LAYOUT = Layout("", "mm", "mesh")
MANY = 2 * PORTION + 7


def model(number: int) -> ModelRecord:
    return ModelRecord(ModelInfo("mt:onnx", f"team/model-{number}"), refs=1)


def stored() -> dict[bytes, bytes]:
    """As etcd has them: models and the alias of each."""
    names = [(f"model-{number:05}", number) for number in range(MANY)]
    models = {LAYOUT.key(MODELS, name): encode(MODELS, model(number), f"{number}-a") for name, number in names}
    aliases = {
        LAYOUT.key(ALIASES, f"alias-{name}"): encode(ALIASES, AliasRecord(ModelId(name), ModelId(name), "isvc"), "5-a") for name, _ in names
    }
    return models | aliases


def page(records: dict[bytes, bytes]) -> Page:
    kvs = [rpc.KeyValue(key=key, value=records[key], mod_revision=5, create_revision=5) for key in sorted(records)]
    return Page(9, 1, LAYOUT.base, end_of(LAYOUT.base), kvs)


def told(comparison: Comparison, records: dict[bytes, bytes]) -> list[bytes]:
    return [raw.key for portion in comparison.compare(page(records)) for raw in portion]


def test_a_first_reading_keeps_what_is_plain_and_tells_nobody() -> None:
    mirror, records = Mirror(), stored()
    assert told(Comparison(LAYOUT, mirror, first=True), records) == []
    models, aliases = mirror.tables[MODELS.name], mirror.tables[ALIASES.name]
    assert dict(models) == {f"model-{number:05}": model(number) for number in range(MANY)}
    assert aliases[AliasId("alias-model-00003")] == AliasRecord(ModelId("model-00003"), ModelId("model-00003"), "isvc")
    assert len(aliases) == MANY
    assert set(mirror.known(LAYOUT, LAYOUT.base, end_of(LAYOUT.base))) == {(key, 5) for key in records}


@pytest.mark.parametrize("first", [b"", b"00", b"zz"], ids=["in all places", "first", "last"])
def test_what_is_not_plain_is_read_whole(first: bytes) -> None:
    odd = {
        LAYOUT.key(MODELS, "") + first + b"\xff": b"{}",
        LAYOUT.key(MODELS, ""): b"{}",
        LAYOUT.key(MODELS, "model-00010"): b'{"type":"mt:onnx","mPath":"m","instanceIds":{"pod":5}}',
        LAYOUT.key(ALIASES, "alias-model-00011"): b"{",
        LAYOUT.key(INSTANCES, "pod"): b"{}",
        LAYOUT.base + b"else": b"5",
    }
    mirror, records = Mirror(), stored() | odd
    assert set(told(Comparison(LAYOUT, mirror, first=True), records)) == set(odd)
    assert len(mirror.tables[MODELS.name]) == MANY - 1
    assert len(mirror.tables[ALIASES.name]) == MANY - 1


def test_a_later_reading_tells_what_differs() -> None:
    mirror, records = Mirror(), stored()
    told(Comparison(LAYOUT, mirror, first=True), records)
    again = Comparison(LAYOUT, mirror, first=False)
    key, gone = LAYOUT.key(MODELS, "model-00003"), LAYOUT.key(ALIASES, "alias-model-00004")
    del records[gone]
    found = page(records)
    for kv in found.kvs:
        if kv.key == key:
            kv.value, kv.mod_revision = encode(MODELS, model(3).with_(refs=2), "6-a"), 6
    assert [raw for portion in again.compare(found) for raw in portion] == []
    assert [raw.key for portion in again.news for raw in portion] == [key]
    assert again.gone == [gone]
