"""What goes out on the wire: health in order, texts that fit, refusals of stores by their cause."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from urllib.parse import quote

import grpc
import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import GenericError

from runtime_adapters.errors import Missing, RuntimeRefused
from runtime_adapters.health import Health
from runtime_adapters.logs import JsonLines
from runtime_adapters.server import MAX_DETAILS, details
from runtime_adapters.storage import transfer
from runtime_adapters.storage.failures import translate
from runtime_adapters.storage.transfer import PART, Item, split
from tests.support.stubs import ROOT

PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What gRPC sends as it is in an error text; the rest becomes %XX for each byte."""
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_watcher_sees_every_change_however_quick() -> None:
    health = Health()
    health.set(True)
    changes = health.Watch(health_pb2.HealthCheckRequest(), None)  # type: ignore[arg-type] # the context is not used
    assert (await anext(changes)).status == SERVING
    for serving in (False, True, True, False):
        health.set(serving)
    assert [(await anext(changes)).status for _ in range(3)] == [NOT_SERVING, SERVING, NOT_SERVING]
    health.close()
    assert [status async for status in changes] == []


async def test_health_can_be_waited_for() -> None:
    health = Health()
    assert not await health.until_serving(0.01)
    health.set(True)
    assert await health.until_serving(60)


@given(st.builds(lambda text, times: times * text, st.text(max_size=300) | st.text("ü%\n☃", min_size=10, max_size=300), st.integers(1, 30)))
def test_an_error_text_fits_on_the_wire(message: str) -> None:
    sent = details(message)
    assert len(quote(sent, safe=PLAIN, errors="replace")) <= MAX_DETAILS + len(quote("…"))
    assert sent == message or (sent.endswith("…") and message.startswith(sent[:-1]))


def test_context_is_added_and_the_code_kept() -> None:
    assert Missing("no file").within("Failed").message == "Failed: no file"
    assert str(RuntimeRefused("x", grpc.StatusCode.ABORTED).within("y")) == "y: x"
    assert RuntimeRefused("x", grpc.StatusCode.ABORTED).within("y").status == grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>", "PERMISSION_DENIED", "(SignatureDoesNotMatch)"),
        ("status code: 404 Not Found: <Error><Code>NoSuchBucket</Code>", "NOT_FOUND", "bucket 'b' does not exist"),
        ("status code: 404 Not Found: <Code>NoSuchKey</Code><Message>The key</Message>", "NOT_FOUND", "(NoSuchKey - The key)"),
        ("status code: 503 Slow Down: ", "UNAVAILABLE", "HTTP status 503"),
        ("status code: 400 Bad Request: weird", "FAILED_PRECONDITION", "HTTP status 400"),
        ("status code: 412 Precondition Failed: ", "DATA_LOSS", "changed while"),
    ],
)
def test_a_stores_refusal_is_told_by_its_cause(text: str, code: str, said: str) -> None:
    error = translate(GenericError(f"Generic S3 error: Server returned non-2xx {text}"), "s3 bucket 'b'", "some/key")
    assert error.status == grpc.StatusCode[code]
    assert said in error.message
    assert "s3 bucket 'b'" in error.message


@given(st.integers(0, 10 * PART))
def test_parts_cover_an_object_exactly(size: int) -> None:
    parts = split(Item("x", size, None, ROOT))
    assert parts[0].start == 0
    assert parts[-1].end == size
    assert all(0 < part.end - part.start <= PART for part in parts) or size == 0
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]


def test_progress_is_told_at_most_once_a_period(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = transfer.Progress("'m' in s3 bucket 'b'", 1000)
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            progress.add(10)
            now[0] += transfer.REPORT_EVERY / 25
    told = [(record.__dict__["bytes"], record.__dict__["of"]) for record in caplog.records]
    assert told == [(260, 1000), (510, 1000), (760, 1000)]


def test_a_log_line_is_one_json_object() -> None:
    record = logging.makeLogRecord({"name": "n", "levelno": 20, "levelname": "INFO", "msg": "two\nlines %s", "args": ("x",), "model": "m"})
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) == {**json.loads(line), "level": "info", "logger": "n", "message": "two\nlines x", "model": "m"}
