"""Which version a call goes to here; what the express lane chose for a call stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.traffic.policy import Policy, Version, canary
from mesh.core.units import Millis
from mesh.pod.traffic import Traffic
from mesh.wire.call import Call

SERVICE, POD = AliasId("s"), PodId("pod")
OLD, STABLE, NEW = map(ModelId, ("old", "stable", "new"))
VERSIONS = (Version(1, OLD), Version(2, STABLE), Version(3, NEW))
READY = ModelRecord(ModelInfo(""), copies={POD: Millis(1)}, ready={POD: Millis(2)})
METHOD = "a.B/c"


class Registry:
    """With one service, of whose versions the first is kept and gets no calls."""

    def __init__(self) -> None:
        self.aliases = {SERVICE: AliasRecord(STABLE, STABLE, versions=VERSIONS, policy=Policy(default=canary(10)))}
        self.models = dict.fromkeys((OLD, STABLE, NEW), READY)
        self.model_changed: Callable[[ModelId, ModelRecord | None], None] = lambda *_: None

    def listen(self, model: Any, alias: Any) -> None:
        self.model_changed = model


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def traffic(registry: Registry) -> Traffic:
    given: Any = SimpleNamespace(aliases=registry.aliases, models=registry.models, listen=registry.listen)
    draws = itertools.cycle((0.05, 0.5))
    return Traffic(given, lambda: next(draws))


def went(traffic: Traffic, chosen: ModelId | None, calls: int = 4) -> list[ModelId]:
    found = [traffic.chosen(SERVICE, Call(METHOD, chosen=chosen), b"") for _ in range(calls)]
    return [one.model for one in found if one is not None]


def test_what_the_lane_chose_is_not_chosen_again(traffic: Traffic) -> None:
    assert went(traffic, None) == [NEW, STABLE, NEW, STABLE]
    assert went(traffic, NEW) == [NEW] * 4
    assert went(traffic, STABLE) == [STABLE] * 4


def test_what_gets_no_calls_any_more_is_not_believed(traffic: Traffic) -> None:
    for model in (OLD, ModelId("another service's")):
        assert went(traffic, model) == [NEW, STABLE, NEW, STABLE]


def test_what_was_chosen_and_cannot_serve_is_served_by_the_stable_version(traffic: Traffic, registry: Registry) -> None:
    registry.model_changed(NEW, ModelRecord(ModelInfo("")))
    assert went(traffic, NEW) == [STABLE] * 4


def test_a_service_that_shares_nothing_is_not_known_here(traffic: Traffic) -> None:
    assert traffic.chosen(AliasId("other"), Call(METHOD, chosen=NEW), b"") is None
