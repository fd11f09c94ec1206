"""Several routers with the express lane on all their ports: whichever a call comes to, it goes straight to a copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from mesh.protocols import model_mesh_pb2 as mm
from mesh.wire.call import REQUEST_ID
from tests.integration.etcd.server import Etcd
from tests.lane.test_calls import seen
from tests.lane.test_rest import asking, tensor
from tests.support import environments, lane, ports
from tests.support.client import Client, Refusal, answer, example, fill, refused, to
from tests.support.cluster import Cluster, PodProcesses, a_cluster, chosen_places
from tests.support.http import plain
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
API, INVOKE = "modelmesh_api_request_milliseconds", "modelmesh_invoke_model_milliseconds"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    etcd = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    etcd.start()
    try:
        yield f"etcd:{etcd.address}"
    finally:
        etcd.stop()


@pytest.fixture(scope="module")
def common() -> tuple[int, int]:
    """Ports of gRPC and REST that all pods share."""
    grpc_port, rest_port = ports.free(2)
    return grpc_port, rest_port


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, store: str, common: tuple[int, int]) -> Iterator[Cluster]:
    environment = {
        "MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true",
        "MESH_SHARED_GRPC_PORT": str(common[0]),
        "MESH_SHARED_REST_PORT": str(common[1]),
        **chosen_places(3),
        **lane.variables("auto"),
    }
    with a_cluster(tmp_path_factory.mktemp("three"), store, 3, service="lanes", environment=environment) as cluster:
        yield cluster


def ways(pod: PodProcesses) -> dict[str, float]:
    """Calls that a pod's lane carried so far."""
    found = {"here": 0.0, "there": 0.0, "hop": 0.0}
    for family in text_string_to_metric_families(pod.router.scrape()):
        found |= {sample.labels["way"]: sample.value for sample in family.samples if sample.name == "mesh_lane_calls_total"}
    return found


def goes(pod: PodProcesses, way: str, model: str, client: Client | None = None) -> bool:
    """Whether a call at a pod is carried by its lane, this way."""
    before = ways(pod)
    assert (client or pod.client).said(model) == answer(model)
    after = ways(pod)
    return {one: after[one] - before[one] for one in before} == {"here": 0, "there": 0, "hop": 0, way: 1}


def on(three: Cluster, number: int, model: str) -> None:
    """Has a model on one pod, and known as such to every lane."""
    three[number].client.register(model, kind=f"on-{number}")
    for place, pod in enumerate(three.pods):
        way = "here" if place == number else "there"
        until(lambda pod=pod, way=way: goes(pod, way, model), f"{pod.id} calls it straight")  # type: ignore[misc]


def on_both(three: Cluster, model: str) -> None:
    """Has a model on the first and second pod: what is busy has another copy made."""
    three[2].client.register(model, kind="off-2")
    with refused(StatusCode.RESOURCE_EXHAUSTED):
        three[2].client.predict(model, "test:error:code=RESOURCE_EXHAUSTED:message=make another")
    for pod in three.pods:
        until(lambda pod=pod: len(ready(pod, model)) == 2, "every pod sees both copies")  # type: ignore[misc]


def ready(pod: PodProcesses, model: str) -> list[str]:
    return [copy["pod"] for copy in pod.facts(f"models/{model}")["copies"] if copy["state"] == "ready"]


def counted(pod: PodProcesses, family: str, model: str, code: str = "OK") -> int:
    """Calls in one of a pod's histograms."""
    for one in text_string_to_metric_families(pod.router.scrape()):
        for sample in one.samples:
            if sample.name == f"{family}_count" and (sample.labels.get("modelId"), sample.labels["code"]) == (model, code):
                return int(sample.value)
    return 0


# Which way


def test_a_call_that_comes_to_a_pod_without_a_copy_goes_straight_to_one_that_has_it(three: Cluster, model: str) -> None:
    on(three, 1, model)
    before = ways(three[1])
    for _ in range(5):
        assert goes(three[0], "there", model)
    assert ways(three[1])["hop"] == before["hop"] + 5
    assert ways(three[1])["here"] == before["here"]


