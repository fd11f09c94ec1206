"""The models of one model server: loads, unloads and purges, in turn, and nothing left behind by what failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

from runtime_adapters import schema
from runtime_adapters.adapter import Adapter, Limits, LocalModel, Measures
from runtime_adapters.errors import AdapterError, InvalidRequest, Missing, RuntimeRefused, Unreachable
from runtime_adapters.settings import Settings
from runtime_adapters.storage import keys, tree
from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.puller import Puller
from runtime_adapters.turns import Turns, to_end

log = logging.getLogger(__name__)

PREDICTION_TIME = 0.4
"""Seconds for a size prediction; the router waits half a second for one and no longer."""
CLOSING_TIME = 10.0
"""Seconds that a stop waits for interrupted loads."""
NOTHING_HELD = frozenset([grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION])
"""Codes that promise the router that no memory is held."""

_T = TypeVar("_T")


class ModelRequest(NamedTuple):
    """A model as the router names it."""

    id: str
    type: str
    path: str
    key: str


class Models:
    """Carries out what the router asks, on one adapter."""

    def __init__(self, settings: Settings, adapter: Adapter, puller: Puller | None) -> None:
        self._settings = settings
        self._adapter = adapter
        self._puller = puller
        self._turns = Turns()
        self._loads: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sizes: dict[str, int] = {}
        self._unmeasured: set[str] = set()  # what no document gives a size for, on a server that measures
        self._held: set[str] = set()  # what the server may hold, as far as this process knows

    @property
    def loading(self) -> bool:
        """Whether a load is in progress."""
        return bool(self._loads)

    async def load(self, request: ModelRequest) -> int:
        """Load a model and return its size in bytes, 0 if `size` is to measure it. Cancelling it stops the load and removes what it made.

        Raises:
            AdapterError: why it failed; nothing of the model is left on disk or in the server then.
        """
        _check_id(request.id)
        key = keys.parse(request.key)
        task = self._task(self._load(request, key))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unreachable(f"{self._adapter.name} was lost or purged while model {request.id} was being loaded") from None
            task.cancel()
            raise

    async def unload(self, model_id: str) -> None:
        """Unload a model and remove its files; an unknown one is fine. Carried out to the end even if the caller leaves."""
        _check_id(model_id)
        await asyncio.shield(self._task(self._unload(model_id)))

    async def predict(self, request: ModelRequest) -> int:
        """The size that a model will have, in bytes, within `PREDICTION_TIME`; the default size if it cannot be told in that time."""
        try:
            key = keys.parse(request.key)
            if key.size:
                return key.size
            async with asyncio.timeout(PREDICTION_TIME):
                disk = await self._puller.size(request.path, key) if self._puller else key.disk_size
        except (AdapterError, OSError, TimeoutError) as error:
            log.info("size of model %s cannot be predicted: %s", request.id, str(error) or "no answer in time")
            disk = None
        return self._memory(disk)

    async def size(self, model_id: str) -> int:
        """The size of a loaded model in bytes, at least 1: measured if the server can, else guessed.

        Raises:
            Missing: it is not loaded.
        """
        if model_id not in self._sizes:
            raise Missing(f"model {model_id} is not loaded")
        guessed = self._sizes[model_id]
        if model_id in self._unmeasured and (measured := await self._adapter_measures(model_id)):
            log.info("measured", extra={"model": model_id, "size": measured, "guessed": guessed})
            return measured
        return guessed

    async def _adapter_measures(self, model_id: str) -> int | None:
        assert isinstance(self._adapter, Measures)
        return await self._adapter.measure(model_id)

    async def concurrency(self, model_id: str) -> int:
        """Calls that a loaded model takes at a time, as its server says or else as the settings do; 0 if calls are not limited."""
        limit = self._settings.model_concurrency
        if limit and isinstance(self._adapter, Limits):
            try:
                return await self._adapter.concurrency(model_id) or limit
            except AdapterError as error:
                log.warning("how many calls a model takes is not known: %s", error, extra={"model": model_id})
        return limit

    def interrupt(self) -> None:
        """End every load in progress with `Unreachable`."""
        for task in self._loads:
            task.cancel()

    async def close(self) -> None:
        """End running loads, and wait until what they made is removed."""
        self.interrupt()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_TIME)

    async def purge(self) -> None:
        """End running loads, unload every model, remove every file.

        Raises:
            AdapterError: the server does not unload.
            OSError: the disk refuses.
        """
        await to_end(self._purge())

    async def _purge(self) -> None:
        self.interrupt()
        async with self._turns.alone():
            await self._adapter.unload_all()
            self._sizes.clear()
            self._held.clear()
            await asyncio.to_thread(self._clear)

    def _clear(self) -> None:
        for entry in self._adapter.folder.iterdir():
            tree.remove(entry)
        if self._puller:
            self._puller.clear()

    async def _load(self, request: ModelRequest, key: ModelKey) -> int:
        async with self._turns.of(request.id):
            try:
                return await self._bring(request, key)
            except BaseException as error:
                if not await to_end(self._clean(request.id)) and isinstance(error, AdapterError) and error.status in NOTHING_HELD:
                    raise RuntimeRefused(error.message, grpc.StatusCode.INTERNAL) from None
                raise

    async def _bring(self, request: ModelRequest, key: ModelKey) -> int:
        model = await self._fetch(request, key)
        disk = await to_end(asyncio.to_thread(tree.disk_usage, model.path)) if self._puller else key.disk_size
        try:
            await to_end(asyncio.to_thread(self._adapter.prepare, model))
        except OSError as error:
            raise tree.disk_error(error, self._adapter.folder).within("Failed to load Model due to adapter error") from error
        self._held.add(request.id)
        await self._adapter.load(request.id, self._settings.load_timeout / 1000)
        self._sizes[request.id] = key.size or self._memory(disk)
        log.info("loaded", extra={"model": request.id, "bytes_on_disk": disk, "size": self._sizes[request.id]})
        if isinstance(self._adapter, Measures) and not key.size:
            self._unmeasured.add(request.id)
            return 0
        self._unmeasured.discard(request.id)
        return self._sizes[request.id]

    async def _fetch(self, request: ModelRequest, key: ModelKey) -> LocalModel:
        if self._puller:
            path, schema_path = await self._puller.pull(request.id, request.path, key)
        else:
            path, schema_path = Path(request.path), Path(key.schema_path) if key.schema_path else None
        try:
            found = await asyncio.to_thread(schema.read, schema_path) if schema_path else None
        except AdapterError as error:
            raise error.within("Failed to load Model due to adapter error") from None
        return LocalModel(request.id, keys.model_type(key, request.type), path, found)

    async def _clean(self, model_id: str) -> bool:
        """Undo a load, however far it came; answers whether the server certainly holds nothing of it."""
        self._sizes.pop(model_id, None)
        if model_id in self._held:
            try:
                await self._adapter.unload(model_id)
                self._held.discard(model_id)
            except Unreachable:
                self._held.discard(model_id)
            except AdapterError as error:
                log.warning("after a failed load: %s", error, extra={"model": model_id})
        await asyncio.to_thread(self._remove, model_id)
        return model_id not in self._held

    async def _unload(self, model_id: str) -> None:
        async with self._turns.of(model_id):
            await self._adapter.unload(model_id)
            self._sizes.pop(model_id, None)
            self._held.discard(model_id)
            await asyncio.to_thread(self._remove, model_id)
            log.info("unloaded", extra={"model": model_id})

    def _remove(self, model_id: str) -> None:
        self._adapter.discard(model_id)
        if self._puller:
            self._puller.remove(model_id)

    def _memory(self, disk: int | None) -> int:
        """Bytes in memory for bytes on disk; an empty or unknown model counts as one of the default size, and none as 0."""
        return max(1, int(disk * self._settings.size_multiplier)) if disk else self._settings.default_size

    def _task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left; looked at, so that asyncio does not report it as lost


def _check_id(model_id: str) -> None:
    if not model_id or "\0" in model_id:
        raise InvalidRequest(f"{model_id!r} is not a model id")
