"""Calls are served, and however one ends, nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from grpc import aio

from mesh.core.errors import Code, DeadlineExceeded, LoadFailed, Overloaded, RuntimeUnavailable, Unknown
from mesh.core.events import ModelDeleted, RuntimeLost, RuntimeReturned
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.routing.hops import Hop, Kind
from mesh.core.units import Millis
from mesh.pod.attempted import Attempted
from mesh.wire.attempts import holder_of, name_of
from mesh.wire.call import Attempt, RuntimeStatus
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench
from tests.unit.pod.served import InferenceServer, Served, messages

NOTHING = (0, 0, 0)


@pytest.fixture
async def server() -> InferenceServer:
    return InferenceServer()


@pytest.fixture
async def port(server: InferenceServer) -> AsyncIterator[int]:
    running = aio.server()
    running.add_generic_rpc_handlers((server,))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield port
    server.go.set()
    await running.stop(None)


@pytest.fixture
async def served(bench: Bench, port: int) -> AsyncIterator[Served]:
    await bench.known("m")
    served = Served(bench, port)
    yield served
    await served.channel.close()


async def warm(served: Served) -> Served:
    """With the model loaded and idle."""
    call = served.say(b"first")
    await served.bench.loading("m")
    served.bench.loaded("m")
    await call
    return served


async def arrived(server: InferenceServer, count: int) -> None:
    async def there() -> bool:
        return server.begun >= count

    await until_async(there, f"{count} requests at the server")


async def free(served: Served) -> None:
    async def nothing() -> bool:
        return served.kept() == NOTHING

    await until_async(nothing, "nothing is kept")


async def test_a_call_loads_its_model_and_is_answered(served: Served) -> None:
    call = served.say(b"hello")
    await served.bench.loading("m")
    assert served.kept() == (1, len(b"hello"), 1)
    served.bench.loaded("m")
    assert (await call).payload == b"hello"
    assert served.kept() == NOTHING


async def test_a_call_for_a_model_that_is_here_waits_for_nothing(served: Served) -> None:
    await warm(served)
    assert (await served.say(b"again")).payload == b"again"
    assert served.bench.ordered == ["load m"]


async def test_a_refusal_of_the_runtime_passes(served: Served) -> None:
    await warm(served)
    with pytest.raises(RuntimeStatus) as caught:
        await served.say(b"refuse")
    assert (caught.value.code, caught.value.details) == (Code.INVALID_ARGUMENT, "not that")
    assert served.kept() == NOTHING


async def test_a_model_that_the_runtime_forgot_is_loaded_again_and_the_call_repeated(served: Served) -> None:
    await warm(served)
    call = served.say(b"forget")

    async def cleared() -> bool:
        return bool(served.bench.unloads)

    await until_async(cleared, "what may remain is unloaded first")
    served.bench.unloaded("m")
    await served.bench.loading("m")
    served.bench.loaded("m")
    assert (await call).payload == b"forget"
    assert served.bench.ordered.count("load m") == 2
    assert served.kept() == NOTHING


async def test_a_server_that_restarts_under_a_call_and_is_back_without_the_model_has_it_loaded_again(served: Served) -> None:
    await warm(served)
    served.bench.pod.cache.watched = True
    served.bench.conductor.tell(RuntimeLost(down=False))
    call = served.say(b"restart")

    async def cleared() -> bool:
        return bool(served.bench.unloads)

    await until_async(cleared, "who is back does not know it")
    served.bench.conductor.tell(RuntimeReturned(emptied=False))
    served.bench.unloaded("m")
    await served.bench.loading("m")
    served.bench.loaded("m")
    assert (await call).payload == b"restart"
    assert (await served.say(b"hello")).payload == b"hello"
    assert served.bench.ordered.count("load m") == 2
    assert served.kept() == NOTHING


async def test_what_no_load_brings_is_not_found_and_the_next_who_asks_for_it_has_nothing_loaded(served: Served) -> None:
    await warm(served)
    call = served.say(b"no such version")

    async def cleared() -> bool:
        return bool(served.bench.unloads)

    await until_async(cleared, "it might have been forgotten")
    served.bench.unloaded("m")
    await served.bench.loading("m")
    served.bench.loaded("m")
    for asked in (call, served.say(b"no such version"), served.say(b"no such version")):
        with pytest.raises(RuntimeStatus) as caught:
            await asked
        assert (caught.value.code, caught.value.details) == (Code.NOT_FOUND, "no such version")
    assert (await served.say(b"hello")).payload == b"hello"
    assert served.bench.ordered.count("load m") == 2
    assert served.kept() == NOTHING


def tried(served: Served, code: Code, text: str) -> Attempt:
    """What another plane was told by the copy that serves now."""
    (copy,) = served.bench.pod.cache.current.values()
    return Attempt(name_of(copy.id), copy.id.model, RuntimeStatus(code, text, (), (("x", "y"),)))


async def test_what_a_copy_answered_before_is_not_asked_again(served: Served, server: InferenceServer) -> None:
    await warm(served)
    with pytest.raises(RuntimeUnavailable, match=r"ModelRuntime UNAVAILABLE: test.Server/Say: UNAVAILABLE: out of order"):
        await served.say(b"hello", attempt=tried(served, Code.UNAVAILABLE, "out of order"))
    with pytest.raises(RuntimeUnavailable, match="out of order"):
        await served.talk(messages(b"hello"), attempt=tried(served, Code.UNAVAILABLE, "out of order"))
    with pytest.raises(RuntimeStatus) as caught:
        await served.say(b"hello", attempt=tried(served, Code.RESOURCE_EXHAUSTED, "busy"))
    assert (caught.value.code, caught.value.details) == (Code.RESOURCE_EXHAUSTED, "busy")
    assert ("x", "y") in caught.value.trailers
    assert (server.begun, served.kept()) == (1, NOTHING)


async def test_a_model_that_was_not_found_before_is_loaded_again_and_called_once(served: Served, server: InferenceServer) -> None:
    await warm(served)
    call = served.say(b"hello", attempt=tried(served, Code.NOT_FOUND, "no such model"))

    async def cleared() -> bool:
        return bool(served.bench.unloads)

    await until_async(cleared, "what may remain is unloaded first")
    served.bench.unloaded("m")
    await served.bench.loading("m")
    served.bench.loaded("m")
    assert (await call).payload == b"hello"
    assert (server.begun, served.kept()) == (2, NOTHING)


async def test_what_another_copy_answered_before_says_nothing_of_this_one(served: Served, server: InferenceServer) -> None:
    await warm(served)
    gone = Attempt(name_of(CopyId(ModelId("m"), 99)), ModelId("m"), RuntimeStatus(Code.UNAVAILABLE, "out of order"))
    assert (await served.say(b"hello", attempt=gone)).payload == b"hello"
    assert server.begun == 2


def test_what_another_pod_answered_before_is_taken_when_that_one_would_be_called() -> None:
    pod, model, status = PodId("other"), ModelId("m"), RuntimeStatus(Code.UNAVAILABLE, "gone")
    attempted = Attempted(Attempt(holder_of(model, (pod, Millis(1))), model, status, pod))

    def hop(dest: PodId, model: ModelId) -> Hop:
        return Hop(Kind.HIT, model, PodId("me"), dest)

    assert attempted.by(hop(PodId("third"), model)) is None
    assert attempted.by(hop(pod, ModelId("another version"))) is None
    attempted.instead(CopyId(model, 1))
    assert attempted.by(hop(pod, model)) is status
    assert attempted.by(hop(pod, model)) is None, "it was one attempt"


async def test_a_load_that_fails_ends_the_call_with_its_text(served: Served) -> None:
    call = served.say(b"hello")
    await served.bench.loading("m")
    served.bench.failed("m", "no such file")
    with pytest.raises(LoadFailed, match="no such file"):
        await call
    assert served.kept() == NOTHING


async def test_an_unknown_model_is_refused(served: Served) -> None:
    with pytest.raises(Unknown):
        await served.say(b"hello", "nobody")
    assert served.kept() == NOTHING


async def test_a_deadline_that_passes_while_loading_ends_the_call_and_not_the_load(served: Served) -> None:
    call = served.say(b"hello", within=0.01)
    await served.bench.loading("m")
    with pytest.raises(DeadlineExceeded, match=r"model m was not loaded within .* the load goes on"):
        await call
    assert served.kept() == NOTHING
    served.bench.loaded("m")
    assert (await served.say(b"hello")).payload == b"hello"


async def test_who_leaves_while_the_model_loads_keeps_nothing(served: Served) -> None:
    call = served.say(b"hello")
    await served.bench.loading("m")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert served.kept() == NOTHING
    assert not vars(served.bench.conductor)["_waiting"], "models that nobody waits for any more take no space"


async def test_who_leaves_while_the_runtime_works_cancels_its_call(served: Served, server: InferenceServer) -> None:
    await warm(served)
    call = served.say(b"wait")
    await arrived(server, 2)
    assert served.kept() == (1, 0, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert served.kept() == NOTHING

    async def over() -> bool:
        return server.ended == 2

    await until_async(over, "the server's call is cancelled")


async def test_who_leaves_while_it_stands_in_line_keeps_nothing(served: Served, server: InferenceServer) -> None:
    await warm(served)
    first, second = served.say(b"wait"), served.say(b"hello")
    await arrived(server, 2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    server.go.set()
    assert (await first).payload == b"wait"
    assert served.kept() == NOTHING


async def test_what_waits_is_limited_by_its_bytes(bench: Bench, port: int) -> None:
    await bench.known("m")
    served = Served(bench, port, max_held=10)
    one = served.say(b"123456")
    await bench.loading("m")
    with pytest.raises(Overloaded, match="MESH_MAX_HELD_BYTES=10"):
        await served.say(b"12345")
    bench.loaded("m")
    assert (await one).payload == b"123456"
    assert served.kept() == NOTHING
    await served.channel.close()


async def test_calls_are_limited_and_those_refused_reach_nobody(bench: Bench, port: int, server: InferenceServer) -> None:
    await bench.known("m")
    served = await warm(Served(bench, port, max_calls=1))
    one = served.say(b"wait")
    await arrived(server, 2)
    with pytest.raises(Overloaded, match="MESH_MAX_CALLS"):
        await served.say(b"hello")
    server.go.set()
    await one
    assert (server.begun, served.kept()) == (2, NOTHING)
    await served.channel.close()


async def test_a_stream_holds_its_copy_until_it_is_over(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"a", b"b"))
    assert served.kept() == (1, 0, 1)
    assert [message async for message in stream] == [b"a", b"b"]
    assert served.kept() == NOTHING


async def test_a_stream_that_is_refused_keeps_nothing(served: Served) -> None:
    await warm(served)
    with pytest.raises(RuntimeStatus, match="not that"):
        await served.talk(messages(b"refuse"))
    assert served.kept() == NOTHING


async def test_a_stream_that_fails_in_the_middle_keeps_nothing(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"a", b"refuse"))
    with pytest.raises(RuntimeStatus, match="not that"):
        _ = [message async for message in stream]
    assert served.kept() == NOTHING


async def test_an_answer_whose_giver_dies_before_its_end_was_not_given_if_nothing_is_known_of_the_method(served: Served) -> None:
    await warm(served)
    with pytest.raises(RuntimeUnavailable, match="Socket closed"):
        await served.talk(messages(b"last words"))
    assert served.kept() == NOTHING


async def test_an_error_of_the_model_server_comes_after_the_answer_before_it(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"refused after"))
    answers = aiter(stream)
    assert await anext(answers) == b"refused after"
    with pytest.raises(RuntimeStatus, match="half of it"):
        await anext(answers)
    assert served.kept() == NOTHING


async def test_who_leaves_while_a_lone_answer_is_held_keeps_nothing(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"a"))
    stream.close()
    assert served.kept() == NOTHING
    assert [message async for message in stream] == []


async def test_who_leaves_before_the_first_answer_of_a_stream_keeps_nothing(served: Served, server: InferenceServer) -> None:
    await warm(served)
    stream = served.talk(messages(b"wait"))
    await arrived(server, 2)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert served.kept() == NOTHING


async def test_who_leaves_before_the_answers_of_a_stream_are_read_keeps_nothing(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"a", b"b"))
    stream.close()
    assert served.kept() == NOTHING
    assert [message async for message in stream] == []


async def test_who_leaves_between_the_answers_of_a_stream_keeps_nothing(served: Served) -> None:
    await warm(served)
    stream = await served.talk(messages(b"a", b"b"))
    assert await anext(aiter(stream)) == b"a"
    stream.close()
    stream.close()
    assert served.kept() == NOTHING


async def test_a_model_that_is_deleted_lets_its_call_end(served: Served, server: InferenceServer) -> None:
    await warm(served)
    call = served.say(b"wait")
    await arrived(server, 2)
    await served.bench.management.unregister("m")
    served.bench.tell(ModelDeleted(ModelId("m")))
    assert "unload m" not in served.bench.ordered
    server.go.set()
    await call
    assert served.bench.ordered[-1] == "unload m"
    await free(served)
