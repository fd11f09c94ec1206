"""Triton's backend `onnxruntime`, by the `onnxruntime` package: ONNX models on the CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

MODEL_FILE = "model.onnx"
TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(double)": "TYPE_FP64",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(string)": "TYPE_STRING",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(uint8)": "TYPE_UINT8",
}
"""Triton's names of ONNX's types that numpy has, too."""


class TritonPythonModel:
    """One instance of a model; Triton runs each in a process of its own."""

    @staticmethod
    def auto_complete_config(auto: Any) -> Any:
        """Adds the tensors that the configuration does not name, as the model's file has them."""
        config = auto.as_dict()
        session = _session(_file_being_completed(), config)
        skip = 1 if config["max_batch_size"] > 0 else 0  # Triton's shapes are without the batch then
        named = {tensor["name"] for tensor in (*config["input"], *config["output"])}
        for tensors, add in ((session.get_inputs(), auto.add_input), (session.get_outputs(), auto.add_output)):
            for tensor in tensors:
                if tensor.name not in named:
                    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
                    add({"name": tensor.name, "data_type": _type(tensor), "dims": dims[skip:]})
        return auto

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the model.

        Raises:
            TritonModelException: the configuration names tensors that the model does not have.
        """
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or MODEL_FILE
        self.session = _session(Path(args["model_repository"], args["model_version"], file), config)
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]
        for kind, known in (("input", self.inputs), ("output", self.outputs)):
            unknown = {tensor["name"] for tensor in config[kind]} - set(known)
            if unknown:
                raise pb_utils.TritonModelException(f"the model has no {kind} {', '.join(sorted(unknown))}; it has {', '.join(known)}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer for each request, in order; an error in one does not touch the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            wanted = list(request.requested_output_names()) or self.outputs
            found = self.session.run(wanted, {tensor.name(): _for_onnx(tensor.as_numpy()) for tensor in request.inputs()})
            return pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, _for_triton(value)) for name, value in zip(wanted, found, strict=True)]
            )
        except Exception as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"onnxruntime: {error}"))


def _session(path: Path, config: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    # A process each: more threads than asked for would only get into each other's way. The names are those of Triton's own backend.
    options.intra_op_num_threads = _number(config, "intra_op_thread_count")
    options.inter_op_num_threads = _number(config, "inter_op_thread_count")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _number(config: dict[str, Any], parameter: str) -> int:
    return int(config.get("parameters", {}).get(parameter, {}).get("string_value") or 1)


def _type(tensor: Any) -> str:
    if tensor.type not in TYPES:
        raise pb_utils.TritonModelException(f"tensor {tensor.name} has the type {tensor.type}, which this backend cannot pass on")
    return TYPES[tensor.type]


def _file_being_completed() -> Path:
    """Triton tells the path of the model only on the command line of this process: `stub MODEL_FILE ...`."""
    return Path(Path("/proc/self/cmdline").read_bytes().split(b"\0")[1].decode())


def _for_onnx(value: Any) -> Any:
    """Text is bytes in Triton and strings in ONNX."""
    return np.array([one.decode() for one in value.ravel()], dtype=object).reshape(value.shape) if value.dtype == object else value


def _for_triton(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "OU":
        return array
    return np.array([str(one).encode() for one in array.ravel()], dtype=object).reshape(array.shape)
