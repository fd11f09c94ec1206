"""Versions of a service: kept and called by number, a canary's share, rules, and nobody unserved while calls move between them."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import management_pb2 as pb
from mesh.protocols import management_pb2_grpc as rpc
from mesh.protocols import model_mesh_pb2 as mm
from tests.integration.etcd.server import Etcd
from tests.support.client import Client, Metadata, refused
from tests.support.cluster import a_cluster
from tests.support.http import plain
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

SCRIPT = Behaviour(capacity=64 * 1024 * MIB, method_infos={"inference.GRPCInferenceService/ModelInfer": [1]}, allow_any=True)
"""A runtime that is told in the request which model is meant, so that its answer says who answered."""
CALLS = 200
TIMEOUT = 30


class Service:
    """A service of one pod, or of several, and its versions."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name = client, name
        self.traffic = rpc.TrafficStub(client.channel)

    def model(self, number: int) -> str:
        return f"{self.name}-{number}"

    def point(self, number: int, *, canary: int | None = None, path: str = "") -> None:
        """Applies the document of a version, as a controller does."""
        sharing = {"keep": 3} | ({} if canary is None else {"canary": canary})
        request = mm.SetVModelRequest(
            vModelId=self.name,
            targetModelId=self.model(number),
            modelInfo=mm.ModelInfo(type="example", path=path),
            autoDeleteTargetModel=True,
            loadNow=True,
            sync=canary is None,
        )
        self.client.mesh.setVModel(request, timeout=TIMEOUT, metadata=(("mesh-traffic", json.dumps(sharing)),))

    def shift(self, number: int, percent: int) -> pb.ServiceTraffic:
        return self.traffic.Shift(pb.ShiftRequest(service=self.name, version=number, percent=percent), timeout=TIMEOUT)

    def policy(self, data: Any) -> pb.ServiceTraffic:
        return self.traffic.SetPolicy(pb.SetPolicyRequest(service=self.name, policy_json=json.dumps(data)), timeout=TIMEOUT)

    def seen(self) -> pb.ServiceTraffic:
        return self.traffic.GetTraffic(pb.GetTrafficRequest(service=self.name), timeout=TIMEOUT)

    def shares(self) -> dict[int, int]:
        return {one.number: one.percent for one in self.seen().versions}

    def stable(self) -> list[int]:
        return [one.number for one in self.seen().versions if one.stable]

    def serves(self, number: int) -> None:
        """A version's model has a copy."""
        self.client.ensure(self.model(number), sync=True)

    def ask(self, *, name: str = "", metadata: Metadata = (), **more: Any) -> int:
        """The number of the version that answers a call of v2."""
        request = v2.ModelInferRequest(model_name=name or self.name, **more)
        found = self.client.v2.ModelInfer(request, timeout=TIMEOUT, metadata=metadata)
        return int(found.model_name.removeprefix(f"{self.name}-"))

    def answers(self, calls: int = CALLS, **more: Any) -> Counter[int]:
        return Counter(self.ask(**more) for _ in range(calls))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("versions"), SCRIPT) as mesh:
        yield mesh


@pytest.fixture
def service(client: Client, model: str) -> Service:
    """One with a first version that serves."""
    made = Service(client, model)
    made.point(1)
    return made


@pytest.fixture
def two(service: Service) -> Service:
    """One with two versions that serve, the second of them stable."""
    service.point(2)
    service.serves(1)
    return service


def test_a_service_tells_its_versions(two: Service) -> None:
    found = two.seen()
    assert [(one.number, one.model_id, one.percent, one.stable, one.next) for one in found.versions] == [
        (1, two.model(1), 0, False, False),
        (2, two.model(2), 100, True, False),
    ]
    assert found.versions[1].since > 0
    assert (found.policy_json, found.blocked) == ("{}", "")
    assert {mm.ModelStatusInfo.ModelStatus.Name(one.status.status) for one in found.versions} == {"LOADED"}


def test_a_version_is_called_by_its_number(two: Service, mesh: Mesh) -> None:
    assert [two.ask(name=f"{two.name}@{number}") for number in (1, 2, 1)] == [1, 2, 1]
    assert two.client.said("", metadata=(("mm-vmodel-id", two.name),)).endswith(two.model(2))
    by_rest = plain.post(f"{mesh.router.rest}/v2/models/{two.name}@1/infer", json=asking(), timeout=TIMEOUT)
    assert by_rest.json()["model_name"] == two.model(1), by_rest.text
    with refused(StatusCode.NOT_FOUND, "keeps no version 7; it keeps 1, 2"):
        two.ask(name=f"{two.name}@7")


