"""Traces as far as one process shows them; tests/conformance/test_traces.py follows them over pods."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh.core.errors import Malformed, Overloaded, Unsupported
from mesh.telemetry import logs, traces
from tests.support.waiting import until

METHOD = "inference.GRPCInferenceService/ModelInfer"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
GIVEN = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("x", "1"), ("y-bin", b"2"))


@pytest.fixture
async def kept() -> AsyncIterator[InMemorySpanExporter]:
    """Traces are on, and what is told is kept here too; the receiver that is set does not exist."""
    traces.begin("s", "p", ENDPOINT)
    assert traces._on is not None
    exporter, provider = InMemorySpanExporter(), traces._on.provider
    provider._active_span_processor._span_processors = (SimpleSpanProcessor(exporter),)
    yield exporter
    await traces.end()


def told(kept: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in kept.get_finished_spans()}


def test_off_they_leave_everything_as_it_is() -> None:
    traces.begin("s", "p", {})
    with traces.served(METHOD, GIVEN) as served, traces.span("a") as inner, traces.sent("b"), traces.waits("m"):
        traces.about(model="m")
        traces.loaded("m", 1, 1)
        assert traces.outgoing(GIVEN) is GIVEN
    assert served is inner is None
    traces.begin("s", "p", {**ENDPOINT, "OTEL_SDK_DISABLED": "true"})
    assert traces.outgoing(GIVEN) is GIVEN


def test_without_the_sdk_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Unsupported, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set, .* install modelmesh-router\[otel\] or unset it"):
        traces.begin("s", "p", ENDPOINT)
    assert traces.outgoing(GIVEN) is GIVEN


@pytest.mark.parametrize("endpoint", ["collector:4318", "collector", "ftp://collector", "http://"])
def test_what_is_no_url_of_a_receiver_ends_the_start_instead_of_every_batch(endpoint: str) -> None:
    with pytest.raises(Malformed, match=f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint} is no URL of a receiver, such as http://collector:4318"):
        traces.begin("s", "p", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    assert traces.outgoing(GIVEN) is GIVEN


def test_a_receiver_that_refuses_is_told_of_once_a_minute() -> None:
    seldom = traces._Seldom()
    lines = [logging.LogRecord("x", logging.WARNING, "", 0, "refused by %s", ("port 9",), None) for _ in range(3)]
    lines[0].created, lines[1].created, lines[2].created = 1000.0, 1059.0, 1060.0
    assert [seldom.filter(line) for line in lines] == [True, False, True]
    assert lines[0].getMessage() == "spans are not sent, which is told once a minute: refused by port 9"


async def test_a_receiver_that_is_silent_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        traces.begin("s", "p", os.environ)
        with traces.served(METHOD, ()):
            pass
        await traces.end(within=0.05)
    assert "the last spans are not sent" in caplog.text
    assert traces.outgoing(GIVEN) is GIVEN
    # The SDK draws and logs until its own limits are over, which would come between other tests.
    await asyncio.to_thread(until, lambda: all(thread.name != "sending the last spans" for thread in threading.enumerate()))


def test_steps_of_no_call_are_not_told(kept: InMemorySpanExporter) -> None:
    with traces.span("a"), traces.sent("b"), traces.waits("m"):
        assert traces.outgoing(GIVEN) is GIVEN
    assert told(kept) == {}


def test_headers_that_are_sent_name_the_current_span_and_keep_the_rest(kept: InMemorySpanExporter) -> None:
    with traces.served(METHOD, GIVEN), traces.sent("runtime"):
        sent = traces.outgoing(GIVEN)
    context = told(kept)["runtime"].context
    assert context is not None
    assert sent == (("x", "1"), ("y-bin", b"2"), ("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{context.span_id:016x}-01"))


def test_lines_of_the_log_name_the_trace(kept: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup()
    try:
        with traces.served(METHOD, GIVEN):
            logging.getLogger("mesh.test").info("inside")
        logging.getLogger("mesh.test").info("outside")
    finally:
        logging.getLogger().handlers.pop()
    inside, outside = map(json.loads, capsys.readouterr().out.splitlines())
    assert inside["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert len(inside["span_id"]) == 16
    assert "trace_id" not in outside


def test_a_traceparent_that_cannot_be_read_begins_a_new_trace(kept: InMemorySpanExporter) -> None:
    for value in ("", "nonsense", "00-0-0-0", "ff-" + 55 * "0", b"00-bytes"):
        with traces.served(METHOD, (("traceparent", value),)):
            pass
    assert [span.parent for span in kept.get_finished_spans()] == [None] * 5


def test_of_a_load_only_what_happened_during_the_wait_is_in_it(kept: InMemorySpanExporter) -> None:
    with traces.served(METHOD, ()):
        with traces.waits("m"):
            # It was queued 10 s before this call came and loaded for all of the wait.
            traces.loaded("m", 10_000, 5_000)
        with traces.waits("other"):
            pass
        with traces.waits("m"):
            pass
    spans = kept.get_finished_spans()
    assert [span.name for span in spans].count("load") == 1
    wait, load = next(span for span in spans if span.name == "wait for load"), told(kept)["load"]
    assert "queue" not in told(kept)
    assert load.parent == wait.context
    assert load.attributes is not None
    assert load.start_time is not None
    assert wait.start_time is not None
    assert load.start_time >= wait.start_time - 1_000_000
    assert load.attributes["mesh.whole_ms"] == "5000.000"


def test_queue_and_load_of_a_whole_wait(kept: InMemorySpanExporter) -> None:
    with traces.served(METHOD, ()), traces.waits("m"):
        time.sleep(0.02)
        traces.loaded("m", 8, 4)
    queue, load = told(kept)["queue"], told(kept)["load"]
    assert queue.end_time == load.start_time
    assert queue.start_time is not None
    assert queue.end_time is not None
    assert round((queue.end_time - queue.start_time) / 1e6) == 8


def test_loads_that_nobody_asks_for_are_forgotten(kept: InMemorySpanExporter) -> None:
    for number in range(traces.LOADS_KEPT + 10):
        traces.loaded(f"m{number}", 1, 1)
    assert traces._on is not None
    assert len(traces._on.loads) == traces.LOADS_KEPT
    assert "m9" not in traces._on.loads


def test_an_error_of_the_mesh_is_told_with_its_code(kept: InMemorySpanExporter) -> None:
    with pytest.raises(Overloaded), traces.served(METHOD, ()):
        raise Overloaded("full")
    span = told(kept)[METHOD]
    assert (span.status.is_ok, span.status.description) == (False, "full")
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == Overloaded.code.value
