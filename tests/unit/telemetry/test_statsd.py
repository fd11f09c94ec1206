"""What StatsD gets, read from a real socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Code, Overloaded
from mesh.telemetry import catalogue, statsd
from mesh.telemetry.metrics import Gauges, Metrics
from mesh.telemetry.options import StatsdOptions

INFER = "inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        yield server


@asynccontextmanager
async def sending(server: socket.socket, *, legacy: bool = False, full_names: bool = False) -> AsyncIterator[Metrics]:
    metrics = Metrics(StatsdOptions(server.getsockname()[1], full_names, legacy))
    await metrics.begin()
    try:
        yield metrics
    finally:
        await metrics.end()


def datagrams(server: socket.socket) -> list[str]:
    """What has arrived; a sender on this machine that has closed its socket has delivered."""
    server.setblocking(False)
    found = []
    while True:
        try:
            found.append(server.recv(65536).decode())
        except BlockingIOError:
            return found


def lines(server: socket.socket) -> list[str]:
    return [line for datagram in datagrams(server) for line in datagram.split("\n")]


async def test_a_call_has_a_time_if_it_was_good_and_a_count_in_any_case(server: socket.socket) -> None:
    async with sending(server) as metrics:
        metrics.api_request(INFER, Code.OK, 12.4)
        metrics.api_request(INFER, Code.NOT_FOUND, 3)
        metrics.invoke(INFER, Code.OK, 2)
        metrics.request_size(INFER, Code.NOT_FOUND, 300)
        metrics.response_size(INFER, Code.OK, 400)
    assert lines(server) == [
        "modelmesh_api_request_milliseconds_statsd#method=ModelInfer,code=OK:12|ms",
        "modelmesh_api_request_statsd#method=ModelInfer,code=OK:1|c",
        "modelmesh_api_request_statsd#method=ModelInfer,code=NOT_FOUND:1|c",
        "modelmesh_invoke_model_milliseconds_statsd#method=ModelInfer,code=OK:2|ms",
        "modelmesh_invoke_model_statsd#method=ModelInfer,code=OK:1|c",
        "modelmesh_request_size_bytes_statsd#method=ModelInfer,code=NOT_FOUND:300|ms",
        "modelmesh_response_size_bytes_statsd#method=ModelInfer,code=OK:400|ms",
    ]


async def test_full_names_have_no_slash(server: socket.socket) -> None:
    async with sending(server, full_names=True) as metrics:
        metrics.invoke(INFER, Code.ABORTED, 2)
    assert lines(server) == ["modelmesh_invoke_model_statsd#method=inference.GRPCInferenceService.ModelInfer,code=ABORTED:1|c"]


def happen(metrics: Metrics) -> None:
    metrics.cache_miss(11)
    metrics.load(12)
    metrics.unload(13)
    metrics.queue_delay(14)
    metrics.loading_queue_delay(15)
    metrics.sizing(16)
    metrics.evicted(17)
    metrics.model_size(18)
    metrics.load_failed()
    metrics.unload_failed()
    metrics.unload_attempt_failed()
    metrics.loop_lag(19)


async def test_each_happening_has_its_lines(server: socket.socket) -> None:
    async with sending(server) as metrics:
        happen(metrics)
        metrics.refused(Overloaded("full"))
    assert lines(server) == [
        *("modelmesh_cache_miss_milliseconds_statsd:11|ms", "modelmesh_cache_miss_statsd:1|c"),
        *("modelmesh_loadmodel_milliseconds_statsd:12|ms", "modelmesh_loadmodel_statsd:1|c"),
        *("modelmesh_unloadmodel_milliseconds_statsd:13|ms", "modelmesh_unloadmodel_statsd:1|c"),
        "modelmesh_req_queue_delay_milliseconds_statsd:14|ms",
        "modelmesh_loading_queue_delay_milliseconds_statsd:15|ms",
        "modelmesh_model_sizing_milliseconds_statsd:16|ms",
        *("modelmesh_age_at_eviction_milliseconds_statsd:17|ms", "modelmesh_model_evicted_statsd:1|c"),
        "mesh_evictions_total_statsd#reason=room:1|c",
        "modelmesh_loaded_model_size_bytes_statsd:18|ms",
        "modelmesh_loadmodel_failure_statsd:1|c",
        "modelmesh_unloadmodel_failure_statsd:1|c",
        "modelmesh_unloadmodel_attempt_failure_statsd:1|c",
        f"mesh_refusals_total_statsd#class={Overloaded.label}:1|c",
    ]


async def test_legacy_names_are_modelmesh_s_first_ones(server: socket.socket) -> None:
    async with sending(server, legacy=True) as metrics:
        metrics.api_request(INFER, Code.OK, 12)
        metrics.invoke(INFER, Code.ABORTED, 2)
        metrics.request_size(INFER, Code.OK, 300)
        happen(metrics)
        metrics.refused(Overloaded("full"))
    assert lines(server) == [
        *("model-mesh.api-ModelInfer:12|ms", "model-mesh.api-ModelInfer.OK:1|c", "model-mesh.invoke-ModelInfer.ABORTED:1|c"),
        "model-mesh.reqSize-ModelInfer.OK:300|ms",
        *("model-mesh.cacheMiss:11|ms", "model-mesh.cacheMiss:1|c", "model-mesh.loadModel:12|ms", "model-mesh.loadModel:1|c"),
        *(
            "model-mesh.unloadModel:13|ms",
            "model-mesh.unloadModel:1|c",
            "model-mesh.queueDelay:14|ms",
            "model-mesh.loadModelQueueDelay:15|ms",
        ),
        *("model-mesh.sizeModel:16|ms", "model-mesh.cache_evictModel:17|ms", "model-mesh.cache_evictModel:1|c"),
        *("model-mesh.mmModelSizeBytes:18|ms", "model-mesh.loadModel-failed:1|c", "model-mesh.unloadModel-failure:1|c"),
        "model-mesh.unloadModel-attemptFailed:1|c",
    ]


def figures(metrics: Metrics) -> Callable[[], None]:
    metrics.gauges_from(lambda: Gauges(lru=1_700_000_000.5, lru_age=12, capacity=8192 * 100, used=8192 * 25, models=3, loaded=7))
    assert metrics._statsd is not None
    return metrics._statsd.tell_figures


async def test_figures_are_gauges(server: socket.socket) -> None:
    async with sending(server) as metrics:
        figures(metrics)()
    assert lines(server) == [
        "modelmesh_instance_lru_seconds_statsd:1700000000|g",
        "modelmesh_instance_lru_age_seconds_statsd:12|g",
        "modelmesh_instance_capacity_bytes_statsd:819200|g",
        "modelmesh_instance_used_bytes_statsd:204800|g",
        "modelmesh_instance_used_bps_statsd:2500|g",
        "modelmesh_instance_models_total_statsd:3|g",
        "modelmesh_models_loaded_total_statsd:7|g",
    ]


async def test_legacy_figures_count_memory_in_units_of_8_kib(server: socket.socket) -> None:
    async with sending(server, legacy=True) as metrics:
        figures(metrics)()
    names = ("localLruTimestamp:1700000000", "localLruAge:12", "totalCapacity:100", "totalUsed:25", "capacityUsage:2500", "modelCount:3")
    assert lines(server) == [f"model-mesh.{name}|g" for name in (*names, "modelsLoaded:7")]


async def test_of_counters_that_others_keep_the_growth_is_told(server: socket.socket) -> None:
    kept = {"overloaded": 5.0}
    async with sending(server) as metrics:
        metrics.read(catalogue.REFUSALS, lambda: kept)
        assert metrics._statsd is not None
        metrics._statsd.tell_figures()
        kept.update(overloaded=7, unknown=1)
        metrics._statsd.tell_figures()
        metrics._statsd.tell_figures()
    name = "mesh_refusals_total_statsd#class="
    assert lines(server) == [f"{name}overloaded:5|c", f"{name}overloaded:2|c", f"{name}unknown:1|c"]


async def test_lines_share_datagrams_of_a_limited_size(server: socket.socket) -> None:
    async with sending(server) as metrics:
        for number in range(200):
            metrics.api_request(f"a.A/{number:03}", Code.NOT_FOUND, 1)
    found = datagrams(server)
    assert max(map(len, found)) <= statsd.LARGEST
    assert 200 / 20 > len(found) > 1
    assert [line for datagram in found for line in datagram.split("\n")] == [
        f"modelmesh_api_request_statsd#method={number:03},code=NOT_FOUND:1|c" for number in range(200)
    ]


async def test_a_line_does_not_wait_for_others_for_ever(server: socket.socket) -> None:
    async with sending(server) as metrics:
        metrics.load_failed()
        import asyncio

        received = await asyncio.to_thread(server.recv, 65536)
    assert received == b"modelmesh_loadmodel_failure_statsd:1|c"


async def test_nobody_needs_to_listen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    metrics = Metrics(StatsdOptions(port))
    await metrics.begin()
    for _ in range(200):
        metrics.load_failed()
    await metrics.end()


@given(st.text(max_size=200))
def test_no_method_can_forge_a_line(method: str) -> None:
    metrics = Metrics(StatsdOptions(full_names=True))
    metrics.api_request(f"a.A/{method}", Code.ABORTED, 1)
    assert metrics._statsd is not None
    (line,) = metrics._statsd._lines
    name, value = line.decode().split(":")
    assert value == "1|c"
    assert name.count("#") == name.count(",") == 1
    assert "\n" not in name
