"""What a cold model's first answer costs through the mesh, beside MLServer's own load of the same files.

`python -m benchmarks.cold [--rounds N]`. Through the mesh it is: the miss, the adapter's pull and layout, MLServer's load, the call.
Without it: MLServer's load of the layout that is already there, and the call.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import middle, table
from mesh.protocols import inference_pb2 as v2
from tests.integration.models.stack import CLAIM, MODELS, PATIENCE, Stack, digit_request
from tests.support.waiting import until

FILES = {"sklearn": "mnist-svm.joblib", "xgboost": "mushroom.json", "lightgbm": "mushroom.bst"}


@dataclass
class Figures:
    """Seconds, a value per round."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)


def request_of(kind: str, model: str) -> v2.ModelInferRequest:
    if kind == "sklearn":
        return digit_request(model)
    tensor = v2.ModelInferRequest.InferInputTensor(name="predict", datatype="FP32", shape=[1, 126])
    tensor.contents.fp32_contents.extend(float(number % 7 == 0) for number in range(126))
    return v2.ModelInferRequest(model_name=model, inputs=[tensor])


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def round_of(stack: Stack, kind: str, model: str, figures: Figures) -> None:
    """One model: cold and warm through the mesh, then unloaded and loaded again behind its back, and deleted."""
    request = request_of(kind, model)
    key = json.dumps({"storage_params": {"type": "pvc", "name": CLAIM}, "model_type": {"name": kind}})
    stack.client.register(model, FILES[kind], kind=f"mt:{kind}", key=key)
    figures.cold.append(timed(lambda: stack.client.v2.ModelInfer(request, timeout=PATIENCE)))
    figures.warm.append(timed(lambda: stack.client.v2.ModelInfer(request, timeout=PATIENCE)))
    server = stack.server
    server.RepositoryModelUnload(v2.RepositoryModelUnloadRequest(model_name=model), timeout=PATIENCE)
    figures.load.append(timed(lambda: server.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=model), timeout=PATIENCE)))
    figures.loaded.append(figures.load[-1] + timed(lambda: server.ModelInfer(request, timeout=PATIENCE)))
    stack.client.unregister(model)
    until(lambda: model not in stack.resident(), "the model to be unloaded")


def shown(found: dict[str, Figures]) -> str:
    def ms(values: list[float]) -> str:
        return f"{middle(values) * 1e3:.1f} ms"

    rows = [["", "cold through the mesh", "MLServer's load and a call", "the mesh adds", "ratio", "warm through the mesh"]]
    for kind, one in found.items():
        added = [a - b for a, b in zip(one.cold, one.loaded, strict=True)]
        ratio = middle([a / b for a, b in zip(one.cold, one.loaded, strict=True)])
        rows.append([kind, ms(one.cold), ms(one.loaded), ms(added), f"{ratio:.2f}", ms(one.warm)])
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print(f"First answer of a cold model: {given.rounds} rounds, one call at a time, a real MLServer.", flush=True)
    found = {kind: Figures() for kind in FILES}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        shutil.copytree(MODELS, stack.claim, dirs_exist_ok=True)
        for kind in FILES:
            # The first load of a kind imports its library, which is nobody's hop.
            round_of(stack, kind, f"{kind}-first", Figures())
        for number in range(given.rounds):
            for kind, figures in found.items():
                round_of(stack, kind, f"{kind}-{number}", figures)
    print(shown(found))


if __name__ == "__main__":
    main()
