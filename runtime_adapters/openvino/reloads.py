"""Carries out what `Batches` decides: writes the list, has the server read it, looks, keeps the time, and answers who waits."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from runtime_adapters.errors import AdapterError, Late, RuntimeRefused, Unreachable
from runtime_adapters.openvino import batches
from runtime_adapters.openvino.batches import Batches, Event
from runtime_adapters.openvino.client import Client
from runtime_adapters.openvino.config import ConfigFile
from runtime_adapters.openvino.statuses import Statuses
from runtime_adapters.storage import tree
from runtime_adapters.turns import to_end
from runtime_adapters.v2_client import MANAGEMENT_TIMEOUT

log = logging.getLogger(__name__)

FAILED = "Failed to update model configuration with OVMS"


class Reloads:
    """The loads and unloads of one server. `timeout` in seconds: for a reload's answer, and for an unload to be over.

    `batches` begins with what the file lists.
    """

    def __init__(self, batches: Batches, file: ConfigFile, client: Client, timeout: float) -> None:
        self._batches = batches
        self._file = file
        self._client = client
        self._timeout = timeout
        self._tickets = itertools.count()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def load(self, model: str, folder: str, timeout: float) -> None:
        """Return when the model serves from `folder`. It is loaded anew if the server has it already."""
        if self._batches.may_have(model):
            # The list would be the same as before, and the server would not look at the files again.
            await self.unload(model)
        late = f"the model did not serve within {timeout:g} s"
        await self._order(lambda ticket: batches.LoadAsked(ticket, model, folder), timeout, lambda: f"{late}: {self._batches.state(model)}")

    async def unload(self, model: str) -> None:
        """Return when the server has nothing of the model; fine if it never had."""
        limit = self._limit
        late = f"OVMS still has the model after {limit:g} s"
        await self._order(lambda ticket: batches.UnloadAsked(ticket, model), limit, lambda: f"{late}: {self._batches.state(model)}")

    async def clear(self) -> None:
        """Return when the server has no model."""
        await self._order(batches.ClearAsked, self._limit, lambda: f"OVMS still has models after {self._limit:g} s")

    @property
    def _limit(self) -> float:
        """Seconds for an unload: the reload under way has its time, and the one after it."""
        return 2 * self._timeout

    async def lost(self) -> None:
        """The server is gone: nothing is listed for its successor, which would load it all before it is asked to."""
        self._tell(batches.ServerLost(Unreachable(f"{self._client.server} was lost")))
        async with self._writing:
            if not self._batches.wanted:
                try:
                    await to_end(asyncio.to_thread(self._file.write, {}))
                except OSError as error:
                    log.warning("%s cannot be emptied: %s", self._file.path, error)

    async def close(self) -> None:
        """Stop; what is under way is not waited for."""
        if self._timer:
            self._timer.cancel()
        for task in self._work:
            task.cancel()
        if self._work:
            await asyncio.wait(self._work)

    async def _order(self, event: Callable[[int], Event], timeout: float, late: Callable[[], str]) -> None:
        ticket = next(self._tickets)
        done = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._tell(event(ticket))
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            raise Late(late()) from None
        finally:
            # Answered: the machine has forgotten it, and this says nothing new.
            if self._waiting.pop(ticket, None):
                self._tell(batches.Left(ticket))

    def _tell(self, event: Event) -> None:
        loop = asyncio.get_running_loop()
        for order in self._batches.handle(event, loop.time()):
            match order:
                case batches.Reload(models):
                    self._begin(self._reload(models))
                case batches.Look():
                    self._begin(self._look())
                case batches.WakeAt(time):
                    if self._timer:
                        self._timer.cancel()
                    self._timer = loop.call_at(time, self._tell, batches.TimePassed())
                case batches.Answer(ticket, error):
                    done = self._waiting.pop(ticket, None)
                    if done and not done.done():
                        done.set_exception(error) if error else done.set_result(None)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _reload(self, models: Mapping[str, str]) -> None:
        try:
            async with self._writing:
                await to_end(asyncio.to_thread(self._file.write, models))
        except OSError as error:
            self._tell(batches.Reloaded(None, tree.disk_error(error, self._file.path).within(FAILED)))
            return
        log.info("reload", extra={"models": len(models)})
        try:
            self._tell(batches.Reloaded(await self._client.reload(self._timeout)))
        except AdapterError as trouble:
            log.warning("reload: %s", trouble)
            # A list that is refused as a whole, or one model of it that fails, or a load that takes long: each model has its own word.
            over = isinstance(trouble, RuntimeRefused)
            self._tell(batches.Reloaded(await self._seen(), trouble.within(FAILED), over))

    async def _look(self) -> None:
        self._tell(batches.Looked(await self._seen()))

    async def _seen(self) -> Statuses | None:
        try:
            return await self._client.models(min(self._timeout, MANAGEMENT_TIMEOUT))
        except AdapterError:
            return None
