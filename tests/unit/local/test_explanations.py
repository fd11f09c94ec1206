"""`mesh explain`: what a word names, what each pod says of it, and how it is put in words. Pods are real facts behind real ports."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from mesh.cli.app import commands
from mesh.cli.retold import Retold
from mesh.core.cache.eviction import Evictable, Eviction
from mesh.core.errors import LoadFailed, Malformed, PeerUnavailable, Unknown
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import Bounds
from mesh.core.routing.journey import Journey
from mesh.core.routing.steps import CALL, Refuse
from mesh.core.units import Millis, Units
from mesh.doors.facts import PREFIX, facts_route
from mesh.doors.probes import probes
from mesh.local.addressed import AddressedPods
from mesh.local.explanations import explain
from mesh.pod.census import Census
from mesh.pod.facts import Facts
from tests.support import ports
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench


class Caller:
    """A call with an id."""

    def request_id(self) -> str:
        return "request-1"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A pod beside one that is full; `digits` is an alias, and a call has it placed; another model was evicted for it."""
    made = await Bench().known("digits__isvc-1", "digits-old", "letters", "a/b")
    full = InstanceRecord(endpoint="127.0.0.1:1", capacity=Units(1000), used=Units(990), count=9)
    await made.registry.publish(PodId("there"), full)
    made.pod.pods.instance_changed(PodId("there"), full)
    assert await made.registry.change(SetAlias(AliasId("digits"), ModelId("digits__isvc-1"), Millis(1))) is None
    Journey(ModelId("digits__isvc-1"), made.view, CALL, Caller()).next(made.conductor.now(), lambda _: 0)
    evicted = Eviction(
        ModelId("digits__isvc-1"),
        made.conductor.now(),
        (Evictable(ModelId("letters"), Millis(5), 1, 0, Units(9)), Evictable(ModelId("a/b"), Millis(9), 2, 0, Units(9))),
        2,
        0,
    )
    made.pod.cache.decisions.note(
        Decision(Kind.EVICTION, ModelId("letters"), made.conductor.now(), "letters", "room for it", evidence=evicted)
    )

    async def all_is_known() -> bool:
        return PodId("there") in made.registry.instances and AliasId("digits") in made.registry.aliases

    await until_async(all_is_known)
    yield made
    await made.stop()


@pytest.fixture
async def address(bench: Bench) -> AsyncIterator[str]:
    facts = Facts(bench.conductor, bench.registry, bench.management, Census(bench.registry))
    server = probes("127.0.0.1", 0, str, {PREFIX: facts_route(lambda: facts)})
    yield f"127.0.0.1:{await server.start()}"
    await server.stop()


