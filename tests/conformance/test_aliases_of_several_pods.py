"""Aliases in a mesh of three pods on etcd: set through any pod, switched by the one that leads, with as many copies as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.core.ids import ModelId, PodId
from mesh.core.routing.hops import Hop, Kind
from mesh.pod.peer_lines import SERVICE
from mesh.protocols import model_mesh_pb2 as mm
from mesh.protocols import peer_pb2
from mesh.wire.hops import to_peer
from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.client import TIMEOUT, AliasStatus, Client, Pending, Status, answer, refused
from tests.support.cluster import Cluster, PodProcesses, a_cluster
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    etcd = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    etcd.start()
    try:
        roomy = Behaviour(capacity=64 * 1024 * MIB)
        environment = {"MM_DEFAULT_VMODEL_OWNER": "nobody"}
        folder, store = tmp_path_factory.mktemp("pods"), f"etcd:{etcd.address}"
        with a_cluster(folder, store, 3, service="aliases", behaviour=roomy, environment=environment) as made:
            yield made
    finally:
        etcd.stop()


@pytest.fixture
def alias(model: str) -> str:
    return f"alias-{model}"


def leader(cluster: Cluster) -> PodProcesses:
    """The pod that leads, as all that live agree."""

    def agreed() -> str:
        told = {one["id"] for pod in living(cluster) for one in pod.facts("pods")["pods"] if one["leads"]}
        return told.pop() if len(told) == 1 else ""

    name = until(agreed, "one pod leads")
    return next(pod for pod in cluster.pods if pod.id == name)


def followers(cluster: Cluster) -> list[PodProcesses]:
    first = leader(cluster)
    return [pod for pod in living(cluster) if pod is not first]


def living(cluster: Cluster) -> list[PodProcesses]:
    return [pod for pod in cluster.pods if pod.router.process.returncode is None]


def via(client: Client, alias: str, text: str = "hello") -> str:
    """What a call of the alias is answered."""
    return client.said("", text, metadata=(("mm-vmodel-id", alias),))


def gist(status: AliasStatus) -> tuple[str, str, str]:
    return AliasStatus.VModelStatus.Name(status.status), status.activeModelId, status.targetModelId


def everywhere(cluster: Cluster, alias: str, wanted: tuple[str, str, str]) -> None:
    """Returns when every pod tells the same of an alias; etcd shows a change to one sooner than to another."""
    for pod in living(cluster):
        until(lambda pod=pod: gist(pod.client.alias(alias)) == wanted, f"{wanted} on {pod.id}")  # type: ignore[misc]


def setting(client: Client, alias: str, model: str, path: str = "p", *, retry: bool = False, **more: Any) -> Pending:
    """Sets an alias and waits for the switch, in the background."""
    info = mm.ModelInfo(type="example", path=path)
    request = mm.SetVModelRequest(vModelId=alias, targetModelId=model, modelInfo=info, sync=True, **more)
    metadata = (("mesh-retry-load", "true"),) if retry else ()
    return client.mesh.setVModel.future(request, timeout=4 * TIMEOUT, metadata=metadata)


def also_on(cluster: Cluster, pod: PodProcesses, model: str) -> None:
    """Has one pod load a copy beside those there are, as another pod asks for it."""
    endpoint = next(one["endpoint"] for one in pod.facts("pods")["pods"] if one["id"] == pod.id)
    others = frozenset(PodId(other.id) for other in cluster.pods if other is not pod)
    hop = Hop(Kind.LOAD, ModelId(model), PodId("tester"), PodId(pod.id), avoid=others)
    with grpc.insecure_channel(endpoint) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/EnsureLoaded")
        call(peer_pb2.EnsureLoadedRequest(wait=True).SerializeToString(), metadata=to_peer((), hop), timeout=TIMEOUT)


def ready(cluster: Cluster, model: str) -> set[str]:
    """Pods with a copy that serves, as the first that lives sees it."""
    copies = living(cluster)[0].facts(f"models/{model}")["copies"]
    return {copy["pod"] for copy in copies if copy["state"] == "ready"}


def own(pod: PodProcesses, model: str) -> list[dict[str, Any]]:
    """A pod's own copy of a model."""
    return [copy for copy in pod.facts(f"models/{model}")["copies"] if copy["pod"] == pod.id and "waiting" in copy]


