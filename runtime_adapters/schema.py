"""The schema file of a model: names, datatypes and shapes of its inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from runtime_adapters.errors import InvalidRequest, Missing

DATATYPES = frozenset(
    ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES", "STRING"]
)
"""Datatypes of the v2 protocol, and STRING, an extension of ModelMesh's schema files for BYTES that hold text."""


class Tensor(NamedTuple):
    """One input or output; a dimension of -1 is variable."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Schema(NamedTuple):
    """Inputs and outputs; None where the file does not mention them, which is not the same as none."""

    inputs: tuple[Tensor, ...] | None
    outputs: tuple[Tensor, ...] | None


def read(path: Path) -> Schema:
    """Read a schema file.

    Raises:
        Missing: there is no such file.
        InvalidRequest: it is not JSON of the form `{"inputs": [{"name", "datatype", "shape"}], "outputs": […]}`.
    """
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise Missing(f"schema file {path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"schema file {path.name} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"schema file {path.name} must hold an object, not {type(document).__name__}")
    return Schema(*(_tensors(document.get(side), f"{side} of schema file {path.name}") for side in ("inputs", "outputs")))


def _tensors(value: Any, where: str) -> tuple[Tensor, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidRequest(f"{where} must be a list")
    return tuple(_tensor(item, f"{where}[{index}]") for index, item in enumerate(value))


def _tensor(item: Any, where: str) -> Tensor:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where} must be an object with name, datatype and shape")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where} needs a name")
    if datatype not in DATATYPES:
        raise InvalidRequest(f"{where} ({name}) has datatype {datatype!r}; known are {', '.join(sorted(DATATYPES))}")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in shape):
        raise InvalidRequest(f"{where} ({name}) needs a shape: a list of integers")
    return Tensor(name, datatype, tuple(shape))
