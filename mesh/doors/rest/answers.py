"""The outputs of a runtime's answer, typed or raw, checked before they are written."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from mesh.doors.rest import tensors
from mesh.doors.rest.errors import BadAnswer
from mesh.protocols.inference_pb2 import ModelInferResponse

Tensor = ModelInferResponse.InferOutputTensor
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Output:
    """One output; `buffer` is its raw form if the runtime answered raw."""

    tensor: Tensor
    buffer: bytes | None

    @property
    def kind(self) -> tensors.Datatype:
        """Its datatype.

        Raises:
            BadAnswer: the protocol has none of that name.
        """
        kind = tensors.TABLE.get(self.tensor.datatype)
        if kind is None:
            raise BadAnswer(f"the runtime answered output {self.tensor.name!r} in the unknown datatype {self.tensor.datatype!r}")
        return kind

    @property
    def count(self) -> int:
        """The elements that its shape takes."""
        return prod(list(self.tensor.shape))

    def values(self) -> list[Any]:
        """Its elements, unpacked if they came raw.

        Raises:
            BadAnswer: raw bytes do not fit the shape, or there is no data.
        """
        kind = self.kind
        if self.buffer is not None:
            self._measured(self.buffer)
            return tensors.unpack(kind, self.buffer)
        if not kind.field:
            raise BadAnswer(f"the runtime answered output {self.tensor.name!r} without raw_output_contents, which {kind.name} needs")
        found = list(getattr(self.tensor.contents, kind.field))
        if not found and self.count:
            raise BadAnswer(f"the runtime answered output {self.tensor.name!r} without data: {kind.field} is empty")
        return found

    def raw(self) -> bytes:
        """Its elements as raw bytes; raises as `values` does."""
        if self.buffer is not None:
            if self.tensor.datatype in tensors.TABLE:
                self._measured(self.buffer)
            return self.buffer
        return tensors.pack(self.kind, self._in_range(self.values()))

    def _measured(self, buffer: bytes) -> None:
        if fault := tensors.measure(self.kind, buffer, self.count):
            raise BadAnswer(
                f"the runtime answered output {self.tensor.name!r} with shape {list(self.tensor.shape)}, but its raw data {fault}"
            )

    def _in_range(self, values: list[Any]) -> list[Any]:
        # 8- and 16-bit integers travel in 32-bit fields, which a faulty runtime may fill with more.
        if self.kind.family == "int" and values and not (self.kind.low <= min(values) and max(values) <= self.kind.high):
            raise BadAnswer(f"the runtime answered output {self.tensor.name!r} with a value that {self.kind.name} cannot hold")
        return values


def outputs(response: ModelInferResponse) -> list[Output]:
    """The outputs with their buffers: as soon as one buffer is there, buffer i belongs to output i.

    Raises:
        BadAnswer: there are fewer or more buffers than outputs.
    """
    buffers = response.raw_output_contents
    if not buffers:
        return [Output(tensor, None) for tensor in response.outputs]
    if len(buffers) != len(response.outputs):
        raise BadAnswer(f"the runtime answered {len(response.outputs)} outputs with {len(buffers)} raw buffers")
    return [Output(tensor, buffer) for tensor, buffer in zip(response.outputs, buffers, strict=True)]


def parse(message: M, payload: bytes) -> M:
    """Fills `message`.

    Raises:
        BadAnswer: the payload is something else.
    """
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise BadAnswer(f"the runtime's answer is no {message.DESCRIPTOR.full_name}") from None
    return message
