"""A model's `config.pbtxt`: made from a schema, or its own under the mesh's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from google.protobuf import text_format

from mesh.protocols import triton_model_config_pb2 as pb
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.schema import Schema, Tensor

NAME = "config.pbtxt"

_OTHER_NAMES = {"BYTES": "STRING"}
"""Datatypes of the v2 protocol that Triton's configurations name otherwise; every other one is `TYPE_` and its name."""


def generate(backend: str, schema: Schema) -> str:
    """The text of a configuration for a model that has a schema and none of its own. Triton adds what is missing."""
    return text_format.MessageToString(_with_schema(pb.ModelConfig(backend=backend), schema))


def rewrite(text: bytes, model_id: str, schema: Schema | None) -> str | None:
    """A model's own configuration without its name, for which Triton takes that of the folder, and with the tensors of the schema.

    Args:
        text: `config.pbtxt` as it lies in the model.
        model_id: for messages.

    Returns:
        The new text; None if the file can be used as it is, which keeps its comments.

    Raises:
        InvalidRequest: it cannot be read, contradicts the schema, or names files outside of the model.
    """
    where = f"{NAME} of model {model_id}"
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where} is not UTF-8: {error}") from None
    try:
        config = text_format.Parse(decoded, pb.ModelConfig())
    except RecursionError:
        raise InvalidRequest(f"{where} cannot be read: it is nested too deeply") from None
    except text_format.ParseError as error:
        _check_unknown(decoded, where, schema, str(error))
        return None
    _refuse_paths(config, where)
    unchanged = pb.ModelConfig()
    unchanged.CopyFrom(config)
    config.ClearField("name")
    if schema:
        _with_schema(config, schema)
    return None if config == unchanged else text_format.MessageToString(config)


def _check_unknown(text: str, where: str, schema: Schema | None, reason: str) -> None:
    """A configuration with fields of a Triton newer than our description of them: usable if nothing has to be changed.

    Raises:
        InvalidRequest: it has to be changed, or is not in protobuf's text format at all.
    """
    try:
        config = text_format.Parse(text, pb.ModelConfig(), allow_unknown_field=True)
    except (text_format.ParseError, RecursionError):
        raise InvalidRequest(f"{where} cannot be read: line and column {reason}") from None
    _refuse_paths(config, where)
    if config.name or schema:
        raise InvalidRequest(
            f"{where} has what this adapter does not know (line and column {reason}), so it cannot be rewritten; "
            f"remove `name` from it, give no schema, and it is used as it is"
        )


def _with_schema(config: pb.ModelConfig, schema: Schema) -> pb.ModelConfig:
    if schema.inputs is not None:
        del config.input[:]
        config.input.extend(pb.ModelInput(name=t.name, data_type=_type(t), dims=_dims(t, config)) for t in schema.inputs)
    if schema.outputs is not None:
        del config.output[:]
        config.output.extend(pb.ModelOutput(name=t.name, data_type=_type(t), dims=_dims(t, config)) for t in schema.outputs)
    return config


def _type(tensor: Tensor) -> pb.DataType.ValueType:
    return pb.DataType.Value(f"TYPE_{_OTHER_NAMES.get(tensor.datatype, tensor.datatype)}")


def _dims(tensor: Tensor, config: pb.ModelConfig) -> Iterable[int]:
    """The dimensions as Triton wants them: without the first one, of the batch, if it batches."""
    if config.max_batch_size <= 0:
        return tensor.shape
    if tensor.shape[:1] != (-1,):
        raise InvalidRequest(
            f"Conflicting model configuration: max_batch_size is {config.max_batch_size}, so the first dimension of every tensor in "
            f"the schema must be -1, and that of {tensor.name} is {tensor.shape[0] if tensor.shape else 'missing'}"
        )
    return tensor.shape[1:]


def _refuse_paths(config: pb.ModelConfig, where: str) -> None:
    for field, name in _filenames(config):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidRequest(f"{where} has {field} {name!r}, which leads out of the model; name a file in its version folder")


def _filenames(config: pb.ModelConfig) -> Iterator[tuple[str, str]]:
    yield "default_model_filename", config.default_model_filename
    for name in config.cc_model_filenames.values():
        yield "cc_model_filenames", name
