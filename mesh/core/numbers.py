"""Numbers that tell one copy of a model from those before it."""

from __future__ import annotations

from mesh.core.ids import ModelId

REMEMBERED = 4_096
"""Models whose latest number is known exactly; a model beyond them goes on above the greatest number forgotten."""


class Numbers:
    """Growing numbers by model, in bounded memory: a number is never given to the same model twice."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._latest: dict[ModelId, int] = {}
        self._floor = 0

    def __len__(self) -> int:
        return len(self._latest)

    def next(self, model: ModelId) -> int:
        """A number that the model had not before."""
        number = max(self._latest.pop(model, 0), self._floor) + 1
        self._latest[model] = number
        if len(self._latest) > self._remembered:
            self._floor = max(self._floor, self._latest.pop(next(iter(self._latest))))
        return number
