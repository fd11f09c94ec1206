"""What Triton calls the files of each model type, and the backend that reads them."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """How a model of one type lies in a version folder."""

    directory: str | None
    """Name of the model if it is a directory; None: the version folder itself is the model's directory."""
    file: str | None
    """Name of the model if it is a file; None: its own."""
    backend: str
    """For a configuration; "" leaves it to Triton."""


FORMATS = {
    "tensorflow": Format("model.savedmodel", "model.graphdef", "tensorflow"),
    "keras": Format("model.savedmodel", None, "tensorflow"),
    "onnx": Format("model.onnx", "model.onnx", "onnxruntime"),
    "pytorch": Format(None, "model.pt", "pytorch"),
    "tensorrt": Format(None, "model.plan", "tensorrt"),
}
"""By model type, lower case. Names and backends are Triton's defaults."""

OTHER = Format(None, None, "")
"""Any other type: the files as they are."""
