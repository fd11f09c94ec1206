"""One service's document and what the mesh says of its alias → what to do, and the words for how it is (reference D.2, D.10).

Both faces, the mesh on one machine and the operator, ask here. Nothing is remembered between calls but what the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mesh.core.explaining.status import AliasState, AliasStatus, ModelState, ModelStatus, TrafficStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import NO_BOUNDS, Bounds
from mesh.core.traffic.policy import KEPT, WHOLE

_NO_RUNTIME = "There are no running instances that meet the label requirements of type "


@dataclass(frozen=True, slots=True)
class Registration:
    """What a document asks to be registered: an alias of its name, pointing at one immutable model, and bounds on that one's copies.

    Attributes:
        keep: versions that the service keeps.
        canary: so many of a hundred calls go to the model, the others to the stable version's; None or 100 is all.
        base: the stable version beside a canary, for a registry that knows nothing of the service.
    """

    alias: AliasId
    owner: str
    model: ModelId
    type: str
    path: str
    key: str
    bounds: Bounds = NO_BOUNDS
    keep: int = KEPT
    canary: int | None = None
    base: Registration | None = None

    @property
    def share(self) -> int | None:
        """What the model gets beside the stable version's; None if it is to have all calls."""
        return None if self.canary == WHOLE else self.canary


class State(Enum):
    """Words for a model's state as the documents' status has them."""

    PENDING = "Pending"
    STANDBY = "Standby"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "FailedToLoad"


class Transition(Enum):
    """Words for the switch from one model to the next."""

    UP_TO_DATE = "UpToDate"
    IN_PROGRESS = "InProgress"
    BLOCKED = "BlockedByFailedLoad"
    INVALID = "InvalidSpec"


class Reason(Enum):
    """Words for the cause of a failure."""

    LOAD_FAILED = "ModelLoadFailed"
    RUNTIME_UNHEALTHY = "RuntimeUnhealthy"
    RUNTIME_UNKNOWN = "RuntimeNotRecognized"
    NO_RUNTIME = "NoSupportingRuntime"
    INVALID = "InvalidPredictorSpec"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the newest model is not loaded; `at` in epoch milliseconds, 0 if no copy tells."""

    reason: Reason
    message: str
    model: ModelId
    location: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Canary:
    """The version that shares the calls of a service with the stable one; its number is 0 while it is not registered."""

    number: int
    percent: int
    state: State
    failure: Failure | None = None

    @property
    def resting(self) -> bool:
        """Whether it has what it is to have, and nothing is expected to change: one with a share is kept loaded."""
        return self.number > 0 and (self.state is State.LOADED or (not self.percent and self.state is State.STANDBY))

    @property
    def text(self) -> str:
        """For users."""
        if not self.number:
            return f"a canary is to have {self.percent} % of the calls"
        name = f"canary version {self.number}"
        if self.failure is not None and self.state is State.FAILED:
            return f"{name} cannot load, so the stable version has all calls: {self.failure.message}"
        if self.resting or not self.percent:
            return f"{name} has {self.percent} % of the calls"
        why = f": {self.failure.message}" if self.failure is not None else ""
        return f"{name} is to have {self.percent} % of the calls, and is not loaded yet{why}"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a service is.

    Attributes:
        canary: what shares calls with the active model, or is to.
        ready: a call now is served: its model is loaded, or not resident and will load on demand. While a model that was
            ready loads again it stays so; a first load must end first.
        target: None unless another model than the active one is to take over.
    """

    ready: bool
    transition: Transition
    active: State
    target: State | None = None
    failure: Failure | None = None
    total_copies: int = 0
    failed_copies: int = 0
    canary: Canary | None = None


@dataclass(frozen=True, slots=True)
class PointAlias:
    """Register the model and point the alias at it; `first` at that of the stable version, if the alias is not there."""

    registration: Registration
    load_now: bool
    first: Registration | None = None


@dataclass(frozen=True, slots=True)
class DropAlias:
    """Remove the alias and, since it owns it, its model."""

    alias: AliasId
    owner: str


def decide(
    wanted: Registration, seen: AliasStatus, *, applied_again: bool = False, traffic: TrafficStatus | None = None
) -> PointAlias | None:
    """What brings the mesh to the document; None if it is there already, or if the alias is another owner's.

    Args:
        wanted: the document.
        seen: how its alias is.
        applied_again: the document was applied since the alias was last set, even if nothing in it changed: a failed model is tried
            again at once.
        traffic: its versions; only of interest if it wants a canary.
    """
    if _foreign(wanted, seen):
        return None
    absent = seen.state is AliasState.NOT_FOUND
    if wanted.share is not None and absent and wanted.base is not None:
        return PointAlias(wanted, load_now=wanted.share > 0, first=wanted.base)
    if _beside(wanted, seen):
        return None if _shares(wanted, seen, traffic) and not applied_again else PointAlias(wanted, load_now=bool(wanted.share))
    if not absent and seen.target == wanted.model and not applied_again:
        return None
    condition = describe(wanted, seen)
    waits = condition.failure is not None and condition.failure.reason is Reason.RUNTIME_UNHEALTHY
    unsettled = condition.active in (State.PENDING, State.FAILED) or condition.target is not None
    # A loaded or idle model whose document is merely repeated is not loaded again: it may have been evicted for a busier one.
    return PointAlias(wanted, load_now=unsettled or seen.target != wanted.model or (condition.active is State.LOADING and waits))


