"""What a pod says of models that others hold: what serves, what comes, what failed; copies of pods that are gone do not count."""

from __future__ import annotations

import pytest

from mesh.core.explaining.status import ModelState, ModelStatus
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.registry.edits import AddCopy, MarkReady, RecordFailure
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Millis
from tests.unit.pod.bench import Bench

M, THERE = ModelId("m"), PodId("there")
NOW = Millis(10**12)
JAVA, OURS = InstanceRecord(), InstanceRecord(endpoint="127.0.0.1:1")


async def held_elsewhere(bench: Bench, *, ready: bool) -> None:
    await bench.known("m")
    await bench.registry.change(AddCopy(M, THERE, NOW, NOW))
    if ready:
        await bench.registry.change(MarkReady(M, THERE, NOW, NOW))


async def comes(bench: Bench, record: InstanceRecord = OURS) -> None:
    await bench.registry.publish(THERE, record)
    bench.registry.catch_up()
    bench.pod.pods.instance_changed(THERE, record)


def told(bench: Bench) -> tuple[ModelState, str]:
    (listed,) = bench.management.index()
    assert bench.management.model_ready("m") == (listed.state == "READY")
    return bench.management.status("m").state, listed.state


@pytest.mark.parametrize(("ready", "state", "word"), [(True, ModelState.LOADED, "READY"), (False, ModelState.LOADING, "LOADING")])
async def test_a_copy_of_a_pod_that_lives_counts(bench: Bench, ready: bool, state: ModelState, word: str) -> None:
    await held_elsewhere(bench, ready=ready)
    await comes(bench)
    assert told(bench) == (state, word)
    (copy,) = bench.management.status("m").copies
    assert (copy.pod, copy.state) == (THERE, state)


@pytest.mark.parametrize("record", [None, JAVA], ids=["gone", "of another kind"])
async def test_a_copy_that_serves_nobody_who_asks_here_does_not_count(bench: Bench, record: InstanceRecord | None) -> None:
    await held_elsewhere(bench, ready=True)
    if record is not None:
        await comes(bench, record)
    assert bench.management.status("m") == ModelStatus(ModelState.NOT_LOADED)
    assert told(bench) == (ModelState.NOT_LOADED, "READY")
    (listed,) = bench.management.index()
    assert listed.reason == "not resident, will load on demand"


async def test_a_failure_of_another_pod_is_told(bench: Bench) -> None:
    await bench.known("m")
    await comes(bench)
    await bench.registry.change(RecordFailure(M, THERE, NOW, NOW, "no such file", NOW))
    assert told(bench) == (ModelState.LOADING_FAILED, "UNAVAILABLE")
    status = bench.management.status("m")
    assert (status.errors, status.copies[0].pod) == (["no such file"], THERE)


async def test_a_type_that_only_another_pod_can_hold_has_not_failed(bench: Bench) -> None:
    await bench.known("m")
    bench.pod.constraints = Constraints.parse('{"test": {"required": ["gpu"]}}')
    assert told(bench) == (ModelState.LOADING_FAILED, "UNAVAILABLE")
    await comes(bench, OURS.with_(labels=("gpu",)))
    assert told(bench) == (ModelState.NOT_LOADED, "READY")


async def test_a_pod_that_leaves_says_nothing_bad_of_models(bench: Bench) -> None:
    await bench.known("m")
    bench.pod.leaving = True
    assert told(bench) == (ModelState.NOT_LOADED, "READY")
