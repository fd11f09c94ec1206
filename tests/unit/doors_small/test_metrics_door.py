"""Prometheus scrapes a pod."""

from __future__ import annotations

import gzip
import ssl

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mesh.core.errors import Conflict, Unsupported
from mesh.doors.http_small import SmallServer
from mesh.doors.metrics import metrics_door
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.options import Options

HOST = "127.0.0.1"
FAMILIES = "modelmesh_loadmodel_milliseconds", "modelmesh_loadmodel_failure"


def door(options: Options) -> tuple[SmallServer, Metrics]:
    metrics = Metrics(options)
    metrics.load(12)
    metrics.load_failed()
    server = metrics_door(metrics, HOST)
    assert server is not None
    return server, metrics


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/"])
async def test_metrics_are_served_as_prometheus_reads_them(path: str) -> None:
    server, _ = door(Options(0, "http"))
    port = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{HOST}:{port}{path}", headers={"accept-encoding": "identity"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "content-encoding" not in answer.headers
    assert set(FAMILIES) <= {family.name for family in text_string_to_metric_families(answer.text)}
    await server.stop()


async def test_elsewhere_there_is_nothing() -> None:
    server, _ = door(Options(0, "http"))
    port = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{HOST}:{port}/metric")).status_code == 404
    await server.stop()


async def test_names_select_metrics() -> None:
    server, _ = door(Options(0, "http"))
    port = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            f"http://{HOST}:{port}/metrics?name[]=modelmesh_loadmodel_failure&name%5B%5D=modelmesh_loadmodel_milliseconds_count"
        )
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert lines == ["modelmesh_loadmodel_milliseconds_count 1.0", "modelmesh_loadmodel_failure 1.0"]
    await server.stop()


@pytest.mark.parametrize(
    ("header", "zipped"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
async def test_gzip_if_the_client_takes_it(header: str, zipped: bool) -> None:
    server, metrics = door(Options(0, "http"))
    port = await server.start()
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", f"http://{HOST}:{port}/metrics", headers={"accept-encoding": header}) as answer,
    ):
        raw = b"".join([part async for part in answer.aiter_raw()])
        assert (answer.headers.get("content-encoding") == "gzip") is zipped
    assert (gzip.decompress(raw) if zipped else raw).decode() == "".join(metrics.exposition())
    await server.stop()


# https


async def test_https_has_a_certificate_of_its_own_at_each_start() -> None:
    seen = set()
    for _ in range(2):
        server, _metrics = door(Options(0, "https"))
        port = await server.start()
        trusting = ssl.create_default_context()
        with pytest.raises(httpx.ConnectError, match="self-signed certificate"):
            async with httpx.AsyncClient(trust_env=False, verify=trusting) as client:
                await client.get(f"https://{HOST}:{port}/metrics")
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.get(f"https://{HOST}:{port}/metrics")
            assert "modelmesh_loadmodel_failure 1.0" in answer.text
            seen.add(answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True))
        await server.stop()
    assert len(seen) == 2


async def test_a_client_that_speaks_plain_http_to_https_harms_nobody() -> None:
    server, _ = door(Options(0, "https"))
    port = await server.start()
    with pytest.raises(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"http://{HOST}:{port}/metrics")
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        assert (await client.get(f"https://{HOST}:{port}/metrics")).status_code == 200
    await server.stop()


async def test_without_openssl_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    server, _ = door(Options(0, "https"))
    with pytest.raises(Unsupported, match=r"need the openssl command, .* set MM_METRICS=prometheus:port=2112;scheme=http"):
        await server.start()


async def test_a_taken_port_is_named_with_its_setting() -> None:
    one, _ = door(Options(0, "http"))
    port = await one.start()
    two, _ = door(Options(port, "http"))
    with pytest.raises(Conflict, match=rf"{port} \(MM_METRICS\) is taken"):
        await two.start()
    await one.stop()


def test_there_is_no_door_if_metrics_are_off() -> None:
    assert metrics_door(Metrics(None), HOST) is None
