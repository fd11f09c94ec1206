"""What happened: values in the past tense that `Pod.handle` takes."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.errors import Code, MeshError
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.registry.edits import ModelEdit
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis, Units


@dataclass(frozen=True, slots=True)
class LoadWanted:
    """Somebody wants a model here.

    Attributes:
        last_used: what the copy counts as; also which copies it may displace.
        urgent: an inference call wants it.
        waits: the teller waits for the outcome (`ReleaseWaiters`).
        beside: pods in the model's record whose copies do not do; should another be found there, it does and none is made here.
            None makes one in any case.
    """

    model: ModelId
    info: ModelInfo
    last_used: Millis
    urgent: bool = False
    waits: bool = False
    beside: frozenset[PodId] | None = None


@dataclass(frozen=True, slots=True)
class EditDone:
    """The copy stands in its model's record."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class EditRefused:
    """The record does not take the copy."""

    copy: CopyId
    error: MeshError


@dataclass(frozen=True, slots=True)
class EditFailed:
    """The registry does not answer; the copy goes on unregistered."""

    copy: CopyId
    error: MeshError


@dataclass(frozen=True, slots=True)
class SizePredicted:
    """The runtime guessed the size; None if it cannot."""

    copy: CopyId
    size: Units | None


@dataclass(frozen=True, slots=True)
class LoadSucceeded:
    """The model can serve. `size` None: the runtime is to be asked; `concurrency` 0: any number of calls at a time."""

    copy: CopyId
    size: Units | None
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The load did not succeed.

    Attributes:
        code: the runtime's; INVALID_ARGUMENT and FAILED_PRECONDITION mean that nothing was attempted.
        timed_out: it was ended after the load timeout.
    """

    copy: CopyId
    code: Code
    message: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class SizeMeasured:
    """The runtime told the size; None if it could not."""

    copy: CopyId
    size: Units | None


@dataclass(frozen=True, slots=True)
class LastCallEnded:
    """A draining copy is idle."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class UnloadSucceeded:
    """The runtime gave the memory back."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class UnloadFailed:
    """The runtime kept the model."""

    copy: CopyId
    message: str


@dataclass(frozen=True, slots=True)
class RuntimeForgot:
    """The runtime says that it does not know a copy which it had loaded."""

    copy: CopyId


@dataclass(frozen=True, slots=True)
class ModelDeleted:
    """The model's record is gone."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class FailureCleared:
    """A user wants a failed model to be tried at once."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class CopySpared:
    """The mesh can do without a copy here, and another one answered.

    Attributes:
        edit: takes it from the record, unless copies came or went meanwhile.
        why: for the story.
    """

    copy: CopyId
    edit: ModelEdit
    why: str


@dataclass(frozen=True, slots=True)
class RecordDiffers:
    """The model's record does not say what is true of this pod's copy."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class RuntimeLost:
    """The runtime does not answer.

    Attributes:
        down: it is known to be down, so calls wait too; else only the way to its management is interrupted, and loads wait.
    """

    down: bool


@dataclass(frozen=True, slots=True)
class RuntimeReturned:
    """The runtime answers again.

    Attributes:
        emptied: with nothing loaded; else only the way to it was interrupted, and what it does not know shows call by call.
    """

    emptied: bool


@dataclass(frozen=True, slots=True)
class RuntimeWithheld:
    """The runtime is to be left alone, by this pod's own will; what is known of the runtime is another matter.

    Attributes:
        calls: calls wait too; else loads only.
    """

    calls: bool


@dataclass(frozen=True, slots=True)
class RuntimeReleased:
    """The runtime may be used again; it need not have been withheld."""


@dataclass(frozen=True, slots=True)
class PodLeaves:
    """This pod is about to end: it loads nothing more, and serves what it has until other pods do."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`Pod.next_due()` was reached."""


CopyEvent = (
    EditDone
    | EditRefused
    | EditFailed
    | SizePredicted
    | LoadSucceeded
    | LoadFailed
    | SizeMeasured
    | LastCallEnded
    | UnloadSucceeded
    | UnloadFailed
    | RuntimeForgot
    | CopySpared
)
RuntimeEvent = RuntimeLost | RuntimeReturned | RuntimeWithheld | RuntimeReleased
Event = LoadWanted | CopyEvent | ModelDeleted | FailureCleared | RecordDiffers | RuntimeEvent | PodLeaves | TimePassed
