"""Streams of every kind pass over two doors, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from mesh.core.errors import LoadFailed, PeerUnavailable
from mesh.wire.call import Call, RuntimeStatus
from tests.unit.pod.pod_process import PodProcess
from tests.unit.pod.pods import HOLDER, TALK, Pods, becomes, gives, hop, refused

Context = aio.ServicerContext[bytes, bytes]
Talk = aio.StreamStreamCall[bytes, bytes]

MANY, BLOCK = 600, b"x" * 262_144
"""150 MiB in all: several times what the windows of three connections take."""


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = await Pods().start()
    yield made
    await made.stop()


def talk(pods: Pods, requests: AsyncIterator[bytes] | None = None, timeout: float | None = None) -> Talk:
    multi: aio.StreamStreamMultiCallable[bytes, bytes] = pods.client.stream_stream(f"/{TALK}")
    return multi(requests, timeout=timeout)


async def quiet(count: list[bytes]) -> None:
    """Waits until nothing was added for a while."""
    before = -1
    while before != len(count):
        before = len(count)
        await asyncio.sleep(0.4)


# The kinds


async def test_many_messages_there_and_one_back(pods: Pods) -> None:
    async def join(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        yield b"".join([message async for message in requests])

    pods.server.talk = join
    assert [message async for message in talk(pods, gives(b"a", b"", b"\xff", b"c"))] == [b"a\xffc"]


async def test_one_message_there_and_many_back(pods: Pods) -> None:
    async def spread(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        async for message in requests:
            for part in range(3):
                yield message + b"%d" % part

    pods.server.talk = spread
    assert [message async for message in talk(pods, gives(b"a"))] == [b"a0", b"a1", b"a2"]
    asked = pods.peers.ask(hop(), Call(TALK), b"b", None)
    answers = [await asked.next() for _ in range(4)]
    asked.cancel()
    assert answers == [b"b0", b"b1", b"b2", None]


async def test_a_conversation_in_turns_with_headers_and_trailers(pods: Pods) -> None:
    async def converse(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("said", "before"),))
        async for message in requests:
            yield message.upper()
        context.set_trailing_metadata((("said", "after"),))

    pods.server.talk = converse
    call = talk(pods)
    for word in (b"one", b"two", b"three"):
        await call.write(word)
        assert await call.read() == word.upper()
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert tuple(await call.initial_metadata() or ()) == (("said", "before"),)
    assert tuple(await call.trailing_metadata() or ()) == (("said", "after"),)
    assert pods.around.running == {HOLDER: 0}


async def test_a_stream_of_nothing_is_answered_by_nothing(pods: Pods) -> None:
    assert [message async for message in talk(pods, gives())] == []


# Back-pressure


async def test_a_server_that_does_not_read_stops_its_client(pods: Pods) -> None:
    go, sent, read = asyncio.Event(), list[bytes](), list[bytes]()

    async def slow(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        async for message in requests:
            read.append(message)
            await go.wait()
        yield b"%d" % len(read)

    async def eager() -> AsyncIterator[bytes]:
        for _ in range(MANY):
            sent.append(BLOCK)
            yield BLOCK

    pods.server.talk = slow
    call = talk(pods, eager())
    await becomes(lambda: read, "the first message arrives")
    await quiet(sent)
    assert len(sent) < MANY
    go.set()
    assert [message async for message in call] == [b"%d" % MANY]


async def test_a_client_that_does_not_read_stops_the_server(pods: Pods) -> None:
    sent: list[bytes] = []

    async def eager(_: AsyncIterator[bytes], __: Context) -> AsyncIterator[bytes]:
        for _n in range(MANY):
            sent.append(BLOCK)
            yield BLOCK

    pods.server.talk = eager
    call = talk(pods, gives(b"a"))
    assert await call.read() == BLOCK
    await quiet(sent)
    assert len(sent) < MANY
    assert len(await _drain(call)) == MANY - 1


# Ends


async def test_a_runtime_that_ends_a_stream_amid_messages_is_quoted(pods: Pods) -> None:
    async def stop(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(grpc.StatusCode.UNAVAILABLE, "my own words", (("why", "so"),))

    pods.server.talk = stop
    call = talk(pods, gives(b"a"))
    assert await call.read() == b"first"
    status = await refused(call.read())
    assert (status.code(), status.details()) == (grpc.StatusCode.UNAVAILABLE, "my own words")
    assert tuple(status.trailing_metadata() or ()) == (("why", "so"),)
    stream = pods.talk(gives(b"a"))
    assert await stream.next() == b"first"
    with pytest.raises(RuntimeStatus):
        await stream.next()
    stream.cancel()
    assert pods.around.put_aside == 0


async def test_a_message_that_the_ingress_refuses_ends_the_stream_at_both_ends(pods: Pods) -> None:
    answered = asyncio.Event()

    async def faulty() -> AsyncIterator[bytes]:
        yield b"a"
        await answered.wait()
        raise LoadFailed("not this one")

    stream = pods.talk(faulty())
    assert await stream.next() == b"a"
    answered.set()
    with pytest.raises(LoadFailed, match="not this one"):
        await stream.next()
    stream.cancel()
    await becomes(lambda: pods.server.running == 0)


async def test_a_deadline_ends_a_stream_at_both_ends(pods: Pods) -> None:
    call = talk(pods, endless(b"a"), timeout=0.5)
    assert (await refused(_drain(call))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await becomes(lambda: pods.server.running == 0)
    # On a slow machine the deadline may have passed before the call left the ingress.
    await becomes(lambda: not any(pods.around.running.values()), f"no call is left: {pods.around.running}")
    assert pods.around.put_aside == 0


async def test_a_client_that_leaves_a_stream_ends_it_at_the_runtime(pods: Pods) -> None:
    call = talk(pods)
    await call.write(b"a")
    assert await call.read() == b"a"
    call.cancel()
    await becomes(lambda: pods.server.running == 0)
    await becomes(lambda: pods.around.running == {HOLDER: 0})


async def test_a_holder_killed_amid_a_stream_ends_it_with_unavailable_and_no_message_twice(pods: Pods) -> None:
    process = PodProcess()
    pods.around.put(HOLDER, process.port)
    call = talk(pods)
    await call.write(b"a")
    assert [await call.read(), await call.read()] == [b"a", b"a"]
    stream = pods.talk(endless(b"b"))
    assert [await stream.next(), await stream.next()] == [b"b", b"b"]
    process.kill()
    status = await refused(_drain(call))
    assert status.code() is grpc.StatusCode.UNAVAILABLE
    assert f"pod holder at 127.0.0.1:{process.port} does not answer" in (status.details() or "")
    with pytest.raises(PeerUnavailable):
        await stream.next()
    stream.cancel()
    assert pods.around.running == {HOLDER: 0}


async def endless(message: bytes) -> AsyncIterator[bytes]:
    """One message, and no end."""
    yield message
    await asyncio.Event().wait()


async def _drain(call: Talk) -> list[bytes]:
    messages = []
    while isinstance(message := await call.read(), bytes):
        messages.append(message)
    return messages
