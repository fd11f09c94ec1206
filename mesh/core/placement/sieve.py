"""What is left of candidates rule by rule, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from mesh.core.ids import PodId


class Candidate(Protocol):
    """Whatever is chosen among."""

    @property
    def pod(self) -> PodId:
        """What it is called by."""


T = TypeVar("T", bound=Candidate)
Words = Callable[[T], str]
"""Words with figures on a candidate that is not kept."""


class Sieve(Generic[T]):
    """Attributes:
    left: candidates, in their order.
    rejected: each of the others -> why, in words for users; empty unless asked for.
    rules: the same without figures.
    """

    def __init__(self, candidates: list[T], trace: bool) -> None:
        self.left = candidates
        self.rejected: dict[PodId, str] = {}
        self.rules: dict[PodId, str] = {}
        self._trace = trace

    def keep(self, good: Callable[[T], bool], rule: str, words: Words[T] | None = None) -> None:
        """Leaves the good ones."""
        self._leave(list(filter(good, self.left)), rule, words)

    def sort_out(self, broken: Callable[[T], int], rules: Callable[[], Iterable[tuple[str, Words[T] | None]]]) -> None:
        """Leaves those that break none of some rules, with one look at each.

        Args:
            broken: the number of the first rule that a candidate breaks, from 1; 0 if it breaks none.
            rules: answers each with words; not asked where nobody wants to know.
        """
        numbers = list(map(broken, self.left))
        if not any(numbers):
            return
        every, self.left = self.left, [one for one, number in zip(self.left, numbers, strict=True) if not number]
        if self._trace:
            for rule, (name, words) in enumerate(rules(), 1):
                self._reject([one for one, number in zip(every, numbers, strict=True) if number == rule], name, words)

    def prefer(self, good: Callable[[T], bool], rule: str, words: Words[T] | None = None) -> None:
        """Leaves the good ones, if there are any."""
        left = list(filter(good, self.left))
        if left:
            self._leave(left, rule, words)

    def least(self, figure: Callable[[T], int], rule: str, words: Words[T] | None = None) -> None:
        """Leaves those with the smallest figure."""
        figures = list(map(figure, self.left))
        smallest = min(figures)
        # Mostly all have the same.
        if smallest != max(figures):
            left = [candidate for candidate, own in zip(self.left, figures, strict=True) if own == smallest]
            self._leave(left, rule, words)

    def _leave(self, left: list[T], rule: str, words: Words[T] | None) -> None:
        if self._trace:
            kept = set(map(id, left))
            self._reject([candidate for candidate in self.left if id(candidate) not in kept], rule, words)
        self.left = left

    def _reject(self, bad: list[T], rule: str, words: Words[T] | None) -> None:
        self.rules.update({candidate.pod: rule for candidate in bad})
        self.rejected.update({candidate.pod: words(candidate) if words else rule for candidate in bad})
