"""Brings the routers to the traffic policies of documents, and keeps what they say of each.

What holds is compared with what is wanted, in rounds: a service that comes, comes again or was lost with its registry gets its policy then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.core.errors import Conflict, MeshError, PeerUnavailable
from mesh.core.explaining.status import TrafficStatus
from mesh.core.ids import AliasId
from mesh.core.traffic.reading import policy_to_json
from mesh.local.processes import Say
from mesh.manifests.documents import TrafficPolicy
from mesh.manifests.parsing import Applied, policy_of

log = logging.getLogger(__name__)

ROUND = 1.0
"""Seconds between two looks at what does not hold yet."""

SHARE = 10
"""Policies that hold and are looked at in one round."""

PENDING, REFUSED, IN_FORCE = "pending", "refused", "in force"
"""States of a policy; one is pending until its service is there."""


class Router(Protocol):
    """What is asked of a router; `mesh.local.router_client.RouterClient` is one."""

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        """Tells of a service; None if there is none."""
        ...

    async def set_policy(self, alias: AliasId, policy: Mapping[str, Any], owner: str) -> TrafficStatus:
        """Replaces the policy of a service."""
        ...


@dataclass
class Held:
    """A policy that is wanted.

    Attributes:
        name: of its document; empty once that was deleted.
        policy: as routers tell it when it holds; `{}` is none.
        state: when it was last looked at.
        message: why it is not in force.
    """

    name: str
    service: AliasId
    policy: dict[str, Any]
    state: str = PENDING
    message: str = ""


class Policies:
    """Runs until cancelled; every public method may be called meanwhile, from the same loop."""

    def __init__(self, router: Router, say: Say) -> None:
        self._router, self._say = router, say
        self._held: dict[AliasId, Held] = {}
        self._sweep: deque[AliasId] = deque()
        self._wake = asyncio.Event()

    def want(self, document: TrafficPolicy) -> None:
        """A document was applied, for the first time or again."""
        service = AliasId(document.service)
        for other in [one for one in self._held.values() if one.name == document.name and one.service != service]:
            self.unwant(other.service)
        self._held[service] = Held(document.name, service, policy_to_json(policy_of(document)))
        self._wake.set()

    def unwant(self, service: str) -> None:
        """The document of a service's policy was deleted."""
        self._held[AliasId(service)] = Held("", AliasId(service), {})
        self._wake.set()

    def of(self, service: str) -> Held:
        """How a service's policy is. KeyError if it has none."""
        return self._held[AliasId(service)]

    async def bring(self, service: str) -> str:
        """Brings a router to one policy now; answers why it does not hold, empty if it does."""
        held = self._held[AliasId(service)]
        try:
            await self._look(held)
        except PeerUnavailable as error:
            held.message = error.message
        return held.message

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            self._wake.clear()
            try:
                for held in self._due():
                    await self._look(held)
            except PeerUnavailable:
                pass  # it is starting again, or its registry is away; the next round asks again
            except Exception:
                # A fault of one round must not end a mesh that serves.
                log.exception("a round of the policies failed; the next one begins in %g s", ROUND)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), ROUND)

    def _due(self) -> list[Held]:
        if not self._sweep:
            self._sweep.extend(self._held)
        share = {self._sweep.popleft() for _ in range(min(SHARE, len(self._sweep)))}
        return [held for service, held in list(self._held.items()) if held.state != IN_FORCE or service in share]

    async def _look(self, held: Held) -> None:
        traffic = await self._router.traffic(held.service)
        refusal = ""
        try:
            if traffic is not None and dict(traffic.policy) != held.policy:
                await self._router.set_policy(held.service, held.policy, "")
        except PeerUnavailable:
            raise
        except MeshError as error:
            refusal = error.message
        before = held.state, held.message
        held.state, held.message = REFUSED if refusal else IN_FORCE, refusal
        if traffic is None:
            held.state, held.message = PENDING, f"there is no service {held.service} yet"
        if self._held.get(held.service) is not held:
            return
        if not held.name and held.state != REFUSED:
            del self._held[held.service]
        elif (held.state, held.message) != before:
            self._say("policies", f"{held.name or held.service} is {held.state}" + (f": {held.message}" if held.message else ""))


def check(batch: Iterable[Applied], held: Iterable[Applied]) -> None:
    """Conflict if two documents are to share the calls of one service."""
    documents = {one.document.name: one for one in (*held, *batch) if isinstance(one.document, TrafficPolicy)}
    of: dict[str, str] = {}
    for name, applied in documents.items():
        assert isinstance(applied.document, TrafficPolicy)
        service = applied.document.service
        if service in of:
            raise Conflict(f"{applied.origin}: TrafficPolicy {name}: the service {service} has TrafficPolicy {of[service]} already")
        of[service] = name
