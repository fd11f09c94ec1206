"""Payload processors: what they are asked for by, what they write, and that a queue in trouble is nobody else's."""

from __future__ import annotations

import base64
import json
import logging
import threading
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Code
from mesh.telemetry import payloads as queueing
from mesh.telemetry import processors
from mesh.telemetry.cloudevents import headers_of
from mesh.telemetry.payloads import Conversation, Payload, Payloads
from mesh.telemetry.processors import Matching, as_json, read_processors

METHOD = "inference.GRPCInferenceService/ModelInfer"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def payload(model: str | None = "m", alias: str = "", data: bytes | None = b"data", status: Code | None = None, number: int = 0) -> Payload:
    return Payload("call", number, model, alias, METHOD, (), data, status, 1_700_000_000.25)


class Kept:
    """Keeps what it is told; stops at a gate, fails for `bad`."""

    name = "kept"

    def __init__(self) -> None:
        self.seen: list[Payload] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = 0

    def process(self, payload: Payload) -> None:
        self.gate.wait(30)
        if payload.data == b"bad":
            raise ValueError("bad payload")
        self.seen.append(payload)

    def close(self) -> None:
        self.closed += 1


# Which ones


@pytest.mark.parametrize(
    ("uri", "model", "method"),
    [
        ("logger:///", "", ""),
        ("logger:///?", "", ""),
        ("logger:///?*#*", "", ""),
        ("logger:///?/#/", "", ""),
        ("logger:///?/*", "", ""),
        ("logger:///?m", "m", ""),
        ("logger:///?/a/b", "a/b", ""),
        ("logger:///?a%20b#x.Y/Z", "a b", "x.Y/Z"),
        ("http://h:1/p?m#/x.Y/Z", "m", "x.Y/Z"),
        ("https://h/p", "", ""),
        ("cloudevents+https://h/p?m", "m", ""),
    ],
)
def test_query_and_fragment_say_what_a_processor_takes(uri: str, model: str, method: str) -> None:
    make = read_processors(uri, "/mesh")
    assert make is not None
    (found,) = make()
    assert isinstance(found, Matching)
    assert (found.model, found.method) == (model, method)
    found.close()


def test_a_processor_may_be_for_a_model_an_alias_or_a_method() -> None:
    kept = Kept()
    for matching in (
        Matching(kept, "m"),
        Matching(kept, "a"),
        Matching(kept, "", METHOD),
        Matching(kept, "m", "x.Y/Z"),
        Matching(kept, "o"),
    ):
        matching.process(payload("m", "a"))
    assert len(kept.seen) == 3
    Matching(kept, "m").process(payload(None))
    assert len(kept.seen) == 3


