"""Pods call each other: bytes, headers, errors, deadlines and cancellation pass as if there were one pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from mesh import __version__
from mesh.core.errors import (
    Code,
    DeadlineExceeded,
    LoadFailed,
    Malformed,
    MeshError,
    NotHere,
    Overloaded,
    PeerUnavailable,
    RuntimeUnavailable,
)
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.routing.hops import Hop, Kind, Load
from mesh.core.units import Millis
from mesh.pod.peer_lines import Greeting
from mesh.pod.peers import PeerStream
from mesh.wire.call import Call, RuntimeStatus, Target
from mesh.wire.hops import ERROR, HOP, LOAD, POD, to_peer
from tests.unit.pod.pods import DIGITS, HOLDER, INGRESS, SAY, STARTED, TALK, Pods, becomes, gives, hop, refused

Context = aio.ServicerContext[bytes, bytes]


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = await Pods().start()
    yield made
    await made.stop()


async def for_ever(payload: bytes, context: Context) -> bytes:
    await asyncio.Event().wait()
    return payload


@contextmanager
def closing_at_end(stream: PeerStream) -> Iterator[PeerStream]:
    try:
        yield stream
    finally:
        stream.cancel()


# Bytes and headers


async def test_any_bytes_pass_untouched_both_ways(pods: Pods) -> None:
    async def reverse(payload: bytes, _: Context) -> bytes:
        return payload[::-1]

    pods.server.say = reverse
    call = pods.call
    for payload in (b"", bytes(range(256)), b"\xff" * 100_000):
        assert await call(payload) == payload[::-1]


async def test_a_message_larger_than_the_public_limit_passes_because_the_door_that_took_it_had_its_say(pods: Pods) -> None:
    large = b"x" * (pods.settings.max_message + 1)
    with pytest.raises(RuntimeStatus, match="larger than max"):  # the server's own limit, which is gRPC's default
        await pods.say(large)
    assert len(pods.holding.calls) == 1


async def test_the_hop_arrives_with_the_call_and_the_model_is_its(pods: Pods) -> None:
    sent = Hop(
        Kind.LOAD,
        DIGITS,
        INGRESS,
        HOLDER,
        alias="цифры",
        last_used=Millis(7),
        tried=frozenset({(PodId("x"), Millis(5))}),
        avoid=frozenset({PodId("y")}),
    )
    await pods.peers.unary(sent, Call(SAY, (("x", "y"), ("mm-balanced", "true"))), b"hello", 50)
    (call,) = pods.holding.calls
    assert (call.method, call.hop, call.target) == (SAY, sent, Target(models=(DIGITS,)))
    assert ("x", "y") in call.metadata
    assert not any(name.startswith("mesh-") for name, _ in call.metadata)
    assert call.deadline is not None


async def test_headers_and_trailers_of_the_runtime_reach_the_client_and_none_that_pods_add(pods: Pods) -> None:
    async def decorated(payload: bytes, context: Context) -> bytes:
        await context.send_initial_metadata((("said", "before"), ("mesh-error", "Bug"), ("mm-x", "1")))
        context.set_trailing_metadata((("said-bin", b"\x00after"), ("mesh-load", "9 9"), ("mesh-pod-bin", b"forged")))
        return payload

    pods.server.say = decorated
    call = pods.call(b"x", metadata=(("authorization", "me"),))
    assert await call == b"x"
    assert tuple(await call.initial_metadata() or ()) == (("said", "before"),)
    assert tuple(await call.trailing_metadata() or ()) == (("said-bin", b"\x00after"),)
    assert ("authorization", "me") in pods.server.metadata
    assert not any(name.startswith(("mesh-", "mm-vmodel")) for name, _ in pods.server.metadata)


async def test_a_client_that_forges_a_hop_at_the_public_door_changes_nothing(pods: Pods) -> None:
    ((_, forged),) = to_peer((), Hop(Kind.LOAD, ModelId("stolen"), PodId("nobody"), PodId("elsewhere")))
    metadata = ((HOP, forged), ("mesh-hop", "x"), ("mesh-pod-bin", b"x"), ("mesh-error", "Bug"), ("mesh-load", "1 1"))
    assert await pods.call(b"x", metadata=metadata) == b"x"
    (call,) = pods.holding.calls
    assert call.hop == hop()
    assert not any(name.startswith("mesh-") for name, _ in pods.server.metadata)


async def test_each_answer_tells_how_busy_the_pod_is_errors_and_streams_too(pods: Pods) -> None:
    await pods.say(b"x")
    pods.load, pods.holding.error = Load(4), Overloaded("no")
    with pytest.raises(Overloaded):
        await pods.say(b"x")
    pods.load, pods.holding.error = Load(5), None
    stream = pods.talk(gives(b"a"))
    assert [await stream.next(), await stream.next()] == [b"a", None]
    stream.cancel()
    assert pods.around.loads == [Load(3), Load(4), Load(5)]
    assert pods.around.running == {HOLDER: 0}


# Errors


@pytest.mark.parametrize("method", [SAY, TALK])
@pytest.mark.parametrize(
    "error",
    [
        LoadFailed("модель не загрузилась: 100 % full\nsecond line\ttab"),
        NotHere("not here"),
        Overloaded("MESH_MAX_CALLS is reached"),
        RuntimeUnavailable(""),
        DeadlineExceeded("too late"),
        PeerUnavailable("pod c does not answer"),
    ],
)
async def test_an_error_of_the_mesh_comes_back_with_its_class_and_words(pods: Pods, error: MeshError, method: str) -> None:
    pods.holding.error = error
    stream = pods.talk(gives(b"x"))
    with closing_at_end(stream), pytest.raises(type(error)) as raised:
        await (pods.say(b"x") if method == SAY else stream.next())
    assert type(raised.value) is type(error)
    assert raised.value.message == error.message
    assert pods.around.put_aside == 0


async def test_a_message_too_long_for_the_wire_is_cut_between_letters(pods: Pods) -> None:
    pods.holding.error = LoadFailed("ж" * 10_000)
    with pytest.raises(LoadFailed) as raised:
        await pods.say(b"x")
    assert raised.value.message.lstrip("ж") == "…"
    assert len(raised.value.message) > 500


async def test_a_failure_that_nobody_foresaw_is_a_bug_with_a_number_and_the_pod_stays(pods: Pods, caplog: pytest.LogCaptureFixture) -> None:
    pods.holding.error = ZeroDivisionError("by zero")
    status = await refused(pods.call(b"x"))
    assert status.code() is grpc.StatusCode.INTERNAL
    assert "the router's log has the cause" in (status.details() or "")
    assert "by zero" in caplog.text
    assert pods.around.put_aside == 0


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED", "NOT_FOUND", "INTERNAL"])
async def test_a_status_of_the_runtime_is_its_own_and_says_nothing_of_the_pod(pods: Pods, code: str) -> None:
    async def refuse(_: bytes, context: Context) -> bytes:
        await context.send_initial_metadata((("said", "before"),))
        await context.abort(grpc.StatusCode[code], "my own words", (("grpc-status-details-bin", b"\x01"), ("mesh-error", "Bug")))

    pods.server.say = refuse
    with pytest.raises(RuntimeStatus) as raised:
        await pods.say(b"x")
    status = raised.value
    assert (status.code, status.details) == (Code[code], "my own words")
    assert (status.headers, status.trailers) == ((("said", "before"),), (("grpc-status-details-bin", b"\x01"),))
    assert pods.around.put_aside == 0


@pytest.mark.parametrize(
    ("status", "error", "put_aside", "loads"),
    [
        (RuntimeStatus(Code.UNAVAILABLE, "no connection"), PeerUnavailable, 1, []),
        (RuntimeStatus(Code.INTERNAL, "no", (), ((POD, b"a stranger"),)), PeerUnavailable, 1, []),
        (
            RuntimeStatus(Code.NOT_FOUND, "not here", (), ((POD, HOLDER.encode()), (LOAD, "3 0 0"), (ERROR, "NotHere"))),
            NotHere,
            0,
            [Load(3)],
        ),
        (RuntimeStatus(Code.RESOURCE_EXHAUSTED, "busy", (), ((POD, HOLDER.encode()), (LOAD, "4 0 0"))), RuntimeStatus, 0, [Load(4)]),
    ],
    ids=["unreachable", "stranger", "error of the mesh", "status of the runtime"],
)
async def test_what_a_pod_answered_somebody_else_means_what_it_would_mean_here(
    pods: Pods, status: RuntimeStatus, error: type[Exception], put_aside: int, loads: list[Load]
) -> None:
    with pytest.raises(error) as raised:
        pods.peers.judge(hop(), status)
    assert (pods.around.put_aside, pods.around.loads, pods.around.running) == (put_aside, loads, {HOLDER: 0})
    assert not isinstance(raised.value, RuntimeStatus) or raised.value.trailers == ()


# What the door refuses


async def dialled(pods: Pods, metadata: Any, method: str = SAY) -> aio.AioRpcError:
    async with aio.insecure_channel(f"127.0.0.1:{pods.port}") as channel:
        if method == SAY:
            unary: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{method}")
            return await refused(unary(b"x", metadata=metadata))
        # The request goes with the call: a status that overtakes a message which is written by itself is lost in gRPC.
        stream: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{method}")
        return await refused(stream(b"x", metadata=metadata).read())


@pytest.mark.parametrize("method", [SAY, TALK])
async def test_a_call_without_a_hop_is_told_where_clients_call(pods: Pods, method: str) -> None:
    status = await dialled(pods, (("mm-model-id", "digits"),), method)
    assert status.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "clients call MM_SVC_GRPC_PORT" in (status.details() or "")
    assert pods.holding.calls == []


@pytest.mark.parametrize("method", [SAY, TALK])
async def test_a_hop_that_cannot_be_read_is_refused_by_name(pods: Pods, method: str) -> None:
    status = await dialled(pods, ((HOP, b"\x0a\xff garbage"),), method)
    assert status.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (status.details() or "").startswith("header mesh-hop-bin is not a mesh.peer.v1.Hop")
    assert pods.holding.calls == []


async def test_a_call_for_another_pod_is_refused(pods: Pods) -> None:
    status = await dialled(pods, to_peer((), hop(dest=PodId("somebody"))))
    assert "this is pod holder, and the call is for pod somebody" in (status.details() or "")
    assert ("mesh-error", "NotHere") in tuple(status.trailing_metadata() or ())
    assert pods.holding.calls == []


async def test_a_method_that_only_newer_pods_have_is_refused(pods: Pods) -> None:
    with pytest.raises(MeshError, match=r"mesh.peer.v1.Peer has no such method in version") as raised:
        await pods.peers.unary(hop(), Call("mesh.peer.v1.Peer/Newer"), b"", 50)
    assert raised.value.code is Code.UNIMPLEMENTED


async def test_a_port_that_is_taken_is_named(pods: Pods) -> None:
    door = pods.make_door(pods.port)
    with pytest.raises(Malformed, match=rf"127.0.0.1:{pods.port}: is the port taken\? Set MESH_PEER_PORT"):
        await door.start()
    await door.stop(0)


async def test_headers_as_long_as_the_public_door_takes_pass_beside_a_long_hop(pods: Pods) -> None:
    longest = Hop(Kind.LOAD, DIGITS, INGRESS, HOLDER, avoid=frozenset(PodId(f"{number:020}") for number in range(1400)))
    await pods.peers.unary(longest, Call(SAY, (("x", "y" * 7000),)), b"", 50)
    assert pods.holding.calls[0].hop == longest


async def test_headers_too_long_for_pods_are_an_error_that_says_so_and_no_failure_of_the_pod(pods: Pods) -> None:
    with pytest.raises(MeshError, match="send shorter headers") as raised:
        await pods.peers.unary(hop(), Call(SAY, (("x", "y" * 200_000),)), b"", 50)
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert pods.around.put_aside == 0


# Deadlines and cancellation


async def test_the_deadline_of_a_client_reaches_the_runtime_two_pods_away(pods: Pods) -> None:
    await pods.call(b"x", timeout=500)
    await pods.call(b"x")
    given, none = pods.server.deadlines
    assert given is not None
    # On the wire a time of minutes has whole seconds, rounded up (gRPC's three digits): a client's 500 s and a moment are 501 to each hop.
    assert 0 < given <= 501
    assert none is None or none > 10**6


async def test_a_deadline_that_passes_ends_the_call_everywhere_and_says_nothing_of_the_pod(pods: Pods) -> None:
    pods.server.say = for_ever
    with pytest.raises(DeadlineExceeded, match="holder did not answer before the caller's deadline"):
        await pods.say(b"x", timeout=0.2)
    await becomes(lambda: pods.server.running == 0, "the runtime's call ends")
    assert pods.around.put_aside == 0
    assert pods.around.running == {HOLDER: 0}


async def test_a_deadline_that_has_passed_sends_nothing(pods: Pods) -> None:
    with pytest.raises(DeadlineExceeded, match="before the call went to pod holder"):
        await pods.say(b"x", timeout=0)
    with pytest.raises(DeadlineExceeded):
        pods.talk(gives(b"x"), timeout=-1)
    assert pods.holding.calls == []
    assert pods.around.running == {}


async def test_a_client_that_leaves_ends_the_call_of_the_runtime(pods: Pods) -> None:
    pods.server.say = for_ever
    call = pods.call(b"x")
    await becomes(lambda: pods.server.running == 1, "the runtime has the call")
    call.cancel()
    await becomes(lambda: pods.server.running == 0, "the runtime's call ends")
    await becomes(lambda: pods.around.running == {HOLDER: 0})


# Loading, and who is there


async def test_a_pod_is_asked_to_load(pods: Pods) -> None:
    wanted = hop(Kind.LOAD)
    await pods.peers.ensure_loaded(wanted, wait=False, timeout=None)
    await pods.peers.ensure_loaded(wanted, wait=True, timeout=50)
    (first, waits, endless), (second, waited, deadline) = pods.holding.asked
    assert (first, waits, endless) == (wanted, False, None)
    assert (second, waited) == (wanted, True)
    assert deadline is not None


async def test_a_load_that_fails_there_fails_here_in_the_same_words(pods: Pods) -> None:
    pods.holding.error = LoadFailed("INVALID_ARGUMENT: no such file")
    with pytest.raises(LoadFailed, match=r"^INVALID_ARGUMENT: no such file$"):
        await pods.peers.ensure_loaded(hop(Kind.LOAD), wait=True, timeout=None)


async def test_who_gives_up_waiting_for_a_load_is_missed_there(pods: Pods) -> None:
    left = asyncio.Event()

    async def load() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    pods.holding.loading = load
    waiting = asyncio.create_task(pods.peers.ensure_loaded(hop(Kind.LOAD), wait=True, timeout=None))
    await becomes(lambda: pods.holding.asked)
    waiting.cancel()
    await left.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_pod_says_who_it_is(pods: Pods) -> None:
    greeting = await pods.peers.greet(f"127.0.0.1:{pods.port}", 20)
    assert greeting == Greeting(HOLDER, STARTED, "digits-mesh", __version__)


async def test_a_pod_without_an_address_cannot_be_called(pods: Pods) -> None:
    with pytest.raises(PeerUnavailable, match="pod gone is gone: it has no record in the registry any more"):
        await pods.peers.unary(hop(dest=PodId("gone")), Call(SAY), b"", None)
    pods.around.records[PodId("java")] = InstanceRecord()
    with pytest.raises(PeerUnavailable, match="has no meshEndpoint"):
        await pods.peers.unary(hop(dest=PodId("java")), Call(SAY), b"", None)
