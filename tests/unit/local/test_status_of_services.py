"""The word for how a service is, from what the router last told of it: `mesh get isvc -o wide` shows it for thousands at once."""

from __future__ import annotations

import pytest

from mesh.cli import output
from mesh.core.explaining.status import AliasState, AliasStatus, CopyStatus, ModelState, ModelStatus, TrafficStatus
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.reconciliation import DropAlias, PointAlias, Registration
from mesh.core.units import Millis
from mesh.local.controller import Controller, Service
from mesh.local.views import _message, _standing

A = PodId("a")


def said(status: ModelStatus | None, refusal: str = "") -> str:
    """What a user reads."""
    wanted = Registration(AliasId("s"), "owner", ModelId("m"), "type", "path", "key")
    seen = AliasStatus(AliasState.DEFINED, ModelId("m"), ModelId("m"), active_status=status)
    return output.standing(_standing(Service(wanted, seen=seen, refusal=refusal)))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ModelStatus(ModelState.LOADED, (), (CopyStatus(A, ModelState.LOADED, Millis(5)),)), "resident"),
        (ModelStatus(ModelState.NOT_LOADED), "not resident, will load on demand"),
        (
            ModelStatus(ModelState.LOADING_FAILED, ("no such\nfile",), (CopyStatus(A, ModelState.LOADING_FAILED, Millis(5)),)),
            "failing: no such file",
        ),
        (ModelStatus(ModelState.LOADING_FAILED, ("no pod has the labels",)), "failing for good: no pod has the labels"),
        (None, "unknown"),
    ],
)
def test_it_tells_what_will_load_from_what_fails(status: ModelStatus | None, text: str) -> None:
    assert said(status) == text


def test_a_service_that_is_loading_says_since_when_and_a_refused_one_why() -> None:
    loading = ModelStatus(ModelState.LOADING, (), (CopyStatus(A, ModelState.LOADING, Millis(1_700_000_000_000)),))
    assert said(loading).startswith("loading since 2023-11-1")
    assert said(None, "the alias belongs to another owner") == "failing for good: the alias belongs to another owner"


def test_what_the_registry_does_not_have_yet_says_why() -> None:
    wanted = Registration(AliasId("s"), "owner", ModelId("m"), "type", "path", "key")
    told = "not written to the registry yet, which is tried until it succeeds: etcd does not answer"
    assert _message(Service(wanted, applied=True), "etcd does not answer") == told
    assert _message(Service(wanted, applied=True), "") == ""
    assert _message(Service(wanted, applied=False), "etcd does not answer") == "", "it was registered before"


class SaysNoRuntime:
    """A router that has not read the rules of runtimes again."""

    def __init__(self) -> None:
        text = "There are no running instances that meet the label requirements of type mt:mine: [_no_runtime]"
        status = ModelStatus(ModelState.LOADING_FAILED, (text,))
        self.seen = AliasStatus(AliasState.DEFINED, ModelId("m"), ModelId("m"), "owner", status)

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        return self.seen

    async def delete_alias(self, order: DropAlias) -> None: ...

    async def alias(self, alias: AliasId) -> AliasStatus:
        return self.seen

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        return None


@pytest.mark.parametrize(
    ("supported", "state", "message"),
    [
        (True, "Loading", "Waiting for supporting runtime Pod to become available"),
        (False, "FailedToLoad", "No ServingRuntime supports specified model type and/or protocol"),
    ],
)
async def test_a_router_that_does_not_know_a_runtime_yet_is_not_believed(supported: bool, state: str, message: str) -> None:
    controller = Controller(SaysNoRuntime(), lambda _who, _what: None, lambda kind: supported and kind == "mt:mine")
    controller.want(Registration(AliasId("s"), "owner", ModelId("m"), "mt:mine", "path", "key"))
    await controller._round()
    (service,) = controller.services.values()
    condition = service.condition()
    assert condition.failure
    assert (condition.active.value, condition.failure.message) == (state, message)
