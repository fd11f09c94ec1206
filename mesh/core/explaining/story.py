"""What happened to a model here, in a bounded number of lines: the basis of `explain`."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from mesh.core.ids import ModelId
from mesh.core.policy import STORIES, STORY_LINES
from mesh.core.units import Millis


class Line(NamedTuple):
    """One change or failure."""

    at: Millis
    text: str


class Stories:
    """The latest lines of the models most recently written about."""

    def __init__(self, models: int = STORIES, lines: int = STORY_LINES) -> None:
        self._models, self._lines = models, lines
        self._stories: OrderedDict[ModelId, deque[Line]] = OrderedDict()

    def tell(self, model: ModelId, at: Millis, text: str) -> None:
        """Adds a line; the model written about longest ago is forgotten beyond the bound."""
        story = self._stories.get(model)
        if story is None:
            story = self._stories[model] = deque(maxlen=self._lines)
            if len(self._stories) > self._models:
                self._stories.popitem(last=False)
        else:
            self._stories.move_to_end(model)
        story.append(Line(at, text))

    def of(self, model: ModelId) -> Sequence[Line]:
        """The lines about a model, oldest first."""
        return tuple(self._stories.get(model, ()))
