"""Where records lie in etcd and how they are written: ModelMesh's keys and JSON, so that a registry is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mesh.core.errors import Malformed
from mesh.core.registry.instances import instance_from_json, instance_to_json
from mesh.core.registry.records import alias_from_json, alias_to_json, model_from_json, model_to_json
from mesh.store.election import Candidacy

STAMP = "w"
"""Our addition to every record: which write made this version. A writer that lost etcd's answer knows its own write by it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of record; `name` is the part of the key before the id."""

    name: str
    read: Callable[[Any], Any]
    write: Callable[[Any], dict[str, Any]]


MODELS = Table("registry", model_from_json, model_to_json)
ALIASES = Table("vmodels", alias_from_json, alias_to_json)
INSTANCES = Table("instances", instance_from_json, instance_to_json)
PARAMETERS = Table("config", str, dict)
"""Plain text, written by operators only."""
CANDIDATES = Table("leaderLatch", str, dict)
"""Who stands for leader; not the value counts but the key's age and lease, which are the record here."""

TABLES = {table.name: table for table in (MODELS, ALIASES, INSTANCES, PARAMETERS, CANDIDATES)}
_TABLES_BY_BYTES = {name.encode(): table for name, table in TABLES.items()}


class Raw(NamedTuple):
    """A key as etcd has it; `value` None is a deletion, made at `revision`."""

    key: bytes
    revision: int
    value: bytes | None
    created: int = 0
    lease: int = 0


class Change(NamedTuple):
    """A version of a record: `record` None is a deletion, unless `fault` says why the record cannot be read."""

    key: bytes
    revision: int
    table: Table
    id: str
    record: Any
    fault: str = ""
    text: bytes | None = None
    """The record as etcd has it, if that is known."""


class Layout:
    """Keys of one mesh: `<root>/<prefix>/<service>/<table>/<id>`."""

    def __init__(self, root: str, prefix: str, service: str) -> None:
        if not prefix or any(letter.isspace() or letter == "/" for letter in prefix):
            raise Malformed(f"MM_KVSTORE_PREFIX={prefix!r} must be neither empty nor contain white space or '/'")
        self.base = f"{root}/{prefix}/{service}/".encode()
        self.marker = self.base + b"mesh/marker"
        """Our addition: a random text that tells this store from one that takes its place."""

    def key(self, table: Table, name: str) -> bytes:
        """Where a record lies."""
        return self.base + f"{table.name}/{name}".encode()

    def place(self, key: bytes) -> tuple[Table, bytes] | None:
        """The table of a key and the id in it, as bytes; None if it lies in no table of ours."""
        name, _, ident = key[len(self.base) :].partition(b"/")
        table = _TABLES_BY_BYTES.get(name)
        return (table, ident) if table is not None and ident else None

    def change(self, raw: Raw) -> Change | None:
        """What a key says; None if it lies in no table of ours."""
        place = self.place(raw.key)
        if place is None:
            return None
        table, rest = place
        ident = rest.decode("utf-8", "backslashreplace")
        if raw.value is None:
            return Change(raw.key, raw.revision, table, ident, None)
        try:
            rest.decode()
            return Change(raw.key, raw.revision, table, ident, _record(table, raw), text=raw.value)
        except (Malformed, ValueError) as error:
            return Change(raw.key, raw.revision, table, ident, None, f"{error}")


def encode(table: Table, record: Any, stamp: str) -> bytes:
    """A record's value in etcd, unlike any other write's."""
    return orjson.dumps({**table.write(record), STAMP: stamp})


def decode(table: Table, text: bytes) -> Any:
    """A record from its JSON.

    Raises:
        Malformed, ValueError: it is none.
    """
    data = orjson.loads(text)
    if isinstance(data, Mapping):
        data = {name: field for name, field in data.items() if name != STAMP}
    return table.read(data)


def _record(table: Table, raw: Raw) -> Any:
    text = raw.value or b""
    if table is CANDIDATES:
        return Candidacy(raw.created, raw.lease)
    return text.decode() if table is PARAMETERS else decode(table, text)


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
