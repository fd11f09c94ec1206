"""A router with the express lane on its port: what goes straight, what is counted, and that nothing is lost when copies leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import grpc
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from mesh.doors.grpc import inference
from mesh.wire.call import REQUEST_ID
from tests.lane.test_calls import straight
from tests.support import lane, ports
from tests.support.client import Client, Refusal, answer, example, example_grpc, fill, refused, to
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
PREDICT = "predict"


@pytest.fixture(scope="module")
def shared_port() -> int:
    """Of the Python door, beside the lane's."""
    (port,) = ports.free()
    return port


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lane makes the folder of its socket."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, shared_port: int, sockets: Path) -> Iterator[Mesh]:
    """A pod with room for seven models."""
    environment = {
        "MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true",
        "MESH_SHARED_GRPC_PORT": str(shared_port),
        "TMPDIR": str(sockets),
    }
    behaviour = Behaviour(capacity=64 * 8 * MIB, default_size=64 * MIB)
    with a_mesh(tmp_path_factory.mktemp("router"), behaviour, lane.variables("auto") | environment) as mesh:
        yield mesh


@pytest.fixture
def shared(mesh: Mesh, shared_port: int) -> Iterator[Client]:
    """Of a port that is the Python door's."""
    assert mesh.router.ports
    with Client.insecure(f"127.0.0.1:{shared_port}") as client:
        yield client


def counted(mesh: Mesh, family: str, model: str, code: str = "OK") -> dict[str, float]:
    """Samples of a histogram's series by the end of their names."""
    found = {}
    for one in text_string_to_metric_families(mesh.router.scrape()):
        for sample in one.samples:
            if one.name == family and sample.labels.get("modelId") == model and sample.labels["code"] == code and "le" not in sample.labels:
                found[sample.name.removeprefix(family)] = sample.value
    return found


def test_the_start_says_that_it_is_on(mesh: Mesh) -> None:
    assert "the express lane is on" in mesh.router.process.output()


def test_calls_of_a_model_that_serves_go_straight(mesh: Mesh, model: str) -> None:
    mesh.client.register(model)
    assert mesh.client.said(model) == answer(model)
    until(lambda: straight(mesh.client, model), "the copy is published")


def test_all_calls_are_in_the_metrics_whoever_carried_them(mesh: Mesh, model: str) -> None:
    mesh.client.register(model)
    request = example.PredictRequest(text="x" * 1000)
    for _ in range(25):
        mesh.client.predictor.predict(request, metadata=to(model), timeout=30)
    with refused(StatusCode.INTERNAL):
        mesh.client.predict(model, "test:error:code=INTERNAL:message=x")
    assert len(mesh.runtime.seen(PREDICT, model)) == 26
    for family in ("modelmesh_api_request_milliseconds", "modelmesh_invoke_model_milliseconds"):
        assert counted(mesh, family, model)["_count"] == 25
        assert counted(mesh, family, model, "INTERNAL")["_count"] == 1
    sizes = counted(mesh, "modelmesh_request_size_bytes", model)
    assert (sizes["_count"], sizes["_sum"]) == (25, 25 * request.ByteSize())
    assert counted(mesh, "modelmesh_response_size_bytes", model)["_count"] == 25
    assert counted(mesh, "modelmesh_response_size_bytes", model, "INTERNAL") == {}


