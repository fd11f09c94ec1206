"""What one call is to do next, and what its way to a copy is decided by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mesh.core.cache.copies import Copy
from mesh.core.errors import MeshError
from mesh.core.events import LoadWanted
from mesh.core.ids import ModelId, PodId
from mesh.core.pod import Pod
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.hops import Holder, Hop
from mesh.core.routing.neighbourhood import Neighbourhood
from mesh.core.units import Millis

Models = Mapping[ModelId, ModelRecord]


class Asker(Protocol):
    """Who asks for a model."""

    def request_id(self) -> str:
        """The id of the request as its sender gave it; empty if it gave none."""
        ...


@dataclass(frozen=True, slots=True)
class Serve:
    """Make the call on this copy, which was entered; leave it afterwards."""

    copy: Copy


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Have the model loaded here and wait; then ask again."""

    wanted: LoadWanted


class Forward(NamedTuple):
    """Pass the call on to another pod; what comes back is the answer.

    Attributes:
        holder: the copy that it is sent to; None if that pod is to load one.
    """

    hop: Hop
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this error."""

    error: MeshError


Step = Serve | WaitFor | Forward | Refuse


@dataclass(frozen=True, slots=True)
class View:
    """What journeys of one pod look at.

    Attributes:
        own: this pod's figures, fresh.
        outdated: pods that are likely to be replaced by a rollout soon.
        new_id: makes the id of a request that has none and is worth remembering.
    """

    pod: Pod
    models: Models
    own: Callable[[], InstanceRecord]
    outdated: Callable[[Millis], frozenset[PodId]]
    new_id: Callable[[], str] = str

    @property
    def pods(self) -> Neighbourhood:
        """The other pods."""
        return self.pod.pods


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a model is wanted.

    Attributes:
        hop: how the wish came from another pod; None if it came from a caller or from this pod.
        alias: what the caller named, if that was an alias.
        balanced: the caller spreads its calls over the pods, so that a copy here serves.
        last_used: what a new copy counts as; None is now.
        urgent: a request waits for it.
        enters: the wish is a call that goes to the copy; else the model is only to be loaded.
        avoid: pods whose copies do not count and that are not to load it.
        first: the pod on whose copy it was tried before it came here, which is judged first; None if it was tried nowhere.
    """

    hop: Hop | None = None
    alias: str = ""
    balanced: bool = False
    last_used: Millis | None = None
    urgent: bool = True
    enters: bool = True
    avoid: frozenset[PodId] = frozenset()
    first: PodId | None = None


CALL = Purpose()