async def asked(address: str, path: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{address}{PREFIX}/{path}", timeout=30)
        return answer.status_code, answer.json()


async def named(address: str, text: str, kind: str = "") -> tuple[str, str]:
    found = await explain(AddressedPods([address]), text, kind, 20)
    return found["kind"], found["name"]


# What is served


async def test_decisions_are_served_by_model_kind_and_request_with_inputs_if_asked(address: str) -> None:
    _, every = await asked(address, "decisions")
    assert [one["kind"] for one in every["decisions"]] == ["placement", "eviction"]
    assert every["pod"] == "here"
    (placement,) = (await asked(address, "decisions?request=request-1"))[1]["decisions"]
    assert placement["outcome"] == "here"
    assert [one["name"] for one in placement["candidates"]] == ["here", "there"]
    assert placement["would_change"][-1] == "without here it would have been there"
    assert "inputs" not in placement
    (eviction,) = (await asked(address, "decisions?model=letters&kind=eviction&inputs=true&limit=5"))[1]["decisions"]
    assert eviction["inputs"]["decided_by"] == "eviction"
    assert "candidates" not in eviction
    assert (await asked(address, "decisions?model=nobody"))[1]["decisions"] == []


@pytest.mark.parametrize(
    ("path", "said"),
    [("decisions?kind=luck", "kind=luck: there are no such decisions; there are placement,"), ("decisions?limit=0", "limit=0")],
)
async def test_questions_that_make_no_sense_are_refused(address: str, path: str, said: str) -> None:
    status, told = await asked(address, path)
    assert (status, told["error"].startswith(said)) == (400, True)


async def test_one_pod_explains_by_itself_whatever_a_word_names(address: str) -> None:
    _, service = await asked(address, "explain/digits")
    assert (service["kind"], service["active"]["model"]["status_word"], service["target"]) == ("isvc", "on demand", None)
    assert [one["kind"] for one in service["active"]["decisions"]] == ["placement", "eviction"], "also what made room for it"
    _, model = await asked(address, "explain/a%2Fb?kind=model")
    assert (model["kind"], model["name"]) == ("model", "a/b")
    _, pod = await asked(address, "explain/here")
    assert pod["figures"]["id"] == "here"
    _, other = await asked(address, "explain/there")
    assert (other["figures"], [one["kind"] for one in other["decisions"]]) == (None, ["placement"])
    _, unclear = await asked(address, "explain/xyz")
    assert (unclear["kind"], unclear["exact"], unclear["begin"]) == (None, [], [])
    for path in (
        "explain",
        "explain/x?kind=model",
        "explain/x?kind=pod",
        "explain/x?kind=isvc",
        "explain/x?kind=request",
        "explain/x?kind=y",
    ):
        assert (await asked(address, path))[0] == 404, path


# What a word names


async def test_a_word_names_what_has_it_or_the_one_thing_that_begins_so(address: str) -> None:
    assert await named(address, "digits") == ("isvc", "digits")
    assert await named(address, "lett") == ("model", "letters")
    assert await named(address, "a/") == ("model", "a/b")
    assert await named(address, "the") == ("pod", "there")
    assert await named(address, "req") == ("request", "request-1")
    assert await named(address, "digits__") == ("model", "digits__isvc-1")


async def test_several_things_none_and_wrong_kinds_are_told_with_what_there_is(address: str) -> None:
    with pytest.raises(Malformed, match=r"'digit' may be any of digits \(isvc\), digits-old \(model\): write more of it, or the kind"):
        await named(address, "digit")
    assert await named(address, "digit", "model") == ("model", "digits-old")
    with pytest.raises(Unknown, match=r"there is no service, model, pod or request 'leters'; is it letters\?$"):
        await named(address, "leters")
    with pytest.raises(Unknown, match="there is no pod 'zzz'; `mesh get isvc`"):
        await named(address, "zzz", "pod")
    with pytest.raises(Malformed, match="there is no such kind; there are isvc, model, pod, request"):
        await named(address, "digits", "thing")


async def test_pods_that_do_not_answer_are_named(address: str) -> None:
    gone = f"127.0.0.1:{ports.free(1)[0]}"
    found = await explain(AddressedPods([gone, address]), "letters", "", 20)
    assert (found["silent"], list(found["views"])) == ([gone], ["here"])
    with pytest.raises(PeerUnavailable, match=rf"no pod answers \({gone}\);"):
        await explain(AddressedPods([gone]), "letters", "", 20)


async def test_what_was_deleted_is_still_explained_by_what_was_decided(bench: Bench, address: str) -> None:
    await bench.management.unregister("letters")

    async def gone() -> bool:
        return ModelId("letters") not in bench.registry.models

    await until_async(gone)
    found = await explain(AddressedPods([address]), "letters", "model", 20)
    assert "model" not in found
    assert [one["kind"] for one in found["views"]["here"]["decisions"]] == ["eviction"]


# In words


async def run(address: str, *arguments: str) -> Result:
    import asyncio

    return await asyncio.to_thread(CliRunner().invoke, commands(), ["explain", *arguments, "--at", address])


async def test_a_service_is_told_from_its_status_to_what_would_change_it(bench: Bench, address: str) -> None:
    text = (await run(address, "digits")).stdout
    assert text.startswith("Service digits, model digits__isvc-1\nStatus:     not resident, will load on demand\n")
    assert "Last used:  never called\n" in text
    assert "Why here?" in text
    assert "  * here" in text
    assert "it is full, here is not" in text
    assert "- there would have been" in text
    assert "eviction of letters: room for it" in text
    assert text.rstrip().endswith("- a call loads it; `mesh scale digits --min 1` keeps a copy loaded")
    await bench.serving("digits__isvc-1")
    served = (await run(address, "digits")).stdout
    assert "Status:     resident" in served
    assert "never called" not in served
    assert "here      ready" in served


@pytest.mark.parametrize(
    ("bounds", "words", "hints"),
    [
        (Bounds(), "none", ["it is evicted when its pod needs room", "`mesh scale digits --pin` keeps it; `mesh scale digits --min 2`"]),
        (Bounds(least=1), "min 1", ["it has no more copies than its minimum of 1, and is not evicted; `mesh scale digits --min 0`"]),
        (Bounds(most=4, pinned=True), "max 4, pinned", ["it is pinned, and is not evicted; `mesh scale digits --no-pin`"]),
        (Bounds(3), "min 3", ["3 copies are wanted and 1 there: each further one needs another pod", "is not evicted"]),
    ],
)
async def test_what_users_want_is_told_with_what_follows_from_it(
    bench: Bench, address: str, bounds: Bounds, words: str, hints: list[str]
) -> None:
    wanted = SetAlias(AliasId("digits"), ModelId("digits__isvc-1"), Millis(1), bounds=bounds)
    assert await bench.registry.change(wanted) is None
    bench.pod.bounds.alias_changed(AliasId("digits"), bench.registry.aliases[AliasId("digits")])
    await bench.serving("digits__isvc-1")
    text = (await run(address, "digits")).stdout
    assert f"Bounds:     {words}\n" in text
    said = text[text.index("What would change it\n") :].splitlines()[1:]
    assert all(hint in line for hint, line in zip(hints, said, strict=True)), said
    model = (await run(address, "digits__isvc-1")).stdout
    assert f"Bounds:     {words}\n" in model, "it is asked about as a model too"


async def test_an_eviction_names_the_copies_that_stayed(address: str) -> None:
    text = (await run(address, "letters")).stdout
    assert "Why was it evicted from here?" in text
    assert "UNUSED FOR" in text
    assert "  a/b" in text
    assert "it was used more recently" in text


async def test_a_model_that_fails_says_until_when_and_what_helps(bench: Bench, address: str) -> None:
    for pod in ("there", "here", "third"):
        assert await bench.registry.change(AddCopy(ModelId("a/b"), PodId(pod), Millis(1), Millis(1))) is None
    from mesh.core.registry.edits import RecordFailure

    for pod in ("there", "here", "third"):
        failed = RecordFailure(ModelId("a/b"), PodId(pod), Millis(1), bench.conductor.now(), "no such file", Millis(1))
        assert await bench.registry.change(failed) is None
    journey = Journey(ModelId("a/b"), bench.view, CALL, Caller())
    step = journey.next(bench.conductor.now(), lambda _: 0)
    assert isinstance(step, Refuse)
    assert isinstance(step.error, LoadFailed)
    journey.failed(step, step.error, bench.conductor.now())
    text = (await run(address, "a/b")).stdout
    assert "Status:     failing, retry at " in text
    assert "no such file" in text
    assert "What would change it\n  - the failure being forgotten: repair what the message names" in text


async def test_pods_and_requests_have_pages_of_their_own(address: str) -> None:
    pod = (await run(address, "there")).stdout
    assert "Of the last 1 placement that the pods remember, 0 went to it\n     1 did not: it is full, here is not" in pod
    request = (await run(address, "request-1")).stdout
    assert request.startswith("Request request-1, for digits__isvc-1\n2 decisions on here;")
    assert "`mesh explain digits__isvc-1` tells how the model is now" in request


async def test_decisions_are_made_again_and_one_that_differs_is_told(bench: Bench, address: str) -> None:
    fine = await run(address, "--verify")
    assert (fine.exit_code, fine.stdout.splitlines()[0].split()) == (0, ["DECISION", "SAME", "DIFFERENT", "NO", "INPUTS"])
    (noted, *_) = bench.pod.cache.decisions.find(kind=Kind.PLACEMENT)
    forged = Decision(noted.kind, noted.model, noted.at, "there", "forged", evidence=noted.evidence)
    bench.pod.cache.decisions.note(forged)
    other = await run(address, "--verify")
    assert other.exit_code == 1
    assert "decided 'there' then, 'here' now" in other.stdout
    document = json.loads((await run(address, "digits", "--verify", "-o", "json")).stdout)
    assert [one["holds"] for one in document["decisions"] if one["kind"] == "placement"] == [True, False]
    assert (await run(address, "digits", "-o", "yaml")).stdout.startswith("kind: isvc\n")


@pytest.mark.parametrize("arguments", [(), ("",)])
async def test_without_a_name_it_says_how_it_is_called(address: str, arguments: tuple[str, ...]) -> None:
    result = await run(address, *arguments)
    assert (result.exit_code, "it reads `mesh explain NAME`" in result.stderr) == (2, True)


def test_inputs_that_this_version_cannot_read_are_told_and_nothing_is_lost() -> None:
    one = Retold.of(
        "pod-0", {"kind": "placement", "at_ms": 1, "model": "m", "outcome": "x", "reason": "so", "inputs": {"decided_by": "dice"}}
    )
    assert (one.holds, list(one.candidates())) == (None, [])
    assert "does not know how 'dice' decides" in "\n".join(one.details())
