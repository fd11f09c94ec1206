"""One call as the metrics see it at the pod where it came in."""

from __future__ import annotations

import asyncio

from mesh.core.errors import Code, MeshError
from mesh.core.ids import ModelId
from mesh.pod.targets import Named
from mesh.telemetry.metrics import Metrics
from mesh.wire.call import RuntimeStatus


class Measured:
    """A context that tells duration, code and sizes when the call ends.

    Attributes:
        named: its model, once that is known.
        asked, answered: bytes of messages; `answered` is None without an answer.
    """

    def __init__(self, metrics: Metrics, method: str, asked: int = 0) -> None:
        self._metrics, self._method = metrics, method
        self.asked = asked
        self.named = Named(ModelId(""))
        self.answered: int | None = None

    def __enter__(self) -> Measured:
        self._begun = asyncio.get_running_loop().time()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = code_of(error)
        about = (self.named.model, self.named.alias)
        self._metrics.api_request(self._method, code, (asyncio.get_running_loop().time() - self._begun) * 1000, *about)
        self._metrics.request_size(self._method, code, self.asked, *about)
        if self.answered is not None:
            self._metrics.response_size(self._method, code, self.answered, *about)


def code_of(error: BaseException | None) -> Code:
    """The code under which a call that ended so is counted."""
    if error is None:
        return Code.OK
    if isinstance(error, MeshError | RuntimeStatus):
        return error.code
    return Code.CANCELLED if isinstance(error, asyncio.CancelledError | GeneratorExit) else Code.INTERNAL
