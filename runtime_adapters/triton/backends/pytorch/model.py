"""Triton's backend `pytorch`, by the `torch` package: TorchScript models on the CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

MODEL_FILE = "model.pt"


class TritonPythonModel:
    """One instance of a model; Triton runs each in a process of its own. TorchScript does not tell its tensors: a configuration must."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the model."""
        config = json.loads(args["model_config"])
        torch.set_num_threads(int(config.get("parameters", {}).get("INTRA_OP_THREAD_COUNT", {}).get("string_value") or 1))
        file = config.get("default_model_filename") or MODEL_FILE
        path = Path(args["model_repository"], args["model_version"], file)
        self.model = torch.jit.load(str(path), map_location="cpu").eval()
        self.inputs = _ordered([tensor["name"] for tensor in config["input"]])
        self.outputs = _ordered([tensor["name"] for tensor in config["output"]])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer for each request, in order; an error in one does not touch the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            with torch.inference_mode():
                # A copy: Triton's memory is read-only, which tensors are not.
                found = self.model(*(torch.from_numpy(np.array(given[name])) for name in self.inputs))
            values = list(found) if isinstance(found, list | tuple) else [found]
            if len(values) != len(self.outputs):
                raise ValueError(f"the model has {len(values)} outputs, and its configuration names {len(self.outputs)}")
            wanted = set(request.requested_output_names()) or set(self.outputs)
            named = zip(self.outputs, values, strict=True)
            return pb_utils.InferenceResponse([pb_utils.Tensor(name, value.numpy()) for name, value in named if name in wanted])
        except Exception as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"pytorch: {error}"))


def _ordered(names: list[str]) -> list[str]:
    """By the number after two underscores (`INPUT__0`), as Triton's own backend reads them; as they stand if one has none."""
    numbers = [name.rpartition("__")[2] for name in names]
    return sorted(names, key=lambda name: int(name.rpartition("__")[2])) if all(map(str.isdigit, numbers)) else names
