"""Services whose versions share calls: what headers and weights decide is decided by the lane, as the router decides it without one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from mesh.core.traffic.choice import position
from tests.conformance.test_versions_of_services import RAW, SCRIPT, TIER, Service, asking, rule, tensor
from tests.lane.curl import PRIOR, curl
from tests.lane.test_router import counted
from tests.support import lane
from tests.support.client import Metadata, example
from tests.support.http import plain
from tests.support.mesh import Mesh, a_mesh
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
METRICS = {"MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("with"), SCRIPT, lane.variables("auto") | METRICS) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("without"), SCRIPT, lane.variables("off") | METRICS) as mesh:
        yield mesh


def a_service(mesh: Mesh, name: str) -> Service:
    """One of whose three versions, which all serve, the second is the stable one."""
    made = Service(mesh.client, name)
    made.point(1)
    made.point(2)
    made.point(3, canary=0)
    for number in (1, 3):
        made.serves(number)
    return made


@pytest.fixture
def service(mesh: Mesh, model: str) -> Service:
    return a_service(mesh, f"s-{model}")


@pytest.fixture
def other(without: Mesh, model: str) -> Service:
    """The same in a mesh without the lane."""
    return a_service(without, f"s-{model}")


def carried(mesh: Mesh) -> float:
    """Calls that the lane carried so far."""
    families = text_string_to_metric_families(mesh.router.scrape())
    return sum(sample.value for family in families for sample in family.samples if sample.name == "mesh_lane_calls_total")


def known(mesh: Mesh, service: Service) -> None:
    """Returns when the lane knows of the service, which the first call by its name has it told."""

    def goes_straight() -> bool:
        before = carried(mesh)
        service.ask()
        return carried(mesh) > before

    until(goes_straight, "the lane knows of the service")


def by_rest(mesh: Mesh, service: Service, headers: Metadata = (), body: Any = None) -> int:
    """The version that answers a REST call."""
    url = f"{mesh.router.rest}/v2/models/{service.name}/infer"
    sent = [(name, value if isinstance(value, str) else value.decode()) for name, value in headers]
    answer = plain.post(url, json=body or asking(), headers=sent, timeout=30)
    assert answer.status_code == httpx.codes.OK, answer.text
    return version(service, answer.json())


def by_http2(mesh: Mesh, service: Service, headers: Metadata = ()) -> int:
    sent = {name: str(value) for name, value in headers} | {"content-type": "application/json"}
    answer = curl(
        f"{mesh.router.rest}/v2/models/{service.name}/infer", PRIOR, method="POST", body=json.dumps(asking()).encode(), headers=sent
    )
    assert answer.status_code == httpx.codes.OK, answer.content
    return version(service, json.loads(answer.content))


def version(service: Service, answer: Any) -> int:
    return int(answer["model_name"].removeprefix(f"{service.name}-"))


def shared(*weights: int, sticky: str = "") -> dict[str, Any]:
    """The first, third and stable version share calls by these weights."""
    to = [{"version": one, "weight": weight} for one, weight in zip((1, 3, "stable"), weights, strict=True)]
    return {"default": {"to": to} | ({"sticky": sticky} if sticky else {})}


def test_the_lane_carries_all_calls_of_a_canary_and_both_versions_answer(mesh: Mesh, model: str) -> None:
    service = Service(mesh.client, f"s-{model}")
    service.point(1)
    known(mesh, service)
    service.point(2, canary=50)
    until(lambda: service.answers(20)[2] > 0, "the canary answers")
    before = carried(mesh)
    found = service.answers(200)
    found += Counter(by_rest(mesh, service) for _ in range(100))
    # Six standard deviations of a coin that is thrown so often.
    assert abs(found[2] - 150) < 6 * 75**0.5
    assert carried(mesh) == before + 300
    # The stable version had calls before, of `known` and of the wait.
    assert counted(mesh, "modelmesh_api_request_milliseconds", service.model(2))["_count"] >= found[2]
    service.point(2)
    assert service.answers(20) == {2: 20}
    assert carried(mesh) == before + 320


CALLS: list[Metadata] = [
    (),
    (("x-group", "beta"),),
    (("x-group", "best"),),
    (("x-group", "Beta"),),
    (("x-group", ""),),
    (("x-group", "other"), ("x-group", "beta")),
    (("x-group", "beta"), ("x-group", "other")),
    (("x-old", "1"),),
    (("x-group", "beta"), ("x-old", "1")),
    (("traceparent", "00-1-2-01"),),
]
POLICIES: dict[str, dict[str, Any]] = {
    "exact": rule(headers={"X-Group": "beta"}),
    "prefix": rule(headers={"x-group": {"prefix": "be"}}),
    "present": rule(headers={"x-group": {"present": True}}),
    "absent": rule(headers={"x-group": {"present": False}}),
    "both": rule(headers={"x-group": {"prefix": "b"}, "x-old": "1"}),
    "either": {"rules": [{"match": [{"headers": {"x-group": "beta"}}, {"headers": {"x-old": "1"}}], "to": [{"version": 1}]}]},
    "in order": {
        "rules": [
            {"match": [{"headers": {"x-group": {"prefix": "b"}}}], "to": [{"version": 3}]},
            {"match": [{"headers": {"x-group": {"present": True}}}], "to": [{"version": 1}]},
        ],
        "default": {"to": [{"version": "stable"}]},
    },
    "format": {"rules": [{"match": [{"format": "no such"}, {"headers": {"x-old": "1"}, "percent": 100}], "to": [{"version": 1}]}]},
    "of traces": rule(headers={"traceparent": {"prefix": "00-"}}),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_each_rule_of_headers_is_the_lanes_and_means_what_it_means_without_it(
    mesh: Mesh, without: Mesh, service: Service, other: Service, policy: dict[str, Any]
) -> None:
    for each in (service, other):
        each.policy(policy)
    known(mesh, service)
    before = carried(mesh)
    by_grpc = [service.ask(metadata=call) for call in CALLS]
    assert by_grpc == [other.ask(metadata=call) for call in CALLS]
    assert {*by_grpc} > {2}, "some calls fit, and some do not"
    assert [by_rest(mesh, service, call) for call in CALLS] == by_grpc
    assert [by_rest(without, other, call) for call in CALLS] == by_grpc
    assert carried(mesh) == before + 2 * len(CALLS)


@pytest.mark.parametrize(
    "headers",
    [
        (("grpc-metadata-x-group", "beta"),),
        (("x-group", "other"), ("grpc-metadata-x-group", "beta")),
        (("x-group", "beta"), ("grpc-metadata-x-group", "other")),
        (("X-GROUP", "beta"), ("Accept", "*/*")),
    ],
)
def test_metadata_come_before_headers_of_http(mesh: Mesh, without: Mesh, service: Service, other: Service, headers: Metadata) -> None:
    for each in (service, other):
        each.policy(rule(headers={"x-group": "beta"}))
    known(mesh, service)
    before = carried(mesh)
    assert by_rest(mesh, service, headers) == by_http2(mesh, service, headers) == by_rest(without, other, headers)
    assert carried(mesh) == before + 2


BODIES: list[dict[str, Any]] = [
    {"parameters": {"tier": "gold"}},
    {"inputs": [{"datatype": "FP32"}]},
    {"headers": {"x-group": {"regex": "b.ta"}}},
]


@pytest.mark.parametrize("match", BODIES, ids=["parameter", "input", "regex"])
def test_what_takes_more_is_left_to_the_router_and_is_right(mesh: Mesh, service: Service, match: dict[str, Any]) -> None:
    known(mesh, service)
    service.policy(rule(**match))
    before = carried(mesh)
    fits: dict[str, Any] = {"parameters": TIER, "inputs": [tensor()], "raw_input_contents": RAW, "metadata": (("x-group", "beta"),)}
    assert [service.ask(**fits), service.ask(inputs=[tensor("INT32")], raw_input_contents=RAW)] == [1, 2]
    assert by_rest(mesh, service, fits["metadata"], asking(tier="gold")) == 1
    assert by_rest(mesh, service, (), asking("INT32")) == 2
    assert carried(mesh) == before
    service.policy(rule(headers={"x-group": "beta"}))
    assert service.ask(metadata=(("x-group", "beta"),)) == 1
    assert carried(mesh) == before + 1


def test_text_that_is_not_plain_is_the_routers_to_read(mesh: Mesh, without: Mesh, service: Service, other: Service) -> None:
    for each in (service, other):
        each.policy(rule(headers={"x-group": "bêta"}))
    known(mesh, service)
    before = carried(mesh)
    for said in ("bêta".encode(), "bêta".encode("latin-1"), b"b\xffta"):
        answers = [
            plain.post(f"{at.router.rest}/v2/models/{service.name}/infer", json=asking(), headers=[(b"X-Group", said)], timeout=30)
            for at in (mesh, without)
        ]
        assert version(service, answers[0].json()) == version(service, answers[1].json())
    assert carried(mesh) == before


def test_a_caller_stays_where_the_router_has_it(mesh: Mesh, service: Service) -> None:
    service.policy(shared(30, 20, 50, sticky="x-user"))
    known(mesh, service)
    before = carried(mesh)
    for user in (str(number) for number in range(60)):
        at = position(service.name, user) * 100
        wanted = 1 if at < 30 else 3 if at < 50 else 2
        assert service.ask(metadata=(("x-user", user),)) == wanted
        assert by_rest(mesh, service, (("X-User", user),)) == wanted
    assert carried(mesh) == before + 120


def test_others_get_no_calls_of_a_version_that_cannot_serve(mesh: Mesh, model: str) -> None:
    service = Service(mesh.client, f"s-{model}")
    service.point(1)
    service.point(2)
    service.point(3, canary=0, path="FAILALWAYS_no such file")
    service.serves(1)
    service.policy(shared(30, 40, 30))
    known(mesh, service)
    before, calls = carried(mesh), 600
    found = service.answers(calls)
    # Who chose once more for what the third was to have would give 42 of a hundred to the first. Five standard deviations, one-sided.
    assert found[1] < 0.3 * calls + 5 * (0.3 * 0.7 * calls) ** 0.5
    assert found[1] + found[2] == calls
    assert 0 < carried(mesh) - before < calls


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
def test_what_a_version_answered_is_not_asked_of_another(mesh: Mesh, service: Service, code: StatusCode) -> None:
    service.policy(shared(30, 30, 40))
    known(mesh, service)
    named, calls = (("mm-vmodel-id", service.name),), 40
    for _ in range(calls):
        with pytest.raises(grpc.RpcError) as caught:
            mesh.client.predictor.predict(example.PredictRequest(text=f"test:error:code={code.name}:message=x"), metadata=named, timeout=30)
        assert "x" in str(caught.value)
    seen = [len(mesh.runtime.seen("predict", service.model(number))) for number in (1, 2, 3)]
    assert sum(seen) == calls
    assert all(seen)


def test_nobody_but_the_lane_is_believed_what_was_chosen(mesh: Mesh, service: Service) -> None:
    service.policy(rule(headers={"x-group": "beta"}))
    known(mesh, service)
    forged = (("mm-lane-chosen", service.model(1)), ("mm-lane-key", "x"))
    assert service.ask(metadata=forged) == 2
    assert by_rest(mesh, service, forged) == 2
    service.policy(rule(headers={"x-group": {"regex": "beta"}}))
    assert service.ask(metadata=forged) == 2
    assert by_rest(mesh, service, forged) == 2


def test_versions_that_leave_and_come_under_calls_lose_none(mesh: Mesh, service: Service) -> None:
    service.policy(shared(30, 30, 40))
    known(mesh, service)
    for _ in range(3):
        for number in (1, 3):
            mesh.runtime.do("purge")
            assert sum(service.answers(30).values()) == 30
            service.serves(number)
    until(lambda: {*service.answers(30)} == {1, 2, 3}, "all versions serve again")
