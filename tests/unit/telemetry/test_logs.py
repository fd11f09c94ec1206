"""Every line of the log is a JSON object that says when, how bad, who, what, and of which request."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core.errors import Malformed
from mesh.telemetry import logs

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.fixture(autouse=True)
def _root_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logs.setup()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]


def test_a_line_has_time_level_logger_message_and_what_was_added(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    logging.getLogger("mesh.pod").warning("load of %s failed", "digits", extra={"model": "digits", "seconds": 1.5})
    (line,) = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {"level": "WARNING", "logger": "mesh.pod", "message": "load of digits failed", "model": "digits", "seconds": 1.5}


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("warning")
    logging.getLogger("a").info("no")
    logging.getLogger("a").error("yes")
    assert [line["message"] for line in lines(capsys)] == ["yes"]


def test_setting_up_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    logs.setup("INFO")
    logging.getLogger("a").info("once")
    assert len(lines(capsys)) == 1


def test_an_exception_stands_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("a").exception("failed")
    (line,) = lines(capsys)
    assert line["message"] == "failed"
    assert "RuntimeError: boom" in line["exception"]


@pytest.mark.parametrize("odd", ["a\nb", "\ud800", "模型", {1: {2}}, math.inf, {(1, 2): 3}, CIRCLE, b"\xff", object()])
def test_whatever_is_logged_is_one_line(odd: object, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    logging.getLogger("a").info("x %s", odd, extra={"odd": odd})
    (line,) = lines(capsys)
    assert line["message"] == f"x {odd}"
    assert "odd" in line


def test_an_added_field_cannot_hide_the_lines_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    logging.getLogger("a").info("x", extra={"level": "NONE", "ts": "never"})
    (line,) = lines(capsys)
    assert line["level"] == "INFO"
    assert line["ts"] != "never"


def test_an_event_is_printed_whatever_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("ERROR")
    logs.event("listening", door="grpc", port=8033)
    (line,) = lines(capsys)
    assert line["ts"].endswith("Z")
    assert (line["event"], line["door"], line["port"]) == ("listening", "grpc", 8033)


# Headers of the request


def test_configured_headers_stand_in_the_lines_of_their_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", '{"x-request-id": "request_id", "X-User-bin": "user", "absent": "absent"}')
    log = logging.getLogger("a")
    with logs.request((("x-request-id", "7"), ("x-user-bin", "Жук".encode()), ("authorization", "secret"), ("x-request-id", "8"))):
        log.info("within")
    log.info("after")
    within, after = lines(capsys)
    assert {key: within[key] for key in within if key not in ("ts", "level", "logger")} == {
        "message": "within",
        "request_id": "7",
        "user": "Жук",
    }
    assert set(after) == {"ts", "level", "logger", "message"}


def test_without_configuration_no_header_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO")
    with logs.request((("x-request-id", "7"),)):
        logging.getLogger("a").info("x", stack_info=True)
    assert set(lines(capsys)[0]) == {"ts", "level", "logger", "message", "stack"}


async def test_requests_at_the_same_time_keep_their_headers_apart(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", '{"id": "request_id"}')
    barrier = asyncio.Barrier(3)

    async def call(number: str) -> None:
        with logs.request((("id", number),)):
            await barrier.wait()
            logging.getLogger("a").info(number)

    await asyncio.gather(*(call(str(number)) for number in range(3)))
    found = lines(capsys)
    assert len(found) == 3
    assert all(line["message"] == line["request_id"] for line in found)


def test_a_binary_header_that_is_not_utf8_loses_only_its_bad_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", '{"id-bin": "id"}')
    with logs.request((("id-bin", b"a\xffb"),)):
        logging.getLogger("a").info("x")
    assert lines(capsys)[0]["id"] == "a\ufffdb"


# Bad configuration


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" ", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ("{}", "is not an object with at least one header; unset it to log none"),
        ('["a"]', "is not an object with at least one header"),
        ('{"a": 1}', 'has {"a": 1}, where both'),
        ('{"a": ""}', 'has {"a": ""}, where both'),
        ('{"": "a"}', 'has {"": "a"}, where both'),
        ('{"a": "message"}', 'has the log key "message", which every line uses already'),
        ('{"a": "x", "b": "x"}', "has one header or log key twice"),
        ('{"a": "x", "A": "y"}', "has one header or log key twice"),
    ],
)
def test_bad_request_headers_are_refused_by_name(text: str, fault: str) -> None:
    with pytest.raises(Malformed, match=f"^MM_LOG_REQUEST_HEADERS {re.escape(fault)}.*; it looks like "):
        logs.setup("INFO", text)


def test_an_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(Malformed, match=r"^MESH_LOG_LEVEL=LOUD is no level; choose one of DEBUG, INFO, WARNING, ERROR"):
        logs.setup("LOUD")
