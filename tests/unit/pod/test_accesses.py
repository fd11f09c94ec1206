"""A pod keeps its calls while somebody asks for them, and what is asked becomes a trace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from mesh.cli.recording import Recording
from mesh.core.errors import Code, Failed, Malformed
from mesh.core.units import Millis
from mesh.doors.facts import PREFIX, facts_route
from mesh.doors.probes import probes
from mesh.pod import accesses
from mesh.pod.accesses import LEASE, PAGE, Accesses
from mesh.pod.census import Census
from mesh.pod.facts import Facts
from mesh.simulation.trace import TracedModel
from mesh.telemetry.metrics import Metrics
from tests.unit.pod.bench import Bench

METHOD = "inference.GRPCInferenceService/ModelInfer"


class Pod:
    """Metrics and accesses of a pod whose clock a test turns."""

    def __init__(self) -> None:
        self.now = Millis(1_000_000)
        self.metrics = Metrics(None)
        self.accesses = Accesses(lambda: self.now, self.metrics)

    def call(self, model: str = "m", ms: float = 10.0, code: Code = Code.OK) -> None:
        self.metrics.api_request(METHOD, code, ms, model)


def test_nothing_is_kept_before_somebody_asks_nor_when_nobody_asks_any_more() -> None:
    pod = Pod()
    pod.call()
    assert pod.metrics.listener is None
    assert pod.accesses.page()["entries"] == []
    pod.call()
    page = pod.accesses.page()
    assert [entry[2] for entry in page["entries"]] == ["m"]
    pod.now = Millis(pod.now + LEASE + 1)
    pod.call()
    assert pod.metrics.listener is None
    assert pod.accesses.page(page["next"]) == {"now_ms": pod.now, "entries": [], "next": 1, "more": False, "lost": 0}


def test_calls_are_told_with_their_begin_and_loads_with_time_and_size() -> None:
    pod = Pod()
    pod.accesses.page()
    pod.call(ms=250.04)
    pod.metrics.load(1200.0, "m")
    pod.metrics.model_size(4096, "m")
    assert pod.accesses.page()["entries"] == [
        ("call", 999_750, "m", 250.04),
        ("load", 1_000_000, "m", 1200.0),
        ("size", 1_000_000, "m", 4096),
    ]


def test_calls_of_no_model_that_there_is_are_none() -> None:
    pod = Pod()
    pod.accesses.page()
    pod.call(model="")
    for code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED):
        pod.call(code=code)
    pod.call(code=Code.UNAVAILABLE)
    assert len(pod.accesses.page()["entries"]) == 1


def test_pages_follow_each_other_and_what_made_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesses, "KEPT", PAGE + 100)
    pod = Pod()
    pod.accesses.page()
    for number in range(PAGE + 50):
        pod.call(f"m{number}")
    page = pod.accesses.page()
    assert (len(page["entries"]), page["more"], page["next"]) == (PAGE, True, PAGE)
    for number in range(PAGE + 100):
        pod.call(f"n{number}")
    page = pod.accesses.page(page["next"])
    assert (page["lost"], page["entries"][0][2], page["more"]) == (50, "n0", True)
    page = pod.accesses.page(page["next"])
    assert (len(page["entries"]), page["entries"][-1][2], page["more"]) == (100, f"n{PAGE + 99}", False)


def test_who_asks_a_pod_that_started_anew_gets_all_of_its_new_life() -> None:
    pod = Pod()
    pod.accesses.page()
    pod.call()
    assert len(pod.accesses.page(700)["entries"]) == 1


# Over a port, as `mesh trace record` asks


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.stop()


async def test_a_recording_asks_pods_and_makes_a_trace_of_what_began_since(bench: Bench) -> None:
    pod = Pod()
    facts = Facts(bench.conductor, bench.registry, bench.management, Census(bench.registry))
    facts.accesses = pod.accesses.page
    bench.pod.leave(await bench.serving("known"))
    server = probes("127.0.0.1", 0, str, {PREFIX: facts_route(lambda: facts)})
    url = f"http://127.0.0.1:{await server.start()}"
    recording = Recording()

    def ask(since: float) -> int:
        with httpx.Client(trust_env=False, timeout=30) as http:
            recording.measure(http, [url])
            return recording.ask(http, [url, "http://127.0.0.1:9"], lambda: since)

    try:
        assert await asyncio.to_thread(ask, 0.0) == 1
        with pytest.raises(Failed, match="nobody called a model while it was recorded"):
            recording.trace()
        pod.call("early", ms=5000.0)
        pod.now = Millis(pod.now + 2_000)
        pod.metrics.load(1500.0, "m")
        pod.metrics.model_size(4096, "m")
        pod.call("m", ms=1510.0)
        pod.call("m", ms=12.0)
        pod.call("known", ms=3.0)
        assert await asyncio.to_thread(ask, 2.0) == 1
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            answer = await http.get(f"{url}{PREFIX}/accesses", params={"after": "soon"})
        assert (answer.status_code, "after=soon: it has to be the number" in answer.json()["error"]) == (400, True)
    finally:
        await server.stop()
    trace = recording.trace()
    assert trace.accesses == [(0.49, "m"), (1.988, "m"), (1.997, "known")]
    assert trace.models == {"m": TracedModel(4096, 1500.0, 11.0), "known": TracedModel(100 * 8192, None, 3.0)}


async def test_what_answers_and_is_no_pod_is_named(bench: Bench) -> None:
    server = probes("127.0.0.1", 0, str, {})
    url = f"http://127.0.0.1:{await server.start()}"

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=30) as http:
            Recording().ask(http, [url], lambda: 0.0)

    try:
        with pytest.raises(Malformed, match=re.escape("is no pod that tells its calls (it answers 404); name its MM_PROBE_PORT")):
            await asyncio.to_thread(ask)
    finally:
        await server.stop()
