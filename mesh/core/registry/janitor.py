"""What a pod sees to in the registry: records say what is true of its copies and failures, and when its models were used (reference 6.7).

Changes are written as they happen, and again when the store answers again; here is found what was missed all the same. A copy that just
changed is left alone: its write may be on its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mesh.core.cache.copies import SERVING
from mesh.core.events import Event, ModelDeleted, RecordDiffers
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.pod import Pod
from mesh.core.policy import HOUR, SECOND, UNKNOWN_AGE, is_far
from mesh.core.registry.edits import ReadModel, RecordUse
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis

NAME = "janitor"
"""What the JSON calls the function."""

SETTLED = Millis(60 * SECOND)
"""So long a copy has been what it is before its record is doubted; many times what a write takes."""

STALE, SPREAD = Millis(6 * HOUR), HOUR
"""A record may tell a use that is older than the latest by the first and up to the second more, different for each pod (reference 6.7)."""

PART = 256
"""Models looked at in one go; about a millisecond."""

NONE = Millis(-1)
"""Of a time: there is none."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What is decided by whether a record is written again.

    Attributes:
        wanted, ready: times of this pod's copy as the record has them; NONE if it has no copy.
        failed: whether the record names a failure here.
        true_wanted, true_ready, true_failed: how it is.
    """

    model: ModelId
    pod: PodId
    wanted: Millis
    ready: Millis
    failed: bool
    true_wanted: Millis
    true_ready: Millis
    true_failed: bool

    def again(self) -> str:
        """`write`, or `leave` a record that is right. That a failure is missing there is right: somebody took it away."""
        right = (self.wanted, self.ready) == (self.true_wanted, self.true_ready) and (self.true_failed or not self.failed)
        return "leave" if right else "write"

    def candidates(self) -> Sequence[Candidate]:
        """The record as it stands, and as it is to be."""
        stands: dict[str, object] = {"wanted": self.wanted, "ready": self.ready, "failed": self.failed}
        true: dict[str, object] = {"wanted": self.true_wanted, "ready": self.true_ready, "failed": self.failed and self.true_failed}
        return [Candidate("as it is", True, true), Candidate("as it stands", False, stands, f"it is not so on pod {self.pod}")]

    def would_change(self) -> Sequence[str]:
        """What would have made it unnecessary."""
        return ["the write that said so had reached the registry"]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be told to the pod's mind about a model, and why."""

    event: Event
    why: Discrepancy


Order = Repair | ReadModel | RecordUse
"""A model that is read and not there is deleted: the pod is to be told so."""


class Janitor:
    """Looks over what one pod holds, and over what records say of it."""

    def __init__(self, pod: Pod, models: Mapping[ModelId, ModelRecord], mentions: Mentions, spread: float) -> None:
        """Args:
        models: a view of the registry.
        spread: 0 to 1, drawn once for each pod, so that not all write at once.
        """
        self._pod, self._models, self._mentions = pod, models, mentions
        self._stale = Millis(STALE + int(SPREAD * spread))
        self._undated: set[ModelId] = set()
        self._missing: set[ModelId] = set()

    def model_changed(self, model: ModelId, record: ModelRecord | None, now: Millis) -> None:
        """Notes records with a time of use that says nothing."""
        if record is not None and is_far(record.last_used, now):
            self._undated.add(model)
        elif self._undated:
            self._undated.discard(model)

    def sweep(self, now: Millis, *, leads: bool) -> Iterator[list[Order]]:
        """What is to be put right, a part at a time.

        Args:
            now: the time.
            leads: whether this pod sees to what is no pod's own.
        """
        if leads:
            yield [RecordUse(model, Millis(now - UNKNOWN_AGE), now) for model in sorted(self._undated)]
        if self._pod.leaving or self._pod.cache.paused:
            return
        current = self._pod.cache.current
        names = [*current, *(model for model in self._mentions.of(self._pod.id) if model not in current)]
        before, self._missing = self._missing, set()
        for begin in range(0, len(names), PART):
            orders = (self._look_at(model, before, now) for model in names[begin : begin + PART])
            yield [order for order in orders if order is not None]

    def _look_at(self, model: ModelId, missing: set[ModelId], now: Millis) -> Order | None:
        copy, record = self._pod.copy(model), self._models.get(model)
        if copy is not None and (copy.state not in SERVING or now - copy.since < SETTLED):
            return None
        if record is None:
            # A reset of the store may have lost it, and somebody be writing it again.
            self._missing.add(model)
            return ReadModel(model) if model in missing else None
        found = self._discrepancy(model, record)
        if found is not None and found.again() == "write":
            return Repair(RecordDiffers(model), found)
        if copy is not None and not is_far(copy.last_used, now) and copy.last_used - record.last_used >= self._stale:
            return RecordUse(model, copy.last_used, now)
        return None

    def _discrepancy(self, model: ModelId, record: ModelRecord) -> Discrepancy | None:
        me, edit = self._pod.id, self._pod.settled(model)
        if edit is None:
            return None
        stands = record.copies.get(me, NONE), record.ready.get(me, NONE), me in record.failed
        true = (NONE if edit.wanted is None else edit.wanted), (NONE if edit.ready is None else edit.ready), edit.failed
        return Discrepancy(model, me, *stands, *true)


def deleted(model: ModelId) -> Event:
    """What is told of a model that the store does not know."""
    return ModelDeleted(model)
