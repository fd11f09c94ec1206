"""Traffic policies of documents are brought to the routers, whenever their services come; what is refused is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from mesh.core.errors import Conflict, Malformed, PeerUnavailable
from mesh.core.explaining.status import TrafficStatus
from mesh.core.ids import AliasId
from mesh.local import policies
from mesh.local.policies import Policies, check
from mesh.manifests.documents import TrafficPolicy
from mesh.manifests.parsing import Applied, parse, parse_value
from mesh.manifests.reading import read_text
from tests.unit.pod.pods import becomes

TO_TWO: dict[str, Any] = {"default": {"to": [{"version": 2}]}}
TOLD = {"default": {"to": [{"version": 2, "weight": 100}]}}


class Here:
    """A router with some services."""

    def __init__(self, *services: str) -> None:
        self.policies: dict[str, Mapping[str, Any]] = {name: {} for name in services}
        self.changes = 0
        self.refuses = ""
        self.away = False

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        if self.away:
            raise PeerUnavailable("the router does not answer")
        return TrafficStatus((), self.policies[alias]) if alias in self.policies else None

    async def set_policy(self, alias: AliasId, policy: Mapping[str, Any], owner: str) -> TrafficStatus:
        if self.refuses:
            raise Malformed(self.refuses)
        self.changes += 1
        self.policies[alias] = policy
        return TrafficStatus((), policy)


def document(name: str = "a", **spec: Any) -> Applied:
    value = {"apiVersion": "mesh.kserve.io/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": name}, "spec": spec}
    return parse_value(value, f"{name}.yaml")


def policy(name: str = "a", **spec: Any) -> TrafficPolicy:
    found = document(name, **spec).document
    assert isinstance(found, TrafficPolicy)
    return found


class Rig:
    def __init__(self) -> None:
        self.here = Here("a")
        self.said: list[str] = []
        self.policies = Policies(self.here, lambda _, text: self.said.append(text))


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(policies, "ROUND", 0.01)
    made = Rig()
    running = asyncio.create_task(made.policies.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_policy_is_brought_to_its_service_and_once_is_enough(rig: Rig) -> None:
    rig.policies.want(policy(**TO_TWO))
    await becomes(lambda: rig.here.policies["a"] == TOLD)
    assert await rig.policies.bring("a") == ""
    assert (rig.policies.of("a").state, rig.here.changes, rig.said) == ("in force", 1, ["a is in force"])


async def test_a_service_that_comes_later_or_comes_again_gets_its_policy(rig: Rig) -> None:
    rig.policies.want(policy("mine", service="b", **TO_TWO))
    assert await rig.policies.bring("b") == "there is no service b yet"
    assert rig.policies.of("b").state == "pending"
    for _ in range(2):
        rig.here.policies["b"] = {}
        await becomes(lambda: rig.here.policies["b"] == TOLD)


async def test_what_is_refused_is_said_and_tried_again(rig: Rig) -> None:
    rig.here.refuses = "service a keeps no version 2; it keeps 1"
    rig.policies.want(policy(**TO_TWO))
    assert await rig.policies.bring("a") == rig.here.refuses
    assert rig.policies.of("a").state == "refused"
    rig.here.refuses = ""
    await becomes(lambda: rig.policies.of("a").state == "in force")
    assert rig.said == ["a is refused: service a keeps no version 2; it keeps 1", "a is in force"]


async def test_a_router_that_is_away_is_asked_again(rig: Rig) -> None:
    rig.here.away = True
    rig.policies.want(policy(**TO_TWO))
    assert await rig.policies.bring("a") == "the router does not answer"
    rig.here.away = False
    await becomes(lambda: rig.here.policies["a"] == TOLD)


async def test_a_policy_that_is_deleted_leaves_none(rig: Rig) -> None:
    rig.policies.want(policy(**TO_TWO))
    await becomes(lambda: rig.here.policies["a"] == TOLD)
    rig.policies.unwant("a")
    await becomes(lambda: rig.here.policies["a"] == {})
    with pytest.raises(KeyError):
        rig.policies.of("a")


async def test_a_policy_that_is_for_another_service_now_leaves_the_first(rig: Rig) -> None:
    rig.here.policies["b"] = {}
    rig.policies.want(policy("mine", service="a", **TO_TWO))
    await becomes(lambda: rig.here.policies["a"] == TOLD)
    rig.policies.want(policy("mine", service="b", **TO_TWO))
    await becomes(lambda: rig.here.policies == {"a": {}, "b": TOLD})


def test_a_service_has_one_policy() -> None:
    check([document("a"), document("b", service="c")], [document("b")])
    with pytest.raises(Conflict, match=r"b\.yaml: TrafficPolicy b: the service a has TrafficPolicy a already"):
        check([document("b", service="a")], [document("a")])


TEXT = """apiVersion: mesh.kserve.io/v1alpha1
kind: TrafficPolicy
metadata: {{name: a}}
spec:
  {service}
  rules:
  - match:
    - headers:
        x.group.a: {condition}
    to: {to}
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"to": "[{version: two}]"}, "f.yaml:10:20: spec.rules[0].to[0].version has to be the number of a version, stable or canary"),
        ({"to": "[{version: 1, weight: 90}]"}, "f.yaml:10:9: spec.rules[0].to has weights that add up to 90, not to 100"),
        ({"condition": "{regex: '(('}"}, "f.yaml:9:28: spec.rules[0].match[0].headers.x.group.a.regex '((' cannot be used: missing )"),
        ({"condition": "{like: x}"}, "f.yaml:9:27: spec.rules[0].match[0].headers.x.group.a.like is not known"),
        ({"service": "service: 7"}, "f.yaml:5:12: spec.service: must be the name of a service, not the number 7"),
        ({"service": "rule: []"}, "f.yaml:5:9: spec.rule is not known; spec may have rules, default"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line_and_field(given: dict[str, str], said: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(read_text(TEXT.format(**{"service": "service: b", "condition": "x", "to": "[{version: 1}]", **given}), "f.yaml"))
    assert said in caught.value.message


def test_a_policy_is_of_the_service_of_its_name_unless_it_says_otherwise() -> None:
    assert (policy().service, policy().policy, policy(service="b", **TO_TWO).service) == ("a", {}, "b")
    assert policy(service="b", **TO_TWO).policy == TO_TWO
