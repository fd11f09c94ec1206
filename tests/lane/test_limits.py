"""Calls that end early, copies that go, limits, figures, and callers that behave badly."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc
from tests.lane.conftest import Pod, a_lane
from tests.lane.test_calls import seen, straight
from tests.support.client import Client, answer, example, refused, to
from tests.support.mesh import Mesh, RuntimeProcess
from tests.support.waiting import until

# Calls that end early


def test_a_call_that_its_caller_gave_up_is_given_up_at_the_runtime(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model), pod.mesh.runtime
    with runtime.holding(f"call:{model}"):
        call = pod.client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        assert copy.calls == 1
        call.cancel()
        runtime.awaited("predict", model, at="end")
    assert runtime.seen("predict", model, "end")[0]["code"] == "CANCELLED"
    until(lambda: copy.calls == 0)


def test_a_stream_that_its_caller_gave_up_is_given_up_at_the_runtime(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model), pod.mesh.runtime
    with runtime.holding(f"call:{model}"):
        answers = pod.client.predictor.predictMany(example.PredictRequest(text="test:hold"), metadata=to(model), timeout=30)
        runtime.awaited("hold", model)
        answers.cancel()
        runtime.awaited("predictMany", model, at="end")
    until(lambda: copy.calls == 0)


def test_a_call_ends_with_its_deadline_which_the_runtime_is_told(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model), pod.mesh.runtime
    assert 0 < pod.client.predict(model, timeout=17).deadline < 17.3
    with runtime.holding(f"call:{model}"), refused(StatusCode.DEADLINE_EXCEEDED):
        pod.client.predict(model, "test:hold", timeout=0.5)
    until(lambda: copy.calls == 0)


# Copies that go


def test_a_copy_that_is_withdrawn_gets_no_new_call_and_its_last_one_ends(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model), pod.mesh.runtime
    with runtime.holding(f"call:{model}"):
        last = pod.client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        pod.published(no_models=[model])
        copy.close()
        assert copy.closed
        assert not straight(pod.client, model)
        assert copy.calls == 1
        pod.lane.quiet()
        assert not select.select([pod.lane], [], [], 0)[0]
    assert last.result(30).results[0].category == answer(model, "test:hold")
    assert select.select([pod.lane], [], [], 60)[0]
    assert copy.calls == 0


def test_a_closed_copy_is_passed_by_before_workers_heard_of_it(pod: Pod, model: str) -> None:
    copy = pod.resident(model)
    copy.close()
    assert not straight(pod.client, model)
    assert copy.calls == 0


def test_both_planes_keep_one_limit(pod: Pod, model: str) -> None:
    copy = pod.resident(model, limit=1)
    assert copy.ask() == 0
    assert copy.ask() < 0
    assert not straight(pod.client, model)
    copy.give_back()
    assert straight(pod.client, model)


# Limits


def test_beyond_a_copys_limit_calls_wait_their_turn(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model, limit=1, queue=10), pod.mesh.runtime
    with runtime.holding(f"call:{model}"):
        first = pod.client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        others = [pod.client.predicting(model, f"call {number}") for number in range(5)]
        until(lambda: copy.waiting == 5, "they stand in line")
        assert copy.calls == 1
    assert first.result(30)
    assert [call.result(30).results[0].category for call in others] == [answer(model, f"call {number}") for number in range(5)]
    until(lambda: copy.calls == 0)
    calls, microseconds, waits, waited = copy.times()
    assert (calls, sum(waits)) == (6, 6)
    assert min(microseconds, waited) > 0


def test_a_call_of_the_lane_that_leaves_tells_python_whose_turn_it_is(pod: Pod, model: str) -> None:
    copy, runtime = pod.resident(model, limit=1, queue=10), pod.mesh.runtime
    with runtime.holding(f"call:{model}"):
        first = pod.client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        ticket = copy.ask()
        last = pod.client.predicting(model)
        until(lambda: copy.waiting == 1, "it stands behind Python's")
        pod.lane.quiet()
        assert not copy.granted()
    assert select.select([pod.lane], [], [], 60)[0]
    assert copy.granted() == [ticket]
    assert first.result(30)
    assert (copy.calls, copy.waiting) == (0, 1)
    copy.give_back()
    assert last.result(30).results[0].category == answer(model)


def test_who_gives_up_while_it_waits_makes_room_in_the_line(pod: Pod, model: str) -> None:
    copy = pod.resident(model, limit=1, queue=1)
    assert copy.ask() == 0
    pod.lane.collect()
    with refused(StatusCode.DEADLINE_EXCEEDED):
        pod.client.predict(model, timeout=0.5)
    call = pod.client.predicting(model)
    until(lambda: copy.waiting == 1)
    call.cancel()
    until(lambda: copy.waiting == 0)
    copy.give_back()
    assert straight(pod.client, model)
    until(lambda: copy.calls == 0)
    codes = [row[3] for row in pod.lane.collect() if row[0] == model for _ in range(row[4][0])]
    # Who is late has left, or was told so, whichever came first; both were the copy's.
    assert len(codes) == 3
    assert set(codes) - {4} == {0, 1}


def test_who_waits_for_a_copy_that_goes_is_pythons(pod: Pod, model: str) -> None:
    copy = pod.resident(model, limit=1, queue=1)
    assert copy.ask() == 0
    call = pod.client.predicting(model, "test:metadata")
    until(lambda: copy.waiting == 1)
    copy.close()
    agents = [header.value for header in call.result(30).headers if header.name == "user-agent"]
    assert not agents[0].startswith(b"mesh-lane/")
    assert copy.waiting == 0


def test_all_calls_of_many_callers_are_answered_and_counted(pod: Pod, model: str) -> None:
    pod.resident(model, limit=3, queue=1000)
    pod.lane.collect()

    def some(client: Client) -> int:
        return sum(client.said(model, str(number)) == answer(model, str(number)) for number in range(50))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(some, [pod.client] * 4)) == 200
    with refused(StatusCode.INTERNAL):
        pod.client.predict(model, "test:error:code=INTERNAL:message=x")
    ok, failed = sorted((row for row in pod.lane.collect() if row[0] == model), key=lambda row: row[3])
    name, alias, method, code, (calls, bytes_in, bytes_out, microseconds), times, sizes_in, sizes_out, way = ok
    assert (alias, method, code, calls, way) == ("", "mmesh.ExamplePredictor/predict", 0, 200, "here")
    assert bytes_in > 200 * 5
    assert bytes_out > 200 * 5
    assert microseconds > 0
    assert (len(times), sum(times)) == (3, 200)
    assert (len(sizes_in), sum(sizes_in), sum(sizes_out)) == (2, 200, 200)
    assert (failed[3], failed[4][0], sum(failed[7])) == (13, 1, 0)
    assert not [row for row in pod.lane.collect() if row[0] == name]


def test_what_the_router_answered_is_counted_there_and_not_here(pod: Pod, model: str) -> None:
    pod.resident(model)
    pod.lane.collect()
    pod.mesh.runtime.do("purge")
    assert pod.client.said(model) == answer(model)
    assert not [row for row in pod.lane.collect() if row[0] == model]


# Connections


def test_a_stop_lets_running_calls_end(mesh: Mesh, model: str) -> None:
    with a_lane(mesh) as pod, ThreadPoolExecutor(1) as threads:
        pod.resident(model)
        with mesh.runtime.holding(f"call:{model}"):
            last = pod.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            stopping = threads.submit(pod.lane.stop, 60)
            with Client.insecure(pod.lane.address) as late, refused(StatusCode.UNAVAILABLE):
                until(lambda: not late.said(model))
        assert last.result(30).results[0].category == answer(model, "test:hold")
        counted = [row for row in stopping.result(60) if row[0] == model]
        assert counted[0][4][0] >= 1


def test_who_listens_on_a_unix_socket_gets_calls_as_they_came(tmp_path: Path, mesh: Mesh, model: str) -> None:
    where = tmp_path / "s"
    runtime = RuntimeProcess(tmp_path, socket=where)
    try:
        with grpc.insecure_channel(f"unix:{where}") as channel:
            model_runtime_pb2_grpc.ModelRuntimeStub(channel).loadModel(spi.LoadModelRequest(modelId=model), timeout=30)
        with a_lane(mesh, python=f"unix:{where}") as pod:
            sent = (("mm-balanced", "true"), ("x-mine", "1"), ("mm-lane-tried", "forged"))
            found = seen(pod.client, model, *sent)
            assert found["user-agent"].startswith(b"grpc-python/")
            assert {"mm-balanced": b"true", "x-mine": b"1", "mm-model-id": model.encode()}.items() <= found.items()
            assert "mm-lane-tried" not in found
            pod.published(models=[(model, [pod.lane.copy(f"unix:{where}")])])
            assert straight(pod.client, model)
    finally:
        runtime.stop()


def test_of_two_copies_the_less_busy_one_is_called(pod: Pod, model: str) -> None:
    pod.mesh.client.loaded(model)
    busy, idle = (pod.lane.copy(pod.runtime_address) for _ in range(2))
    busy.set_load(1)
    pod.published(models=[(model, [busy, idle])])
    before = busy.last_used
    for _ in range(10):
        assert straight(pod.client, model)
    assert busy.last_used == before
    assert idle.last_used > 0
    idle.set_load(5)
    assert straight(pod.client, model)
    assert busy.last_used > before


# Callers that behave badly


@contextmanager
def raw(pod: Pod) -> Iterator[socket.socket]:
    """A connection that began as HTTP/2 and says what a test wants it to."""
    host, port = pod.lane.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        yield connection


def closed_by_lane(connection: socket.socket) -> bytes:
    """What the lane said until it closed the connection.

    Raises:
        TimeoutError: it does not.
    """
    said = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


def test_whoever_opens_and_resets_calls_without_end_is_sent_away(pod: Pod, model: str) -> None:
    pod.resident(model)
    with raw(pod) as connection:
        # POST http / of x, then a reset of it.
        calls = [frame(1, 4, number, b"\x83\x86\x84\x41\x01x") + frame(3, 0, number, bytes(4)) for number in range(1, 20_000, 2)]
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"".join(calls))
        closed_by_lane(connection)
    assert pod.client.said(model) == answer(model)


def test_whoever_gives_no_sign_of_life_is_sent_away(mesh: Mesh) -> None:
    with a_lane(mesh, silence=0.2) as pod, raw(pod) as connection:
        # A ping was sent, and never answered.
        assert b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" in closed_by_lane(connection)


def test_headers_beyond_the_limit_are_refused_and_the_connection_goes_on(pod: Pod, model: str) -> None:
    pod.resident(model)
    assert pod.client.said(model, metadata=(("x-mine", "1" * 8_000),)) == answer(model)
    with pytest.raises(grpc.RpcError):
        pod.client.predict(model, metadata=(("x-mine", "1" * 40_000),))
    assert pod.client.said(model) == answer(model)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