@pytest.mark.parametrize(
    "uri", ["ftp://h/x", "kafka://h/x", "http:///nowhere", "http://[broken", "cloudevents+logger:///", "cloud+http://h", "m"]
)
def test_what_is_no_processor_is_named_and_left_out(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read_processors(uri, "/mesh") is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert uri in record.getMessage()


def test_the_good_ones_among_bad_ones_are_kept() -> None:
    make = read_processors("ftp://h  logger:///?m  http://[ logger:///", "/mesh")
    assert make is not None
    assert [one.name for one in make()] == ["logger", "logger"]
    assert read_processors("", "/mesh") is None


# What they write


@given(st.binary(max_size=300), TEXT, st.integers(3, 99))
def test_the_body_is_json_of_the_length_that_is_announced(data: bytes, model: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processors, "_PIECE", piece // 3 * 3)
        headers, body = as_json(payload(model, "alias", data, Code.OK))
        text = b"".join(body)
    assert headers["content-length"] == str(len(text))
    assert json.loads(text) == {
        "id": "call",
        "modelid": model,
        "vModelId": "alias",
        "kind": "response",
        "status": "OK",
        "metadata": {},
        "data": base64.b64encode(data).decode(),
    }


@given(TEXT)
def test_any_name_can_be_an_attribute_of_an_event(name: str) -> None:
    headers = headers_of(payload(name, number=2), "/modelmesh/s/p")
    assert all(value.isascii() and value.isprintable() and " " not in value for key, value in headers.items() if key.startswith("ce-"))
    assert unquote(headers.get("ce-modelid", "")) == name
    assert headers["ce-id"] == "call-2"
    assert headers["ce-time"] == "2023-11-14T22:13:20.250Z"


def test_an_event_without_a_message_has_no_type_of_content() -> None:
    headers = headers_of(payload(None, data=None, status=Code.ABORTED), "/modelmesh/s/p")
    assert "content-type" not in headers
    assert "ce-modelid" not in headers
    assert headers["ce-status"] == "ABORTED"


# A call


def conversation() -> tuple[Conversation, list[Payload]]:
    told: list[Payload] = []
    return Conversation(told.append, "call", f"/{METHOD}", (("x", "1"),)), told


def seen(told: list[Payload]) -> list[tuple[str, int, str | None, bytes | None, Code | None]]:
    return [(one.kind, one.number, one.model, one.data, one.status) for one in told]


def test_what_is_asked_before_the_model_is_known_waits_for_that() -> None:
    call, told = conversation()
    call.asked(b"q")
    assert told == []
    call.about("m", "m")
    call.asked(b"r")
    call.answered(b"a", (("y", "2"),))
    call.ended(Code.OK)
    assert seen(told) == [("request", 0, "m", b"q", None), ("request", 1, "m", b"r", None), ("response", 0, "m", b"a", Code.OK)]
    assert [(one.headers, one.alias, one.method) for one in told] == [((("x", "1"),), "", METHOD)] * 2 + [((("y", "2"),), "", METHOD)]


def test_a_call_that_fails_before_its_model_is_known_is_told_all_the_same() -> None:
    call, told = conversation()
    call.asked(b"q")
    call.ended(Code.NOT_FOUND)
    assert seen(told) == [("request", 0, None, b"q", None), ("response", 0, None, None, Code.NOT_FOUND)]


def test_a_stream_that_fails_after_an_answer_has_a_last_response() -> None:
    call, told = conversation()
    call.about("m")
    call.answered(b"a", ())
    call.ended(Code.UNAVAILABLE)
    assert seen(told) == [("response", 0, "m", b"a", Code.OK), ("response", 1, "m", None, Code.UNAVAILABLE)]


# The queue


async def test_messages_of_a_call_stay_in_order_whatever_the_threads() -> None:
    kept = Kept()
    payloads = Payloads(lambda: [kept], threads=4, capacity=10_000)
    calls = [payloads.call(METHOD, ()) for _ in range(50)]
    for number in range(20):
        for call in calls:
            call.about("m")
            call.asked(str(number).encode())
    await payloads.end()
    assert payloads.counts() == {"processed": 1000, "failed": 0, "dropped": 0}
    assert kept.closed == 4
    by_call: dict[str, list[int]] = {}
    for one in kept.seen:
        by_call.setdefault(one.id, []).append(one.number)
    assert list(by_call.values()) == [list(range(20))] * 50


async def test_a_full_queue_drops_what_comes_and_says_so_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "MOST_BYTES", 10)
    kept = Kept()
    kept.gate.clear()
    payloads = Payloads(lambda: [kept], threads=1, capacity=3)
    call = payloads.call(METHOD, ())
    call.about("m")
    for data in (b"1", b"2", b"123456789", b"3", b"4", b"5"):
        call.asked(data)
    assert payloads.dropped == 3
    kept.gate.set()
    await payloads.end()
    assert [one.data for one in kept.seen] == [b"1", b"2", b"3"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["1 payloads dropped"]


async def test_a_failure_is_counted_and_the_next_processor_gets_the_payload(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Kept(), Kept()
    payloads = Payloads(lambda: [first, Matching(second, "m")], threads=1, capacity=10)
    call = payloads.call(METHOD, ())
    call.about("m")
    for data in (b"bad", b"good"):
        call.asked(data)
    await payloads.end()
    assert [one.data for one in first.seen] == [one.data for one in second.seen] == [b"good"]
    assert payloads.counts() == {"processed": 2, "failed": 2, "dropped": 0}
    assert "payload processor kept: 1 failures, the last: bad payload" in caplog.text


async def test_processors_that_cannot_be_made_are_told_and_fail_for_each_payload(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> list[Kept]:
        raise OSError("no such certificates")

    payloads = Payloads(make, threads=1, capacity=10)
    call = payloads.call(METHOD, ())
    call.about("m")
    call.asked(b"1")
    await payloads.end()
    assert payloads.counts() == {"processed": 1, "failed": 1, "dropped": 0}
    assert "no payload is processed: no such certificates" in caplog.text


async def test_what_cannot_be_processed_in_time_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    kept.gate.clear()
    payloads = Payloads(lambda: [kept], threads=1, capacity=10)
    call = payloads.call(METHOD, ())
    call.about("m")
    call.asked(b"1")
    await payloads.end(within=0.05)
    call.asked(b"2")
    assert "1 payloads are not processed: the pod ends" in caplog.text
    assert payloads.dropped == 1
    kept.gate.set()
