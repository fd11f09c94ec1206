"""Fifty real models in memory for ten: all answer, in any order, and the memory is never exceeded."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import mesh.manifests
from mesh.core.policy import policy_of
from mesh.core.units import UNIT_BYTES, bytes_of, units
from mesh.protocols import inference_pb2 as v2
from tests.integration.models.stack import MODELS, PATIENCE, Stack, digit_of, digit_request, service
from tests.support.waiting import until

pytestmark = pytest.mark.mlserver

RUNTIME = Path(mesh.manifests.__file__).parent / "builtin" / "mlserver-1.x.yaml"
BUFFER = 134_217_728
"""Bytes that the runtime's document keeps for MLServer itself."""
CAPACITY = 10_000_000
"""Bytes for models: the least that a router takes of a runtime whose models are 1 MB by default."""
FIT = 10
SERVICES = [f"digits-{number:02d}" for number in range(50)]
SIZE = 2 * (MODELS / "mnist-svm.joblib").stat().st_size * 5 // 4
"""Bytes of one model: its folder on the disk, which has the file twice, and a quarter more."""
WEIGHT = bytes_of(units(SIZE))
"""The same in the router's units."""


def runtime_with(memory: int) -> dict[str, Any]:
    """The default runtime's document with another memory request, and nothing else changed."""
    document: dict[str, Any] = YAML(typ="safe").load(RUNTIME)
    document["spec"]["containers"][0]["resources"]["requests"]["memory"] = str(memory)
    return document


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("fifty")) as stack:
        stack.apply(runtime_with(BUFFER + CAPACITY))
        until(lambda: _capacity(stack) == CAPACITY // UNIT_BYTES * UNIT_BYTES, "the pod to have its new memory", within=PATIENCE)
        stack.until_ready()
        first = stack.claim / "first"
        first.mkdir()
        for name in ("model.joblib", "model-before.joblib"):
            shutil.copy(MODELS / "mnist-svm.joblib", first / name)
        for name in [*SERVICES, "cold"]:
            (stack.claim / name).mkdir()
            for file in first.iterdir():
                # Names of their own for the same bytes: models of their own for everybody but the disk.
                os.link(file, stack.claim / name / file.name)
        stack.apply(*(service(name, name) for name in SERVICES))
        yield stack


def _capacity(stack: Stack) -> int:
    try:
        return int(stack.facts()["capacity_bytes"])
    except Exception:  # the pod starts again with its new memory
        return 0


@dataclass
class Seen:
    """The fullest that anybody saw the memory."""

    samples: int = 0
    most_granted: int = 0
    most_held: int = 0
    most_resident: int = 0
    faults: list[str] = field(default_factory=list)


@contextmanager
def watched(stack: Stack) -> Iterator[Seen]:
    """Looks at the router's account and at MLServer's index, again and again, for as long as the context lasts."""
    seen, done = Seen(), threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                pod = stack.facts()
                resident = len(stack.resident())
            except Exception as error:
                seen.faults.append(repr(error))
                return
            seen.samples += 1
            seen.most_granted = max(seen.most_granted, pod["used_bytes"])
            seen.most_held = max(seen.most_held, pod["used_bytes"] + pod["leaving_bytes"])
            seen.most_resident = max(seen.most_resident, resident)
            done.wait(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_the_figures_of_this_module_mean_ten_models() -> None:
    policy = policy_of(CAPACITY, 1_000_000, 1, 90_000)
    assert not isinstance(policy, str), policy
    assert FIT * WEIGHT <= bytes_of(policy.room) < (FIT + 1) * WEIGHT


@pytest.mark.timeout(600)
def test_fifty_models_answer_in_any_order_in_memory_for_ten(stack: Stack) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    orders = [SERVICES, SERVICES[::-1], dice.sample(SERVICES, 50), dice.sample(SERVICES, 50)]
    with watched(stack) as seen:
        for order in orders:
            assert [stack.digit(name) for name in order] == [8] * 50
        # Sixteen callers at a time: more than there is room for.
        crowd = dice.choices(SERVICES, k=200)
        assert stack.digits(crowd, at_a_time=16) == [8] * len(crowd)
        # All fifty at once.
        assert stack.digits(dice.sample(SERVICES, 50), at_a_time=50) == [8] * 50
    assert not seen.faults
    assert seen.samples > 50, seen
    # One that is being unloaded may be beside the ten: the reserve is its place.
    assert seen.most_granted <= FIT * WEIGHT, seen
    assert seen.most_held <= CAPACITY, seen
    assert seen.most_resident * SIZE <= CAPACITY, seen


def test_what_is_not_resident_was_evicted_and_nothing_else(stack: Stack) -> None:
    assert stack.digits(SERVICES, at_a_time=8) == [8] * 50
    until(lambda: not stack.facts()["leaving_bytes"], "the last victim to be gone")
    loads, unloads, resident = Counter(stack.loads()), Counter(stack.unloads()), stack.resident()
    assert len(resident) == FIT
    assert resident == {model["id"] for model in stack.facts("models")["models"] if model["copies"]}
    assert loads.total() - len(resident) == unloads.total() > 0
    held = most = 0
    for change in stack.changes():
        held += change
        most = max(most, held)
    assert FIT <= most <= CAPACITY // SIZE
    # And so for every single model: it was unloaded as often as it was loaded, but for those that are here.
    assert {name: loads[name] - unloads[name] for name in loads} == {name: int(name in resident) for name in loads}


def test_calls_of_what_is_resident_load_nothing(stack: Stack) -> None:
    here = stack.resident()
    names = [name for name in SERVICES if stack.concrete(name) in here]
    before = len(stack.loads())
    for _ in range(5):
        assert stack.digits(names, at_a_time=10) == [8] * FIT
    assert len(stack.loads()) == before
    assert stack.resident() == here


def test_the_one_used_least_recently_goes(stack: Stack) -> None:
    for name in SERVICES[:FIT]:
        assert stack.digit(name) == 8
    assert stack.digit(SERVICES[0]) == 8
    assert stack.digit(SERVICES[FIT]) == 8
    expected = {stack.concrete(name) for name in SERVICES[: FIT + 1]} - {stack.concrete(SERVICES[1])}
    until(lambda: stack.resident() == expected, "the second to be gone and all others to be here")


def test_a_thousand_calls_of_one_cold_model_load_it_once(stack: Stack) -> None:
    stack.apply(service("cold", "cold"))
    cold = stack.concrete("cold")
    # Services are loaded as soon as they are applied; ten others push it out again.
    for name in SERVICES[:FIT]:
        assert stack.digit(name) == 8
    until(lambda: cold not in stack.resident(), "the model to be cold")
    before = stack.loads().count(cold)
    with stack.server_stopped():
        calls = [stack.client.v2.ModelInfer.future(digit_request("cold"), timeout=PATIENCE) for _ in range(1000)]

        def waiting() -> int:
            return sum(copy["waiting"] for copy in stack.facts(f"models/{cold}")["copies"])

        until(lambda: waiting() == 1000, "a thousand calls to wait for one load", within=PATIENCE)
    answers: list[v2.ModelInferResponse] = [call.result() for call in calls]
    assert Counter(map(digit_of, answers)) == {8: 1000}
    assert stack.loads().count(cold) == before + 1
