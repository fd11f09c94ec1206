"""Changes of records by compare-and-set: what an edit read must still hold when what it wrote is committed."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from aetcd import rpc
from grpc import aio

from mesh.core.errors import Failed, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import ALIASES, INSTANCES, MODELS, Change, Layout, Raw, Table, encode
from mesh.store.etcd.mirror import Mirror, Version
from mesh.store.etcd.watching import first_after


class _Cell(NamedTuple):
    table: Table
    id: str


class Attempt:
    """One run of an edit: records as it sees them, what it read, what it wants written."""

    def __init__(self, layout: Layout, mirror: Mirror, fresh: Mapping[bytes, Version]) -> None:
        self._layout, self._mirror, self._fresh = layout, mirror, fresh
        self.cells: dict[bytes, _Cell] = {}
        self.read: dict[bytes, Version] = {}
        self.written: dict[bytes, Any] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        """The model's record as this attempt sees it."""
        found: ModelRecord | None = self._get(MODELS, model)
        return found

    def alias(self, alias: AliasId) -> AliasRecord | None:
        """The alias's record as this attempt sees it."""
        found: AliasRecord | None = self._get(ALIASES, alias)
        return found

    def instance(self, pod: PodId) -> InstanceRecord | None:
        """A pod's own record as this attempt sees it."""
        found: InstanceRecord | None = self._get(INSTANCES, pod)
        return found

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        """Writes on commit."""
        self.written[self._note(MODELS, model)] = record

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        """Writes on commit."""
        self.written[self._note(ALIASES, alias)] = record

    def _get(self, table: Table, name: str) -> Any:
        key = self._note(table, name)
        return self.written[key] if key in self.written else self.read[key].record

    def _note(self, table: Table, name: str) -> bytes:
        key = self._layout.key(table, name)
        if key not in self.read:
            known, fresh = self._mirror.version(table, name, key), self._fresh.get(key)
            self.read[key] = fresh if fresh and fresh.known_at > known.known_at else known
            self.cells[key] = _Cell(table, name)
        if fault := self.read[key].fault:
            shown = key.decode(errors="replace")
            raise Failed(f"{shown} in etcd cannot be read and is left alone: {fault}; mend or delete it (etcdctl del {shown})")
        return key


class Outcome(NamedTuple):
    """What became of an attempt: `committed` with the `changes` it made, or `fresh` versions of what it read."""

    committed: bool
    changes: list[Change]
    fresh: dict[bytes, Version]


class Writer:
    """Commits attempts."""

    def __init__(self, connection: Connection, layout: Layout) -> None:
        self._connection, self._layout = connection, layout
        self._session, self._numbers = secrets.token_hex(4), itertools.count(1)

    async def commit(self, attempt: Attempt, *, write: bool) -> Outcome:
        """Writes what the attempt wrote, or only makes sure that what it read holds.

        Raises:
            StoreUnavailable: etcd does not answer; nothing is known to be written.
        """
        written = attempt.written if write else {}
        stamp = f"{self._session}-{next(self._numbers):x}"
        values = {key: None if record is None else encode(attempt.cells[key].table, record, stamp) for key, record in written.items()}
        answer, repeated = await self._connection.call("Txn", _transaction(attempt.read, values))
        if answer.succeeded:
            return _done(attempt, values, answer.header.revision)
        kvs = [kv for response in answer.responses for kv in response.response_range.kvs]
        fresh = self._fresh(attempt, kvs, answer.header.revision)
        found = {kv.key: kv.value for kv in kvs}
        revision = await self._own(attempt.read, values, fresh, found) if repeated and values else 0
        return _done(attempt, values, revision) if revision else Outcome(False, [], fresh)

    def _fresh(self, attempt: Attempt, kvs: list[Any], revision: int) -> dict[bytes, Version]:
        fresh = {key: Version(None, 0, revision) for key in attempt.read}
        for kv in kvs:
            change = self._layout.change(Raw(kv.key, kv.mod_revision, kv.value))
            assert change is not None
            fresh[kv.key] = Version(change.record, change.revision, revision, change.fault)
        return fresh

    async def _own(
        self,
        read: Mapping[bytes, Version],
        values: Mapping[bytes, bytes | None],
        fresh: Mapping[bytes, Version],
        found: Mapping[bytes, bytes],
    ) -> int:
        """The revision of this very write, if one of its lost tries arrived: the key's next version is then ours; 0 if not.

        Of several keys one that is put decides, because the stamp makes its value ours alone; all were written together.

        Raises:
            StoreUnavailable: etcd does not say, or has forgotten; to write once more might be to write twice.
        """
        key = next((key for key, value in values.items() if value is not None), next(iter(values)))
        before = read[key]
        if fresh[key].revision == before.revision:
            return 0
        if found.get(key) == values[key] is not None:
            return fresh[key].revision
        try:
            first = await first_after(self._connection, key, before.revision or before.known_at)
        except (aio.AioRpcError, TimeoutError) as error:
            raise StoreUnavailable(f"{self._connection.where} does not say whether a change was written: {error!r}") from None
        if first is None:
            shown = key.decode(errors="replace")
            raise StoreUnavailable(
                f"{self._connection.where} cannot say any more whether a change of {shown} was written; look at it, then try again"
            )
        return first.revision if first.value == values[key] else 0


def _transaction(read: Mapping[bytes, Version], values: Mapping[bytes, bytes | None]) -> Any:
    """If nothing that was read changed, all writes; else the current versions of what was read."""
    return rpc.TxnRequest(
        compare=[
            rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=version.revision)
            for key, version in read.items()
        ],
        success=[
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
            if value is None
            else rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))
            for key, value in values.items()
        ],
        failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key)) for key in read],
    )


def _done(attempt: Attempt, values: Mapping[bytes, bytes | None], revision: int) -> Outcome:
    # Deleting what was not there changes nothing.
    changed = [key for key, value in values.items() if value is not None or attempt.read[key].revision]
    changes = [Change(key, revision, *attempt.cells[key], attempt.written[key]) for key in changed]
    return Outcome(True, changes, {})
