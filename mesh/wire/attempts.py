"""What the express lane tried and chose before it handed a call over, as it tells it to the door behind it (`lane/src/tried.rs`)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

from mesh.core.errors import Code
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.routing.hops import Holder
from mesh.wire import callers
from mesh.wire.call import Attempt, Metadata, RuntimeStatus, first
from mesh.wire.headers import from_runtime

LONGEST = 16 * 1024 + 2 * 1024 + callers.LONGEST
"""Bytes of all that the lane tells beside a call: of an answer, the names of the copy and of the model that was chosen, and who calls."""

_PREFIX = "mm-lane-"
_KEY = f"{_PREFIX}key"
_TRIED, _CODE, _TEXT = f"{_PREFIX}tried", f"{_PREFIX}code", f"{_PREFIX}text"
_CHOSEN = f"{_PREFIX}chosen"
_OF_HEADERS, _OF_TRAILERS = f"{_PREFIX}header-", f"{_PREFIX}trailer-"


def name_of(copy: CopyId) -> str:
    """What the lane calls a copy."""
    return quote(str(copy), safe="")


def holder_of(model: ModelId, holder: Holder) -> str:
    """What the lane calls a model's copy of another pod; no copy of this one has such a name."""
    pod, wanted = holder
    return f"{quote(pod, safe='')}@{wanted}@{quote(model, safe='')}"


class Told(NamedTuple):
    """A call as the lane hands it over.

    Attributes:
        metadata: the caller's own.
        attempt: None if nothing was tried.
        chosen: the model that the call is for; None if that is not decided.
    """

    metadata: Metadata
    attempt: Attempt | None = None
    chosen: ModelId | None = None


def believed(metadata: Metadata, key: str) -> Told:
    """As `taken_from` for who comes with the lane's key; of anybody else's metadata nothing is believed."""
    return taken_from(metadata) if key and first(metadata, _KEY) == key else Told(metadata)


def taken_from(metadata: Metadata) -> Told:
    """The caller's own metadata, without what the lane tells beside it, and that."""
    told = tuple(entry for entry in metadata if entry[0].startswith(_PREFIX))
    if not told:
        return Told(metadata)
    own = tuple(entry for entry in metadata if not entry[0].startswith(_PREFIX))
    chosen = _text(_CHOSEN, told)
    return Told(own, _attempt(told), ModelId(unquote(chosen)) if chosen else None)


def _attempt(told: Metadata) -> Attempt | None:
    if first(told, _TRIED) is None:
        return None
    copy, code, text = (_text(name, told) for name in (_TRIED, _CODE, _TEXT))
    headers, trailers = _under(_OF_HEADERS, told), _under(_OF_TRAILERS, told)
    if "@" in copy:
        pod, _, model = map(unquote, copy.split("@"))
        return Attempt(copy, ModelId(model), RuntimeStatus(Code(int(code)), unquote(text), headers, trailers), PodId(pod))
    model = unquote(copy).rpartition("#")[0]
    status = RuntimeStatus(Code(int(code)), unquote(text), from_runtime(headers), from_runtime(trailers))
    return Attempt(copy, ModelId(model), status)


def _text(name: str, told: Metadata) -> str:
    return str(first(told, name) or "")


def _under(prefix: str, metadata: Metadata) -> Metadata:
    return tuple((name.removeprefix(prefix), value) for name, value in metadata if name.startswith(prefix))
