"""Which labels a pod needs to hold a model of some type, and which it had better have (`MM_TYPE_CONSTRAINTS`, reference 5.5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mesh.core.errors import Malformed, NoRuntime

DEFAULT_TYPE = "_default"
"""Stands for all types without an entry of their own."""

Labels = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")

KINDS = 1024
"""Answers that are kept of each question; a mesh has some tens of kinds of pods at a time."""

_PROHIBITED_WEIGHT = 4
"""A pod that is closed to one more type is the better place for the others, as if four types fewer preferred it (reference 5.5)."""


class Fitting(dict[Labels, bool]):
    """Kind of pods -> whether it may hold models of some type; found out when it is first asked for."""

    def __init__(self, needed: Labels) -> None:
        super().__init__()
        self._needed = frozenset(needed)

    def __missing__(self, kind: Labels) -> bool:
        if len(self) == KINDS:
            self.clear()
        self[kind] = fits = self._needed.issubset(kind)
        return fits


@dataclass(frozen=True, slots=True)
class Constraints:
    """Required and preferred labels by type, sorted; without any, every type may go anywhere.

    A pod must have all required labels of a type; it is preferred if it has any of the preferred ones, which never repeat required ones.
    """

    required: Mapping[str, Labels] = field(default_factory=dict)
    preferred: Mapping[str, Labels] = field(default_factory=dict)
    # Each placement asks the same of the same few kinds of pods: what was found is kept.
    _scores: dict[Labels, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _fitting: dict[str, Fitting] = field(default_factory=dict, init=False, repr=False, compare=False)
    _favoured: dict[tuple[str, frozenset[Labels]], frozenset[Labels]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Constraints:
        """Reads `{type: {"required": [...], "preferred": [...]}}`; other properties are ignored.

        Raises:
            Malformed: names what is wrong.
        """
        try:
            data = json.loads(text or "{}")
        except ValueError as error:
            raise Malformed(f"type constraints are not JSON: {error}") from None
        if not isinstance(data, dict):
            raise Malformed(f"type constraints must be an object of types, not {type(data).__name__}")
        required = {name: _labels(name, entry, "required") for name, entry in data.items()}
        preferred = {name: _labels(name, entry, "preferred") for name, entry in data.items()}
        return cls(
            {name: tuple(sorted(labels)) for name, labels in required.items()},
            {name: tuple(sorted(labels - required[name])) for name, labels in preferred.items()},
        )

    def needed(self, model_type: str) -> Labels:
        """The labels that a pod must have for this type."""
        return self.required.get(model_type, self.required.get(DEFAULT_TYPE, ()))

    def fits(self, model_type: str, labels: Iterable[str]) -> bool:
        """Whether a pod with these labels may hold models of this type."""
        return self.fitting(model_type)[tuple(labels)]

    def fitting(self, model_type: str) -> Fitting:
        """What `fits` says of a type, for each kind of pods."""
        return _kept(self._fitting, model_type, self._fits)

    def _fits(self, model_type: str) -> Fitting:
        return Fitting(self.needed(model_type))

    def refusal(self, model_type: str, *pods: Sequence[str]) -> NoRuntime | None:
        """The error for a type that none of some pods can hold; its text is pinned (reference D.10).

        Args:
            model_type: the model's type.
            pods: the labels of each pod. Without any pod, a type that needs labels is refused.
        """
        fitting = self.fitting(model_type)
        for labels in pods:
            if fitting[tuple(labels)]:
                return None
        if not (needed := self.needed(model_type)):
            return None
        listed = ", ".join(needed)
        return NoRuntime(f"There are no running instances that meet the label requirements of type {model_type}: [{listed}]")

    def favoured(self, model_type: str, kinds: Iterable[Labels]) -> frozenset[Labels]:
        """Which kinds of pods a type had rather go to; empty if it has no preference.

        Args:
            model_type: the model's type.
            kinds: the label sets of the pods that may hold it.

        A type that names no preference leaves room for those that cannot choose: it prefers the pods that are closed to most other
        types and that fewest types prefer (reference 5.5, inferred preferences).
        """
        return _kept(self._favoured, (model_type, frozenset(kinds)), self._work_out)

    def _work_out(self, asked: tuple[str, frozenset[Labels]]) -> frozenset[Labels]:
        """As `favoured`."""
        model_type, kinds = asked
        wanted = self.preferred.get(model_type, self.preferred.get(DEFAULT_TYPE, ()) if model_type not in self.required else ())
        if wanted:
            return frozenset(kind for kind in kinds if not set(wanted).isdisjoint(kind))
        scores = {kind: _kept(self._scores, kind, self._score) for kind in kinds}
        best = max(scores.values(), default=0)
        favoured = frozenset(kind for kind, score in scores.items() if score == best)
        return favoured if len(favoured) < len(scores) else frozenset()

    def _score(self, kind: Labels) -> int:
        """How little the types of the configuration lose if a pod of this kind is taken."""
        have, score = set(kind), 0
        for name, needed in self.required.items():
            if not have.issuperset(needed):
                score += _PROHIBITED_WEIGHT
            elif not have.isdisjoint(self.preferred.get(name, ())):
                score -= 1
        return score


def _kept(known: dict[K, V], asked: K, answer: Callable[[K], V]) -> V:
    """What is known, or is found out now."""
    if (found := known.get(asked)) is not None:
        return found
    if len(known) == KINDS:
        known.clear()
    known[asked] = found = answer(asked)
    return found


def _labels(name: str, entry: Any, prop: str) -> set[str]:
    labels = entry.get(prop, []) if isinstance(entry, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise Malformed(f'type constraints of {name!r} must look like {{"{prop}": ["label", ...]}}')
    return set(labels)
