"""How calls of a service are shared among its versions, as far as headers and weights decide it: what the express lane decides itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mesh.core.ids import ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.traffic.choice import model_of
from mesh.core.traffic.policy import STABLE_ONLY, WHOLE, Comparison, Destination, Match, Text
from mesh.core.traffic.versions import format_of, runtime_of, versions_of

_HEADER = re.compile(r"[0-9a-z_.-]+")
_UNLIKE = frozenset({"connection", "content-length", "content-type", "host", "te", "x-envoy-peer-metadata", "lb-token"})
"""Headers that the doors' libraries take for themselves, or tell in words of their own."""
_UNLIKE_PREFIXES = ("grpc", "mm-lane-")


class Header(NamedTuple):
    """A condition on a header.

    Attributes:
        how: `exact`, `prefix` or `present`.
        value: of the last, `true` or `false`.
    """

    name: str
    how: str
    value: str


class Fitting(NamedTuple):
    """What a call has to be like: all of it.

    Attributes:
        percent: of the calls that have such headers; None is all.
    """

    headers: tuple[Header, ...]
    percent: float | None


class Shared(NamedTuple):
    """Models that share calls.

    Attributes:
        shares: with their weights, which add up to 100; the stable one last.
        sticky: header whose value decides among them; empty is by chance.
    """

    shares: tuple[tuple[ModelId, int], ...]
    sticky: str


class Ordered(NamedTuple):
    """A rule: calls that are like one of the matches go there."""

    matches: tuple[Fitting, ...]
    to: Shared


class Sharing(NamedTuple):
    """The first rule that a call fits decides; all others go to the rest."""

    rules: tuple[Ordered, ...]
    rest: Shared

    @property
    def models(self) -> frozenset[ModelId]:
        """Those that calls may go to."""
        return frozenset(model for to in (*(rule.to for rule in self.rules), self.rest) for model, weight in to.shares if weight)


class _Needs(Exception):
    """A call has to be looked at otherwise."""


def sharing_of(record: AliasRecord, info: ModelInfo | None) -> Sharing | None:
    """What decides about the calls of a service that shares them; None if it takes more than headers and chance.

    What a rule says of the stable version's model is the same for all calls, so it is answered here; what follows on a rule that takes all
    calls is left out.

    Args:
        info: of the stable version's model; None if that is not known.
    """
    try:
        return _sharing(record, info)
    except _Needs:
        return None


def _sharing(record: AliasRecord, info: ModelInfo | None) -> Sharing:
    policy, rules = record.traffic, list[Ordered]()
    for rule in policy.rules:
        matches = tuple(_fitting(match) for match in rule.matches if _may_fit(match, info))
        if not rule.matches or any(not match.headers and match.percent is None for match in matches):
            return Sharing(tuple(rules), _shared(rule.to, record))
        if matches:
            rules.append(Ordered(matches, _shared(rule.to, record)))
    return Sharing(tuple(rules), _shared(policy.default or STABLE_ONLY, record))


def _may_fit(match: Match, info: ModelInfo | None) -> bool:
    if match.format is None and match.runtime is None:
        return True
    if info is None:
        raise _Needs
    return match.format in (None, format_of(info)) and match.runtime in (None, runtime_of(info))


def _fitting(match: Match) -> Fitting:
    if match.needs_body:
        raise _Needs
    return Fitting(tuple(_headers(match.headers)), match.percent if match.percent is not None and match.percent < WHOLE else None)


def _headers(texts: Sequence[Text]) -> Iterator[Header]:
    for text in texts:
        if text.how is Comparison.REGEX:
            raise _Needs
        yield Header(_alike(text.name), text.how.value, text.value)


def _shared(to: Destination, record: AliasRecord) -> Shared:
    """As `mesh.core.traffic.choice` orders them; a version that is not kept is served by the stable one, in its own place."""
    there = versions_of(record)
    models = [(model_of(share.version, record.active, there), share.weight) for share in to.shares]
    ordered = sorted(models, key=lambda one: one[0] == record.active)
    return Shared(tuple((model or record.active, weight) for model, weight in ordered), _alike(to.sticky) if to.sticky else "")


def _alike(header: str) -> str:
    """A header that a call has in the same words wherever it comes in."""
    if not _HEADER.fullmatch(header) or header in _UNLIKE or header.startswith(_UNLIKE_PREFIXES) or header.endswith("-bin"):
        raise _Needs
    return header
