"""What a reset of etcd lost, written again by the pods that knew it, and what it brought back deleted again."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from aetcd import rpc

from mesh.core.errors import MeshError
from mesh.core.registry.origins import restored
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import Change, Layout, encode
from mesh.store.etcd.mirror import Mirror, Owed

log = logging.getLogger(__name__)

BATCH = 50
"""Records that are written with one call, each only if etcd still has what it is to replace."""
PAUSE = (0.2, 2.0)
"""Seconds between the attempts of one pod, at first and in the end; drawn, because all pods write at once."""


class _Debt(NamedTuple):
    key: bytes
    owed: Owed
    revision: int
    record: Any
    value: bytes | None


class Reseeder:
    """Works as long as the mirror owes something."""

    def __init__(self, connection: Connection, layout: Layout, mirror: Mirror) -> None:
        self._connection, self._layout, self._mirror = connection, layout, mirror
        self._task: asyncio.Task[None] | None = None
        self._stamp = f"reseed-{secrets.token_hex(4)}"

    def look(self) -> None:
        """Begins if there is something to do."""
        if self._mirror.owed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work(), name="writing again what a reset of etcd lost")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        log.warning("etcd was replaced or put back; what it lost is written again", extra={"records": len(self._mirror.owed)})
        pause = PAUSE[0]
        while self._mirror.owed:
            await asyncio.sleep(random.uniform(0, pause))
            keys = list(self._mirror.owed)
            # Each pod begins elsewhere, so that they share the work.
            start = random.randrange(len(keys)) if keys else 0
            keys = keys[start:] + keys[:start]
            before = len(keys)
            try:
                for first in range(0, len(keys), BATCH):
                    await self._write(keys[first : first + BATCH])
            except MeshError as error:
                log.warning("what etcd lost is not written yet", extra={"left": len(self._mirror.owed), "cause": error.message})
            pause = PAUSE[0] if len(self._mirror.owed) < before else min(PAUSE[1], 2 * pause)
        log.info("etcd has again what it lost")

    async def _write(self, keys: Sequence[bytes]) -> None:
        debts = [self._debt(key, owed) for key in keys if (owed := self._mirror.owed.get(key)) is not None]
        if not debts:
            return
        request = rpc.TxnRequest(success=[rpc.RequestOp(request_txn=_transaction(debt)) for debt in debts])
        answer, _ = await self._connection.call("Txn", request)
        for debt, response in zip(debts, answer.responses, strict=True):
            # What failed was changed by somebody, which the watch brings.
            if response.response_txn.succeeded:
                self._mirror.fold([Change(debt.key, answer.header.revision, debt.owed.table, debt.owed.id, debt.record)])

    def _debt(self, key: bytes, owed: Owed) -> _Debt:
        version = self._mirror.version(owed.table, owed.id, key)
        if version.record is None:
            return _Debt(key, owed, version.revision, None, None)
        record = restored(version.record, owed.origin)
        return _Debt(key, owed, version.revision, record, encode(owed.table, record, self._stamp))


def _transaction(debt: _Debt) -> Any:
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=debt.key, value=debt.value or b""))
    delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=debt.key))
    return rpc.TxnRequest(
        compare=[rpc.Compare(key=debt.key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=debt.revision)],
        success=[delete if debt.value is None else put],
    )
