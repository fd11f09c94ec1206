"""The applied documents: kept in the data folder, one file each, and read again at the next start.

They are the truth of a local mesh; what the router knows is derived from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.core.errors import Conflict, Failed, Malformed, MeshError, Unknown
from mesh.local.processes import Say
from mesh.local.state import file_name, write_atomically
from mesh.manifests.bounds import carried_over, scaled
from mesh.manifests.documents import KINDS, ClusterServingRuntime, InferenceService, Predictor
from mesh.manifests.parsing import Applied, parse_value
from mesh.manifests.predictor import registration


@dataclass
class Documents:
    """Documents by kind and name, in memory and on disk."""

    folder: Path
    namespace: str
    held: dict[tuple[str, str], Applied] = field(default_factory=dict)

    def read(self, say: Say) -> None:
        """Everything that was kept; a file that cannot be read is told, left as it is, and skipped."""
        for path in sorted(self.folder.glob("*/*.json")):
            try:
                applied = parse_value(json.loads(path.read_text(encoding="utf-8")), str(path))
                self.held[applied.document.kind, applied.document.name] = applied
            except (MeshError, ValueError, OSError) as error:
                say("documents", f"{path} is skipped: {error}")

    def with_what_was_scaled(self, batch: Sequence[Applied]) -> list[Applied]:
        """The same documents, with bounds on copies that `mesh scale` set in the kept ones and these say nothing of."""
        return [self._carried_over(applied) for applied in batch]

    def scaled(self, name: str, wanted: dict[str, str]) -> Applied:
        """The kept document of a service with other bounds on its copies.

        Args:
            name: of the service.
            wanted: annotations of `mesh.manifests.bounds` -> their values.

        Raises:
            Unknown: there is no such service.
            Malformed: the bounds are wrong together with those that it has.
        """
        kind = "Predictor" if ("Predictor", name) in self.held else "InferenceService"
        return parse_value(scaled(self.get(kind, name).raw, wanted), f"{kind} {name}")

    def check(self, batch: Sequence[Applied]) -> None:
        """Whether all of them can be applied here. Malformed or Conflict with every fault if not."""
        faults = []
        for applied in batch:
            document = applied.document
            space = document.metadata.namespace
            if space not in (None, self.namespace) and not isinstance(document, ClusterServingRuntime):
                faults.append(
                    f"{applied.origin}: {document.kind} {document.name} is for the namespace {space!r}; this mesh serves "
                    f"{self.namespace!r} (start it with `mesh up --namespace {space}`, or leave the namespace out)"
                )
            if isinstance(document, InferenceService | Predictor):
                try:
                    registration(document, applied.origin)
                except Malformed as error:
                    faults.append(error.message)
        if faults:
            raise Malformed("\n".join(faults))
        self._check_names(batch)

    def put(self, applied: Applied) -> str:
        """Keeps one; answers `created`, `configured` or `unchanged`. Failed if it cannot be written; the old one stands then."""
        document = applied.document
        key = document.kind, document.name
        before = self.held.get(key)
        if before and before.raw == applied.raw:
            return "unchanged"
        try:
            write_atomically(self._file(*key), json.dumps(applied.raw, indent=2) + "\n", mode=0o600)
        except OSError as error:
            raise Failed(f"{document.kind} {document.name} was not applied: {self.folder}: {error.strerror}") from error
        self.held[key] = applied
        return "configured" if before else "created"

    def remove(self, kind: str, name: str) -> Applied:
        """Forgets one. Unknown if it is not there; Failed if its file cannot be removed."""
        applied = self.get(kind, name)
        try:
            with suppress(FileNotFoundError):
                self._file(kind, name).unlink()
        except OSError as error:
            raise Failed(f"{kind} {name} was not deleted: {self.folder}: {error.strerror}") from error
        del self.held[kind, name]
        return applied

    def get(self, kind: str, name: str) -> Applied:
        """The document of that kind and name. Unknown if there is none; the message names those there are."""
        if kind not in KINDS:
            raise Unknown(f"the kind {kind!r} is not known; known are {', '.join(KINDS)}")
        if (kind, name) in self.held:
            return self.held[kind, name]
        others = [applied.document.name for applied in self.of(kind)]
        shown = f"there are {', '.join(others[:10])}{' and more' if len(others) > 10 else ''}" if others else "there is none"
        raise Unknown(f"there is no {kind} {name!r}; {shown}")

    def of(self, *kinds: str) -> Iterator[Applied]:
        """All of these kinds, by name."""
        return (self.held[key] for key in sorted(self.held, key=lambda key: (key[1], key[0])) if key[0] in kinds)

    def _carried_over(self, applied: Applied) -> Applied:
        before = self.held.get((applied.document.kind, applied.document.name))
        if before is None or not isinstance(applied.document, InferenceService | Predictor):
            return applied
        raw = carried_over(applied.raw, before.raw)
        return applied if raw is applied.raw else parse_value(raw, applied.origin)

    def _check_names(self, batch: Sequence[Applied]) -> None:
        """Services and predictors share the names that clients call."""
        for applied in batch:
            kind, name = applied.document.kind, applied.document.name
            other = {"InferenceService": "Predictor", "Predictor": "InferenceService"}.get(kind)
            if other and ((other, name) in self.held or any((b.document.kind, b.document.name) == (other, name) for b in batch)):
                raise Conflict(f"{applied.origin}: {kind} {name}: Predictor already exists with the same name from a different source")

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / kind.lower() / file_name(name)


def shown(applied: Applied, namespace: str, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document as `-o yaml` prints it: with its namespace, and the status of now instead of one that was applied."""
    value = {key: item for key, item in applied.raw.items() if key != "status"}
    metadata = dict(value["metadata"])
    if not isinstance(applied.document, ClusterServingRuntime):
        metadata.setdefault("namespace", namespace)
    return {**value, "metadata": metadata, **({"status": status} if status else {})}
