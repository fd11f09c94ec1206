"""Rollouts of services: what versions there are, and which document brings what a user wants of them.

All goes one way: a document is applied, and the controller brings the router to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import Conflict, Failed, Malformed, PeerUnavailable, Unknown
from mesh.core.explaining.status import ModelState, TrafficStatus, VersionStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.reconciliation import Reason, Registration, State, describe
from mesh.core.traffic.policy import WHOLE
from mesh.local.controller import Service
from mesh.local.history import Past, wanted_by
from mesh.local.supervisor import Supervisor
from mesh.local.views import status_told
from mesh.manifests.bounds import unscaled
from mesh.manifests.documents import InferenceService
from mesh.manifests.parsing import Applied, parse_value

FIELD = "canaryTrafficPercent"
Raw = dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """A service as its rollout is decided by: the document in force, those before, and what a router tells; None if none does."""

    applied: Applied
    past: Past
    traffic: TrafficStatus | None

    @property
    def name(self) -> str:
        """Of the service."""
        return self.applied.document.name

    @property
    def wanted(self) -> Registration:
        """What the document in force asks for."""
        return wanted_by(self.applied)

    def canary(self, percent: Any, version: int | None) -> Raw:
        """The document that gives a version a share; without one, that of the document in force.

        Raises:
            Malformed: the percentage is none, or the kind has no canaries.
            Unknown: the version is not kept.
            Conflict: the version is the stable one.
        """
        self._canaries()
        if type(percent) is not int or not 0 <= percent <= WHOLE:
            raise Malformed(f"PERCENT has to be a whole number from 0 to {WHOLE}, not {percent!r}")
        model, raw = (self.wanted.model, self.applied.raw) if version is None else self._kept(version)
        stable = self._stable()
        if percent < WHOLE and stable is not None and stable.model == model:
            others = [one for one in self._numbers() if one != stable.number]
            kept = f"name another one (--version, of {_list(others)}), or " if others else ""
            raise Conflict(
                f"version {stable.number} of {self.name} is the stable one, which has what a canary leaves: {kept}apply a document with "
                f"another model and {FIELD}"
            )
        return _with_percent(raw, percent)

    def promote(self) -> Raw:
        """The document that gives the canary all calls. Conflict without one."""
        self._canaries()
        self._running("promote")
        return _with_percent(self.applied.raw, None)

    def abort(self) -> Raw:
        """The document of the stable version. Conflict without a canary, Failed if that document is not kept."""
        self._canaries()
        self._running("abort")
        stable = self._stable()
        serving = stable.model if stable is not None and self.past.of(stable.model) is not None else self.past.stable
        former = self.past.of(serving)
        if former is None:
            raise Failed(f"the document of the stable version of {self.name} is not kept; apply it")
        return self._again(former.model)

    def undo(self, to: int | None) -> Raw:
        """The document of a version, which gets all calls: of the one before the stable one unless it is named.

        Raises:
            Unknown: it is not kept, or there is none before.
            Conflict: it has all calls already.
        """
        if to is not None:
            _, raw = self._kept(to)
            stable = self._stable()
            if stable is not None and stable.number == to and stable.model == self.wanted.model and self.wanted.share is None:
                raise Conflict(f"version {to} of {self.name} has all calls already")
            return _with_percent(raw, None) if isinstance(self.applied.document, InferenceService) else raw
        return self._again(self._before())

    def _before(self) -> ModelId:
        """Of the version that calls went to before; of one that is still on its way, the one that it is to take over from."""
        stable, versions = self._stable(), self.traffic.versions if self.traffic else ()
        if stable is not None and any(one.next for one in versions) and self.past.of(stable.model):
            return stable.model
        if stable is not None:
            older = [one for one in versions if one.number < stable.number and self.past.of(one.model)]
            if older:
                return older[-1].model
        # A registry that was lost knows only what was registered anew: the documents know what was before.
        models = [one.model for one in self.past.documents]
        serving = stable.model if stable is not None else self.past.stable or self.wanted.model
        numbers = {one.model for one in versions}
        former = [model for model in models[: models.index(serving)] if model not in numbers] if serving in models else []
        if not former:
            at = f"version {stable.number}" if stable is not None else "the one that there is"
            raise Unknown(
                f"{self.name} keeps no version before {at}; it keeps {_list(self._numbers())}: `mesh rollout undo {self.name} --to N`"
            )
        return former[-1]

    def _kept(self, number: int) -> tuple[ModelId, Raw]:
        if self.traffic is None:
            raise Failed(f"the versions of {self.name} are not known now: it is not registered yet, or no router answers")
        version = next((one for one in self.traffic.versions if one.number == number), None)
        kept = self._numbers()
        if version is None or number not in kept:
            there = "no version" if version is None else "the model, but not the document of version"
            raise Unknown(f"{self.name} keeps {there} {number}; it keeps {_list(kept)}")
        return version.model, self._raw(version.model)

    def _numbers(self) -> list[int]:
        """Versions that can be gone back to."""
        versions = self.traffic.versions if self.traffic else ()
        return [one.number for one in versions if one.model == self.wanted.model or self.past.of(one.model)]

    def _raw(self, model: ModelId) -> Raw:
        former = self.past.of(model)
        return self.applied.raw if former is None or model == self.wanted.model else unscaled(former.applied.raw)

    def _again(self, model: ModelId) -> Raw:
        raw = self._raw(model)
        return _with_percent(raw, None) if isinstance(self.applied.document, InferenceService) else raw

    def _stable(self) -> VersionStatus | None:
        return next((one for one in self.traffic.versions if one.stable), None) if self.traffic else None

    def _canaries(self) -> None:
        if not isinstance(self.applied.document, InferenceService):
            raise Malformed(
                f"{self.applied.document.kind} {self.name} can have no canary: {FIELD} is a field of InferenceServices; write it as one "
                f"(status, history and undo are there for it too)"
            )

    def _running(self, action: str) -> None:
        if self.wanted.share is None:
            raise Conflict(f"{self.name} has no canary to {action}; `mesh rollout canary {self.name} PERCENT` makes one")


async def told(supervisor: Supervisor, name: str) -> dict[str, Any]:
    """Versions, policy and history of a service, and whether the router is where the document wants it.

    Raises:
        Unknown: there is no such service.
        PeerUnavailable: no router answers.
    """
    applied = _applied(supervisor, name)
    await supervisor.controller.refresh([AliasId(name)])
    rollout = Rollout(applied, supervisor.history.of(applied), await supervisor.router.traffic(AliasId(name)))
    known = supervisor.controller.services[AliasId(name)]
    reached, trouble = outcome(known, rollout.traffic)
    versions = rollout.traffic.versions if rollout.traffic else ()
    canary = known.wanted.model if known.wanted.share is not None else None
    return {
        "name": name,
        "kind": applied.document.kind,
        "model": known.wanted.model,
        "canaryPercent": known.wanted.share,
        "versions": [_version(one, canary) for one in versions],
        "policy": dict(rollout.traffic.policy) if rollout.traffic else {},
        "blocked": rollout.traffic.blocked if rollout.traffic else "",
        "history": _history(rollout),
        "reached": reached,
        "trouble": trouble,
    }


async def act(supervisor: Supervisor, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Applies the document that an order comes to; answers what it was, and which version is to have how many calls.

    Args:
        supervisor: of the mesh.
        name: of the service.
        order: `action` (canary, promote, abort, undo), with `percent` and `version`, or `to`.

    Raises:
        Unknown, Malformed, Conflict, Failed: as `Rollout` refuses.
    """
    applied, traffic = _applied(supervisor, name), None
    with suppress(PeerUnavailable):
        traffic = await supervisor.router.traffic(AliasId(name))
    rollout = Rollout(applied, supervisor.history.of(applied), traffic)
    match order.get("action"):
        case "canary":
            raw = rollout.canary(order.get("percent", -1), order.get("version"))
        case "promote":
            raw = rollout.promote()
        case "abort":
            raw = rollout.abort()
        case "undo":
            raw = rollout.undo(order.get("to"))
        case other:
            raise Malformed(f"there is no action {other!r}; there are canary, promote, abort, undo")
    result = supervisor.apply([parse_value(raw, f"{applied.document.kind} {name}")])[0]
    wanted = supervisor.controller.services[AliasId(name)].wanted
    version = traffic.of(wanted.model) if traffic else None
    return {**result, "model": wanted.model, "version": version.number if version else None, "percent": wanted.share}