def test_the_model_server_gets_what_it_would_get_without_a_hop(three: Cluster, model: str) -> None:
    on(three, 1, model)
    sent = (("x-mine", "1"), ("x-mine-bin", b"\x00\xff"), ("mm-balanced", "true"), ("traceparent", f"00-{1:032}-{2:016}-01"))
    direct, by_hop = (seen(three[number].client, model, *sent) for number in (1, 0))
    assert direct == by_hop
    assert not [name for name in by_hop if name.startswith("mesh-")]


def test_streams_go_straight_over_two_pods(three: Cluster, model: str) -> None:
    on(three, 1, model)
    before = ways(three[0])["there"]
    said = list(three[0].client.predictor.predictMany(example.PredictRequest(text="test:count:n=3"), metadata=to(model), timeout=30))
    assert said
    assert ways(three[0])["there"] == before + 1


def test_calls_are_counted_once_where_they_came_in_and_once_where_they_were_served(three: Cluster, model: str) -> None:
    on(three, 1, model)
    before = [(counted(pod, API, model), counted(pod, INVOKE, model)) for pod in three.pods]
    for _ in range(20):
        three[0].client.said(model)
    with refused(StatusCode.INTERNAL):
        three[0].client.predict(model, "test:error:code=INTERNAL:message=x")
    after = [(counted(pod, API, model), counted(pod, INVOKE, model)) for pod in three.pods]
    more = [(api[0] - was[0], api[1] - was[1]) for api, was in zip(after, before, strict=True)]
    assert more == [(20, 0), (0, 20), (0, 0)]
    assert [counted(pod, API, model, "INTERNAL") for pod in three.pods] == [1, 0, 0]
    assert [counted(pod, INVOKE, model, "INTERNAL") for pod in three.pods] == [0, 1, 0]


def test_a_copy_that_only_other_pods_call_is_known_to_be_in_use(three: Cluster, model: str) -> None:
    on(three, 1, model)

    def used() -> int:
        (copy,) = three[1].facts(f"models/{model}")["copies"]
        return int(copy["last_used_ms"])

    before = used()
    until(lambda: three[0].client.said(model) == answer(model) and used() > before, "its last use is a later one")


# Several copies


def test_calls_spread_over_the_copies_of_other_pods(three: Cluster, model: str) -> None:
    on_both(three, model)
    until(lambda: goes(three[2], "there", model), "the copies are published")
    before = three.calls(model)
    for _ in range(20):
        three[2].client.said(model)
    more = [after - was for after, was in zip(three.calls(model), before, strict=True)]
    assert more == [10, 10, 0], "of two that are equally busy, the one chosen longer ago"


def test_a_busy_pod_is_spared(three: Cluster, model: str) -> None:
    on_both(three, model)
    until(lambda: goes(three[2], "there", model), "the copies are published")
    busy = three[0]
    with busy.runtime.holding(f"call:{model}"):
        held = busy.client.predictor.predict.future(
            example.PredictRequest(text="test:hold"), metadata=(*to(model), ("mm-balanced", "true")), timeout=60
        )
        busy.runtime.awaited("hold", model)
        # What it says of itself comes with its answers: one of two calls brings it.
        for _ in range(2):
            three[2].client.said(model)
        before = three.calls(model)
        for _ in range(10):
            three[2].client.said(model)
        after = three.calls(model)
    assert held.result(60).results
    assert (after[0] - before[0], after[1] - before[1]) == (0, 10)


def test_who_spreads_calls_itself_is_served_by_the_copy_of_the_pod_it_called(three: Cluster, model: str) -> None:
    on_both(three, model)
    until(lambda: goes(three[0], "here", model) or goes(three[0], "here", model), "the copies are published")
    before = three.calls(model)
    for _ in range(10):
        three[0].client.said(model, metadata=(("mm-balanced", "true"),))
    assert [after - was for after, was in zip(three.calls(model), before, strict=True)] == [10, 0, 0]


# What another pod answered


