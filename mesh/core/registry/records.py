"""What the registry holds, field for field as ModelMesh writes it (reference 7.3); unknown fields are kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mesh.core.errors import Malformed
from mesh.core.ids import ModelId, PodId
from mesh.core.traffic.policy import NO_POLICY, WHOLE, Policy, Version, canary
from mesh.core.traffic.reading import Reader, policy_to_json
from mesh.core.units import Millis

Json = Mapping[str, Any]


class ModelInfo(NamedTuple):
    """What the runtime is told at every load; immutable per model id."""

    type: str
    path: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model.

    Attributes:
        copies: pod -> when its copy was wanted, whether queued, loading or loaded.
        ready: pod -> when its load ended. Our addition; ModelMesh skips it.
        failed: pod -> when its load failed.
        failures: pod -> the failure's text.
        refs: aliases that point here.
        auto_delete: deleted with its last reference.
        last_used: written lazily.
        last_unload: set when a copy goes and more than two remain.
        uncalled: no call ever used it; `last_used` is then a guess that gives it a place among others. Our addition.
    """

    info: ModelInfo
    copies: Mapping[PodId, Millis] = field(default_factory=dict)
    ready: Mapping[PodId, Millis] = field(default_factory=dict)
    failed: Mapping[PodId, Millis] = field(default_factory=dict)
    failures: Mapping[PodId, str] = field(default_factory=dict)
    refs: int = 0
    auto_delete: bool = False
    last_used: Millis = Millis(0)
    last_unload: Millis = Millis(0)
    unknown: Json = field(default_factory=dict)
    uncalled: bool = False

    def with_(self, **changes: Any) -> ModelRecord:
        """A changed copy of the record."""
        return replace(self, **changes)


class Bounds(NamedTuple):
    """How many copies an alias's model is to have, whatever the load.

    Attributes:
        least: copies that the mesh keeps loaded as long as so many pods can take one; neither eviction nor scaling goes below it.
        most: copies that scaling does not go beyond; 0 is as many as the load asks for.
        pinned: a copy that is loaded is never evicted and the last one never scaled away.
        preload: loaded when it is registered and when a mesh starts, without waiting for a call.
    """

    least: int = 0
    most: int = 0
    pinned: bool = False
    preload: bool = False


NO_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """One alias ("virtual model"). In transition while `active` and `target` differ.

    Attributes:
        active: calls go there.
        target: they are to go there as soon as it is loaded.
        owner: who may change it; empty is anybody.
        failed: the target could not be loaded.
        cause: why not. Our addition; ModelMesh skips it.
        bounds: on the copies of its model (`minCopies`, `maxCopies`, `pinned`, `preload`). Our addition.
        versions: the models that it had and keeps, that which was wanted last at the end; empty as long as it only ever had one. Ours.
        canary: so many of a hundred calls go to the version wanted last that is not the active one. Our addition.
        policy: which version calls go to otherwise (`traffic`). Our addition.
    """

    active: ModelId
    target: ModelId
    owner: str = ""
    failed: bool = False
    unknown: Json = field(default_factory=dict)
    cause: str = ""
    bounds: Bounds = NO_BOUNDS
    versions: tuple[Version, ...] = ()
    canary: int = 0
    policy: Policy = NO_POLICY

    @property
    def in_transition(self) -> bool:
        """Whether the target still has to be loaded before calls go to it."""
        return self.active != self.target

    @property
    def models(self) -> frozenset[ModelId]:
        """All models that it holds a reference on."""
        return frozenset((self.active, self.target, *(version.model for version in self.versions)))

    @property
    def traffic(self) -> Policy:
        """Which version calls go to, all told."""
        return replace(self.policy, default=canary(self.canary)) if self.canary else self.policy

    def with_(self, **changes: Any) -> AliasRecord:
        """A changed copy of the record."""
        return replace(self, **changes)


_MODEL_FIELDS = frozenset(
    {"type", "encKey", "mPath", "instanceIds", "ready", "failedIn", "fails", "refs", "autoDel", "lu", "lul", "uncalled"}
)
_ALIAS_FIELDS = frozenset(
    {"o", "amid", "tmid", "failed", "cause", "minCopies", "maxCopies", "pinned", "preload", "versions", "canary", "traffic"}
)
_POLICIES = Reader(lambda _: None)
"""Of records: patterns were judged before they were written."""
_ABSENT_TYPE = "NLCLASSIFIER"
"""What a record without a type means to ModelMesh."""


