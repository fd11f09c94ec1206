"""A pod that does not answer is put aside, asked again, and taken back when it answers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import pytest
from grpc import aio

from mesh.core.errors import PeerUnavailable
from mesh.core.ids import PodId
from mesh.pod.peers import Peers
from mesh.wire.call import Call
from mesh.wire.exchange import Answering
from tests.support.ports import free
from tests.support.waiting import until_async
from tests.unit.pod.pod_process import PodProcess
from tests.unit.pod.pods import HOLDER, INGRESS, SAY, STARTED, Around, Pods, becomes, gives, hop

LONG = 100.0
"""Seconds for what takes some: a silence, its limit and the pauses between probes."""


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = await Pods().start()
    yield made
    await made.stop()


@pytest.fixture
def process() -> Iterator[Callable[[int], PodProcess]]:
    """Starts pods that end with the test."""
    started: list[PodProcess] = []

    def start(port: int) -> PodProcess:
        started.append(PodProcess(port))
        return started[-1]

    yield start
    for one in started:
        one.kill()


async def lost(pods: Pods) -> PeerUnavailable:
    with pytest.raises(PeerUnavailable) as raised:
        await pods.say(b"x")
    return raised.value


async def test_a_pod_that_is_killed_is_put_aside_and_taken_back_when_its_successor_answers(
    pods: Pods, process: Callable[[int], PodProcess], caplog: pytest.LogCaptureFixture
) -> None:
    first = process(0)
    pods.around.put(HOLDER, first.port)
    assert (await pods.say(b"x")).payload == b"x"
    waiting = asyncio.create_task(pods.say(b"wait"))
    await becomes(lambda: pods.around.running[HOLDER] == 1)
    first.kill()
    with pytest.raises(PeerUnavailable, match=f"pod holder at 127.0.0.1:{first.port} does not answer: UNAVAILABLE"):
        await waiting
    assert pods.around.aside == {HOLDER}
    assert f"pod holder at 127.0.0.1:{first.port} is put aside" in caplog.text
    await lost(pods)
    assert pods.around.put_aside == 1, "it is said once"
    process(first.port)
    await becomes(lambda: not pods.around.aside, "it is taken back, though nobody calls it", within=LONG)
    assert (await pods.say(b"y")).payload == b"y"


async def test_a_pod_that_stands_still_holds_nobody_for_ever(pods: Pods, process: Callable[[int], PodProcess]) -> None:
    one = process(0)
    pods.around.put(HOLDER, one.port)
    await pods.say(b"x")
    others = Around()
    others.put(HOLDER, one.port)
    newcomer = Peers(INGRESS, others, pods.settings, lambda: STARTED)
    one.signal(signal.SIGSTOP)
    try:
        # Calls without a deadline: on a connection that stands, and on one that has to be made.
        ends = await asyncio.gather(pods.say(b"x"), newcomer.unary(hop(), Call(SAY), b"x", None), return_exceptions=True)
    finally:
        one.signal(signal.SIGCONT)
    assert [type(end) for end in ends] == [PeerUnavailable, PeerUnavailable]
    assert pods.around.put_aside == others.put_aside == 1
    await becomes(lambda: not pods.around.aside and not others.aside, "both take it back", within=LONG)
    await newcomer.close()


async def test_a_pod_that_nobody_listens_for_is_put_aside_and_asked_at_once_when_its_record_is_written(pods: Pods) -> None:
    (port,) = free()
    pods.around.put(HOLDER, port)
    await lost(pods)
    assert pods.around.aside == {HOLDER}
    assert pods.door is not None
    await pods.door.stop(0)
    await pods.open_door(port)
    pods.peers.changed(HOLDER)
    await becomes(lambda: not pods.around.aside, within=LONG)


async def test_a_call_that_is_answered_takes_a_pod_back_before_any_probe(pods: Pods) -> None:
    (port,) = free()
    pods.around.put(HOLDER, port)
    await lost(pods)
    assert pods.door is not None
    await pods.door.stop(0)
    await pods.open_door(port)

    async def answered() -> bool:
        try:
            await pods.say(b"x")
        except PeerUnavailable:
            return False
        return True

    await until_async(answered)
    assert not pods.around.aside


async def test_a_door_that_closes_amid_a_call_is_a_pod_that_does_not_answer(pods: Pods) -> None:
    async def for_ever(payload: bytes, _: aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.Event().wait()
        return payload

    pods.server.say = for_ever
    waiting = asyncio.create_task(pods.say(b"x"))
    await becomes(lambda: pods.server.running == 1)
    assert pods.door is not None
    await pods.door.stop(0)
    with pytest.raises(PeerUnavailable):
        await waiting


async def test_another_pod_at_the_address_is_not_taken_for_the_one_that_was_meant(pods: Pods) -> None:
    assert pods.door is not None
    await pods.door.stop(0)
    await pods.open_door(me=PodId("somebody"))
    assert "pod somebody answers" in (await lost(pods)).message
    assert pods.around.aside == {HOLDER}
    assert pods.holding.calls == []


async def test_a_server_that_is_no_pod_is_not_taken_for_one(pods: Pods) -> None:
    stranger = aio.server()
    port = stranger.add_insecure_port("127.0.0.1:0")
    stranger.add_generic_rpc_handlers((pods.server,))
    await stranger.start()
    pods.around.put(HOLDER, port)
    assert "a server that is no pod answers" in (await lost(pods)).message
    stream = pods.talk(gives(b"a"))
    with pytest.raises(PeerUnavailable):
        await drained(stream)
    with pytest.raises(PeerUnavailable, match="what answers is no pod"):
        await pods.peers.greet(f"127.0.0.1:{port}", 20)
    await stranger.stop(None)


async def test_a_server_that_speaks_another_language_is_not_taken_for_a_pod(pods: Pods) -> None:
    async def shout(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pods.around.put(HOLDER, port)
    await lost(pods)
    with pytest.raises(PeerUnavailable, match=f"no pod answers at 127.0.0.1:{port}"):
        await pods.peers.greet(f"127.0.0.1:{port}", 20)
    server.close()
    await server.wait_closed()


async def test_a_pod_whose_record_goes_is_asked_no_more(pods: Pods) -> None:
    (port,) = free()
    pods.around.put(HOLDER, port)
    await lost(pods)
    del pods.around.records[HOLDER]
    pods.peers.changed(HOLDER)
    await becomes(lambda: not [task for task in asyncio.all_tasks() if "_probe" in str(task.get_coro())])
    assert (await lost(pods)).message == "pod holder is gone: it has no record in the registry any more"


async def test_calls_follow_a_pod_to_its_new_address_and_those_on_the_old_one_end_in_peace(pods: Pods) -> None:
    old = pods.door
    stream = pods.peers.stream(hop(), Call("test.Server/Talk"), (feed := Feed()).messages(), None)
    feed.put(b"a")
    assert await stream.next() == b"a"
    await pods.open_door()
    pods.peers.changed(HOLDER)
    assert old is not None
    assert (await pods.say(b"x")).payload == b"x"
    feed.put(b"b")
    assert await stream.next() == b"b"
    feed.put(None)
    assert await stream.next() is None
    stream.cancel()
    await old.stop(0)
    assert (await pods.say(b"y")).payload == b"y"
    assert pods.around.put_aside == 0


async def test_closing_ends_what_is_under_way_for_a_reason(pods: Pods) -> None:
    async def for_ever(payload: bytes, _: aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.Event().wait()
        return payload

    pods.server.say = for_ever
    waiting = asyncio.create_task(pods.say(b"x"))
    client = pods.call(b"x")
    await becomes(lambda: pods.server.running == 2)
    await pods.peers.close()
    with pytest.raises(PeerUnavailable, match="the connection to pod holder was closed"):
        await waiting
    assert await client.code() is grpc.StatusCode.UNAVAILABLE
    await becomes(lambda: pods.server.running == 0)


async def drained(stream: Answering) -> list[bytes]:
    messages = []
    try:
        while (message := await stream.next()) is not None:
            messages.append(message)
    finally:
        stream.cancel()
    return messages


class Feed:
    """Request messages that a test gives one by one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, message: bytes | None) -> None:
        self._queue.put_nowait(message)

    async def messages(self) -> AsyncIterator[bytes]:
        while (message := await self._queue.get()) is not None:
            yield message
