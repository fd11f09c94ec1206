"""Brings the router to the documents, and keeps what it says of each service.

Work is done per service and in rounds: what was applied or deleted at once, what is not settled every second, the rest in small
shares, so that ten thousand services cost a few calls a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from mesh.core.errors import Conflict, MeshError, PeerUnavailable
from mesh.core.explaining.status import AliasState, AliasStatus, ModelStatus, TrafficStatus
from mesh.core.ids import AliasId
from mesh.core.registry.reconciliation import Condition, DropAlias, PointAlias, Registration, decide, decide_removal, describe, settled
from mesh.local.processes import Say

log = logging.getLogger(__name__)

ROUND = 1.0
"""Seconds between two looks at what is not settled."""

SHARE = 50
"""Settled services looked at in one round."""

PARALLEL = 16
"""Calls of the router at a time."""

_UNSUPPORTED = "[_no_runtime]"
"""How a router's refusal ends while it knows of no runtime that supports a type."""

_UNSEEN = AliasStatus(AliasState.NOT_FOUND)


class Router(Protocol):
    """What the controller asks of a router; `mesh.local.router_client.RouterClient` is one."""

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        """Registers a model and points an alias at it."""
        ...

    async def delete_alias(self, order: DropAlias) -> None:
        """Removes an alias."""
        ...

    async def alias(self, alias: AliasId) -> AliasStatus:
        """Tells how an alias is."""
        ...

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        """Tells of the versions of a service; None if there is none."""
        ...


@dataclass
class Service:
    """One service as it is wanted and as it was seen last.

    Attributes:
        applied: it was applied, and the router was not told since.
        settled: nothing is expected to change by itself within seconds; kept, so that a round need not work it out for thousands.
        since: when its readiness last changed, epoch milliseconds.
        refusal: what the router said when it refused the registration.
        traffic: its versions, if it wants a canary.
    """

    wanted: Registration
    applied: bool = True
    seen: AliasStatus = _UNSEEN
    ready: bool = False
    settled: bool = False
    since: int = 0
    refusal: str = ""
    traffic: TrafficStatus | None = None

    def condition(self) -> Condition:
        """The words for what was seen last."""
        return describe(self.wanted, self.seen, was_ready=self.ready, traffic=self.traffic)