def ended(client: Client, model: str, text: str, compression: grpc.Compression = grpc.Compression.NoCompression) -> tuple[object, ...]:
    """How a call that is refused ends; a compressed one is Python's from the start."""
    with pytest.raises(grpc.RpcError) as caught:
        client.predictor.predict(example.PredictRequest(text=text), metadata=to(model), timeout=30, compression=compression)
    refusal = Refusal()
    fill(refusal, caught.value)
    return refusal.code, refusal.details, bool(refusal.trailers.get(REQUEST_ID))


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "INVALID_ARGUMENT"])
def test_what_a_holder_answered_is_what_python_makes_of_it_with_as_many_calls(three: Cluster, model: str, code: str) -> None:
    text, calls, ends = f"test:error:code={code}:message=100 % größer", [], []
    for number, compression in enumerate((grpc.Compression.NoCompression, grpc.Compression.Gzip)):
        # Each way has a model of its own: what is refused may be loaded anew.
        name = f"{model}-{number}"
        on(three, 1, name)
        before = sum(three.calls(name))
        ends.append(ended(three[0].client, name, text, compression))
        calls.append(sum(three.calls(name)) - before)
    assert str(ends[0]).replace(f"{model}-0", "") == str(ends[1]).replace(f"{model}-1", "")
    assert calls[0] == calls[1]


def test_a_holder_that_forgot_the_model_is_made_to_load_it_again(three: Cluster, model: str) -> None:
    on(three, 1, model)
    three[1].runtime.do("purge")
    assert three[0].client.said(model) == answer(model)
    assert three[1].runtime.loads(model) == 2


# Aliases, REST, common ports


def test_an_alias_that_was_switched_leads_to_the_new_model_once_its_caller_is_answered(three: Cluster, model: str) -> None:
    targets = [f"{model}-1", f"{model}-2"]
    for target in targets:
        three[0].client.register(target, kind="on-1")
        three[0].client.said(target)
    named = (("mm-vmodel-id", model),)
    for turn in range(10):
        target = targets[turn % 2]
        three[0].client.set_alias(model, target, kind="on-1", force=True)
        said = three[0].client.predictor.predict(example.PredictRequest(text="x"), metadata=named, timeout=30)
        assert said.results[0].category == answer(target, "x")
    three[0].client.delete_alias(model)
    with refused(StatusCode.NOT_FOUND):
        three[0].client.predictor.predict(example.PredictRequest(text="x"), metadata=named, timeout=30)


def test_rest_goes_straight_to_another_pod(three: Cluster, model: str) -> None:
    on(three, 1, model)
    before = ways(three[0])["there"]
    said = infer(three[0].router.rest, model)
    assert said.json()["outputs"][0]["data"] == [1]
    assert ways(three[0])["there"] == before + 1


@pytest.mark.parametrize("holder", [0, 1], ids=["here", "there"])
def test_a_copy_that_does_not_answer_is_not_called_twice_over_rest(three: Cluster, model: str, holder: int) -> None:
    method, ends, calls, body = "ModelInfer", [], [], asking("error:code=UNAVAILABLE:message=gone")
    for number, headers in enumerate(({}, {"mm-x": "Python's"})):
        name = f"{model}-{number}"
        on(three, holder, name)
        before = sum(three.calls(name, method))
        said = infer(three[0].router.rest, name, body, headers)
        assert said.status_code >= 500
        ends.append((said.status_code, said.text.replace(name, "")))
        calls.append(sum(three.calls(name, method)) - before)
    assert ends[0] == ends[1]
    assert calls[0] == calls[1]


