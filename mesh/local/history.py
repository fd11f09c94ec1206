"""Former documents of services: kept beside the one in force, one file for a service, so that a version can be gone back to.

What a version's model is stands in its document alone; the registry knows no more than its id.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mesh.core.errors import MeshError
from mesh.core.ids import ModelId
from mesh.core.registry.reconciliation import Registration
from mesh.local.processes import Say
from mesh.local.state import file_name, write_atomically
from mesh.manifests.documents import InferenceService, Predictor
from mesh.manifests.parsing import Applied, parse_value
from mesh.manifests.predictor import registration

MOST = 10
"""Documents of one service."""

Key = tuple[str, str]
"""Kind and name."""


class Former(NamedTuple):
    """A document that a service had, or has: of several with the same model the latest, and when the model first came."""

    model: ModelId
    at: int
    applied: Applied


@dataclass(frozen=True)
class Past:
    """What is kept of one service.

    Attributes:
        documents: by model, the newest last; the one in force among them.
        stable: the model beside which a canary runs; None without one.
    """

    documents: tuple[Former, ...] = ()
    stable: ModelId | None = None

    def of(self, model: str | None) -> Former | None:
        """The document of a model."""
        return next((one for one in self.documents if one.model == model), None)


@dataclass
class History:
    """Pasts by kind and name of a service, in memory and on disk."""

    folder: Path
    say: Say
    now: Callable[[], int]
    held: dict[Key, Past] = field(default_factory=dict)

    def read(self) -> None:
        """Everything that was kept; a file that cannot be read is told, left as it is, and skipped."""
        for path in sorted(self.folder.glob("*/*.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                documents = tuple(_former(one, str(path)) for one in data["documents"])
                stable = data.get("stable")
                document = documents[-1].applied.document
                self.held[document.kind, document.name] = Past(documents, ModelId(stable) if stable else None)
            except (MeshError, ValueError, OSError, LookupError, TypeError, AttributeError) as error:
                self.say("documents", f"{path} is skipped, so these versions cannot be gone back to: {type(error).__name__}: {error}")

    def of(self, applied: Applied) -> Past:
        """What is kept of the service of a document."""
        return self.held.get(_key(applied), Past())

    def note(self, applied: Applied, before: Applied | None) -> None:
        """A document is in force from now on.

        Args:
            applied: this one.
            before: the one that was in force.
        """
        past = self.of(applied)
        if before is not None and past.of(wanted_by(before).model) is None:
            past = _with(past, before, self.now())
        after = replace(_with(past, applied, self.now()), stable=_stable(past, applied, before))
        after = replace(after, documents=_latest(after, wanted_by(applied).model))
        if after != self.held.get(_key(applied)):
            self.held[_key(applied)] = after
            self._write(_key(applied), after)

    def forget(self, applied: Applied) -> None:
        """The service was deleted."""
        self.held.pop(_key(applied), None)
        try:
            self._file(_key(applied)).unlink(missing_ok=True)
        except OSError as error:
            self.say("documents", f"{self._file(_key(applied))} cannot be removed: {error.strerror}")

    def registration(self, applied: Applied) -> Registration:
        """What a document asks to be registered, with the stable version beside which its canary runs. Malformed as of a document."""
        wanted = wanted_by(applied)
        former = self.of(applied).of(self.of(applied).stable) if wanted.share is not None else None
        if former is None or former.model == wanted.model:
            return wanted
        with suppress(MeshError):
            return replace(wanted, base=replace(wanted_by(former.applied), canary=None, bounds=wanted.bounds, keep=wanted.keep))
        return wanted

    def _write(self, key: Key, past: Past) -> None:
        documents = [{"model": one.model, "at": one.at, "document": one.applied.raw} for one in past.documents]
        text = json.dumps({"stable": past.stable, "documents": documents}, indent=2) + "\n"
        try:
            write_atomically(self._file(key), text, mode=0o600)
        except OSError as error:
            self.say("documents", f"{self._file(key)} cannot be written, so what was before is not kept: {error.strerror}")

    def _file(self, key: Key) -> Path:
        kind, name = key
        return self.folder / kind.lower() / file_name(name)


def _key(applied: Applied) -> Key:
    return applied.document.kind, applied.document.name


def wanted_by(applied: Applied) -> Registration:
    """What the document of a service asks to be registered. Malformed as of a document."""
    document = applied.document
    assert isinstance(document, InferenceService | Predictor), "only services have a history"
    return registration(document, applied.origin)


def _with(past: Past, applied: Applied, now: int) -> Past:
    """With a document among them; one of a model that was there takes its place."""
    model = wanted_by(applied).model
    if past.of(model) is None:
        return replace(past, documents=(*past.documents, Former(model, now, applied)))
    return replace(past, documents=tuple(one._replace(applied=applied) if one.model == model else one for one in past.documents))


def _stable(past: Past, applied: Applied, before: Applied | None) -> ModelId | None:
    """The model before the first document with a canary; none once all calls go to one."""
    if wanted_by(applied).share is None:
        return None
    if before is None or wanted_by(before).share is not None:
        return past.stable
    return wanted_by(before).model


def _latest(past: Past, in_force: ModelId) -> tuple[Former, ...]:
    surplus = len(past.documents) - MOST
    left = []
    for one in past.documents:
        if surplus > 0 and one.model not in (in_force, past.stable):
            surplus -= 1
        else:
            left.append(one)
    return tuple(left)


def _former(data: Any, origin: str) -> Former:
    applied = parse_value(data["document"], origin)
    if wanted_by(applied).model != data["model"]:
        raise ValueError(f"the document is not that of {data['model']}")
    return Former(ModelId(data["model"]), int(data["at"]), applied)