class Controller:
    """Runs until cancelled; every public method may be called meanwhile, from the same loop.

    Args:
        supported: whether a runtime in force takes models of a type, whatever the routers know.

    Attributes:
        trouble: why the router could not be told of what was applied, at the latest try; empty if it could.
    """

    def __init__(self, router: Router, say: Say, supported: Callable[[str], bool] = lambda _: False) -> None:
        self.services: dict[AliasId, Service] = {}
        self.trouble = ""
        self._router = router
        self._say = say
        self._supported = supported
        self._removals: dict[AliasId, str] = {}
        self._sweep: deque[AliasId] = deque()
        self._wake = asyncio.Event()
        self._gate = asyncio.Semaphore(PARALLEL)

    def want(self, wanted: Registration) -> None:
        """A document was applied, for the first time or again."""
        self._removals.pop(wanted.alias, None)
        before = self.services.get(wanted.alias)
        self.services[wanted.alias] = Service(wanted) if before is None else before
        service = self.services[wanted.alias]
        service.wanted, service.applied, service.refusal = wanted, True, ""
        self._wake.set()

    def unwant(self, alias: AliasId) -> None:
        """A document was deleted."""
        service = self.services.pop(alias, None)
        if service:
            self._removals[alias] = service.wanted.owner
            self._wake.set()

    def forget(self) -> None:
        """The router lost what it knew: everything is registered again."""
        for service in self.services.values():
            service.seen, service.traffic, service.applied = _UNSEEN, None, True
        self._removals.clear()
        self._wake.set()

    def pending(self) -> int:
        """Services and removals that the router was not told of."""
        return len(self._removals) + sum(service.applied for service in self.services.values())

    async def refresh(self, names: Iterable[AliasId]) -> None:
        """Asks the router about these now, as far as it was told of them; what it does not answer keeps its last state."""
        known = [self.services[name] for name in names if name in self.services and not self.services[name].applied]
        await self._all([self._look(service) for service in known])

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._round()
                self.trouble = ""
            except PeerUnavailable as error:
                self.trouble = error.message  # it is starting again, or its registry is away; the next round asks again
            except Exception:
                # A fault of one round must not end a mesh that serves.
                log.exception("a round of the controller failed; the next one begins in %g s", ROUND)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), ROUND)

    async def _round(self) -> None:
        removals = list(self._removals.items())
        await self._all([self._remove(alias, owner) for alias, owner in removals])
        due = [service for service in self.services.values() if service.applied or not service.settled]
        busy = {service.wanted.alias for service in due}
        due += [self.services[alias] for alias in self._share() if alias not in busy]
        await self._all([self._reconcile(service) for service in due])

    def _share(self) -> list[AliasId]:
        if not self._sweep:
            self._sweep.extend(self.services)
        share = [self._sweep.popleft() for _ in range(min(SHARE, len(self._sweep)))]
        return [alias for alias in share if alias in self.services]

    async def _all(self, work: list[Awaitable[None]]) -> None:
        """All of it, a few at a time; a router that does not answer ends the round, other errors are the service's own."""

        async def one(item: Awaitable[None]) -> None:
            async with self._gate:
                await item

        answers = await asyncio.gather(*map(one, work), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and (isinstance(answer, PeerUnavailable) or not isinstance(answer, MeshError)):
                raise answer

    async def _reconcile(self, service: Service) -> None:
        if service.refusal and not service.applied:
            return
        wanted = service.wanted
        seen, traffic = await self._ask(wanted)
        order = decide(wanted, seen, applied_again=service.applied, traffic=traffic)
        if order:
            try:
                if order.first:
                    await self._router.set_alias(PointAlias(order.first, load_now=True), retry=service.applied)
                seen = await self._router.set_alias(order, retry=service.applied)
                traffic = await self._traffic(wanted)
            except Conflict:
                seen, traffic = await self._ask(wanted)
            except PeerUnavailable:
                raise
            except MeshError as error:
                if service.wanted is wanted:
                    service.refusal, service.applied = error.message, False
                    self._say("services", f"{wanted.alias}: {error.message}")
                return
        if service.wanted is wanted:
            service.applied = False
            self._saw(service, seen, traffic)

    async def _look(self, service: Service) -> None:
        wanted = service.wanted
        seen, traffic = await self._ask(wanted)
        if service.wanted is wanted and not service.applied:
            self._saw(service, seen, traffic)

    async def _ask(self, wanted: Registration) -> tuple[AliasStatus, TrafficStatus | None]:
        return await self._router.alias(wanted.alias), await self._traffic(wanted)

    async def _traffic(self, wanted: Registration) -> TrafficStatus | None:
        """Only for a canary: of others, which are many, the alias tells enough."""
        return None if wanted.share is None else await self._router.traffic(wanted.alias)

    def _saw(self, service: Service, seen: AliasStatus, traffic: TrafficStatus | None) -> None:
        before = service.condition()
        service.seen, service.traffic = self._up_to_date(service.wanted, seen, traffic)
        now = service.condition()
        service.settled = settled(now)
        if now.ready != service.ready or not service.since:
            service.ready, service.since = now.ready, int(time.time() * 1000)
        if (now.active, now.target, now.canary and now.canary.text) != (before.active, before.target, before.canary and before.canary.text):
            target = f", successor {now.target.value}" if now.target else ""
            reason = f"; {now.canary.text}" if now.canary else f": {now.failure.message}" if now.failure else ""
            self._say("services", f"{service.wanted.alias} is {now.active.value}{target}{reason}")

    def _up_to_date(
        self, wanted: Registration, seen: AliasStatus, traffic: TrafficStatus | None
    ) -> tuple[AliasStatus, TrafficStatus | None]:
        """Routers read the rules of runtimes again every few seconds: one that knows of no runtime though there is one is only behind."""

        def told(status: ModelStatus | None) -> ModelStatus | None:
            if status is None or not any(error.endswith(_UNSUPPORTED) for error in status.errors) or not self._supported(wanted.type):
                return status
            return replace(status, errors=tuple(f"{error.removesuffix(_UNSUPPORTED)}[{wanted.type}]" for error in status.errors))

        if traffic is not None:
            versions = ((one, told(one.status) if one.model == wanted.model else None) for one in traffic.versions)
            traffic = replace(traffic, versions=tuple(replace(one, status=status or one.status) for one, status in versions))
        if wanted.model == (seen.target or wanted.model):
            seen = replace(seen, active_status=told(seen.active_status), target_status=told(seen.target_status))
        return seen, traffic

    async def _remove(self, alias: AliasId, owner: str) -> None:
        order = decide_removal(alias, owner, await self._router.alias(alias))
        if order:
            await self._router.delete_alias(order)
        if self._removals.get(alias) == owner and alias not in self.services:
            del self._removals[alias]
