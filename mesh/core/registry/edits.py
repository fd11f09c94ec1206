"""Named changes of records. The store owns the compare-and-set loop, the core owns the change: `apply` is pure and may run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mesh.core.errors import Conflict, MeshError, NotHere, Referenced, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD, HOUR, is_far
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.origins import anew, origin_of
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.routing.tries import out_of_tries
from mesh.core.units import Millis

MODEL_NOT_FOUND = "model not found"
"""Pinned text (reference 1.3)."""


class Transaction(Protocol):
    """Records as one attempt sees them. What is read must be unchanged when what is written is committed, or the attempt is repeated."""

    def model(self, model: ModelId) -> ModelRecord | None:
        """The model's record, with what this attempt wrote."""
        ...

    def alias(self, alias: AliasId) -> AliasRecord | None:
        """The alias's record, with what this attempt wrote."""
        ...

    def instance(self, pod: PodId) -> InstanceRecord | None:
        """A pod's own record; None if its lease is over. Only pods write them."""
        ...

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        """Writes, or deletes with None."""
        ...

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        """Writes, or deletes with None."""
        ...


class Edit(Protocol):
    """A change of one or more records."""

    def apply(self, records: Transaction) -> MeshError | None:
        """Writes the change, or says why it is refused; nothing is committed then."""
        ...


class ModelEdit(Edit, Protocol):
    """A change of one model's record; those of one model are applied in the order in which they were given."""

    @property
    def model(self) -> ModelId:
        """The model."""
        ...


def is_call(last_used: Millis, wanted: Millis) -> bool:
    """Whether a copy's last use was a call, or at least somebody's word; else it was given an age when it was wanted without a call."""
    return last_used > wanted - AGE_ON_LOAD // 2


@dataclass(frozen=True, slots=True)
class CreateModel:
    """Registers a model; with equal attributes a repetition succeeds (reference 1.4).

    Attributes:
        uncalled: `last_used` is a guess, not somebody's word.
    """

    model: ModelId
    info: ModelInfo
    last_used: Millis
    uncalled: bool = False

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses other attributes."""
        record = records.model(self.model)
        if record is None:
            records.put_model(self.model, ModelRecord(self.info, last_used=self.last_used, uncalled=self.uncalled))
        elif record.info != self.info:
            return Conflict("Model already exists with different attribute values")
        elif self.last_used > record.last_used + HOUR or origin_of(record):
            records.put_model(self.model, anew(record.with_(last_used=max(record.last_used, self.last_used))))
        return None


@dataclass(frozen=True, slots=True)
class DeleteModel:
    """Unregisters a model."""

    model: ModelId

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses while aliases point at it; an absent model succeeds."""
        record = records.model(self.model)
        if record is None:
            return None
        if record.refs > 0:
            return Referenced(f"Model {self.model} has referents")
        records.put_model(self.model, None)
        return None


@dataclass(frozen=True, slots=True)
class ReadModel:
    """Changes nothing: with it the mirror shows the model as it stands in the store."""

    model: ModelId

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses if there is no such model."""
        return None if records.model(self.model) is not None else Unknown(MODEL_NOT_FOUND)


@dataclass(frozen=True, slots=True)
class AddCopy:
    """A pod is about to load the model; its earlier failure no longer stands, nor that an earlier copy there was ready.

    Attributes:
        beside: pods that may hold it already; None is any. This is what makes one load of many wishes in the mesh.
        failed_since: failures after this count toward the tries that a model has in the mesh; None: none does.
    """

    model: ModelId
    pod: PodId
    at: Millis
    last_used: Millis
    beside: frozenset[PodId] | None = None
    failed_since: Millis | None = None

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses if the model is gone, if a pod was quicker, or if the model failed on too many pods."""
        record = records.model(self.model)
        if record is None:
            return Unknown(MODEL_NOT_FOUND)
        quicker = set() if self.beside is None else record.copies.keys() - self.beside - {self.pod}
        if quicker:
            return NotHere(f"model {self.model} is loaded by {', '.join(sorted(quicker))} already")
        if self.failed_since is not None and (stop := out_of_tries(record, self.failed_since)):
            return stop
        record = _without_failure(record, self.pod)
        records.put_model(
            self.model,
            record.with_(
                copies={**record.copies, self.pod: self.at},
                ready=_without(record.ready, self.pod),
                last_used=max(record.last_used, self.last_used),
                uncalled=record.uncalled and not is_call(self.last_used, self.at),
            ),
        )
        return None


