"""What a pod tells of itself as JSON, from its own port up to the command: pages, odd names, questions that make no sense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mesh.cli.client import Control
from mesh.core.errors import Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Millis
from mesh.doors.facts import PREFIX, facts_route
from mesh.doors.probes import probes
from mesh.local.control import serve
from mesh.local.options import UpOptions
from mesh.local.router_client import RouterClient
from mesh.local.supervisor import Supervisor
from mesh.pod.census import Census
from mesh.pod.facts import SCAN, Facts
from tests.support import ports
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench

ODD = ["a/b", "100%25", "what?now", "ä#1", "plain"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench().known(*ODD)
    yield made
    await made.stop()


@pytest.fixture
async def door(bench: Bench) -> AsyncIterator[int]:
    """The port on which a pod's state is told."""
    facts = Facts(bench.conductor, bench.registry, bench.management, Census(bench.registry))
    server = probes("127.0.0.1", 0, str, {PREFIX: facts_route(lambda: facts)})
    yield await server.start()
    await server.stop()


async def asked(port: int, path: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}{PREFIX}/{path}", timeout=30)
        return answer.status_code, answer.json()


async def test_aliases_come_in_pages_however_many_there_are(bench: Bench, door: int) -> None:
    names = [f"alias-{number:04}" for number in range(2 * SCAN)]
    for name in [*names, "gone"]:
        assert await bench.registry.change(SetAlias(AliasId(name), ModelId("plain"), Millis(1))) is None
    await bench.management.delete_alias("gone")
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        _, page = await asked(door, f"aliases?after={after}")
        assert len(page["aliases"]) <= SCAN
        found += [one["id"] for one in page["aliases"]]
        after = page["next"]
    assert found == names
    assert [one["id"] for one in (await asked(door, "aliases?limit=2"))[1]["aliases"]] == names[:2]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("models?limit=many", "limit=many: it has to be a whole number above 0"),
        ("models?limit=0", "limit=0: it has to be a whole number above 0"),
        ("aliases?limit=-1", "limit=-1: it has to be a whole number above 0"),
        ("models?state=gone", "state=gone: there is no such state of a model; there are NOT_FOUND, NOT_LOADED,"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_with_what_does(door: int, path: str, said: str) -> None:
    status, told = await asked(door, path)
    assert status == 400
    assert told["error"].startswith(said)


async def test_a_state_may_be_asked_for_in_small_letters(door: int) -> None:
    _, page = await asked(door, "models?state=not_loaded&limit=2")
    assert len(page["models"]) == 2


async def test_copies_of_a_router_of_another_kind_are_called_so_for_it_does_not_say_which_are_ready(bench: Bench, door: int) -> None:
    java, ours = PodId("java"), PodId("ours")
    await bench.registry.publish(java, InstanceRecord())
    await bench.registry.publish(ours, InstanceRecord(endpoint="127.0.0.1:1"))
    for pod in (java, ours, PodId("gone")):
        assert await bench.registry.change(AddCopy(ModelId("plain"), pod, Millis(1), Millis(1))) is None
    _, told = await asked(door, "models/plain")
    assert {copy["pod"]: copy["state"] for copy in told["copies"]} == {"java": "of another kind", "ours": "loading"}
    assert told["state"] == "LOADING"


@pytest.fixture
async def control(door: int, tmp_path: Path) -> AsyncIterator[Control]:
    """The command's side of the socket of a mesh whose only pod tells its state on that port."""
    grpc, rest = ports.free(2)
    supervisor = Supervisor(UpOptions(tmp_path, {"mlserver": tmp_path}, grpc_port=grpc, rest_port=rest), lambda _who, _what: None)
    supervisor._prepare()
    (pod,) = supervisor.pods
    await pod.router.close()
    pod.router, pod.ready = RouterClient(grpc, door), True
    serving = asyncio.create_task(serve(supervisor))

    async def listens() -> bool:
        return supervisor.folder.socket.exists()

    await until_async(listens)
    made = Control(supervisor.context)
    yield made
    made.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await pod.router.close()


@pytest.mark.parametrize("name", ODD)
async def test_a_model_of_any_name_is_found(control: Control, name: str) -> None:
    assert (await asyncio.to_thread(control.model, name))["id"] == name


async def test_a_model_that_nobody_registered_is_not_found_by_its_name(control: Control) -> None:
    with pytest.raises(Unknown, match=r"the router knows nothing of models/no/such\?"):
        await asyncio.to_thread(control.model, "no/such?")