@contextmanager
def holding(cluster: Cluster, *gates: str) -> Iterator[None]:
    with ExitStack() as held:
        for pod in living(cluster):
            held.enter_context(pod.runtime.holding(*gates))
        yield


def gone(client: Client, model: str) -> bool:
    return client.status(model).status == Status.NOT_FOUND


# One alias, three pods


def test_what_one_pod_was_told_all_know(cluster: Cluster, model: str, alias: str) -> None:
    first, second, third = (pod.client for pod in cluster.pods)
    first.set_alias(alias, model, path="p", owner="isvc", loadNow=True, sync=True)
    assert [gist(client.alias(alias)) for client in (second, third)] == [("DEFINED", model, model)] * 2, "at once"
    assert {client.status(model).status for client in (second, third)} <= {Status.LOADING, Status.LOADED}
    everywhere(cluster, alias, ("DEFINED", model, model))
    assert [via(client, alias) for client in (first, second, third)] == [answer(model)] * 3
    assert cluster.loads(model) == 1
    with refused(StatusCode.ALREADY_EXISTS, exactly=f'vmodel {alias} already exists with different owner "isvc"'):
        second.set_alias(alias, model, owner="another")
    with refused(StatusCode.FAILED_PRECONDITION, exactly=f"Existing target model {model} does not match expected other"):
        third.set_alias(alias, f"{model}-2", path="p", expectedTargetModelId="other")
    with refused(StatusCode.FAILED_PRECONDITION, exactly=f"Model {model} has referents"):
        third.unregister(model)
    assert gist(second.alias(alias, "another")) == ("NOT_FOUND", "", "")
    third.delete_alias(alias, "another")
    third.delete_alias(alias, "isvc")
    everywhere(cluster, alias, ("NOT_FOUND", "", ""))
    second.unregister(model)
    for client in (first, third):
        until(lambda client=client: gone(client, model))  # type: ignore[misc]


def test_an_alias_that_is_set_without_an_owner_belongs_to_the_default_one(cluster: Cluster, model: str, alias: str) -> None:
    assert cluster[0].client.set_alias(alias, model, path="p").owner == "nobody"
    everywhere(cluster, alias, ("DEFINED", model, model))
    with refused(StatusCode.ALREADY_EXISTS, exactly=f'vmodel {alias} already exists with different owner "nobody"'):
        cluster[1].client.set_alias(alias, model, owner="isvc")


def test_a_model_is_loaded_for_whoever_asks_for_it_wherever(cluster: Cluster, model: str) -> None:
    cluster[0].client.register(model)
    asked = [pod.client for pod in cluster.pods]
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda client: client.ensure(model, sync=True), asked))
    assert [each.status for each in answers] == [Status.LOADED] * 3
    assert cluster.loads(model) == 1
    (holder,) = until(lambda: ready(cluster, model))
    for client in asked:
        status = until(lambda client=client: (told := client.status(model)).modelCopyInfos and told)  # type: ignore[misc]
        assert [(copy.location, copy.copyStatus) for copy in status.modelCopyInfos] == [(holder, Status.LOADED)]


# The switch