def decide_removal(alias: AliasId, owner: str, seen: AliasStatus) -> DropAlias | None:
    """What removes the alias of a deleted document; None if it is gone or belongs to another owner."""
    gone = seen.state is AliasState.NOT_FOUND or (seen.owner and seen.owner != owner)
    return None if gone else DropAlias(alias, owner)


def describe(wanted: Registration, seen: AliasStatus, *, was_ready: bool = False, traffic: TrafficStatus | None = None) -> Condition:
    """The words for what was seen; `was_ready` is the `ready` of the description before this one, `traffic` as for `decide`."""
    if _foreign(wanted, seen):
        taken = Failure(Reason.INVALID, "Predictor already exists with the same name from a different source", wanted.model)
        return Condition(False, Transition.INVALID, State.PENDING, failure=taken)
    active = _state(seen.active_status)
    switching = bool(seen.target) and seen.target != seen.active
    newest = seen.target_status if switching and seen.target_status else seen.active_status
    failure = _failure(seen.target or wanted.model, newest)
    waits = failure is not None and failure.reason is Reason.RUNTIME_UNHEALTHY
    target = _state(seen.target_status) if switching else None
    if waits:
        # What only waits for a pod to appear has not failed.
        active, target = (active, State.LOADING) if switching else (State.LOADING, None)
    copies = seen.active_status.copies if seen.active_status else ()
    canary = _canary(wanted, traffic) if _beside(wanted, seen) else None
    if failure is None and canary is not None and canary.state is State.FAILED:
        failure = canary.failure
    return Condition(
        ready=_ready(active, waits and not switching, was_ready),
        transition=_transition(seen.state, waits),
        active=active,
        target=target,
        failure=failure,
        total_copies=len(copies),
        failed_copies=sum(copy.state is ModelState.LOADING_FAILED for copy in copies),
        canary=canary,
    )


def settled(condition: Condition) -> bool:
    """Whether nothing is expected to change by itself within seconds."""
    rests = condition.active in (State.LOADED, State.STANDBY) and condition.target is None
    return rests and (condition.canary is None or condition.canary.resting)


def _foreign(wanted: Registration, seen: AliasStatus) -> bool:
    return seen.state is not AliasState.NOT_FOUND and seen.owner not in ("", wanted.owner)


def _beside(wanted: Registration, seen: AliasStatus) -> bool:
    """Whether the document's model is to share calls with another one that serves."""
    return wanted.share is not None and seen.state is not AliasState.NOT_FOUND and seen.active != wanted.model


def _shares(wanted: Registration, seen: AliasStatus, traffic: TrafficStatus | None) -> bool:
    version = traffic.of(wanted.model) if traffic is not None else None
    if traffic is None or version is None or seen.target != seen.active:
        return False
    # Without a canary's share the policy's default has the word, and may give the version what it likes.
    return version.percent == wanted.share or (wanted.share == 0 and "default" in traffic.policy)


def _canary(wanted: Registration, traffic: TrafficStatus | None) -> Canary:
    version = traffic.of(wanted.model) if traffic is not None else None
    if version is None:
        return Canary(0, wanted.share or 0, State.PENDING)
    failure = _failure(wanted.model, version.status)
    waits = failure is not None and failure.reason is Reason.RUNTIME_UNHEALTHY
    return Canary(version.number, version.percent, State.LOADING if waits else _state(version.status), failure)


def _ready(active: State, waits: bool, was_ready: bool) -> bool:
    if active is State.LOADING:
        return was_ready and not waits
    return active in (State.LOADED, State.STANDBY)


def _state(model: ModelStatus | None) -> State:
    states = {
        ModelState.NOT_LOADED: State.STANDBY,
        ModelState.LOADING: State.LOADING,
        ModelState.LOADED: State.LOADED,
        ModelState.LOADING_FAILED: State.FAILED,
    }
    return State.PENDING if model is None else states.get(model.state, State.PENDING)


def _transition(status: AliasState, waits: bool) -> Transition:
    if status is AliasState.TRANSITION_FAILED:
        return Transition.IN_PROGRESS if waits else Transition.BLOCKED
    return Transition.IN_PROGRESS if status is AliasState.TRANSITIONING else Transition.UP_TO_DATE


def _failure(model: ModelId, seen: ModelStatus | None) -> Failure | None:
    if seen is None or seen.state is not ModelState.LOADING_FAILED:
        return None
    text = seen.errors[0] if seen.errors else "the mesh gave no reason"
    copy = next((copy for copy in seen.copies if copy.state is ModelState.LOADING_FAILED), None)
    reason, message = _cause(text)
    return Failure(reason, message, model, location=copy.pod if copy else "", at=copy.at if copy else 0)


def _cause(text: str) -> tuple[Reason, str]:
    """The router's pinned texts tell apart what is missing; every other text is the load's own."""
    if not text.startswith(_NO_RUNTIME):
        return Reason.LOAD_FAILED, text
    if not text.endswith("[_no_runtime]"):
        return Reason.RUNTIME_UNHEALTHY, "Waiting for supporting runtime Pod to become available"
    if text.removeprefix(_NO_RUNTIME).startswith("rt:"):
        return Reason.RUNTIME_UNKNOWN, "Specified runtime name not recognized"
    return Reason.NO_RUNTIME, "No ServingRuntime supports specified model type and/or protocol"
