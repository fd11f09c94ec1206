"""Records that cannot be read harm no others and are left alone; keys of others are none of ours; parameters are plain text."""

from __future__ import annotations

import pytest

from mesh.core.errors import Failed
from mesh.core.ids import ModelId
from mesh.core.registry.edits import DeleteModel
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd
from tests.unit.store.edits import Witness, create
from tests.unit.store.stores import eventually

A, B = ModelId("a"), ModelId("b")


@pytest.mark.parametrize("value", ["{", "[]", "null", '{"refs": "many"}', '{"instanceIds": 3}', "", '"text"'])
async def test_a_malformed_record_is_passed_over_and_left_alone(etcd: Etcd, opener: Opener, service: str, value: str) -> None:
    registry = await opener(etcd.address)
    await registry.change(create("good"))
    key = f"/mm/{service}/registry/bad"
    etcd.ctl("put", key, value)
    await registry.change(create("later"))
    fresh = await opener(etcd.address)
    for one in (registry, fresh):
        assert set(one.models) == {"good", "later"}
        for edit in (create("bad"), DeleteModel(ModelId("bad"))):
            refusal = await one.change(edit)
            assert isinstance(refusal, Failed)
            assert key in refusal.message
            assert "mend or delete it" in refusal.message
    assert etcd.get(key) == value
    etcd.ctl("put", key, '{"type":"onnx"}')
    await eventually(lambda: set(registry.models) == {"good", "later", "bad"})
    assert await registry.change(DeleteModel(ModelId("bad"))) is None


async def test_a_record_that_turns_malformed_stays_as_it_was_known(etcd: Etcd, opener: Opener, service: str) -> None:
    registry = await opener(etcd.address)
    await registry.change(create("a"))
    witness = Witness(registry)
    etcd.ctl("put", f"/mm/{service}/registry/a", "{")
    await registry.change(create("b"))
    assert registry.models[A].info == create("a").info
    assert [name for name, _ in witness.told] == ["b"]
    etcd.ctl("del", f"/mm/{service}/registry/a")
    await eventually(lambda: witness.of("a") == [None])


async def test_keys_of_others_are_none_of_ours(etcd: Etcd, opener: Opener, service: str) -> None:
    etcd.ctl("put", f"/mm/{service}/leaderLatch/_abc", "_abc")
    etcd.ctl("put", f"/mm/{service}x/registry/a", "{}")
    etcd.ctl("put", f"/litelinks/{service}/10.0.0.1_8080_1", "{}")
    registry = await opener(etcd.address)
    assert not registry.models
    assert not registry.instances


async def test_parameters_are_text_that_operators_change(etcd: Etcd, opener: Opener, service: str) -> None:
    etcd.ctl("put", f"/mm/{service}/config/logger_level", "DEBUG")
    registry = await opener(etcd.address)
    told: list[tuple[str, str | None]] = []
    registry.listen_to_parameters(lambda name, value: told.append((name, value)))
    assert registry.parameters == {"logger_level": "DEBUG"}
    etcd.ctl("put", f"/mm/{service}/config/disable", "true")
    etcd.ctl("del", f"/mm/{service}/config/logger_level")
    await eventually(lambda: registry.parameters == {"disable": "true"})
    assert told == [("disable", "true"), ("logger_level", None)]
