"""The mirror shows what etcd has and its listeners hear each change once, in order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import ModelId
from mesh.core.registry.edits import DeleteModel
from mesh.core.registry.records import ModelInfo
from mesh.store.etcd import comparing, reading, watching
from mesh.store.etcd import registry as module
from mesh.store.etcd.connection import Answer, Connection
from mesh.store.etcd.layout import Raw
from tests.integration.etcd.changing import change_many, counted
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.unit.store.edits import Count, Witness, create
from tests.unit.store.stores import eventually

A, B = ModelId("a"), ModelId("b")


async def test_of_thousands_of_changes_none_is_lost_or_repeated_while_connections_break(etcd: Etcd, opener: Opener) -> None:
    names = [f"model-{number}" for number in range(400)]
    async with Way(etcd.port) as way:
        follower, writer = await opener(f"127.0.0.1:{way.port}"), await opener(etcd.address)
        witness, direct = Witness(follower), Witness(writer)
        work = asyncio.ensure_future(change_many(writer, names, 4))
        cuts = 0
        while not work.done():
            seen = len(witness.told)
            await eventually(lambda seen=seen: work.done() or len(witness.told) > seen + 50, "changes come in")  # type: ignore[misc] # default
            way.cut()
            cuts += 1
        await work
        await eventually(lambda: len(witness.told) >= 2000, "the rest comes in")
        assert way.connections > 3, "the way was hardly cut"
        assert cuts > 3
        assert witness.told == direct.told
        assert {name: counted(witness, name) for name in names} == {name: [0, 1, 2, 3, 4] for name in names}
        assert follower.models == writer.models


async def test_a_thousand_changes_wait_for_who_was_away(etcd: Etcd, opener: Opener) -> None:
    names = [f"model-{number}" for number in range(600)]
    async with Way(etcd.port) as way:
        follower, writer = await opener(f"127.0.0.1:{way.port}"), await opener(etcd.address)
        witness, direct = Witness(follower), Witness(writer)
        way.shut()
        await change_many(writer, names, 2)
        assert witness.told == []
        way.reopen()
        await eventually(lambda: len(witness.told) >= 1800)
        assert witness.told == direct.told


async def test_own_changes_and_those_of_others_are_told_once(etcd: Etcd, opener: Opener) -> None:
    one, other = await opener(etcd.address), await opener(etcd.address)
    witnesses = [Witness(one), Witness(other)]
    await one.change(create("a"))
    await eventually(lambda: A in other.models)
    await asyncio.gather(*(registry.change(Count("a")) for registry in (one, other) for _ in range(40)))
    for witness in witnesses:
        await eventually(lambda witness=witness: len(witness.told) >= 81)  # type: ignore[misc] # default
        assert counted(witness, "a") == list(range(81))


async def test_an_own_change_is_shown_and_told_once_even_if_the_watch_is_late(
    etcd: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = await opener(etcd.address)
    witness = Witness(registry)
    await registry.change(create("a"))

    async def nothing(raws: object) -> None:
        """Drops them."""

    monkeypatch.setattr(module, "WATCH_PATIENCE", 0.1)
    monkeypatch.setattr(module, "RENEWED_PATIENCE", 0.1)
    # The watch goes on, but what it brings does not get into the mirror.
    monkeypatch.setattr(registry._watcher, "_take", nothing)
    monkeypatch.setattr(registry._mirror, "reach", lambda revision: None)
    assert await registry.change(Count("a")) is None
    assert await registry.change(Count("a")) is None
    assert counted(witness, "a") == [0, 1, 2]
    monkeypatch.undo()
    # What was kept back comes once more, and is not told once more.
    registry._watcher.renew()
    assert await registry.change(Count("a")) is None
    assert counted(witness, "a") == [0, 1, 2, 3]
    assert registry._mirror._ahead == {}


async def test_after_a_compaction_exactly_what_differs_is_told(own_etcd: Etcd, opener: Opener) -> None:
    async with Way(own_etcd.port) as way:
        follower, writer = await opener(f"127.0.0.1:{way.port}"), await opener(own_etcd.address)
        await change_many(writer, ["a", "b", "same", "gone"], 1)
        await eventually(lambda: len(follower.models) == 4 and all(record.refs for record in follower.models.values()))
        witness = Witness(follower)
        way.shut()
        await change_many(writer, ["new"], 3)
        await writer.change(Count("a"))
        await writer.change(create("fleeting"))
        await writer.change(DeleteModel(ModelId("fleeting")))
        own_etcd.ctl("del", "--prefix", f"/mm/{writer._layout.base.decode().split('/')[2]}/registry/gone")
        await writer.change(Count("a"))
        compact(own_etcd)
        way.reopen()
        await eventually(lambda: ModelId("gone") not in follower.models)
        assert {name for name, _ in witness.told} == {"a", "new", "gone"}
        assert (counted(witness, "a"), counted(witness, "new"), counted(witness, "gone")) == ([3], [3], [None])
        assert follower.models == writer.models
        await writer.change(Count("b"))
        await eventually(lambda: counted(witness, "b") == [2], "it is followed as before")


async def test_a_compaction_past_what_changed_here_tells_nothing(own_etcd: Etcd, opener: Opener) -> None:
    async with Way(own_etcd.port) as way:
        follower, writer = await opener(f"127.0.0.1:{way.port}"), await opener(own_etcd.address)
        await writer.change(create("a"))
        await eventually(lambda: A in follower.models)
        witness = Witness(follower)
        way.shut()
        for number in range(20):
            own_etcd.ctl("put", "/somewhere/else", str(number))
        compact(own_etcd)
        way.reopen()
        await writer.change(create("b"))
        await eventually(lambda: B in follower.models)
        assert [name for name, _ in witness.told] == ["b"]


async def test_a_restart_of_etcd_is_survived(own_etcd: Etcd, opener: Opener) -> None:
    registry, other = await opener(own_etcd.address), await opener(own_etcd.address)
    witness = Witness(other)
    await registry.change(create("a"))
    own_etcd.stop()
    with pytest.raises(StoreUnavailable, match=r"etcd at 127\.0\.0\.1:\d+ .* does not answer .* check that it runs"):
        await registry.change(Count("a"))
    assert registry.models[A].refs == 0, "what is known is still shown"
    own_etcd.start()
    assert await registry.change(Count("a")) is None
    await eventually(lambda: counted(witness, "a") == [0, 1])


async def test_an_etcd_that_is_silent_costs_a_change_its_time_and_no_more(own_etcd: Etcd, opener: Opener) -> None:
    registry, other = await opener(own_etcd.address), await opener(own_etcd.address)
    witness = Witness(other)
    await registry.change(create("a"))
    with own_etcd.frozen(), pytest.raises(StoreUnavailable, match=r"does not answer"):
        await registry.change(Count("a"))
    # The change that was given up may have been written, or not; it is never written twice.
    assert await registry.change(Count("a")) is None
    await eventually(lambda: len(witness.told) >= 2)
    assert counted(witness, "a") in ([0, 1], [0, 1, 2])


async def test_however_much_is_taken_in_it_is_taken_in_small_portions(
    etcd: Etcd, opener: Opener, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "PORTION", 10)
    monkeypatch.setattr(watching, "PORTION", 10)
    writer = await opener(etcd.address)
    await change_many(writer, [f"model-{number}" for number in range(100)], 0)
    portions: list[list[int]] = []
    take = watching.Watcher._take_portion

    def noted(self: watching.Watcher, raws: Iterable[Raw]) -> None:
        taken = list(raws)
        portions.append([raw.revision for raw in taken])
        take(self, taken)

    async with Way(etcd.port) as way:
        compared: list[int] = []
        differing = comparing.Comparison._differing

        def counted_portions(self: comparing.Comparison, begin: bytes, end: bytes, kvs: list[Any]) -> list[Raw]:
            compared.append(len(kvs))
            return differing(self, begin, end, kvs)

        monkeypatch.setattr(comparing.Comparison, "_differing", counted_portions)
        reader = await opener(f"127.0.0.1:{way.port}")
        assert reader.models == writer.models
        assert max(compared) == 10
        monkeypatch.undo()
        monkeypatch.setattr(comparing, "PORTION", 10)
        monkeypatch.setattr(watching, "PORTION", 10)
        way.shut()
        await change_many(writer, ["late"], 50)
        # One transaction is taken in at once, whatever its size.
        etcd.ctl("del", "--prefix", f"/mm/{service}/registry/model-")
        await eventually(lambda: len(writer.models) == 1)
        portions.clear()
        monkeypatch.setattr(watching.Watcher, "_take_portion", noted)
        way.reopen()
        await eventually(lambda: reader.models == writer.models)
        together = [portion for portion in portions if len(portion) >= 100]
        assert [len(set(portion[-100:])) for portion in together] in ([1], [1, 1])
        assert all(len(portion) <= 10 for portion in portions if portion not in together)


async def test_records_that_fill_many_answers_come_whole(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        follower, writer = await opener(f"127.0.0.1:{way.port}"), await opener(etcd.address)
        witness, direct = Witness(follower), Witness(writer)
        way.shut()
        for number in range(30):
            # etcd sends at most 2 MiB at a time.
            await writer.change(create(f"model-{number}", ModelInfo("sklearn", "path", "x" * 400_000)))
        way.reopen()
        await eventually(lambda: len(witness.told) >= 30)
        assert witness.told == direct.told


async def test_progress_without_changes_saves_reading_all_again(environment: Path, tmp_path: Path, opener: Opener) -> None:
    etcd = Etcd(environment, tmp_path, flags=["--experimental-watch-progress-notify-interval=100ms"])
    etcd.start()
    try:
        registry = await opener(etcd.address)
        await registry.change(create("a"))
        before = registry._mirror.revision
        for number in range(5):
            etcd.ctl("put", "/somewhere/else", str(number))
        await eventually(lambda: registry._mirror.revision >= before + 5)
    finally:
        etcd.kill()


async def test_a_large_registry_is_read_whole_while_it_changes(etcd: Etcd, opener: Opener) -> None:
    writer = await opener(etcd.address)
    names = [f"model-{number}" for number in range(1500)]
    await change_many(writer, names, 0, at_once=64)
    draw = random.Random(1)

    async def keep_changing() -> None:
        for _ in range(300):
            await writer.change(Count(draw.choice(names)))

    changing = asyncio.ensure_future(keep_changing())
    readers = [await opener(etcd.address) for _ in range(3)]
    await changing
    for reader in readers:
        await eventually(lambda reader=reader: reader.models == writer.models)  # type: ignore[misc] # default
    assert len(writer.models) == 1500


async def test_a_compaction_in_the_midst_of_reading_starts_the_reading_again(
    own_etcd: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await opener(own_etcd.address)
    await change_many(writer, [f"model-{number}" for number in range(10)], 0)
    monkeypatch.setattr(reading, "PAGE", 3)
    call, pages = Connection.call, [0]

    async def disturbed(self: Connection, method: str, request: Any, **more: Any) -> Answer:
        if method == "Range" and request.range_end:
            pages[0] += 1
            if pages[0] == 2:
                await writer.change(create("new"))
                compact(own_etcd)
        return await call(self, method, request, **more)

    monkeypatch.setattr(Connection, "call", disturbed)
    reader = await opener(own_etcd.address)
    assert reader.models == writer.models
    assert pages[0] == 2 + 4, "the second page was too late, then there were four"


def compact(etcd: Etcd) -> None:
    """To the latest revision."""
    etcd.ctl("put", "/somewhere/else", "mark")
    status = etcd.ctl("get", "/somewhere/else", "-w", "fields")
    revision = next(line.split(":")[1].strip() for line in status.splitlines() if line.startswith('"Revision"'))
    etcd.ctl("compact", "--physical", revision)
