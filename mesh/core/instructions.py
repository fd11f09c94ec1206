"""What is to be done: values in the imperative that `Pod.handle` answers. Each names the events that can answer it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mesh.core.errors import MeshError
from mesh.core.ids import CopyId, ModelId
from mesh.core.registry.edits import ModelEdit
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """Answered for `copy`, if there is one, by `EditDone`, `EditRefused` or `EditFailed`; else nobody waits for the outcome."""

    edit: ModelEdit
    copy: CopyId | None = None


@dataclass(frozen=True, slots=True)
class PredictSize:
    """Answered by `SizePredicted`."""

    copy: CopyId
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Answered by `LoadSucceeded` or `LoadFailed`, at the latest after the load timeout."""

    copy: CopyId
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class Abandon:
    """Ends the running load or unload of a copy; its answer is of no interest any more."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class MeasureSize:
    """Answered by `SizeMeasured`."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class UnloadModel:
    """Answered by `UnloadSucceeded` or `UnloadFailed`; begun `after` so many milliseconds."""

    copy: CopyId
    after: Millis = Millis(0)


@dataclass(frozen=True, slots=True)
class EndCalls:
    """Ends the calls that still run on a copy; each tells that it left (`Pod.leave`)."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class Announce:
    """A copy serves from now on, and the express lane may bring calls to it. Ordered only if there is a lane."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A copy serves no more: the express lane begins no call on it from now on. `UnloadModel` waits for the last one that it began."""

    copy: CopyId


class Outcome(Enum):
    """How waiting ended."""

    ENTERED = "entered"
    """Each waiter counts as one call on the copy and must leave it."""
    AGAIN = "again"
    """The copy is not coming; look again."""
    FAILED = "failed"
    """There is an error to answer with."""


@dataclass(frozen=True, slots=True)
class ReleaseWaiters:
    """Ends the waiting of all who wait for a model.

    Attributes:
        copy: the one entered; the same decision may have sent it draining already.
    """

    model: ModelId
    outcome: Outcome
    error: MeshError | None = None
    copy: CopyId | None = None


@dataclass(frozen=True, slots=True)
class NoteEviction:
    """A copy was displaced; `age` is the time since its last use, `grown` whether by a copy that turned out larger than predicted."""

    model: ModelId
    age: Millis
    grown: bool = False


@dataclass(frozen=True, slots=True)
class LoadElsewhere:
    """A load failed here, or a copy was evicted for which others have room: the model is to be loaded on another pod, unless one has it.

    Nobody waits for the outcome.
    """

    model: ModelId
    last_used: Millis


Instruction = (
    LoadElsewhere
    | EndCalls
    | Announce
    | Withdraw
    | ChangeRecord
    | PredictSize
    | LoadModel
    | Abandon
    | MeasureSize
    | UnloadModel
    | ReleaseWaiters
    | NoteEviction
)
