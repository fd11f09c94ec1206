"""An InferenceService is updated: the new version loads, takes over, the old one goes; a broken one takes nothing over and says why.

The controller works on a real pod's management; only the model server's answers are the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.core.errors import PeerUnavailable
from mesh.core.events import RuntimeReturned
from mesh.core.explaining.status import AliasStatus, TrafficStatus
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.reconciliation import Condition, DropAlias, PointAlias, Registration, State, Transition
from mesh.core.registry.records import ModelInfo
from mesh.local import controller
from mesh.local.controller import Controller
from mesh.manifests.status import Addresses, service_status
from tests.unit.pod.bench import Bench
from tests.unit.pod.pods import becomes

A = AliasId("digits")


class Here:
    """The router as the controller calls it, without the wire between."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.away = ""
        self.asked = 0

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        if self.away:
            raise PeerUnavailable(self.away)
        wanted = order.registration
        info = ModelInfo(wanted.type, wanted.path, wanted.key)
        now = self._bench.conductor.now()
        edit = SetAlias(wanted.alias, wanted.model, now, info=info, auto_delete=True, load_now=order.load_now, owner=wanted.owner)
        return await self._bench.management.set_alias(edit, retry=retry)

    async def delete_alias(self, order: DropAlias) -> None:
        await self._bench.management.delete_alias(order.alias, order.owner)

    async def alias(self, alias: AliasId) -> AliasStatus:
        self.asked += 1
        return self._bench.management.alias_status(alias)

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        raise AssertionError("nobody wants a canary here")


class Service:
    """A document and its controller."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.here = Here(bench)
        self.controller = Controller(self.here, lambda _what, text: self.said.append(text))
        self.said: list[str] = []
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.bench.registry.stand_for_leader(PodId("here"))
        self._running = asyncio.create_task(self.controller.run())

    async def stop(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def apply(self, version: str) -> None:
        self.controller.want(Registration(A, "isvc", ModelId(f"digits__{version}"), "test", version, ""))

    @property
    def condition(self) -> Condition:
        return self.controller.services[A].condition()

    async def becomes(self, *wanted: object) -> None:
        """Waits until the words for active, target and transition are these."""

        def words() -> tuple[object, ...]:
            condition = self.condition
            return condition.active, condition.target, condition.transition

        await becomes(lambda: words() == wanted, f"{wanted}")

    def models(self) -> set[str]:
        return set(self.bench.registry.models)

    async def serves(self, version: str) -> Service:
        self.apply(version)
        await self.bench.loading(f"digits__{version}")
        self.bench.loaded(f"digits__{version}")
        await self.becomes(State.LOADED, None, Transition.UP_TO_DATE)
        return self


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr(controller, "ROUND", 0.02)
    made = Service(Bench())
    await made.start()
    yield made
    await made.stop()
    await made.bench.stop()


async def test_an_update_loads_the_new_version_switches_and_deletes_the_old(service: Service) -> None:
    await service.serves("1")
    service.apply("2")
    await service.becomes(State.LOADED, State.LOADING, Transition.IN_PROGRESS)
    assert service.condition.ready
    assert service.bench.registry.aliases[A].active == "digits__1"
    await service.bench.loading("digits__2")
    service.bench.loaded("digits__2")
    await service.becomes(State.LOADED, None, Transition.UP_TO_DATE)
    assert service.models() == {"digits__2"}


async def test_what_cannot_be_registered_yet_says_why_and_is_registered_as_soon_as_it_can_be(service: Service) -> None:
    service.here.away = "the router cannot do it now: etcd does not answer"
    service.apply("1")
    await becomes(lambda: service.controller.trouble == service.here.away)
    assert service.controller.pending() == 1
    asked = service.here.asked
    await service.controller.refresh([A])
    assert service.here.asked == asked, "nobody who lists services waits for an answer that cannot come"
    service.here.away = ""
    await service.bench.loading("digits__1")
    await becomes(lambda: service.controller.trouble == "" and service.controller.pending() == 0)


@pytest.mark.parametrize("resident", [True, False], ids=["loaded", "not resident"])
async def test_a_broken_update_takes_nothing_over_and_says_why(service: Service, resident: bool) -> None:
    bench = service.bench
    await service.serves("1")
    if not resident:
        bench.tell(RuntimeReturned(emptied=True))
        await becomes(lambda: not bench.registry.models[ModelId("digits__1")].copies)
    service.apply("broken")
    await bench.loading("digits__broken")
    bench.failed("digits__broken", "no such file")
    await service.becomes(State.LOADED if resident else State.STANDBY, State.FAILED, Transition.BLOCKED)
    condition = service.condition
    assert condition.ready
    assert bench.registry.aliases[A].active == "digits__1"
    assert condition.failure is not None
    assert (condition.failure.message, condition.failure.model) == ("no such file", "digits__broken")
    status = service_status(condition, Addresses(), "2026-01-01T00:00:00Z")["modelStatus"]
    assert status["transitionStatus"] == "BlockedByFailedLoad"
    assert (status["lastFailureInfo"]["reason"], status["lastFailureInfo"]["message"]) == ("ModelLoadFailed", "no such file")
    service.apply("3")
    await bench.loading("digits__3")
    bench.loaded("digits__3")
    await service.becomes(State.LOADED, None, Transition.UP_TO_DATE)
    assert service.models() == {"digits__3"}


async def test_who_applies_again_has_a_broken_version_tried_again(service: Service) -> None:
    bench = service.bench
    await service.serves("1")
    service.apply("2")
    await bench.loading("digits__2")
    bench.failed("digits__2", "not now")
    await service.becomes(State.LOADED, State.FAILED, Transition.BLOCKED)
    await becomes(lambda: bench.unloads)
    bench.unloaded("digits__2")
    service.apply("2")
    await becomes(lambda: ModelId("digits__2") in bench.loads)
    bench.loaded("digits__2")
    await service.becomes(State.LOADED, None, Transition.UP_TO_DATE)
    assert service.models() == {"digits__2"}


async def test_a_service_that_is_deleted_during_an_update_leaves_nothing(service: Service) -> None:
    await service.serves("1")
    service.apply("2")
    await service.bench.loading("digits__2")
    service.controller.unwant(A)
    await becomes(lambda: not service.models() and not service.bench.registry.aliases)
