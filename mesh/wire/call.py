"""One call, whatever door it came through: what is asked, of which model, and how it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.core.errors import Code
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.routing.hops import Hop

Metadata = tuple[tuple[str, str | bytes], ...]
"""gRPC metadata: lower-case names; names ending in `-bin` have bytes values, all others text."""


REQUEST_ID = "mm-request-id"
"""Our addition: names a request. What decisions were made for it can be asked for under this id (`mesh explain ID`).

A caller may send it. It comes back with answers that were no plain hits, and with errors of the mesh.
"""
_OTHER_ID = "x-request-id"
_TRACE = "traceparent"


@dataclass(frozen=True, slots=True)
class Target:
    """What a call names: concrete models, aliases, or `either` (an alias, or if there is none of that name, a model).

    More than one name makes a multi-model call: the same request goes to each and the answers are concatenated.
    """

    models: tuple[ModelId, ...] = ()
    aliases: tuple[AliasId, ...] = ()
    either: str | None = None
    all_required: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to make a call on a copy, made before the call came to who carries it out.

    Attributes:
        copy: on which one of this pod, as `mesh.wire.attempts.name_of` says, or of another, as `holder_of` says.
        model: of the copy.
        status: what came of it; never OK.
        pod: which other pod has the copy; None if this one has it.
    """

    copy: str
    model: ModelId
    status: RuntimeStatus
    pod: PodId | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it travels: the payload bytes are never decoded.

    Attributes:
        method: full gRPC path without the leading slash, e.g. `inference.GRPCInferenceService/ModelInfer`.
        metadata: the caller's, unfiltered.
        target: what it names, if the door knows already; None lets the dataplane rules find it in metadata or payload.
        deadline: on the event loop's clock, in seconds; None if the caller has none.
        balanced: the caller spreads its calls over pods itself (`mm-balanced: true`).
        hop: why another pod passed it on; None for a call of a client.
        attempt: what the express lane tried before; None if it tried nothing.
        chosen: the model that the express lane chose for it among those that share the calls of an alias; None if it chose none.
        headers: of HTTP, names in small letters, where metadata are only some of them: rules of traffic ask for any. None travels.
    """

    method: str
    metadata: Metadata = ()
    target: Target | None = None
    deadline: float | None = None
    balanced: bool = False
    hop: Hop | None = None
    attempt: Attempt | None = None
    chosen: ModelId | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()

    def request_id(self) -> str:
        """The id that the sender gave the request: `mm-request-id`, else `x-request-id`, else W3C's trace id; or empty."""
        for name in (REQUEST_ID, _OTHER_ID):
            value = first(self.metadata, name)
            if isinstance(value, str) and value:
                return value
        trace = first(self.metadata, _TRACE)
        parts = trace.split("-") if isinstance(trace, str) else []
        return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The runtime's OK answer of a unary call."""

    payload: bytes
    headers: Metadata = ()
    trailers: Metadata = ()


@dataclass(eq=False)
class RuntimeStatus(Exception):
    """The runtime's own status: it passes to the caller with its details and trailers."""

    code: Code
    details: str
    headers: Metadata = ()
    trailers: Metadata = field(default=())

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


def first(metadata: Metadata | Sequence[tuple[str, str | bytes]], name: str) -> str | bytes | None:
    """The first value under `name`, or None."""
    for key, value in metadata:
        if key == name:
            return value
    return None