def outcome(known: Service, traffic: TrafficStatus | None) -> tuple[bool, str]:
    """Whether the router is where the document wants it, and why it does not get there; empty while nothing is in the way."""
    if known.refusal:
        return False, known.refusal
    wanted = known.wanted
    version = traffic.of(wanted.model) if traffic else None
    if known.applied or traffic is None or version is None:
        return False, ""
    canary = describe(wanted, known.seen, traffic=traffic).canary
    if canary is not None:
        return canary.resting, canary.text if canary.state is State.FAILED else ""
    failure = describe(wanted, known.seen).failure
    if failure is not None and failure.reason is not Reason.RUNTIME_UNHEALTHY:
        return False, f"version {version.number} cannot load: {failure.message}"
    settled = version.stable and not any(one.next for one in traffic.versions)
    return settled and version.status.state in (ModelState.LOADED, ModelState.NOT_LOADED), ""


def _applied(supervisor: Supervisor, name: str) -> Applied:
    kind = "Predictor" if ("Predictor", name) in supervisor.documents.held else "InferenceService"
    return supervisor.documents.get(kind, name)


def _version(one: VersionStatus, canary: ModelId | None) -> dict[str, Any]:
    return {
        "number": one.number,
        "model": one.model,
        "percent": one.percent,
        "role": _role(one, canary),
        "state": one.status.state.name,
        **status_told(one.status),
        "copies": sum(copy.state is ModelState.LOADED for copy in one.status.copies),
        "at": one.since,
    }


def _role(one: VersionStatus, canary: ModelId | None) -> str:
    return "stable" if one.stable else "next" if one.next else "canary" if one.model == canary else ""


def _history(rollout: Rollout) -> list[dict[str, Any]]:
    """By version, those that the registry does not keep any more first."""
    found = []
    canary = rollout.wanted.model if rollout.wanted.share is not None else None
    for former in rollout.past.documents:
        wanted = wanted_by(former.applied)
        version = rollout.traffic.of(former.model) if rollout.traffic else None
        key = json.loads(wanted.key)
        found.append(
            {
                "version": version.number if version else None,
                "model": former.model,
                "format": key["model_type"]["name"],
                "runtime": wanted.type.removeprefix("rt:") if wanted.type.startswith("rt:") else "",
                "storageKey": key.get("storage_key") or "",
                "storageParameters": key.get("storage_params") or {},
                "path": wanted.path,
                "at": former.at,
                "role": _role(version, canary) if version else "",
                "inForce": former.model == rollout.wanted.model,
            }
        )
    return sorted(found, key=lambda one: one["version"] or 0)


def _with_percent(raw: Mapping[str, Any], percent: int | None) -> Raw:
    """A document of an InferenceService with another share for its canary; None is none."""
    predictor = {name: value for name, value in raw["spec"]["predictor"].items() if name != FIELD}
    share = {} if percent is None else {FIELD: percent}
    return {**raw, "spec": {**raw["spec"], "predictor": {**predictor, **share}}}


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