@dataclass(frozen=True, slots=True)
class MarkReady:
    """A pod's load ended well."""

    model: ModelId
    pod: PodId
    wanted: Millis
    at: Millis

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if the record does not hold that copy any more."""
        record = records.model(self.model)
        if record is not None and record.copies.get(self.pod) == self.wanted:
            records.put_model(self.model, record.with_(ready={**record.ready, self.pod: self.at}))
        return None


@dataclass(frozen=True, slots=True)
class RemoveCopy:
    """A pod holds the model no more."""

    model: ModelId
    pod: PodId
    wanted: Millis
    last_used: Millis
    now: Millis

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if the record does not hold that copy any more."""
        record = records.model(self.model)
        if record is not None and record.copies.get(self.pod) == self.wanted:
            copies = _without(record.copies, self.pod)
            records.put_model(
                self.model,
                record.with_(
                    copies=copies,
                    ready=_without(record.ready, self.pod),
                    last_used=max(record.last_used, self.last_used),
                    uncalled=record.uncalled and not is_call(self.last_used, self.wanted),
                    last_unload=self.now if len(copies) > 2 else Millis(0),
                ),
            )
        return None


@dataclass(frozen=True, slots=True)
class SettleCopy:
    """The store did not take what a pod wrote of its copy; the record is to say again what is true.

    Attributes:
        wanted: of the copy that comes or serves there; None if there is none.
        ready: when its load ended; None while it loads.
        failed: whether a failure stands there that is not over.
    """

    model: ModelId
    pod: PodId
    wanted: Millis | None
    ready: Millis | None
    failed: bool
    last_used: Millis

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if the model is gone, or the record is right."""
        record = records.model(self.model)
        if record is None:
            return None
        settled = self.settled(record).with_(last_used=max(record.last_used, self.last_used))
        if settled != record:
            records.put_model(self.model, settled)
        return None

    def settled(self, record: ModelRecord) -> ModelRecord:
        """The record with what is true of this pod."""
        return (record if self.failed else _without_failure(record, self.pod)).with_(
            copies=_with(record.copies, self.pod, self.wanted), ready=_with(record.ready, self.pod, self.ready)
        )


@dataclass(frozen=True, slots=True)
class RecordUse:
    """When a model was used last, which is written lazily; a time in the far future gives way."""

    model: ModelId
    last_used: Millis
    now: Millis

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if the model is gone, or was used later."""
        record = records.model(self.model)
        if record is not None and (record.last_used < self.last_used or is_far(record.last_used, self.now)):
            records.put_model(self.model, record.with_(last_used=self.last_used, uncalled=False))
        return None


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """A pod's load failed."""

    model: ModelId
    pod: PodId
    wanted: Millis
    at: Millis
    message: str
    last_used: Millis

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if the model is gone."""
        record = records.model(self.model)
        if record is None:
            return None
        if record.copies.get(self.pod) == self.wanted:
            record = record.with_(copies=_without(record.copies, self.pod), ready=_without(record.ready, self.pod))
        records.put_model(
            self.model,
            record.with_(
                failed={**record.failed, self.pod: self.at},
                failures={**record.failures, self.pod: self.message},
                last_used=max(record.last_used, self.last_used),
            ),
        )
        return None


@dataclass(frozen=True, slots=True)
class ClearFailure:
    """A pod's failure expired, or was cleared by hand."""

    model: ModelId
    pod: PodId

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if there is none."""
        record = records.model(self.model)
        if record is not None and self.pod in record.failed:
            records.put_model(self.model, _without_failure(record, self.pod))
        return None


def _without_failure(record: ModelRecord, pod: PodId) -> ModelRecord:
    if pod not in record.failed and pod not in record.failures:
        return record
    return record.with_(failed=_without(record.failed, pod), failures=_without(record.failures, pod))


def _without(times: Mapping[PodId, object], pod: PodId) -> Mapping[PodId, object]:
    return {other: value for other, value in times.items() if other != pod}


def _with(times: Mapping[PodId, Millis], pod: PodId, time: Millis | None) -> Mapping[PodId, Millis]:
    others = {other: value for other, value in times.items() if other != pod}
    return others if time is None else {**others, pod: time}
