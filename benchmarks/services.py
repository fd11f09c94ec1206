"""Services in etcd, as the controller and the pods of a mesh would have written them: per service one model and one alias."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aetcd import rpc

from mesh.core.ids import ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.manifests.predictor import SERVICE_OWNER, PredictorSpec
from mesh.settings import Settings
from mesh.store.etcd.configuration import parse
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import ALIASES, MODELS, Layout, encode, end_of

TYPES = 20
"""Formats of models; each may have labels of its own that a pod needs."""
TEAMS = 50
TRANSACTION = 250
"""Services of one transaction, two operations each."""
AT_ONCE = 64
"""Services of one transaction while a router is measured: as many as an etcd takes that is not told to take more (128 operations). What one
transaction made is taken in at once."""
AT_A_TIME = 2
OPERATIONS = 2 * TRANSACTION
FLAGS = (f"--max-txn-ops={OPERATIONS}", f"--quota-backend-bytes={8 << 30}", "--heartbeat-interval=500", "--election-timeout=5000")
"""What etcd has to be started with for that; a busy machine must not cost it its leader."""
PATIENCE = 120.0
"""Seconds that one transaction may take."""


def spec(number: int) -> PredictorSpec:
    """A predictor as a document describes it: storage with a bucket and a schema of its own."""
    path = f"team-{number % TEAMS}/{name(number)}"
    return PredictorSpec(
        format=f"format-{number % TYPES}",
        format_version="1",
        has_storage=True,
        storage_path=path,
        storage_schema_path=f"{path}/_schema.json",
        parameters={"bucket": "models"},
        key="s3",
    )


def name(number: int) -> str:
    """Of a service; in no order, as names come from documents."""
    return f"classifier-{number * 7919 % 10_000_019:07}"


def model_type(number: int) -> str:
    """Label of the models of one of the `TYPES`."""
    return spec(number).label()


class Services:
    """Those of one mesh, and how many were written."""

    def __init__(self, store: str, service: str) -> None:
        self._connection = Connection(parse(store))
        self._layout = Layout(parse(store).root, Settings().kv_prefix, service)
        self.count = 0

    async def more(self, count: int) -> None:
        """Registers so many further services, some transactions at a time."""
        begins = iter(range(self.count, self.count + count, TRANSACTION))
        end = self.count + count

        async def write() -> None:
            for begin in begins:
                await self._write(range(begin, min(begin + TRANSACTION, end)))

        await asyncio.gather(*(write() for _ in range(AT_A_TIME)))
        self.count = end

    async def steadily(self, rate: int, seconds: float) -> None:
        """Registers `rate` services a second."""
        begun, first = time.monotonic(), self.count
        while (passed := time.monotonic() - begun) < seconds:
            if (due := int(passed * rate) - (self.count - first)) > 0:
                await self.more(min(due, AT_ONCE))
            await asyncio.sleep(0.02)

    async def touch(self, numbers: Iterable[int]) -> None:
        """Writes services again, with another time of their last use."""
        await self._write(numbers)

    async def there(self) -> int:
        """How many services etcd has."""
        begin = self._layout.key(ALIASES, "")
        answer, _ = await self._connection.call(
            "Range", rpc.RangeRequest(key=begin, range_end=end_of(begin), count_only=True), within=PATIENCE
        )
        found: int = answer.count
        return found

    async def compact(self) -> None:
        """Has etcd forget all versions but the latest ones."""
        answer, _ = await self._connection.call("Range", rpc.RangeRequest(key=self._layout.marker))
        await self._connection.call("Compact", rpc.CompactionRequest(revision=answer.header.revision))

    async def close(self) -> None:
        await self._connection.close()

    async def _write(self, numbers: Iterable[int]) -> None:
        puts = [rpc.RequestOp(request_put=put) for number in numbers for put in self.records(number)]
        await self._connection.call("Txn", rpc.TxnRequest(success=puts), within=PATIENCE)

    def records(self, number: int) -> tuple[Any, Any]:
        """The two records of a service."""
        wanted = spec(number)
        model = ModelId(f"{name(number)}__{SERVICE_OWNER}-{wanted.digest()}")
        info = ModelInfo(wanted.label(), wanted.model_path(), wanted.model_key())
        record = ModelRecord(info, refs=1, auto_delete=True, last_used=Millis(int(time.time() * 1000)))
        alias = AliasRecord(model, model, SERVICE_OWNER)
        stamp = f"{number & 0xFFFF_FFFF:08x}-{number % 4096:x}"
        return (
            rpc.PutRequest(key=self._layout.key(MODELS, model), value=encode(MODELS, record, stamp)),
            rpc.PutRequest(key=self._layout.key(ALIASES, name(number)), value=encode(ALIASES, alias, stamp)),
        )