def infer(base: str, model: str, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
    return plain.post(f"{base}/v2/models/{model}/infer", json=body or tensor("INT8", [1], [1]), headers=headers, timeout=60)


def test_what_a_client_says_was_tried_is_not_believed(three: Cluster, model: str) -> None:
    on(three, 0, model)
    forged = {"mm-lane-key": "guessed", "mm-lane-tried": f"{model}%231", "mm-lane-code": "14", "mm-lane-text": "made up"}
    assert infer(three[0].router.rest, model, headers=forged).status_code == 200
    assert three[0].client.said(model, metadata=tuple(forged.items())) == answer(model)


def test_the_ports_that_pods_share_are_their_lanes(three: Cluster, common: tuple[int, int], model: str) -> None:
    on(three, 1, model)
    before = sum(sum(ways(pod).values()) for pod in three.pods)
    hops = ways(three[1])["hop"]
    with Client.insecure(f"127.0.0.1:{common[0]}") as client:
        for _ in range(10):
            assert client.said(model) == answer(model)
    assert infer(f"http://127.0.0.1:{common[1]}", model).status_code == 200
    more = sum(sum(ways(pod).values()) for pod in three.pods) - before
    assert more == 11 + ways(three[1])["hop"] - hops


# Versions of a service


def test_calls_that_versions_share_go_straight_to_the_pods_that_have_them(three: Cluster, model: str) -> None:
    client, named = three[0].client, (("mm-vmodel-id", model),)
    versions = {f"{model}-{number}": number for number in (1, 2)}

    def said(text: str = "x") -> str:
        return client.predictor.predict(example.PredictRequest(text=text), metadata=named, timeout=30).results[0].category

    def shared() -> bool:
        before = ways(three[0])["there"]
        return {said() for _ in range(20)} == {answer(version, "x") for version in versions} and ways(three[0])["there"] == before + 20

    for version, number in versions.items():
        sharing = (("mesh-traffic", json.dumps({"keep": 2} | ({"canary": 50} if number == 2 else {}))),)
        info = mm.ModelInfo(type=f"on-{number}")
        request = mm.SetVModelRequest(vModelId=model, targetModelId=version, modelInfo=info, loadNow=True, sync=number == 1)
        client.mesh.setVModel(request, metadata=sharing, timeout=30)
    until(shared, "calls go to both, past Python")

    def asked() -> list[int]:
        return [len(three[number].runtime.seen("predict", version)) for version, number in versions.items()]

    before, calls = asked(), 20
    for _ in range(calls):
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            said("test:error:code=RESOURCE_EXHAUSTED:message=busy")
    more = [now - then for now, then in zip(asked(), before, strict=True)]
    assert all(more)
    assert sum(more) == calls, "what one answered is judged, and nobody is asked again"


# Pods that leave, pods that are lost


def test_calls_go_on_while_a_pod_is_lost_and_while_another_leaves(tmp_path_factory: pytest.TempPathFactory, store: str, model: str) -> None:
    environment = chosen_places(3) | lane.variables("auto")
    with a_cluster(tmp_path_factory.mktemp("losing"), store, 3, service="losing", environment=environment) as mesh:
        on_both(mesh, model)
        over, made = [False], [0]

        def call(number: int) -> None:
            with Client.insecure(mesh[2].router.address) as client:
                while not over[0]:
                    text = f"{number}"
                    assert client.said(model, text) == answer(model, text)
                    made[0] += 1

        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(call, number) for number in range(4)]
            try:
                until(lambda: made[0] > 200, "calls are made")
                mesh[0].kill()
                before = made[0]
                until(lambda: made[0] > before + 500, "calls go on")
            finally:
                over[0] = True
            for one in calls:
                one.result(60)
        assert mesh[2].client.said(model) == answer(model)


def test_the_limit_on_calls_is_one_for_both_planes(tmp_path_factory: pytest.TempPathFactory, store: str, model: str) -> None:
    environment = {"MESH_MAX_CALLS": "2"} | lane.variables("auto")
    with a_cluster(tmp_path_factory.mktemp("limited"), store, 1, service="limited", environment=environment) as mesh:
        pod = mesh[0]
        assert "the express lane is on" in pod.router.process.output()
        pod.client.loaded(model)
        with pod.runtime.holding(f"call:{model}"):
            held = [pod.client.predicting(model, "test:hold") for _ in range(2)]
            until(lambda: len(pod.runtime.seen("hold", model)) == 2, "two calls are under way")
            for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                with refused(StatusCode.RESOURCE_EXHAUSTED, "2 calls in progress", "MESH_MAX_CALLS"):
                    pod.client.predictor.predict(example.PredictRequest(text="x"), metadata=to(model), timeout=30, compression=compression)
        for one in held:
            assert one.result(60)
        until(lambda: pod.client.said(model) == answer(model), "there is room again")
