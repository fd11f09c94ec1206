"""What travels with a call from pod to pod: why it comes, and what was tried before (reference 3.4).

A path has three pods at most: a call that came to be loaded goes on only to a holder, and a holder never passes a call on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mesh.core.ids import ModelId, PodId
from mesh.core.units import Millis

Holder = tuple[PodId, Millis]
"""A pod and when its copy was wanted: a copy loaded anew is another holder."""


class Kind(Enum):
    """What the sender wants."""

    HIT = "hit"
    """Serve from your copy, also one that is still loading, or say that it is not here."""
    LOAD = "load"
    """Load the model and serve; if another pod was quicker, pass the call on to that one."""


class Hop(NamedTuple):
    """One step of a call between pods.

    Attributes:
        model: the concrete model; the payload may still name its alias.
        alias: what the caller named, if that was an alias.
        sender, dest: the pods; a call that arrives at another pod than `dest` is refused.
        last_used: what a new copy counts as.
        urgent: a request waits for the model, not a background task.
        tried: holders that did not serve this call.
        avoid: pods on which the model is not to be loaded for this call: those that failed, and those that the caller excludes.
        request: id under which decisions for it are remembered; empty for a call that was a plain hit so far.
    """

    kind: Kind
    model: ModelId
    sender: PodId
    dest: PodId
    alias: str = ""
    last_used: Millis = Millis(0)
    urgent: bool = True
    tried: frozenset[Holder] = frozenset()
    avoid: frozenset[PodId] = frozenset()
    request: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a pod is; it travels back with each answer.

    Attributes:
        calls: in progress on its runtime.
        lru_time: when its least recently used model was last used; 0 is not told.
        at: what its clock said; 0 is not told.
    """

    calls: int = 0
    lru_time: Millis = Millis(0)
    at: Millis = Millis(0)
