"""Status words of models and aliases, told from facts (reference 1.6, 1.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mesh.core.copies import SERVING, Copy
from mesh.core.errors import MeshError
from mesh.core.failures import Failure
from mesh.core.ids import ModelId, PodId
from mesh.core.records import AliasRecord, ModelRecord
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


def alias_state(record: AliasRecord) -> AliasState:
    """Whether the alias rests, moves, or cannot."""
    if not record.in_transition:
        return AliasState.DEFINED
    return AliasState.TRANSITION_FAILED if record.failed else AliasState.TRANSITIONING
