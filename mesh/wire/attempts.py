"""An attempt that the express lane made before it handed a call over, as it tells it to the door behind it (`lane/src/tried.rs`)."""

from __future__ import annotations

from urllib.parse import quote, unquote

from mesh.core.errors import Code
from mesh.core.ids import CopyId, PodId
from mesh.core.routing.hops import Holder
from mesh.wire import callers
from mesh.wire.call import Attempt, Metadata, RuntimeStatus, first
from mesh.wire.headers import from_runtime

LONGEST = 16 * 1024 + 1024 + callers.LONGEST
"""Bytes of all that the lane tells beside a call: of an answer, the name of the copy, and who calls."""

_PREFIX = "mm-lane-"
_KEY = f"{_PREFIX}key"
_TRIED, _CODE, _TEXT = f"{_PREFIX}tried", f"{_PREFIX}code", f"{_PREFIX}text"
_OF_HEADERS, _OF_TRAILERS = f"{_PREFIX}header-", f"{_PREFIX}trailer-"


def name_of(copy: CopyId) -> str:
    """What the lane calls a copy."""
    return quote(str(copy), safe="")


def holder_of(holder: Holder) -> str:
    """What the lane calls a copy of another pod; no copy of this one has such a name."""
    pod, wanted = holder
    return f"{quote(pod, safe='')}@{wanted}"


def believed(metadata: Metadata, key: str) -> tuple[Metadata, Attempt | None]:
    """As `taken_from` for who comes with the lane's key; of anybody else's metadata nothing is believed."""
    return taken_from(metadata) if key and first(metadata, _KEY) == key else (metadata, None)


def taken_from(metadata: Metadata) -> tuple[Metadata, Attempt | None]:
    """The caller's own metadata, without what the lane tells beside it, and the attempt if it tells of one."""
    told = tuple(entry for entry in metadata if entry[0].startswith(_PREFIX))
    if not told:
        return metadata, None
    own = tuple(entry for entry in metadata if not entry[0].startswith(_PREFIX))
    if first(told, _TRIED) is None:
        return own, None
    copy, code, text = (str(first(told, name) or "") for name in (_TRIED, _CODE, _TEXT))
    pod = PodId(unquote(copy.partition("@")[0])) if "@" in copy else None
    headers, trailers = _under(_OF_HEADERS, told), _under(_OF_TRAILERS, told)
    if pod is None:
        headers, trailers = from_runtime(headers), from_runtime(trailers)
    return own, Attempt(copy, RuntimeStatus(Code(int(code)), unquote(text), headers, trailers), pod)


def _under(prefix: str, metadata: Metadata) -> Metadata:
    return tuple((name.removeprefix(prefix), value) for name, value in metadata if name.startswith(prefix))
