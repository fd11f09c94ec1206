"""What pods add to each other's calls and answers as metadata. Clients and runtimes never see it, and what they send of it is dropped.

A call carries a hop. Each answer carries the pod that gave it and how busy that pod is; a status that the mesh gave, not the runtime, also
carries the class of the error. A status that names no pod is the transport's own.
"""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.message import DecodeError

from mesh.core import errors
from mesh.core.errors import Code, Malformed, MeshError, TooLarge
from mesh.core.ids import ModelId, PodId
from mesh.core.routing.hops import Holder, Hop, Kind, Load
from mesh.core.units import Millis
from mesh.protocols import peer_pb2 as pb
from mesh.wire.call import REQUEST_ID, Metadata, RuntimeStatus, first
from mesh.wire.headers import HOP_PREFIXES, TRANSPORT

HOP = "mesh-hop-bin"
"""Of a call: a `mesh.peer.v1.Hop`."""
POD = "mesh-pod-bin"
"""Of an answer: who gave it."""
LOAD = "mesh-load"
"""Of an answer: numbers in decimal, separated by spaces: calls in progress, and in epoch milliseconds the
last use of the model that was used least recently, and what the clock said."""
ERROR = "mesh-error"
"""Of a status that the mesh gave: the name of the error's class."""

LARGEST_HOP = 32_768
"""Bytes of a hop. Ids are some tens of bytes each and a call tries few pods, so only absurd ids come near it."""

_KINDS = {Kind.HIT: pb.Hop.HIT, Kind.LOAD: pb.Hop.LOAD}
_NOBODY: frozenset[Holder] = frozenset()
_NOWHERE: frozenset[PodId] = frozenset()
_KINDS_READ = {number: kind for kind, number in _KINDS.items()}


def to_peer(metadata: Metadata, hop: Hop) -> Metadata:
    """What a peer gets: the caller's headers without the transport's own, and the hop.

    Raises:
        TooLarge: ids in the hop are longer than calls between pods can carry.
    """
    message = pb.Hop(
        kind=_KINDS[hop.kind],
        model=hop.model,
        sender=hop.sender,
        dest=hop.dest,
        alias=hop.alias,
        last_used=hop.last_used,
        background=not hop.urgent,
        tried=[pb.Hop.Holder(pod=pod, at=at) for pod, at in sorted(hop.tried)],
        avoid=sorted(hop.avoid),
    )
    data = message.SerializeToString()
    if len(data) > LARGEST_HOP:
        raise TooLarge(
            f"a call for model {hop.model[:100]!r} cannot be passed to another pod: its ids take {len(data)} bytes, and {LARGEST_HOP} "
            "are the limit; use shorter ids"
        )
    named: Metadata = ((REQUEST_ID, hop.request),) if hop.request and first(metadata, REQUEST_ID) is None else ()
    return (*[entry for entry in metadata if not _stays(entry[0])], *named, (HOP, data))


def without_hop(metadata: Metadata) -> Metadata:
    """Metadata without anything that pods add."""
    return tuple([entry for entry in metadata if not entry[0].startswith(HOP_PREFIXES)])


def hop_of(metadata: Metadata) -> Hop | None:
    """The hop that a call came by; None for a call that no pod passed on.

    Raises:
        Malformed: it cannot be read.
    """
    data = first(metadata, HOP)
    if data is None:
        return None
    try:
        message = pb.Hop.FromString(data if isinstance(data, bytes) else data.encode())
    except DecodeError as error:
        raise Malformed(f"header {HOP} is not a {pb.Hop.DESCRIPTOR.full_name}: {error}") from None
    kind = _KINDS_READ.get(message.kind)
    if kind is None:
        raise Malformed(f"header {HOP}: there is no kind {message.kind} of hops in this version; let pods of one version call each other")
    if not (message.model and message.sender and message.dest):
        missing = [name for name in ("model", "sender", "dest") if not getattr(message, name)]
        raise Malformed(f"header {HOP} must name {', '.join(missing)}")
    return Hop(
        kind,
        ModelId(message.model),
        PodId(message.sender),
        PodId(message.dest),
        alias=message.alias,
        last_used=Millis(message.last_used),
        urgent=not message.background,
        tried=frozenset((PodId(holder.pod), Millis(holder.at)) for holder in message.tried) if message.tried else _NOBODY,
        avoid=frozenset(map(PodId, message.avoid)) if message.avoid else _NOWHERE,
    )


# Answers


@lru_cache(maxsize=16)
def pod_trailers(pod: PodId) -> Metadata:
    """Says who answers."""
    return ((POD, pod.encode()),)


def pod_of(metadata: Metadata) -> PodId | None:
    """Who answered; None if it was no pod, but the transport or a stranger at the pod's address."""
    found = first(metadata, POD)
    return PodId(found.decode(errors="replace")) if isinstance(found, bytes) else None


def load_trailers(load: Load) -> Metadata:
    """Says how busy the pod is."""
    return ((LOAD, f"{load.calls} {load.lru_time} {load.at}"),)


def load_of(metadata: Metadata) -> Load | None:
    """How busy the pod is; None if it does not say so in a way that is understood, which spoils no answer."""
    found = first(metadata, LOAD)
    numbers = found.split()[:3] if isinstance(found, str) else []
    if not numbers or not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
        return None
    calls, lru_time, at = (*map(int, numbers), 0, 0)[:3]
    return Load(calls, Millis(lru_time), Millis(at))


def error_trailers(error: MeshError) -> Metadata:
    """Says that the mesh, not the runtime, gave the status, and why; the message is the status's details."""
    return ((ERROR, next(kind.__name__ for kind in type(error).__mro__ if _CLASSES.get(kind.__name__) is kind)),)


def error_of(status: RuntimeStatus) -> MeshError | None:
    """The error of the mesh that a peer answered; None if the status is the runtime's own.

    A class that only newer pods have becomes the nearest that is known here, by its code.
    """
    name = first(status.trailers, ERROR)
    if name is None:
        return None
    return _CLASSES.get(str(name), _NEAREST.get(status.code, errors.Failed))(status.details)


def _all(root: type[MeshError]) -> dict[str, type[MeshError]]:
    classes = {root.__name__: root}
    for child in root.__subclasses__():
        classes |= _all(child)
    return classes


_CLASSES = {name: kind for name, kind in _all(MeshError).items() if kind.__module__ == errors.__name__}
_NEAREST: dict[Code, type[MeshError]] = {
    Code.INVALID_ARGUMENT: errors.Malformed,
    Code.NOT_FOUND: errors.Unknown,
    Code.ALREADY_EXISTS: errors.Conflict,
    Code.FAILED_PRECONDITION: errors.Referenced,
    Code.UNIMPLEMENTED: errors.Unsupported,
    Code.RESOURCE_EXHAUSTED: errors.Overloaded,
    Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    Code.CANCELLED: errors.Cancelled,
    Code.UNAVAILABLE: errors.Leaving,
}
"""By code; where several classes have it, one after which a sender looks further."""


@lru_cache(maxsize=4096)
def _stays(name: str) -> bool:
    return name.startswith(("grpc-", *HOP_PREFIXES)) or name in TRANSPORT
