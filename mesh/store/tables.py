"""Mirrors of many records: what is read at once by everybody, with the few that say more than where a model lies told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from mesh.core.registry.listing import Listing
from mesh.core.registry.records import NO_BOUNDS, AliasRecord, ModelRecord
from mesh.core.registry.shelf import Shelf, Stock
from mesh.core.traffic.policy import NO_POLICY

K = TypeVar("K", bound=str)
V = TypeVar("V")
D = TypeVar("D")

RECENT = 4096
"""Records kept as they were read last: those in use are asked for with each call."""


class Known(NamedTuple):
    """What is known of a name: the record, the revision that wrote it, and why the latest version cannot be read."""

    record: Any
    revision: int
    fault: str = ""


NOTHING = Known(None, 0)


class Revisions:
    """Those of a table at one time."""

    def __init__(self, shown: Stock, aside: Stock) -> None:
        self._shown, self._aside = shown, aside

    def of(self, name: str) -> int:
        """The revision of a name; 0 if there was none."""
        return self._aside.of(name) or self._shown.of(name)


def is_noted(record: Any) -> bool:
    """Whether a record says more than most do: of a model that somebody has or failed to load, or that no alias points at; of an alias
    in transition, with bounds, or whose versions share calls. What a pod keeps beside the mirror is about these alone.
    """
    match record:
        case ModelRecord():
            return bool(record.copies or record.ready or record.failed or record.failures or not record.refs)
        case AliasRecord():
            return record.in_transition or record.failed or record.bounds != NO_BOUNDS or record.traffic != NO_POLICY
    return False


def noted(records: Mapping[K, V]) -> Iterator[tuple[K, V]]:
    """The records of a mirror that are noted. Whoever walks may wait in between: what changes meanwhile is shown as it is then, or not."""
    names = list(records.noted) if isinstance(records, RecordTable) else [name for name, record in records.items() if is_noted(record)]
    for name in names:
        if (record := records.get(name)) is not None:
            yield name, record


def in_order(records: Mapping[K, Any]) -> Shelf | Listing:
    """The names of a mirror: as they always are now, or, of one that keeps no order, a listing that whoever asks keeps up to date."""
    return records.names if isinstance(records, RecordTable) else Listing(records)


class RecordTable(Mapping[Any, Any]):
    """Records by name, in order. This one keeps them as they are; others keep them smaller, and read them when they are asked for."""

    def __init__(self) -> None:
        self.names = Shelf()
        """In order, to be walked while they change."""
        self.noted: set[Any] = set()
        """Names of records that are `is_noted`."""
        self._aside = Shelf()
        """Names with a revision but no record of it: why it cannot be read, or nothing if it is not to be shown."""
        self._recent: dict[str, Any] = {}

    # Read

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._recent or (isinstance(name, str) and name in self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Any:
        record = self.get(name)
        if record is None:
            raise KeyError(name)
        return record

    @overload
    def get(self, name: str, /) -> Any | None: ...
    @overload
    def get(self, name: str, /, default: D) -> Any | D: ...
    def get(self, name: str, default: Any = None) -> Any:
        """The record of a name."""
        record = self._recent.get(name)
        if record is None:
            entry = self.names.find(name)
            if entry is None:
                return default
            record = self._recent[entry.name] = self._read(entry.value)
            if len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]
        return record

    def known(self, name: str) -> Known:
        """All that is known of a name."""
        aside, record = self._aside.find(name), self.get(name)
        if aside is not None:
            return Known(record, aside.revision, aside.value)
        entry = self.names.find(name)
        return Known(record, entry.revision) if entry else NOTHING

    def revisions(self, begin: str = "", end: str | None = None) -> Iterator[tuple[str, int]]:
        """Names from `begin` on and before `end` of which a version is known, with its revision."""
        for entry in self.names.entries(begin, end):
            if entry.name not in self._aside:
                yield entry.name, entry.revision
        for entry in self._aside.entries(begin, end):
            yield entry.name, entry.revision

    def texts(self) -> Iterator[tuple[str, int, bytes | None]]:
        """Name and revision of each record in order, and how the store has it, if it is kept so; to be walked while they change."""
        for entry in self.names.entries():
            yield entry.name, entry.revision, self._text(entry.value)

    # Changed

    def all_revisions(self) -> Revisions:
        """The revisions of now, whatever changes."""
        return Revisions(self.names.revisions(), self._aside.revisions())

    def put(self, name: str, record: Any, revision: int, text: bytes | None = None) -> None:
        """Keeps a record.

        Args:
            name, record, revision: what it is, and what wrote it.
            text: how the store has it, if that is known.
        """
        self._aside.remove(name)
        self._recent.pop(name, None)
        self._note(name, is_noted(record))
        self.names.put(name, self._kept(record, text), revision)

    def load(self, _name: str, _text: bytes, _revision: int) -> bool:
        """Keeps a record as the store has it without reading it whole; False if it is not of the kind with which that can be done."""
        return False

    def load_all(self, names: list[str], texts: list[bytes], revisions: list[int]) -> list[int]:
        """The same with many, in the order of their names; the places of those that are not kept.

        Args:
            names, texts, revisions: of the same length; they are used up.
        """
        return [at for at, record in enumerate(zip(names, texts, revisions, strict=True)) if not self.load(*record)]

    def same(self, name: str, text: bytes, revision: int) -> bool:
        """Whether the record of a name is what the store has; then that revision is noted."""
        entry = self.names.find(name)
        if entry is None or name in self._aside or not self._is(entry.value, text):
            return False
        self.names.revise(name, revision)
        return True

    def put_aside(self, name: str, revision: int, fault: str = "") -> None:
        """Notes a version that is not shown, because it cannot be read or for another reason. A record that was stays as it is: shown as
        deleted it would be unloaded everywhere.
        """
        self._aside.put(name, fault, revision)

    def revise(self, name: str, revision: int) -> None:
        """Goes on showing what there is, if there is something, as what this revision wrote; 0 is none."""
        self._aside.remove(name)
        if name in self.names:
            self.names.revise(name, revision)
        elif revision:
            self._aside.put(name, "", revision)

    def remove(self, name: str) -> None:
        """Keeps nothing of a name."""
        self._aside.remove(name)
        self._recent.pop(name, None)
        self._note(name, False)
        self.names.remove(name)

    def forget_revisions(self) -> None:
        """All are written by revision 0."""
        self.names.forget_revisions()
        self._aside.forget_revisions()

    def _note(self, name: str, noted: bool) -> None:
        if noted:
            self.noted.add(name)
        else:
            self.noted.discard(name)

    # How they are kept

    def _kept(self, record: Any, _text: bytes | None) -> Any:
        return record

    def _read(self, kept: Any) -> Any:
        return kept

    def _is(self, _kept: Any, _text: bytes) -> bool:
        return False

    def _text(self, _kept: Any) -> bytes | None:
        return None