def test_a_client_that_balances_over_addresses_and_checks_their_health_is_served(mesh: Mesh, model: str) -> None:
    warm(mesh, model)
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": inference.SERVICE}}
    options = (("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"ipv4:{mesh.router.address},{mesh.router.address}", options) as channel:
        predictor = example_grpc.ExamplePredictorStub(channel)
        for number in range(4):
            said = predictor.predict(example.PredictRequest(text=f"{number}"), metadata=to(model), timeout=30)
            assert said.results[0].category == answer(model, f"{number}")


# What a copy answered that Python has to judge


def warm(mesh: Mesh, model: str) -> None:
    """Has a model serve, and its calls go straight."""
    mesh.client.register(model)
    until(lambda: straight(mesh.client, model), "the copy is published")


Said = tuple[StatusCode, str, dict[str, str | bytes]]


def said_to(client: Client, method: str, model: str, text: str) -> Said:
    """How a call that is refused ends."""
    request = example.PredictRequest(text=text)
    with pytest.raises(grpc.RpcError) as caught:
        _ = (
            client.predictor.predict(request, metadata=to(model), timeout=30)
            if method == "predict"
            else list(client.predictor.predictMany(request, metadata=to(model), timeout=30))
        )
    refusal = Refusal()
    fill(refusal, caught.value)
    assert refusal.trailers.pop(REQUEST_ID), "it was no plain hit"
    return refusal.code, refusal.details, refusal.trailers


@pytest.mark.parametrize("method", ["predict", "predictMany"])
@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        (StatusCode.UNAVAILABLE, StatusCode.INTERNAL),
        (StatusCode.RESOURCE_EXHAUSTED, StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_what_a_copy_answered_is_judged_without_a_second_call(
    mesh: Mesh, shared: Client, model: str, method: str, code: StatusCode, becomes: StatusCode
) -> None:
    warm(mesh, model)
    text = f"test:error:code={code.name}:message=100 % größer"
    before = len(mesh.runtime.seen(method, model))
    by_lane = said_to(mesh.client, method, model, text)
    assert len(mesh.runtime.seen(method, model)) == before + 1
    assert by_lane == said_to(shared, method, model, text)
    assert by_lane[0] == becomes
    assert by_lane[1].endswith("100 % größer")
    assert counted(mesh, "modelmesh_invoke_model_milliseconds", model, code.name)["_count"] == 2


def test_a_model_that_the_runtime_forgot_is_loaded_again_and_asked_once_more(mesh: Mesh, model: str) -> None:
    warm(mesh, model)
    before = len(mesh.runtime.seen(PREDICT, model))
    mesh.runtime.do("purge")
    assert mesh.client.said(model) == answer(model)
    assert len(mesh.runtime.seen(PREDICT, model)) == before + 2
    assert mesh.runtime.loads(model) == 2


def test_nobody_but_the_lane_is_believed_what_was_tried(mesh: Mesh, shared: Client, sockets: Path, model: str) -> None:
    warm(mesh, model)
    (socket,) = sockets.glob("*/grpc.sock")
    forged = [(("mm-lane-tried", f"{model}%23{number}"), ("mm-lane-code", "14"), ("mm-lane-text", "made up")) for number in range(3)]
    with Client.insecure(f"unix:{socket}") as behind:
        believed = [said for told in forged if (said := _answer_or_refusal(behind, model, told)) != answer(model, "x")]
    assert believed == ["ModelRuntime UNAVAILABLE: mmesh.ExamplePredictor/predict: UNAVAILABLE: made up"]
    for client in (mesh.client, shared):
        for told in forged:
            assert _answer_or_refusal(client, model, told) == answer(model, "x")
            assert _answer_or_refusal(client, model, told, grpc.Compression.Gzip) == answer(model, "x"), "also where it is handed over"


def _answer_or_refusal(
    client: Client, model: str, told: tuple[tuple[str, str], ...], compression: grpc.Compression = grpc.Compression.NoCompression
) -> str:
    request = example.PredictRequest(text="x")
    try:
        found = client.predictor.predict(request, metadata=(*to(model), *told), timeout=30, compression=compression)
    except grpc.RpcError as error:
        refusal = Refusal()
        fill(refusal, error)
        return refusal.details
    return str(found.results[0].category)


def test_an_alias_leads_straight_to_its_model_and_to_the_next_once_it_is_switched(mesh: Mesh, model: str) -> None:
    def said() -> str:
        called, named = example.PredictRequest(text="hello"), (("mm-vmodel-id", model),)
        return mesh.client.predictor.predict(called, metadata=named, timeout=30).results[0].category

    for target in (f"{model}-1", f"{model}-2"):
        mesh.client.set_alias(model, target, kind="example", loadNow=True, sync=True, autoDeleteTargetModel=True)
        until(lambda target=target: said() == answer(target), f"calls go to {target}")  # type: ignore[misc]
    mesh.client.delete_alias(model)
    with refused(StatusCode.NOT_FOUND):
        said()


def test_an_unload_waits_for_the_last_call_that_went_straight(mesh: Mesh, model: str) -> None:
    mesh.client.loaded(model)
    until(lambda: straight(mesh.client, model), "the copy is published")
    with mesh.runtime.holding(f"call:{model}"):
        last = mesh.client.predicting(model, "test:hold")
        mesh.runtime.awaited("hold", model)
        mesh.client.unregister(model)
        with refused(StatusCode.NOT_FOUND):
            mesh.client.said(model)
        assert mesh.runtime.unloads(model) == 0
    assert last.result(30)
    mesh.runtime.awaited("unloadModel", model)


def test_models_that_are_evicted_under_load_lose_no_call(mesh: Mesh, model: str) -> None:
    """Twelve models take turns in room for seven, while each is called all the time."""
    names = [f"{model}-{number}" for number in range(12)]
    for name in names:
        mesh.client.register(name)
    over = Event()

    def call(name: str) -> int:
        made = 0
        with Client.insecure(mesh.router.address) as client:
            while made < 10 or not over.is_set():
                assert client.said(name, str(made)) == answer(name, str(made))
                made += 1
        return made

    with ThreadPoolExecutor(len(names)) as callers:
        calls = [callers.submit(call, name) for name in names]
        until(lambda: sum(mesh.runtime.unloads(name) for name in names) >= 20, "20 evictions")
        over.set()
        made = {name: one.result(120) for name, one in zip(names, calls, strict=True)}
    for name in names:
        assert counted(mesh, "modelmesh_api_request_milliseconds", name)["_count"] == made[name]


def test_a_pod_that_stops_answers_the_calls_that_run(tmp_path_factory: pytest.TempPathFactory, model: str) -> None:
    with a_mesh(tmp_path_factory.mktemp("stopping"), environment=lane.variables("auto")) as mesh, ThreadPoolExecutor(1) as threads:
        mesh.client.loaded(model)
        until(lambda: straight(mesh.client, model), "the copy is published")
        with mesh.runtime.holding(f"call:{model}"):
            last = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            stopping = threads.submit(mesh.router.stop)
            until(lambda: "stopping" in mesh.router.process.output(), "the stop begins")
        assert last.result(30)
        assert stopping.result(60) == 0


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"MM_LOG_EACH_INVOKE": "true"}, "MM_LOG_EACH_INVOKE"),
        ({"MM_LOG_REQUEST_HEADERS": '{"x-id": "id"}', "MM_PAYLOAD_PROCESSORS": "logger://"}, "MM_PAYLOAD_PROCESSORS"),
    ],
    ids=["log", "observers"],
)
def test_what_needs_every_call_keeps_it_off_and_the_start_says_so(
    tmp_path_factory: pytest.TempPathFactory, model: str, environment: dict[str, str], reason: str
) -> None:
    with a_mesh(tmp_path_factory.mktemp("off"), environment=lane.variables("auto") | environment) as mesh:
        (line,) = [line for line in mesh.router.process.output().splitlines() if "the express lane is off" in line]
        assert reason in line
        mesh.client.loaded(model)
        assert not straight(mesh.client, model)


def test_a_folder_for_temporary_files_with_a_long_path_keeps_it_on(tmp_path_factory: pytest.TempPathFactory, model: str) -> None:
    folder = tmp_path_factory.mktemp("a-path-that-no-unix-socket-can-have-for-it-is-longer-than-a-hundred-and-seven-bytes-are")
    with a_mesh(tmp_path_factory.mktemp("long"), environment=lane.variables("auto") | {"TMPDIR": str(folder)}) as mesh:
        mesh.client.loaded(model)
        until(lambda: mesh.client.said(model) == answer(model) and straight(mesh.client, model), "the lane carries its calls")
    assert not list(folder.iterdir())


def test_a_port_that_is_taken_is_not_shared(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> None:
    taken = {"MM_SVC_GRPC_PORT": str(mesh.router.ports["grpc"])}
    with (
        pytest.raises(Exception, match="MM_SVC_GRPC_PORT"),
        a_mesh(tmp_path_factory.mktemp("taken"), environment=lane.variables("auto") | taken),
    ):
        pass
