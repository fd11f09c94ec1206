"""The file of a snapshot: what was written is read again, and whatever else lies there is told of once and not used."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.units import Millis
from mesh.store.etcd.snapshot import Entry, Header, SnapshotFile

BASE = "/mm/mesh/"
HEADER = Header(BASE, 17, "marker", 42, Millis(1_700_000_000_000), ["older", "marker"])
ENTRIES = [Entry("registry", f"m{number}", number, b'{"type":"onnx"}') for number in range(1200)]


async def write(file: SnapshotFile, entries: list[Entry], header: Header = HEADER) -> None:
    writer = file.writer(header)
    await writer.add(entries)
    await writer.finish()


async def read(file: SnapshotFile) -> list[Entry]:
    return [entry async for batch in file.entries() for entry in batch]


@pytest.fixture
def file(tmp_path: Path) -> SnapshotFile:
    return SnapshotFile(tmp_path / "folder" / "registry.snapshot", BASE)


async def test_what_was_written_is_read_again_and_is_nobody_elses_business(file: SnapshotFile) -> None:
    await write(file, ENTRIES)
    assert await file.header() == HEADER
    assert await read(file) == ENTRIES
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(file.path.parent) == [file.path.name]


async def test_without_a_file_there_is_no_snapshot_and_nothing_is_said(file: SnapshotFile, caplog: pytest.LogCaptureFixture) -> None:
    assert await file.header() is None
    assert not caplog.records


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
entries = st.builds(Entry, st.sampled_from(["registry", "vmodels", "-registry"]), text, st.integers(0, 1 << 62), st.just(b'{"a":"b\\tc"}'))


@given(found=st.lists(entries, max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_names_and_revisions(found: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> None:
    async def round_trip() -> None:
        file = SnapshotFile(tmp_path_factory.mktemp("any") / "snapshot", BASE)
        await write(file, found)
        assert await file.header() == HEADER
        assert await read(file) == found

    asyncio.run(round_trip())


async def cut(file: SnapshotFile) -> None:
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: len(whole) // 2])


async def lose_the_end(file: SnapshotFile) -> None:
    lines = gzip.decompress(file.path.read_bytes()).splitlines(keepends=True)
    file.path.write_bytes(gzip.compress(b"".join(lines[:-1])))


async def lose_a_line(file: SnapshotFile) -> None:
    lines = gzip.decompress(file.path.read_bytes()).splitlines(keepends=True)
    file.path.write_bytes(gzip.compress(b"".join(lines[:5] + lines[6:])))


async def change_a_byte(file: SnapshotFile) -> None:
    content = gzip.decompress(file.path.read_bytes()).replace(b'"m7"', b'"m8"')
    file.path.write_bytes(gzip.compress(content))


async def be_of_another_kind(file: SnapshotFile) -> None:
    file.path.write_bytes(gzip.compress(b"something\telse\n"))


async def be_no_gzip(file: SnapshotFile) -> None:
    file.path.write_text("hello")


async def be_empty(file: SnapshotFile) -> None:
    file.path.write_bytes(b"")


async def be_of_another_version(file: SnapshotFile) -> None:
    content = gzip.decompress(file.path.read_bytes()).replace(b"snapshot\t1\t", b"snapshot\t2\t", 1)
    file.path.write_bytes(gzip.compress(content))


async def be_of_another_mesh(file: SnapshotFile) -> None:
    await write(file, ENTRIES, HEADER._replace(base="/mm/other/"))


async def have_a_header_of_the_future(file: SnapshotFile) -> None:
    content = gzip.decompress(file.path.read_bytes()).replace(b'{"base"', b'{"more":1,"base"', 1)
    file.path.write_bytes(gzip.compress(content))


async def be_a_folder(file: SnapshotFile) -> None:
    file.path.unlink()
    file.path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "ended before the end"),
        (lose_the_end, "its end is missing"),
        (lose_a_line, "checksum"),
        (change_a_byte, "checksum"),
        (be_of_another_kind, "another kind of file"),
        (be_no_gzip, "Not a gzipped file"),
        (be_empty, "another kind of file"),
        (be_of_another_version, "it has version '2', and this router reads version 1"),
        (be_of_another_mesh, "keys begin with /mm/other/, those of this one with /mm/mesh/"),
        (have_a_header_of_the_future, "its header cannot be read"),
        (be_a_folder, "Is a directory"),
    ],
)
async def test_what_is_no_whole_snapshot_of_this_mesh_is_told_of_and_not_used(
    file: SnapshotFile, caplog: pytest.LogCaptureFixture, spoil: object, told: str
) -> None:
    await write(file, ENTRIES)
    assert callable(spoil)
    await spoil(file)
    assert await file.header() is None
    (record,) = caplog.records
    assert str(file.path) in record.getMessage()
    assert "MESH_SNAPSHOT_PATH" in record.getMessage()
    assert told in record.getMessage()


async def test_a_writer_that_gives_up_leaves_what_was_there(file: SnapshotFile) -> None:
    await write(file, ENTRIES)
    writer = file.writer(HEADER._replace(revision=43))
    await writer.add([Entry("registry", "m" * 100, 1, b"x" * (1 << 19))])
    await writer.give_up()
    assert await file.header() == HEADER
    assert os.listdir(file.path.parent) == [file.path.name]


async def test_who_is_cancelled_while_a_thread_writes_waits_for_it_and_the_next_snapshot_is_whole(file: SnapshotFile) -> None:
    part = file.path.with_name(file.path.name + ".part")
    part.parent.mkdir()
    os.mkfifo(part)  # whoever opens one to write waits until somebody reads it
    writer = file.writer(HEADER)
    adding = asyncio.create_task(writer.add([Entry("registry", "m", 1, b"x" * (1 << 19))]))
    await asyncio.sleep(0)
    adding.cancel()
    done, _ = await asyncio.wait([adding], timeout=0.2)
    assert not done, "it left its thread behind"
    reader = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(asyncio.CancelledError):
            await adding
        await writer.give_up()
    finally:
        os.close(reader)
    assert os.listdir(file.path.parent) == []
    await write(file, ENTRIES)
    assert await read(file) == ENTRIES
