"""One call as metrics and payload processors see it at the pod where it came in."""

from __future__ import annotations

import asyncio
import logging

from mesh.core.errors import Code, MeshError
from mesh.core.ids import ModelId
from mesh.pod.targets import Named
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.payloads import Conversation, Payloads
from mesh.wire.call import Call, Metadata, RuntimeStatus

log = logging.getLogger(__name__)

_UNKNOWN = Named(ModelId(""))


class Measured:
    """A context that tells duration, code and sizes when the call ends, and payload processors each message.

    Args:
        metrics: told at the end.
        call: the call.
        payloads: told while it is entered; None if there are no processors.
    """

    def __init__(self, metrics: Metrics, call: Call, payloads: Payloads | None = None) -> None:
        self._metrics, self._method, self._call, self._payloads = metrics, call.method, call, payloads
        self._told: Conversation | None = None
        self._named = _UNKNOWN
        self._asked = 0
        self._answered: int | None = None

    def __enter__(self) -> Measured:
        self._begun = asyncio.get_running_loop().time()
        if self._payloads is not None:
            self._told = self._payloads.call(self._method, self._call.metadata)
        return self

    @property
    def named(self) -> Named:
        """Its model, once that is known."""
        return self._named

    @named.setter
    def named(self, named: Named) -> None:
        self._named = named
        if self._told is not None:
            self._told.about(named.model, named.alias)

    def of_several(self) -> None:
        """It names several models, and is told as one of none."""
        if self._told is not None:
            self._told.about(None)

    def asked(self, message: bytes) -> None:
        """The client sent a message."""
        self._asked += len(message)
        if self._told is not None:
            self._told.asked(message)

    def answered(self, message: bytes, headers: Metadata) -> None:
        """It gets one."""
        self._answered = (self._answered or 0) + len(message)
        if self._told is not None:
            self._told.answered(message, headers)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = code_of(error)
        about = (self.named.model, self.named.alias)
        self._metrics.api_request(self._method, code, (asyncio.get_running_loop().time() - self._begun) * 1000, *about)
        self._metrics.request_size(self._method, code, self._asked, *about)
        if self._answered is not None:
            self._metrics.response_size(self._method, code, self._answered, *about)
        if self._told is not None:
            self._told.ended(code)
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
