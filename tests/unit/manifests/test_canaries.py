"""`canaryTrafficPercent`: read, refused with its line, and brought to a real pod's registry beside the stable version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.core.errors import Malformed, Unknown
from mesh.core.explaining.status import AliasStatus, TrafficStatus, VersionStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.reconciliation import PointAlias, Registration, State
from mesh.core.registry.records import ModelInfo
from mesh.local import controller
from mesh.local.controller import Controller
from mesh.local.views import _message
from mesh.manifests.bounds import VERSIONS
from mesh.manifests.documents import InferenceService
from mesh.manifests.parsing import parse, parse_value
from mesh.manifests.predictor import registration
from mesh.manifests.reading import read_text
from mesh.manifests.status import Addresses, service_status
from mesh.pod.versions import Versions
from tests.unit.manifests.test_updating_services import A, Here, Service
from tests.unit.pod.bench import Bench
from tests.unit.pod.pods import becomes

TEXT = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: a
  annotations:
    {notes}
spec:
  predictor:
    {canary}
    model: {{modelFormat: {{name: sklearn}}, storage: {{path: x}}}}
"""


def read(notes: str = "x: y", canary: str = "minReplicas: 0") -> Registration:
    (applied,) = parse(read_text(TEXT.format(notes=notes, canary=canary), "f.yaml"))
    assert isinstance(applied.document, InferenceService)
    return registration(applied.document)


def test_a_share_and_versions_are_read_and_are_no_part_of_the_models_identity() -> None:
    plain = read()
    assert (plain.canary, plain.keep) == (None, 3)
    shared = read(f"{VERSIONS}: '7'", "canaryTrafficPercent: 10")
    assert (shared.canary, shared.share, shared.keep, shared.model) == (10, 10, 7, plain.model)
    assert (read(canary="canaryTrafficPercent: 100").share, read(canary="canaryTrafficPercent: 0").share) == (None, 0)
    assert read(canary="canaryTrafficPercent:").canary is None


def test_the_older_kind_keeps_versions_and_knows_no_share() -> None:
    metadata = {"name": "a", "annotations": {VERSIONS: "1"}}
    value: dict[str, Any] = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "Predictor", "metadata": metadata}
    document = parse_value({**value, "spec": {"modelType": {"name": "sklearn"}, "path": "x"}}, "a.yaml").document
    found = registration(document)  # type: ignore[arg-type]
    assert (found.keep, found.canary) == (1, None)


