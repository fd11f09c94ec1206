"""Pods that change the same records lose no update, and an answer of etcd that is lost costs neither an update nor a second one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import DeleteAlias, SetAlias
from mesh.core.registry.edits import AddCopy, DeleteModel, Edit, Transaction
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.units import Millis
from mesh.store.etcd import EtcdRegistry
from mesh.store.etcd import registry as module
from mesh.store.etcd.layout import MODELS
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.integration.etcd.test_following import compact
from tests.support.waiting import until_async
from tests.unit.store.edits import INFO, Count, CountIfFewer, create
from tests.unit.store.stores import eventually

A, B = ModelId("a"), ModelId("b")


@dataclass
class Pair:
    """Two pods: one behind a way that can fail, one that has none of its trouble."""

    troubled: EtcdRegistry
    other: EtcdRegistry
    way: Way


async def pair(etcd: Etcd, opener: Opener, way: Way, *models: str) -> Pair:
    two = Pair(await opener(f"127.0.0.1:{way.port}"), await opener(etcd.address), way)
    for model in models:
        await two.other.change(create(model))
    await eventually(lambda: len(two.troubled.models) == len(models))
    return two


async def test_two_pods_that_count_in_one_record_lose_nothing(etcd: Etcd, opener: Opener) -> None:
    pods = [await opener(etcd.address) for _ in range(2)]
    await pods[0].change(create("a"))
    await eventually(lambda: A in pods[1].models)
    edits = [Count("a") for _ in range(100)]
    await asyncio.gather(*(pods[number % 2].change(edit) for number, edit in enumerate(edits)))
    for pod in pods:
        await eventually(lambda pod=pod: pod.models[A].refs == 100)  # type: ignore[misc] # default
    assert sum(edit.attempts for edit in edits) > 100, "nobody met anybody"


async def test_what_one_pod_only_read_must_hold_against_another(etcd: Etcd, opener: Opener) -> None:
    pods = [await opener(etcd.address) for _ in range(2)]
    for model in "ab":
        await pods[0].change(create(model))
    await eventually(lambda: len(pods[1].models) == 2)
    edits = [CountIfFewer(*names, limit=7) for _ in range(15) for names in (("a", "b"), ("b", "a"))]
    await asyncio.gather(*(pods[number % 2].change(edit) for number, edit in enumerate(edits)))
    await eventually(lambda: pods[0].models == pods[1].models)
    assert pods[0].models[A].refs + pods[0].models[B].refs == 7


async def test_a_refusal_is_never_given_on_what_is_out_of_date(etcd: Etcd, opener: Opener) -> None:
    first, late = await opener(etcd.address), await opener(etcd.address)
    for number in range(30):
        name = f"model-{number}"
        await first.change(create(name))
        # Whether or not its mirror has the model by now.
        assert await late.change(AddCopy(ModelId(name), PodId("pod"), Millis(1), Millis(1))) is None
        assert PodId("pod") in late.models[ModelId(name)].copies


async def test_a_write_whose_answer_is_lost_counts_once(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        two = await pair(etcd, opener, way, "a")
        way.lose("answers")
        edit = Count("a")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: two.other.models[A].refs == 1, "it arrives")
        way.reopen()
        way.cut()
        assert await writing is None
        assert (edit.attempts, two.troubled.models[A].refs, two.other.models[A].refs) == (1, 1, 1)


async def test_a_write_whose_answer_is_lost_counts_once_even_if_others_wrote_after_it(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        two = await pair(etcd, opener, way, "a")
        way.lose("answers")
        edit = Count("a")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: two.other.models[A].refs == 1, "it arrives")
        for _ in range(3):
            await two.other.change(Count("a"))
        way.reopen()
        way.cut()
        assert await writing is None
        assert edit.attempts == 1
        await eventually(lambda: two.troubled.models == two.other.models)
        assert two.other.models[A].refs == 4


async def test_a_write_of_which_etcd_has_forgotten_whether_it_arrived_is_not_made_again(own_etcd: Etcd, opener: Opener) -> None:
    async with Way(own_etcd.port) as way:
        two = await pair(own_etcd, opener, way, "a")
        way.lose("answers")
        edit = Count("a")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: two.other.models[A].refs == 1, "it arrives")
        await two.other.change(Count("a"))
        compact(own_etcd)
        way.reopen()
        way.cut()
        with pytest.raises(StoreUnavailable, match=r"cannot say any more whether a change of .*/registry/a was written; look at it"):
            await writing
        assert (edit.attempts, two.other.models[A].refs) == (1, 2)


async def test_a_write_whose_answer_is_lost_is_known_by_its_value_though_etcd_was_compacted(own_etcd: Etcd, opener: Opener) -> None:
    async with Way(own_etcd.port) as way:
        two = await pair(own_etcd, opener, way, "a")
        way.lose("answers")
        edit = Count("a")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: two.other.models[A].refs == 1, "it arrives")
        compact(own_etcd)
        way.reopen()
        way.cut()
        assert await writing is None
        assert (edit.attempts, two.other.models[A].refs) == (1, 1)


async def test_a_write_that_never_arrived_is_not_taken_for_the_equal_one_of_another(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        two = await pair(etcd, opener, way, "a")
        way.lose("questions")
        edit = Count("a")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: edit.attempts == 1)
        await two.other.change(Count("a"))
        way.reopen()
        way.cut()
        assert await writing is None
        assert edit.attempts == 2
        await eventually(lambda: two.troubled.models == two.other.models)
        assert two.other.models[A].refs == 2


@pytest.mark.parametrize(
    ("edit", "left"),
    [(DeleteModel(A), {"b"}), (SetAlias(AliasId("alias"), ModelId("c"), Millis(1), info=INFO), {"a", "b", "c"})],
    ids=["deletion", "several"],
)
async def test_whatever_is_written_may_lose_its_answer(etcd: Etcd, opener: Opener, edit: Edit, left: set[str]) -> None:
    async with Way(etcd.port) as way:
        two = await pair(etcd, opener, way, "a", "b")
        way.lose("answers")
        writing = asyncio.ensure_future(two.troubled.change(edit))
        await eventually(lambda: set(two.other.models) == left, "it arrives")
        way.reopen()
        way.cut()
        assert await writing is None
        assert set(two.troubled.models) == left
        assert two.troubled.aliases == two.other.aliases


async def test_a_change_that_gets_no_answer_in_time_says_so(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        two = await pair(etcd, opener, way, "a")
        way.lose("answers")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await two.troubled.change(Count("a"))
        await eventually(lambda: two.other.models[A].refs == 1, "nothing is known to be written, but it was")
        way.reopen()
        way.cut()
        await eventually(lambda: two.troubled.models[A].refs == 1, "and it is seen")


async def test_a_record_that_etcd_does_not_take_is_refused_with_the_reason(etcd: Etcd, opener: Opener) -> None:
    registry = await opener(etcd.address)
    with pytest.raises(StoreUnavailable, match=r"request is too large; a record is larger than etcd takes"):
        await registry.change(create("large", ModelInfo("sklearn", "path", "x" * 2_000_000)))
    assert await registry.change(create("small")) is None
    assert set(registry.models) == {"small"}


async def fill(registry: EtcdRegistry) -> None:
    """Registers models of 40 MB in all; etcd counts what it has with some delay."""
    for number in range(200):
        await registry.change(create(f"model-{number}", ModelInfo("sklearn", "path", "x" * 200_000)))


async def test_an_etcd_that_is_full_says_what_to_do(environment: Path, tmp_path: Path, opener: Opener) -> None:
    etcd = Etcd(environment, tmp_path, flags=["--quota-backend-bytes=1000000"])
    etcd.start()
    try:
        registry = await opener(etcd.address)
        with pytest.raises(StoreUnavailable, match=r"database space exceeded; compact and defragment it"):
            await fill(registry)
        etcd.ctl("del", registry._layout.key(MODELS, "model-0").decode())
        await eventually(lambda: ModelId("model-0") not in registry.models, "what makes room is still seen")
    finally:
        etcd.kill()


async def test_conflicts_without_end_are_given_up(etcd: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRIES", 3)
    one, other = await opener(etcd.address), await opener(etcd.address)
    await one.change(create("a"))
    await eventually(lambda: A in other.models)

    @dataclass
    class Disturbed:
        """Has somebody change the record between its reading and its writing."""

        disturbances: list[asyncio.Future[MeshError | None]] = field(default_factory=list)

        def apply(self, records: Transaction) -> MeshError | None:
            record = records.model(A)
            assert record is not None
            records.put_model(A, record.with_(refs=100))
            return None

    edit = Disturbed()
    commit = one._writer.commit

    async def disturbed(attempt: object, *, write: bool) -> object:
        await other.change(Count("a"))
        return await commit(attempt, write=write)  # type: ignore[arg-type]

    monkeypatch.setattr(one._writer, "commit", disturbed)
    with pytest.raises(StoreUnavailable, match=r"3 times others changed .*/registry/a first"):
        await one.change(edit)
    assert other.models[A].refs == 3


async def test_the_next_endpoint_is_used_when_one_fails(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as one, Way(etcd.port) as two:
        registry, other = await opener(f"127.0.0.1:{one.port},127.0.0.1:{two.port}"), await opener(etcd.address)

        async def gone() -> bool:
            return B not in registry.models

        assert await registry.change(create("a")) is None
        one.shut()
        assert await registry.change(Count("a")) is None
        await other.change(create("b"))
        await eventually(lambda: B in registry.models, "the watch moved too")
        one.reopen()
        two.shut()
        assert await registry.change(Count("a")) is None
        one.lose("answers")
        two.reopen()
        assert await registry.change(Count("a")) is None, "one that is silent is left as well"
        assert registry.models[A].refs == 3
        await other.change(DeleteModel(B))
        await until_async(gone, "the watch left it too, before the connection is found dead", within=10)


async def test_a_registry_of_modelmesh_is_taken_over_with_what_is_not_known_here(etcd: Etcd, opener: Opener, service: str) -> None:
    java = {
        "type": "mt:sklearn",
        "encKey": '{"storage_key":"s3"}',
        "mPath": "models/mnist",
        "instanceIds": {"abcdef-12345": 1700000000000},
        "failedIn": {"abcdef-54321": 1700000000001},
        "fails": {"abcdef-54321": {"msg": "no such file"}},
        "refs": 1,
        "lu": 1699990000000,
        "future": {"kept": [1, None]},
    }
    alias = {"o": "ksp", "amid": "mnist__ksp-0123456789", "tmid": "mnist__ksp-0123456789", "future": True}
    base, model = f"/mm/{service}", ModelId("mnist__ksp-0123456789")
    etcd.ctl("put", f"{base}/registry/{model}", json.dumps(java))
    etcd.ctl("put", f"{base}/vmodels/mnist", json.dumps(alias))
    registry = await opener(etcd.address)
    assert registry.aliases[AliasId("mnist")] == AliasRecord(model, model, "ksp", unknown={"future": True})
    assert await registry.change(AddCopy(model, PodId("fedcba-11111"), Millis(1700000000002), Millis(1))) is None
    written = json.loads(etcd.get(f"{base}/registry/{model}"))
    assert written.pop("w"), "our stamp, which ModelMesh keeps as it keeps every field it does not know"
    assert written == {**java, "instanceIds": {**java["instanceIds"], "fedcba-11111": 1700000000002}}  # type: ignore[dict-item]
    # As ModelMesh writes it back: with our fields, and one more of its own.
    etcd.ctl("put", f"{base}/registry/{model}", json.dumps({**written, "w": "old", "newer": 1}))
    await eventually(lambda: registry.models[model].unknown == {"future": {"kept": [1, None]}, "newer": 1})
    assert await registry.change(DeleteAlias(AliasId("mnist"))) is None
    assert etcd.get(f"{base}/vmodels/mnist") == ""