def test_a_canary_gets_calls_when_it_serves_and_its_share_of_them(service: Service, mesh: Mesh) -> None:
    with mesh.runtime.holding(f"load:{service.model(2)}"):
        service.point(2, canary=50)
        assert service.answers(40) == {1: 40}
    until(lambda: service.answers(20)[2] > 0, "the canary answers")
    found = service.answers()
    # Six standard deviations of a coin that is thrown so often.
    assert abs(found[2] - CALLS / 2) < 6 * (CALLS / 4) ** 0.5
    assert service.shares() == {1: 50, 2: 50}


def test_all_calls_move_to_a_new_version_and_back_and_none_is_lost(service: Service) -> None:
    for percent in (0, 5, 50):
        service.point(2, canary=percent)
        assert service.shares() == {1: 100 - percent, 2: percent}
        assert sum(service.answers(50).values()) == 50
    service.point(2)
    assert (service.stable(), service.answers(50)) == ([2], {2: 50})
    service.shift(1, 100)
    until(lambda: service.stable() == [1], "the first version is back")
    assert service.answers(50) == {1: 50}


def test_a_canary_that_does_not_load_leaves_all_calls_where_they_are(service: Service) -> None:
    service.point(2, canary=50, path="FAILALWAYS_no such file")
    until(lambda: service.client.status(service.model(2)).errors, "its load failed")
    assert service.answers(50) == {1: 50}
    assert "no such file" in service.seen().versions[1].status.errors[0]


def test_a_canary_is_taken_back(service: Service) -> None:
    service.point(2, canary=50)
    service.point(1)
    assert (service.shares(), service.answers(50)) == ({1: 100, 2: 0}, {1: 50})


def asking(datatype: str = "FP32", **parameters: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [1], "data": [1]}], "parameters": parameters}


def tensor(datatype: str = "FP32") -> v2.ModelInferRequest.InferInputTensor:
    return v2.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[1])


def rule(**match: Any) -> dict[str, Any]:
    return {"rules": [{"match": [match], "to": [{"version": 1}]}]}


TIER = {"tier": v2.InferParameter(string_param="gold")}
RAW = [struct.pack("<f", 1.0)]
Ask = Callable[[Service, Mesh, bool], int]


def by_header(service: Service, mesh: Mesh, fits: bool) -> int:
    return service.ask(metadata=(("x-group", "beta" if fits else "other"),))


def by_parameter(service: Service, mesh: Mesh, fits: bool) -> int:
    return service.ask(parameters=TIER if fits else {}, inputs=[tensor()], raw_input_contents=RAW)


def by_datatype(service: Service, mesh: Mesh, fits: bool) -> int:
    return service.ask(inputs=[tensor("FP32" if fits else "INT32")], raw_input_contents=RAW)


