"""What a request of the open inference protocol is like: its parameters and the heads of its inputs, without their contents."""

from __future__ import annotations

from functools import cached_property

from google.protobuf.message import DecodeError

from mesh.core.errors import Malformed
from mesh.core.traffic.choice import Tensor
from mesh.protocols import inference_pb2 as pb
from mesh.wire import fields
from mesh.wire.call import Call, first

METHODS = frozenset({"inference.GRPCInferenceService/ModelInfer", "inference.GRPCInferenceService/ModelStreamInfer"})
"""Those whose requests are `ModelInferRequest`."""

MOST_FIELDS = 1024
"""Of a request that are looked at: what a rule asks for stands before the raw contents, one field for each parameter and input."""
MOST_BYTES = 16 * 1024
"""Of a parameter, or of an input's head, that are read; longer ones fit no condition."""

_PARAMETERS, _INPUTS, _CONTENTS = 4, 5, 5


class Peeked:
    """One call, as the rules of a traffic policy see it. The payload is looked at once, and only if a rule asks for what is in it."""

    def __init__(self, call: Call, payload: bytes) -> None:
        self._call, self._payload = call, payload

    def header(self, name: str) -> str | None:
        """The first value of a header; of one in bytes, what it says in UTF-8."""
        value = first(self._call.metadata, name)
        if value is None and self._call.headers:
            wanted = name.encode("latin-1", "replace")
            value = next((given.decode("latin-1") for key, given in self._call.headers if key == wanted), None)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def parameter(self, name: str) -> str | None:
        """A parameter of the request as text.

        Raises:
            Malformed: the payload is no protobuf message.
        """
        return self._seen[0].get(name)

    def inputs(self) -> tuple[Tensor, ...]:
        """The heads of the input tensors; errors as of `parameter`."""
        return self._seen[1]

    @cached_property
    def _seen(self) -> tuple[dict[str, str], tuple[Tensor, ...]]:
        if self._call.method.removeprefix("/") not in METHODS:
            return {}, ()
        parameters: dict[str, str] = {}
        inputs: list[Tensor] = []
        try:
            for number, _, start, end in fields.walk(self._payload, MOST_FIELDS):
                if number == _PARAMETERS and end - start <= MOST_BYTES:
                    only = pb.ModelInferRequest.FromString(_framed(_PARAMETERS, self._payload[start:end]))
                    parameters |= {name: text for name, one in only.parameters.items() if (text := _text(one)) is not None}
                elif number == _INPUTS and (head := _head(self._payload[start:end])) is not None:
                    inputs.append(head)
        except DecodeError:
            raise Malformed("the request is no ModelInferRequest: a parameter or an input cannot be read") from None
        return parameters, tuple(inputs)


def _head(tensor: bytes) -> Tensor | None:
    """Name, datatype and shape; None if they are too long to be read."""
    parts, size = [], 0
    for number, at, _, end in fields.walk(tensor, MOST_FIELDS):
        if number < _CONTENTS - 1:
            size += end - at
            if size > MOST_BYTES:
                return None
            parts.append(tensor[at:end])
    head = pb.ModelInferRequest.InferInputTensor.FromString(b"".join(parts))
    return Tensor(head.name, head.datatype, tuple(head.shape))


def _text(parameter: pb.InferParameter) -> str | None:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is None:
        return None
    value = getattr(parameter, kind)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _framed(number: int, value: bytes) -> bytes:
    return fields.replace(b"", (number,), value)
