"""One call as the metrics see it at the pod where it came in."""

from __future__ import annotations

import asyncio
import logging

from mesh.core.errors import Code, MeshError
from mesh.core.ids import ModelId
from mesh.pod.targets import Named
from mesh.telemetry.metrics import Metrics
from mesh.wire.call import RuntimeStatus

log = logging.getLogger(__name__)

_UNKNOWN = Named(ModelId(""))


class Measured:
    """A context that tells duration, code and sizes when the call ends.

    Attributes:
        named: its model, once that is known.
        asked, answered: bytes of messages; `answered` is None without an answer.
    """

    def __init__(self, metrics: Metrics, method: str, asked: int = 0) -> None:
        self._metrics, self._method = metrics, method
        self.asked = asked
        self.named = _UNKNOWN
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
        if isinstance(error, MeshError):
            self._metrics.refused(error)


class Invoked:
    """A context around a call of the runtime; of a stream, up to its first answer.

    Args:
        log: whether it gets a line in the log.
    """

    __slots__ = ("_about", "_begun", "_method", "_metrics", "_time")

    def __init__(self, metrics: Metrics, method: str, model: ModelId, alias: str, *, log: bool) -> None:
        self._metrics, self._method, self._about = metrics, method, (model, alias)
        self._time = asyncio.get_running_loop().time
        if log:
            _say(method, model)

    def __enter__(self) -> None:
        self._begun = self._time()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._metrics.invoke(self._method, code_of(error), (self._time() - self._begun) * 1000, *self._about)


def _say(method: str, model: ModelId) -> None:
    log.info("invoking model runtime gRPC method: %s", method, extra={"model": model})


def code_of(error: BaseException | None) -> Code:
    """The code under which a call that ended so is counted."""
    if error is None:
        return Code.OK
    if isinstance(error, MeshError | RuntimeStatus):
        return error.code
    return Code.CANCELLED if isinstance(error, asyncio.CancelledError | GeneratorExit) else Code.INTERNAL
