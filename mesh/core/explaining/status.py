"""Status words of models and aliases, told from facts (reference 1.6, 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mesh.core.cache.copies import SERVING, Copy
from mesh.core.cache.failures import Failure
from mesh.core.errors import MeshError
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.routing.failed_loads import FailedLoads
from mesh.core.units import Millis


class ModelState(Enum):
    """`mmesh.ModelStatusInfo.ModelStatus`, by number."""

    NOT_FOUND = 0
    NOT_LOADED = 1
    LOADING = 2
    LOADED = 3
    LOADING_FAILED = 4
    UNKNOWN = 5


class AliasState(Enum):
    """`mmesh.VModelStatusInfo.VModelStatus`, by number."""

    NOT_FOUND = 0
    DEFINED = 1
    TRANSITIONING = 2
    TRANSITION_FAILED = 3
    UNKNOWN = 5


@dataclass(frozen=True, slots=True)
class CopyStatus:
    """One copy, or one failed try: where, how, since when."""

    pod: PodId
    state: ModelState
    at: Millis


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a model is; errors and copies newest first."""

    state: ModelState
    errors: Sequence[str] = ()
    copies: Sequence[CopyStatus] = ()


@dataclass(frozen=True, slots=True)
class AliasStatus:
    """How an alias is; ids are empty if there is none."""

    state: AliasState
    active: ModelId = ModelId("")
    target: ModelId = ModelId("")
    owner: str = ""
    active_status: ModelStatus | None = None
    target_status: ModelStatus | None = None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version of a service, as a router tells of it.

    Attributes:
        percent: of a hundred calls that no rule takes, so many are to go to it.
        stable: calls go to it as long as no policy says otherwise.
        next: it is to be the stable one as soon as it can serve.
        since: when it came; 0 if that is not known.
    """

    number: int
    model: ModelId
    status: ModelStatus
    percent: int = 0
    stable: bool = False
    next: bool = False
    since: Millis = Millis(0)


@dataclass(frozen=True, slots=True)
class TrafficStatus:
    """The versions of a service by number, its policy as documents have it, and why the next stable version could not be loaded."""

    versions: Sequence[VersionStatus] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)
    blocked: str = ""

    def of(self, model: ModelId) -> VersionStatus | None:
        """The version that a model is."""
        return next((one for one in self.versions if one.model == model), None)


def model_status(
    record: ModelRecord | None, here: PodId, copy: Copy | None, failure: Failure | None, refusal: MeshError | None = None
) -> ModelStatus:
    """Tells how a model is from its record and, fresher, from what this pod knows itself.

    Args:
        record: None if there is no such model.
        here: this pod.
        copy: the one that comes or serves here.
        failure: the latest failed load here that no success followed.
        refusal: why the model could not be loaded now.
    """
    if record is None:
        return ModelStatus(ModelState.NOT_FOUND)
    copies = _copies(record, here, copy)
    failed = {**record.failed, **({here: failure.at} if failure else {})}
    texts = {**record.failures, **({here: failure.error.message} if failure else {})}
    copies += [CopyStatus(pod, ModelState.LOADING_FAILED, at) for pod, at in failed.items() if pod != here or copy is None]
    copies.sort(key=lambda status: -status.at)
    errors = [texts.get(pod, "") for pod in sorted(failed, key=lambda pod: -failed[pod])]
    states = {status.state for status in copies}
    for state in (ModelState.LOADED, ModelState.LOADING, ModelState.LOADING_FAILED):
        if state in states:
            return ModelStatus(state, errors if state is not ModelState.LOADED else (), copies)
    return ModelStatus(ModelState.LOADING_FAILED, (refusal.message,)) if refusal else ModelStatus(ModelState.NOT_LOADED)


def _copies(record: ModelRecord, here: PodId, copy: Copy | None) -> list[CopyStatus]:
    found = [
        CopyStatus(pod, ModelState.LOADED if pod in record.ready else ModelState.LOADING, record.ready.get(pod, at))
        for pod, at in record.copies.items()
        if pod != here
    ]
    if copy is not None:
        serving = copy.state in SERVING
        found.append(CopyStatus(here, ModelState.LOADED if serving else ModelState.LOADING, copy.loaded_at if serving else copy.created))
    return found


class Word(Enum):
    """How a model is, in a word for people. Unlike `ModelState` it tells what is going to load from what is not."""

    RESIDENT = "resident"
    LOADING = "loading"
    ON_DEMAND = "on demand"
    FAILING = "failing"
    FAILED = "failed for good"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's word, and what goes with it.

    Attributes:
        since: for which time it is resident or loading; 0 if it is neither.
        retry_at: when a failing model is tried again; 0 if the next call does that at once, on another pod; None if that is not known.
        why: of one that fails.
    """

    word: Word
    since: Millis = Millis(0)
    retry_at: Millis | None = None
    why: str = ""

    def text(self, moment: Callable[[Millis], str]) -> str:
        """For users; `moment` puts a time in words."""
        match self.word:
            case Word.LOADING:
                return f"loading since {moment(self.since)}"
            case Word.ON_DEMAND:
                return "not resident, will load on demand"
            case Word.FAILING if self.retry_at:
                return f"failing, retry at {moment(self.retry_at)}: {self.why}"
            case Word.FAILING if self.retry_at is not None:
                return f"failing, retry with the next call: {self.why}"
            case Word.FAILING:
                return f"failing: {self.why}"
            case Word.FAILED:
                return f"failing for good: {self.why}"
            case _:
                return str(self.word.value)


def standing(status: ModelStatus, loads: FailedLoads) -> Standing:
    """Puts a model's status in a word.

    Args:
        status: as of `model_status`.
        loads: its failures, as of now.
    """
    times = [copy.at for copy in status.copies if copy.state is status.state]
    why = next((text for text in status.errors if text), "")
    match status.state:
        case ModelState.LOADED:
            return Standing(Word.RESIDENT, min(times, default=Millis(0)))
        case ModelState.LOADING:
            return Standing(Word.LOADING, min(times, default=Millis(0)))
        case ModelState.NOT_LOADED:
            return Standing(Word.ON_DEMAND)
        case ModelState.LOADING_FAILED if loads.failed or loads.until:
            return Standing(Word.FAILING, retry_at=loads.free_at(), why=why or "a load failed")
        case ModelState.LOADING_FAILED:
            # Nothing was tried: what stands in the way is not a load that failed, and does not pass by itself.
            return Standing(Word.FAILED, why=why or "it cannot be loaded")
        case _:
            return Standing(Word.UNKNOWN)


def alias_state(record: AliasRecord) -> AliasState:
    """Whether the alias rests, moves, or cannot."""
    if not record.in_transition:
        return AliasState.DEFINED
    return AliasState.TRANSITION_FAILED if record.failed else AliasState.TRANSITIONING