def model_to_json(record: ModelRecord) -> dict[str, Any]:
    """The record as JSON; empty and zero fields are left out."""
    data = {
        **record.unknown,
        "type": record.info.type,
        "encKey": record.info.key,
        "mPath": record.info.path,
        "instanceIds": dict(record.copies),
        "ready": dict(record.ready),
        "failedIn": dict(record.failed),
        "fails": {pod: {"msg": text} for pod, text in record.failures.items()},
        "refs": record.refs,
        "autoDel": record.auto_delete,
        "lu": record.last_used,
        "lul": record.last_unload,
        "uncalled": record.uncalled,
    }
    return {name: value for name, value in data.items() if value or name in record.unknown}


def model_from_json(data: Any) -> ModelRecord:
    """Reads a record.

    Raises:
        Malformed: a field has another type than ModelMesh writes.
    """
    try:
        return ModelRecord(
            ModelInfo(sys.intern(str(data.get("type", _ABSENT_TYPE))), str(data.get("mPath", "")), str(data.get("encKey", ""))),
            _times(data.get("instanceIds", {})),
            _times(data.get("ready", {})),
            _times(data.get("failedIn", {})),
            {PodId(sys.intern(pod)): str(value.get("msg", "")) for pod, value in data.get("fails", {}).items()},
            int(data.get("refs", 0)),
            bool(data.get("autoDel", False)),
            Millis(int(data.get("lu", 0))),
            Millis(int(data.get("lul", 0))),
            {name: value for name, value in data.items() if name not in _MODEL_FIELDS},
            bool(data.get("uncalled", False)),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise Malformed(f"model record is not what ModelMesh writes: {error}") from None


def alias_to_json(record: AliasRecord) -> dict[str, Any]:
    """The record as JSON; empty fields are left out."""
    data = {
        **record.unknown,
        "o": record.owner,
        "amid": record.active,
        "tmid": record.target,
        "failed": record.failed,
        "cause": record.cause,
        "minCopies": record.bounds.least,
        "maxCopies": record.bounds.most,
        "pinned": record.bounds.pinned,
        "preload": record.bounds.preload,
        "versions": [{"n": one.number, "mid": one.model, "at": one.at} for one in record.versions],
        "canary": record.canary,
        "traffic": policy_to_json(record.policy) or record.unknown.get("traffic"),
    }
    return {name: value for name, value in data.items() if value or name in record.unknown}


def alias_from_json(data: Any) -> AliasRecord:
    """Reads a record.

    Raises:
        Malformed: a field is missing or has another type than ModelMesh writes.
    """
    try:
        unknown = {name: value for name, value in data.items() if name not in _ALIAS_FIELDS}
        policy = _policy(data, unknown)
        active, target = ModelId(str(data["amid"])), ModelId(str(data["tmid"]))
        return AliasRecord(
            active,
            target,
            str(data.get("o", "")),
            bool(data.get("failed", False)),
            unknown,
            cause=str(data.get("cause", "")),
            bounds=_bounds(data),
            versions=tuple(map(_version, data.get("versions", ()))),
            canary=min(WHOLE, max(0, int(data.get("canary", 0)))),
            policy=policy,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"alias record is not what ModelMesh writes: {error}") from None


def _version(data: Any) -> Version:
    return Version(int(data["n"]), ModelId(str(data["mid"])), Millis(int(data.get("at", 0))))


def _policy(data: Any, unknown: dict[str, Any]) -> Policy:
    """One that a newer mesh wrote is kept as it is: its service goes on with the stable version."""
    if "traffic" not in data:
        return NO_POLICY
    try:
        return _POLICIES.policy(data["traffic"])
    except Malformed:
        unknown["traffic"] = data["traffic"]
        return NO_POLICY


def _bounds(data: Any) -> Bounds:
    if not data.keys() & {"minCopies", "maxCopies", "pinned", "preload"}:
        return NO_BOUNDS
    counts = int(data.get("minCopies", 0)), int(data.get("maxCopies", 0))
    return Bounds(*counts, bool(data.get("pinned", False)), bool(data.get("preload", False)))


def _times(data: Any) -> dict[PodId, Millis]:
    return {PodId(sys.intern(pod)): Millis(int(at)) for pod, at in data.items()}