def test_who_asks_a_pod_that_does_not_lead_waits_for_the_switch_and_the_old_model_goes(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    (one, other) = followers(cluster)
    one.client.set_alias(alias, first, path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)
    with holding(cluster, f"load:{second}"):
        waiting = setting(one.client, alias, second, autoDeleteTargetModel=True)
        everywhere(cluster, alias, ("TRANSITIONING", first, second))
        until(lambda: cluster.loads(second) == 1)
        assert [via(pod.client, alias) for pod in cluster.pods] == [answer(first)] * 3
        joined = setting(other.client, alias, second)
        assert not waiting.done()
    for call in (waiting, joined):
        assert gist(call.result()) == ("DEFINED", second, second)
    assert waiting.result().activeModelStatus.status == Status.LOADED
    assert [via(pod.client, alias) for pod in cluster.pods] == [answer(second)] * 3
    assert cluster.loads(second) == 1
    for pod in cluster.pods:
        until(lambda pod=pod: gone(pod.client, first))  # type: ignore[misc]
    until(lambda: sum(pod.runtime.unloads(first) for pod in cluster.pods) == 1)


def test_the_target_has_as_many_copies_as_the_active_model_before_calls_go_to_it(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    cluster[0].client.set_alias(alias, first, path="p", autoDeleteTargetModel=True)
    for pod in cluster.pods[:2]:
        until(lambda pod=pod: not gone(pod.client, first))  # type: ignore[misc]
        also_on(cluster, pod, first)
    until(lambda: len(ready(cluster, first)) == 2)
    with ExitStack() as held:
        gates = {pod.id: held.enter_context(ExitStack()) for pod in cluster.pods}
        for pod in cluster.pods:
            gates[pod.id].enter_context(pod.runtime.holding(f"load:{second}"))
        waiting = setting(cluster[2].client, alias, second, autoDeleteTargetModel=True)
        loading = until(lambda: [pod for pod in cluster.pods if pod.runtime.loads(second)], "one copy loads")
        gates[loading[0].id].close()
        until(lambda: cluster.loads(second) == 2, "another copy loads on another pod")
        everywhere(cluster, alias, ("TRANSITIONING", first, second))
        assert via(cluster[1].client, alias) == answer(first), "one copy is not enough"
        assert not waiting.done()
    assert gist(waiting.result()) == ("DEFINED", second, second)
    assert len(ready(cluster, second)) == 2
    assert sorted(pod.runtime.loads(second) for pod in cluster.pods) == [0, 1, 1]


def test_calls_on_the_old_model_end_well_and_none_fails_while_an_alias_moves(cluster: Cluster, model: str, alias: str) -> None:
    versions = [f"{model}-{number}" for number in range(6)]
    cluster[0].client.set_alias(alias, versions[0], path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)
    everywhere(cluster, alias, ("DEFINED", versions[0], versions[0]))
    over = threading.Event()

    def caller(client: Client) -> set[str]:
        heard = set()
        while not over.is_set():
            heard.add(via(client, alias))
        return heard

    with ThreadPoolExecutor(6) as callers:
        calling = [callers.submit(caller, pod.client) for pod in cluster.pods for _ in range(2)]
        try:
            for number, version in enumerate(versions[1:], 1):
                assert gist(setting(cluster[number % 3].client, alias, version, autoDeleteTargetModel=True).result())[1] == version
        finally:
            over.set()
        heard = set.union(*(call.result() for call in calling))
    assert heard <= {answer(version) for version in versions}
    assert answer(versions[-1]) == via(cluster[0].client, alias)
    for version in versions[:-1]:
        until(lambda version=version: gone(cluster[0].client, version))  # type: ignore[misc]


def test_a_call_under_way_on_the_old_model_is_answered_by_it(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    client = cluster[1].client
    client.set_alias(alias, first, path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)
    with holding(cluster, f"call:{first}"), ThreadPoolExecutor(1) as caller:
        under_way = caller.submit(via, client, alias, "test:hold")
        until(lambda: any(pod.runtime.seen("hold", first) for pod in cluster.pods), "the call reached the old model")
        assert gist(setting(client, alias, second, autoDeleteTargetModel=True).result()) == ("DEFINED", second, second)
        assert via(client, alias) == answer(second)
        for pod in cluster.pods:
            pod.runtime.do("release", gate=f"call:{first}")
        assert under_way.result(TIMEOUT) == answer(first, "test:hold")


def test_calls_that_wait_for_a_model_go_on_to_the_one_that_takes_its_place(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    cluster[0].client.set_alias(alias, first, path="p", autoDeleteTargetModel=True)
    everywhere(cluster, alias, ("DEFINED", first, first))
    with holding(cluster, f"load:{first}"), ThreadPoolExecutor(3) as callers:
        waiting = [callers.submit(via, pod.client, alias) for pod in cluster.pods]
        until(lambda: cluster.loads(first) == 1)
        until(lambda: sum(copy["waiting"] for pod in cluster.pods for copy in own(pod, first)) == 3, "three calls wait")
        cluster[1].client.set_alias(alias, second, path="p", autoDeleteTargetModel=True, force=True)
        assert [call.result(TIMEOUT) for call in waiting] == [answer(second)] * 3
    assert cluster.loads(second) == 1


# A target that is broken


def test_a_broken_target_leaves_the_old_one_serving_and_every_pod_says_why(cluster: Cluster, model: str, alias: str) -> None:
    first, broken = f"{model}-1", f"{model}-broken"
    asked = followers(cluster)[0].client
    asked.set_alias(alias, first, path="p", loadNow=True, sync=True)
    told = setting(asked, alias, broken, "FAILALWAYS_no such file", autoDeleteTargetModel=True).result()
    assert gist(told) == ("TRANSITION_FAILED", first, broken)
    assert told.activeModelStatus.status == Status.LOADED
    until(lambda: cluster.loads(broken) == 3, "three pods tried it, once each")
    everywhere(cluster, alias, ("TRANSITION_FAILED", first, broken))
    for pod in cluster.pods:
        status = pod.client.alias(alias).targetModelStatus
        assert status.status == Status.LOADING_FAILED
        assert "no such file" in status.errors[0]
        assert "no such file" in pod.facts(f"aliases/{alias}")["cause"]
        assert via(pod.client, alias) == answer(first)
    again = setting(asked, alias, broken, "FAILALWAYS_no such file", autoDeleteTargetModel=True)
    assert gist(again.result()) == ("TRANSITION_FAILED", first, broken), "who only repeats it learns how it is"
    assert gist(setting(asked, alias, f"{model}-3").result()) == ("DEFINED", f"{model}-3", f"{model}-3")
    until(lambda: gone(cluster[0].client, broken))


def test_who_applies_again_has_a_failed_target_tried_again_on_every_pod(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    asked = followers(cluster)[0].client
    asked.set_alias(alias, first, path="p", loadNow=True, sync=True)
    assert gist(setting(asked, alias, second, "FAIL_for the moment").result()) == ("TRANSITION_FAILED", first, second)
    until(lambda: len(cluster[0].facts(f"models/{second}")["failures"]) == 3, "each pod failed once")
    assert gist(setting(asked, alias, second, "FAIL_for the moment", retry=True).result()) == ("DEFINED", second, second)
    assert [via(pod.client, alias) for pod in cluster.pods] == [answer(second)] * 3
    assert "cause" not in {key for key, value in cluster[0].facts(f"aliases/{alias}").items() if value}


# Many at once


def test_references_are_kept_however_many_set_one_alias_through_all_pods(cluster: Cluster, model: str, alias: str) -> None:
    versions = [f"{model}-{number}" for number in range(9)]
    cluster[0].client.set_alias(alias, versions[0], path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)

    def point(number: int) -> None:
        force = number % 3 == 0
        cluster[number % 3].client.set_alias(alias, versions[number % 9], path="p", autoDeleteTargetModel=True, force=force)

    with ThreadPoolExecutor(6) as setters:
        list(setters.map(point, range(36)))
    final = setting(cluster[0].client, alias, versions[0], autoDeleteTargetModel=True, loadNow=True).result()
    assert gist(final) == ("DEFINED", versions[0], versions[0])
    for version in versions[1:]:
        until(lambda version=version: gone(cluster[0].client, version))  # type: ignore[misc]
    assert cluster[0].facts(f"models/{versions[0]}")["refs"] == 1
    cluster[1].client.delete_alias(alias)
    until(lambda: gone(cluster[0].client, versions[0]))


def test_another_leader_ends_what_the_one_before_began(cluster: Cluster, model: str, alias: str) -> None:
    first, second = f"{model}-1", f"{model}-2"
    before = leader(cluster)
    (one, other) = followers(cluster)
    one.client.set_alias(alias, first, path="p", autoDeleteTargetModel=True, loadNow=True, sync=True)
    everywhere(cluster, alias, ("DEFINED", first, first))
    with holding(cluster, f"load:{second}"):
        waiting = setting(one.client, alias, second, autoDeleteTargetModel=True)
        until(lambda: cluster.loads(second) >= 1)
        before.router.stop()
        assert leader(cluster) is not before
        assert not waiting.done()
    assert gist(waiting.result()) == ("DEFINED", second, second)
    assert [via(pod.client, alias) for pod in (one, other)] == [answer(second)] * 2
    until(lambda: gone(other.client, first))