@pytest.mark.parametrize(
    ("notes", "canary", "said"),
    [
        (
            "x: y",
            "canaryTrafficPercent: 101",
            "f.yaml:9:27: spec.predictor.canaryTrafficPercent: Input should be less than or equal to 100",
        ),
        (
            "x: y",
            "canaryTrafficPercent: -1",
            "f.yaml:9:27: spec.predictor.canaryTrafficPercent: Input should be greater than or equal to 0",
        ),
        (
            "x: y",
            "canaryTrafficPercent: ten",
            "f.yaml:9:27: spec.predictor.canaryTrafficPercent: must be a whole number, not the text 'ten'",
        ),
        (f"{VERSIONS}: '0'", "x: y", f"f.yaml:6:30: metadata.annotations: {VERSIONS} has to be from 1 to 100, not 0"),
        (f"{VERSIONS}: '101'", "x: y", f"f.yaml:6:30: metadata.annotations: {VERSIONS} has to be from 1 to 100, not 101"),
        (f"{VERSIONS}: all", "x: y", f"f.yaml:6:30: metadata.annotations: {VERSIONS} has to be a whole number, not 'all'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(notes: str, canary: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(notes, canary)
    assert caught.value.message == said


# The controller, on a real pod


class WithVersions(Here):
    """The router as the controller calls it, versions and all."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.versions = Versions(bench.conductor, bench.registry, bench.management)
        self.asked_of_versions = 0

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        one = order.registration
        edit = SetAlias(
            one.alias,
            one.model,
            self._bench.conductor.now(),
            info=ModelInfo(one.type, one.path, one.key),
            auto_delete=True,
            load_now=order.load_now,
            owner=one.owner,
            keep=one.keep,
            canary=one.share,
        )
        return await self._bench.management.set_alias(edit, retry=retry)

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        self.asked_of_versions += 1
        try:
            told = await self.versions.traffic(alias)
        except Unknown:
            return None
        found = (
            VersionStatus(one.version.number, one.version.model, self.versions.status(one.version.model), one.percent, one.stable, one.next)
            for one in told.versions
        )
        return TrafficStatus(tuple(found), told.policy, told.blocked)


class Shared(Service):
    """A document whose calls may be shared."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.here: WithVersions = WithVersions(bench)
        self.controller = Controller(self.here, lambda _what, text: self.said.append(text))

    def share(self, version: str, canary: int, base: str = "") -> None:
        stable = self.registration(base) if base else None
        self.controller.want(self.registration(version, canary=canary, base=stable))

    def registration(self, version: str, **options: Any) -> Registration:
        return Registration(A, "isvc", ModelId(f"digits__{version}"), "test", version, "", **options)

    @property
    def record(self) -> tuple[str, str, int]:
        found = self.bench.registry.aliases[A]
        return found.active.removeprefix("digits__"), found.target.removeprefix("digits__"), found.canary

    def message(self) -> str:
        return _message(self.controller.services[A], "")


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shared]:
    monkeypatch.setattr(controller, "ROUND", 0.02)
    made = Shared(Bench())
    await made.start()
    yield made
    await made.stop()
    await made.bench.stop()


async def test_a_canary_loads_beside_the_stable_version_and_is_promoted(service: Shared) -> None:
    await service.serves("1")
    assert service.here.asked_of_versions == 0, "a service without a canary costs no call more"
    service.share("2", 10)
    await service.bench.loading("digits__2")
    await becomes(lambda: service.message() == "canary version 2 is to have 10 % of the calls, and is not loaded yet")
    service.bench.loaded("digits__2")
    await becomes(lambda: service.message() == "canary version 2 has 10 % of the calls")
    assert (service.record, service.condition.ready) == (("1", "1", 10), True)
    known = service.controller.services[A]
    told = service_status(service.condition, Addresses(), "", known.traffic)["components"]["predictor"]
    assert told["traffic"] == [
        {"revisionName": "digits__1", "latestRevision": False, "percent": 90},
        {"revisionName": "digits__2", "latestRevision": True, "percent": 10},
    ]
    assert (told["latestRolledoutRevision"], told["latestReadyRevision"]) == ("digits__1", "digits__2")
    service.apply("2")
    await becomes(lambda: service.record == ("2", "2", 0))
    await becomes(lambda: service.message() == "")


async def test_a_canary_that_is_taken_back_leaves_the_stable_version(service: Shared) -> None:
    await service.serves("1")
    service.share("2", 10)
    await becomes(lambda: service.record == ("1", "1", 10))
    service.share("2", 40)
    await becomes(lambda: service.record == ("1", "1", 40))
    service.apply("1")
    await becomes(lambda: service.record == ("1", "1", 0))
    assert service.models() == {"digits__1", "digits__2"}, "it is kept"


async def test_a_canary_that_fails_leaves_the_service_ready_and_says_why(service: Shared) -> None:
    await service.serves("1")
    service.share("broken", 10)
    await service.bench.loading("digits__broken")
    service.bench.failed("digits__broken", "no such file")
    await becomes(lambda: service.message() == "canary version 2 cannot load, so the stable version has all calls: no such file")
    assert (service.condition.ready, service.condition.active) == (True, State.LOADED)
    status = service_status(service.condition, Addresses(), "")
    assert status["conditions"][1] == {"type": "Ready", "status": "True", "lastTransitionTime": ""}
    assert status["modelStatus"]["lastFailureInfo"]["modelRevisionName"] == "digits__broken"


async def test_a_registry_that_knows_nothing_gets_the_stable_version_before_the_canary(service: Shared) -> None:
    service.share("2", 10, base="1")
    await becomes(lambda: A in service.bench.registry.aliases and service.record == ("1", "1", 10))
    for version in ("1", "2"):
        await service.bench.loading(f"digits__{version}")
        service.bench.loaded(f"digits__{version}")
    await becomes(lambda: service.message() == "canary version 2 has 10 % of the calls")


async def test_a_share_that_somebody_else_changed_is_set_right(service: Shared) -> None:
    await service.serves("1")
    service.share("2", 10)
    await service.bench.loading("digits__2")
    service.bench.loaded("digits__2")
    await becomes(lambda: service.message() == "canary version 2 has 10 % of the calls")
    await service.here.versions.shift(A, 2, 70)
    await service.controller.refresh([A])
    await becomes(lambda: service.record == ("1", "1", 10))
