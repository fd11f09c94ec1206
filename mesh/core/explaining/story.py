"""What happened to a model here, in a bounded number of lines: the basis of `explain`."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from mesh.core.ids import ModelId
from mesh.core.policy import ENDED_STORIES, STORIES, STORY_LINES
from mesh.core.units import Millis


class Line(NamedTuple):
    """One change or failure."""

    at: Millis
    text: str


_Shelf = OrderedDict[ModelId, deque[Line]]


class Stories:
    """The latest lines of the models most recently written about. Those of models that were deleted make no others forgotten."""

    def __init__(self, models: int = STORIES, lines: int = STORY_LINES, ended: int = ENDED_STORIES) -> None:
        self._lines = lines
        self._most = {True: models, False: ended}
        self._shelves: dict[bool, _Shelf] = {True: OrderedDict(), False: OrderedDict()}

    def tell(self, model: ModelId, at: Millis, text: str) -> None:
        """Adds a line; the model written about longest ago is forgotten beyond the bound."""
        there = model not in self._shelves[False]
        shelf = self._shelves[there]
        self._put(model, there, shelf.pop(model) if model in shelf else deque(maxlen=self._lines))
        shelf[model].append(Line(at, text))

    def known(self, model: ModelId, there: bool) -> None:
        """A model is registered, or was deleted."""
        story = self._shelves[not there].pop(model, None)
        if story is not None:
            self._put(model, there, story)

    def of(self, model: ModelId) -> Sequence[Line]:
        """The lines about a model, oldest first."""
        return tuple(next((shelf[model] for shelf in self._shelves.values() if model in shelf), ()))

    def _put(self, model: ModelId, there: bool, story: deque[Line]) -> None:
        shelf = self._shelves[there]
        shelf[model] = story
        if len(shelf) > self._most[there]:
            shelf.popitem(last=False)
