"""The traffic policy of a service, as plain values: ordered rules, a default, and what each looks at in a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mesh.core.ids import ModelId
from mesh.core.units import Millis

KEPT = 3
"""Versions that a service keeps unless it says otherwise."""

WHOLE = 100
"""Weights of the versions that share calls add up to this."""


class Version(NamedTuple):
    """A version of a service: its number, which it has for good, the model that serves it, and since when there is one (0: not known)."""

    number: int
    model: ModelId
    at: Millis = Millis(0)


class Word(Enum):
    """Versions that are meant by what they are, not by their number: they stay right when a new one comes."""

    STABLE = "stable"
    """The one that calls go to as long as no policy says otherwise."""
    CANARY = "canary"
    """The newest that is not the stable one."""


Named = int | Word
"""A version, by number or by word."""


class Comparison(Enum):
    """What is asked of a text."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    """Of the whole text, in RE2's syntax, which takes linear time."""
    PRESENT = "present"
    """That there is one (`true`), or that there is none (`false`)."""


class Text(NamedTuple):
    """A condition on a text that a call may have under a name."""

    name: str
    how: Comparison
    value: str


class Input(NamedTuple):
    """A condition on one input tensor of a call; what is None may be anything.

    Attributes:
        shape: lengths of its dimensions; -1 is any length.
    """

    name: str | None = None
    datatype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What a call has to be like: all of it.

    Attributes:
        headers: by name, in small letters.
        parameters: of the request, each brought to text (`true`, `7`).
        inputs: for each of these there has to be a tensor.
        format: of the stable version's model, e.g. `sklearn`.
        runtime: that the stable version asks for by name.
        percent: of the calls that are like that otherwise.
    """

    headers: tuple[Text, ...] = ()
    parameters: tuple[Text, ...] = ()
    inputs: tuple[Input, ...] = ()
    format: str | None = None
    runtime: str | None = None
    percent: float | None = None

    @property
    def needs_body(self) -> bool:
        """Whether it looks beyond the headers."""
        return bool(self.parameters or self.inputs)


class Share(NamedTuple):
    """A version and its weight among those that share calls."""

    version: Named
    weight: int


@dataclass(frozen=True, slots=True)
class Destination:
    """Where calls go.

    Attributes:
        shares: weights add up to 100; never empty.
        sticky: header whose value decides among them, so that calls with the same value go the same way; empty is by chance.
    """

    shares: tuple[Share, ...]
    sticky: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: calls that are like one of the matches go there. Without any match it takes all."""

    name: str
    matches: tuple[Match, ...]
    to: Destination


@dataclass(frozen=True, slots=True)
class Policy:
    """The first rule that a call fits decides, else the default; without a default the stable version serves it."""

    rules: tuple[Rule, ...] = ()
    default: Destination | None = None

    def destinations(self) -> Iterator[tuple[str, Destination]]:
        """All of them, each with the name of the field where it stands."""
        for number, rule in enumerate(self.rules):
            yield f"rules[{number}].to", rule.to
        if self.default is not None:
            yield "default.to", self.default

    def versions(self) -> Iterator[tuple[str, Named]]:
        """Every version that calls may go to, each with the name of the field that says so; those without weight too."""
        for place, destination in self.destinations():
            for number, share in enumerate(destination.shares):
                yield f"{place}[{number}].version", share.version

    @property
    def needs_body(self) -> bool:
        """Whether some rule looks beyond the headers."""
        return any(match.needs_body for rule in self.rules for match in rule.matches)


NO_POLICY = Policy()
STABLE_ONLY = Destination((Share(Word.STABLE, WHOLE),))


def canary(percent: int) -> Destination:
    """The canary gets so many of a hundred calls, the stable version the others."""
    return Destination((Share(Word.STABLE, WHOLE - percent), Share(Word.CANARY, percent)))