def rest(service: Service, mesh: Mesh, body: dict[str, Any], **headers: str) -> int:
    answer = plain.post(f"{mesh.router.rest}/v2/models/{service.name}/infer", json=body, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == httpx.codes.OK, answer.text
    return int(answer.json()["model_name"].removeprefix(f"{service.name}-"))


def rest_by_header(service: Service, mesh: Mesh, fits: bool) -> int:
    return rest(service, mesh, asking(), **({"X-Group": "beta"} if fits else {}))


def rest_by_parameter(service: Service, mesh: Mesh, fits: bool) -> int:
    return rest(service, mesh, asking(**({"tier": "gold"} if fits else {})))


def rest_by_datatype(service: Service, mesh: Mesh, fits: bool) -> int:
    return rest(service, mesh, asking("FP32" if fits else "INT32"))


@pytest.mark.parametrize(
    ("match", "ask"),
    [
        ({"headers": {"x-group": {"exact": "beta"}}}, by_header),
        ({"headers": {"x-group": {"prefix": "be"}}}, by_header),
        ({"headers": {"x-group": {"regex": "b.t+a"}}}, by_header),
        ({"parameters": {"tier": "gold"}}, by_parameter),
        ({"inputs": [{"datatype": "FP32", "shape": [-1]}]}, by_datatype),
        ({"headers": {"x-group": {"exact": "beta"}}}, rest_by_header),
        ({"parameters": {"tier": "gold"}}, rest_by_parameter),
        ({"inputs": [{"datatype": "FP32", "shape": [-1]}]}, rest_by_datatype),
    ],
)
def test_a_rule_routes_what_fits_it_and_nothing_else(two: Service, mesh: Mesh, match: dict[str, Any], ask: Ask) -> None:
    two.policy(rule(**match))
    assert [ask(two, mesh, fits) for fits in (True, False, True)] == [1, 2, 1]
    two.policy({})
    assert ask(two, mesh, True) == 2


def test_a_caller_stays_where_its_header_puts_it(two: Service, mesh: Mesh) -> None:
    two.policy({"default": {"to": [{"version": 1, "weight": 50}, {"version": "stable", "weight": 50}], "sticky": "x-user"}})
    ways = {user: two.ask(metadata=(("x-user", user),)) for user in map(str, range(60))}
    assert {*ways.values()} == {1, 2}
    assert {user: two.ask(metadata=(("x-user", user),)) for user in ways} == ways
    assert {user: rest(two, mesh, asking(), **{"X-User": user}) for user in ways} == ways


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('{"rules": [{"to": [{"version": 1, "weight": 90}]}]}', "rules[0].to has weights that add up to 90, not to 100"),
        ('{"default": {"to": [{"version": 9}]}}', "default.to[0].version: service"),
        (
            '{"rules": [{"match": [{"headers": {"a": {"regex": "(a"}}}], "to": [{"version": 1}]}]}',
            "rules[0].match[0].headers.a.regex '(a' cannot be used",
        ),
        ('{"rules": [{"match": [{"headers": {"a": {"regex": "((a{100}){100}){100}"}}}], "to": [{"version": 1}]}]}', "cannot be used"),
        ("{", "policy_json is not JSON"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_the_one_in_force_stays(two: Service, policy: str, said: str) -> None:
    two.policy(rule(percent=100))
    before = two.seen()
    with refused(StatusCode.INVALID_ARGUMENT, said):
        two.traffic.SetPolicy(pb.SetPolicyRequest(service=two.name, policy_json=policy), timeout=TIMEOUT)
    assert two.seen() == before


def test_what_cannot_be_shifted_is_refused(two: Service) -> None:
    with refused(StatusCode.NOT_FOUND, "keeps no version 9; it keeps 1, 2"):
        two.shift(9, 10)
    with refused(StatusCode.INVALID_ARGUMENT, "percent has to be from 0 to 100, not 101"):
        two.shift(1, 101)
    with refused(StatusCode.ALREADY_EXISTS, "is the stable one"):
        two.shift(2, 10)
    with refused(StatusCode.NOT_FOUND, "there is no service nobody"):
        two.traffic.GetTraffic(pb.GetTrafficRequest(service="nobody"), timeout=TIMEOUT)
    with refused(StatusCode.INVALID_ARGUMENT, "service must not be empty"):
        two.traffic.GetTraffic(pb.GetTrafficRequest(), timeout=TIMEOUT)
    with refused(StatusCode.INVALID_ARGUMENT, "header mesh-traffic: keep has to be a whole number"):
        two.client.mesh.setVModel(
            mm.SetVModelRequest(vModelId="a", targetModelId="b"), metadata=(("mesh-traffic", '{"keep": -1}'),), timeout=TIMEOUT
        )


def knows(service: Service, shares: dict[int, int]) -> bool:
    """Whether a pod shows these shares, and its calls follow the rule for old callers."""
    return service.shares() == shares and service.ask(metadata=(("x-old", "1"),)) == 1


def test_versions_and_policy_outlive_all_pods(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd) -> None:
    with a_cluster(tmp_path_factory.mktemp("three"), f"etcd:{etcd.address}", 3, service="versions", behaviour=SCRIPT) as cluster:
        service = Service(cluster[0].client, "lives")
        service.point(1)
        service.point(2)
        service.point(3, canary=50)
        service.policy(rule(headers={"x-old": {"present": True}}))
        before = service.shares()
        for number in range(3):
            other = Service(cluster[number].client, "lives")
            until(partial(knows, other, before), "all pods know of the versions and of the rule")
            assert {*other.answers(60)} == {2, 3}
        for number in range(3):
            cluster[number].kill()
        for number in range(3):
            cluster.start(number)
        cluster.await_all()
        service = Service(cluster[1].client, "lives")
        assert service.shares() == before
        until(partial(knows, service, before), "its rule counts again")
        until(lambda: {*service.answers(60)} == {2, 3}, "its canary serves again")
