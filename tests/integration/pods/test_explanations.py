"""`mesh explain` of real pods under load: every placement and eviction names who lost and by what, and decided again comes out the same."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from mesh.cli.app import commands
from mesh.core.explaining.replay import evidence_from_json
from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.integration.pods.traffic import traffic
from tests.support.client import to
from tests.support.cluster import Cluster, a_cluster
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

ROOM_FOR_TEN = Behaviour(capacity=556 * MIB, default_size=50 * MIB, loading_concurrency=2)
MODELS = [f"model-{number:03}" for number in range(200)]


@pytest.fixture(scope="module")
def busy(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five pods with room for ten models each, after calls of two hundred models; the load of the story of one cache."""
    with a_cluster(tmp_path_factory.mktemp("busy"), f"etcd:{etcd.address}", 5, service="explained", behaviour=ROOM_FOR_TEN) as mesh:
        for number, model in enumerate(MODELS):
            mesh[number % 5].client.register(model)
        with traffic([pod.router.address for pod in mesh.pods], MODELS, zipf=1.0, callers=16) as calls:
            calls.reaches(600)
        assert calls.failures == []
        yield mesh


def mesh_explain(mesh: Cluster, *arguments: str) -> Result:
    at = ",".join(f"127.0.0.1:{pod.router.ports['probe']}" for pod in mesh.pods)
    return CliRunner().invoke(commands(), ["explain", *arguments, "--at", at])


def told(mesh: Cluster, *arguments: str) -> Any:
    result = mesh_explain(mesh, *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def everything(mesh: Cluster, kind: str) -> list[dict[str, Any]]:
    """All decisions of a kind, with the pods that made them."""
    answers = [(pod.id, pod.facts(f"decisions?kind={kind}&limit=1000&inputs=true")) for pod in mesh.pods]
    return [{"by": pod, **decision} for pod, answer in answers for decision in answer["decisions"]]


@pytest.mark.parametrize("kind", ["placement", "eviction"])
def test_ten_of_each_name_the_losers_with_their_figures_and_come_out_the_same_again(busy: Cluster, kind: str) -> None:
    every = everything(busy, kind)
    assert len(every) > 100
    for decision in random.Random(7).sample(every, 10):
        evidence = evidence_from_json(decision["inputs"])
        assert evidence is not None
        assert evidence.again() == decision["outcome"]
        (explained,) = [
            one
            for one in told(busy, decision["model"], "--kind", "model", "--limit", "100", "--verify")["decisions"]
            if (one["pod"], one["kind"], one["at_ms"], one["model"]) == (decision["by"], kind, decision["at_ms"], decision["model"])
        ]
        assert explained["holds"]
        chosen, *losers = explained["candidates"]
        assert (chosen["name"], chosen["chosen"]) == (decision["outcome"], True)
        assert losers, explained
        assert all(loser["score"] and loser["why"] and not loser["chosen"] for loser in losers)
        if kind == "placement":
            assert {one["name"] for one in (chosen, *losers)} == {pod.id for pod in busy.pods}
        assert explained["would_change"]


def test_all_that_the_pods_remember_comes_out_the_same(busy: Cluster) -> None:
    result = mesh_explain(busy, "--verify")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[1:]}
    for kind in ("placement", "eviction"):
        same, different, unknown = map(int, rows[kind])
        assert same > 100
        assert (different, unknown) == (0, 0)


def test_a_model_that_was_evicted_is_explained_in_words(busy: Cluster) -> None:
    gone = next(model for model in MODELS[150:] if not busy.holders(model) and told(busy, model)["decisions"])
    text = mesh_explain(busy, gone).stdout
    assert f"Model {gone}" in text
    assert "Status:" in text
    assert "not resident, will load on demand" in text
    assert "Why was it evicted from " in text
    assert "UNUSED FOR" in text
    assert "it was used more recently" in text
    assert "What would change it\n  - a call loads it" in text


def test_a_pod_is_explained_by_what_it_evicted_and_by_how_it_fares_in_placements(busy: Cluster) -> None:
    text = mesh_explain(busy, busy[2].id).stdout
    assert f"Pod {busy[2].id}\n" in text
    assert " placements that the pods remember, " in text
    assert " did not: " in text
    assert "Evicted lately (20)" in text


def test_a_cold_call_is_found_on_all_pods_by_the_id_that_it_came_with(busy: Cluster) -> None:
    cold = next(model for model in reversed(MODELS) if not busy.holders(model))
    request = f"call-{uuid.uuid4()}"
    metadata = to(cold, ("x-request-id", request))
    answer, call = busy[0].client.v2.ModelInfer.with_call(v2.ModelInferRequest(model_name=cold), metadata=metadata, timeout=60)
    assert answer.model_name == cold
    trailers: Any = call.trailing_metadata()
    assert ("mm-request-id", request) in list(map(tuple, trailers))
    found = told(busy, request[:20])
    assert (found["kind"], found["name"]) == ("request", request)
    assert {"placement"} <= {one["kind"] for one in found["decisions"]}
    (placement,) = [one for one in found["decisions"] if one["kind"] == "placement"]
    if placement["outcome"] != busy[0].id:
        assert placement["outcome"] in {one["pod"] for one in found["decisions"]}, "the pod that loads it tells of it too"
    text = mesh_explain(busy, request).stdout
    assert f"Request {request}, for {cold}" in text
    # A hit is no decision: it has no id, and nothing is kept of it.
    _, hit = busy.pods[0].client.v2.ModelInfer.with_call(v2.ModelInferRequest(model_name=cold), metadata=to(cold), timeout=60)
    hits: Any = hit.trailing_metadata() or ()
    assert "mm-request-id" not in [key for key, _ in hits]


def test_a_refused_call_gets_an_id_under_which_its_cause_is_told(busy: Cluster) -> None:
    busy[1].client.register("broken", "FAILALWAYS_no_such_file")
    with pytest.raises(grpc.RpcError) as refused:
        busy[1].client.predict("broken", timeout=60)
    trailers: Any = refused.value.trailing_metadata()
    request = next(value for key, value in trailers if key == "mm-request-id")

    def causes() -> list[dict[str, Any]]:
        return [one for one in told(busy, request)["decisions"] if one["kind"] in ("retry", "refusal")]

    until(lambda: any(one["kind"] == "refusal" for one in causes()))
    assert any("no_such_file" in one["reason"] for one in causes())
    text = mesh_explain(busy, "broken").stdout
    assert "failing, retry at" in text
    assert "no_such_file" in text
    assert "Why was a call refused?" in text


def test_what_is_not_there_is_told_with_what_may_be_meant(busy: Cluster) -> None:
    unknown = mesh_explain(busy, "modle-017")
    assert unknown.exit_code == 1
    assert "there is no service, model, pod or request 'modle-017'; is it model-017" in unknown.stderr
    several = mesh_explain(busy, "model-01")
    assert several.exit_code == 2
    assert "'model-01' may be any of model-010 (model), model-011 (model)" in several.stderr
    assert "--kind thing: there is no such kind; there are isvc, model, pod, request" in mesh_explain(busy, "x", "--kind", "thing").stderr
