"""The pods of a mesh on this machine, for what is asked of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mesh.core.errors import MeshError
from mesh.local import views
from mesh.local.pods import ask_each
from mesh.local.supervisor import Supervisor

Json = dict[str, Any]


class LocalPods:
    """Of a mesh on this machine; as of `mesh.local.explanations.Pods`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def each(self, path: str, params: dict[str, str]) -> Json:
        """By pod; those that are not ready are left out."""
        return await ask_each(self._supervisor.pods, path, params)

    async def model(self, name: str) -> Json:
        """As `mesh describe model` shows it."""
        found: Json = await views.model(self._supervisor, name)
        return found

    async def figures(self, pod: str) -> Json | None:
        """As `mesh get pods` shows it."""
        return next((row for row in await views.pod_rows(self._supervisor) if row["name"] == pod), None)

    def silent(self) -> Sequence[str]:
        """Pods that do not take calls."""
        return [pod.name for pod in self._supervisor.pods if not pod.ready]

    def services(self) -> Sequence[str]:
        """Of all applied documents."""
        return [applied.document.name for applied in self._supervisor.services()]

    def service(self, name: str) -> Json | None:
        """What the controller knows of it."""
        with suppress(MeshError, StopIteration):
            found = views.service(self._supervisor, next(one for one in self._supervisor.services() if one.document.name == name))
            return {
                part: found[part] for part in ("name", "ready", "state", "targetState", "transition", "message", "model", "type", "path")
            }
        return None
