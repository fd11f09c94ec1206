"""Where one more copy of a model is loaded (reference 5): a draw among the places that are as good as the best.

Every pod decides by its own, slightly old figures of the others. Four things keep a burst of cold models from going to the one pod that
looks best to all: the orders that are under way count as if they were loaded already; a place that has fewer of them counts as good as
the best; the draw is among those that have the fewest; and each pod goes round from a place of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.core.ids import PodId
from mesh.core.placement.constraints import Constraints, Labels
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Millis, Units, bytes_of

LEAST_CHURN_AGE = Millis(30_000)
"""`Policy.churn_age` of the shortest load timeout (reference 0.2, minChurnAgeMs)."""

FREE_SHARE = 4
"""Among pods with room, one with at least this part (a fourth) of the best's free space is as good (reference 5.3)."""

FEW_MODELS = 10
"""A pod with fewer models than this is as good as one with none; others may have a fourth more than the best (reference 5.3)."""

_LOAD_FACTORS = ((-1_000, 11), (5_000, 15), (720_000, 30), (86_400_000, 40))
"""(model last used less than so many ms ago, tenths of the least busy pod's requests a minute that a pod may have) (reference 5.4)."""

_IDLE_RPM = 100
"""Fewer requests a minute count as this many (reference 5.4)."""

TURN = Millis(10_000)
"""ms after which all pods start their rounds one place further on."""


class Slack(NamedTuple):
    """How much younger than the best's a full cache may be: so many ms, or this part of the best's age; the larger."""

    span: int
    part: int

    def of(self, age: int) -> int:
        """In ms. The span counts up to half of the age: a mesh that turns over within a minute looks at age too."""
        return max(min(self.span, age // 2), age // self.part)


EQUAL = Slack(45_000, 10)
"""Among full pods alike (reference 5.3)."""

PREFERRED = Slack(120_000, 4)
"""For pods that the type prefers, beside a better one that it does not (reference 5.3)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A pod as a place for one more copy.

    Attributes:
        record: the freshest figures known of it; for the deciding pod itself made on the spot, its requests a minute included.
        pending: copies ordered for it, or shown by models' records, that its figures do not count yet: the local reservations.
        aside: calls to it fail at present; taken only if nothing else remains.
        lately: copies ordered of it in the last seconds, whatever came of them: in a burst each pod gets its turn.
    """

    pod: PodId
    record: InstanceRecord
    pending: int = 0
    aside: bool = False
    lately: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be placed.

    Attributes:
        model_type: what type constraints go by.
        last_used: of the model; in the future for a copy that load asks for.
        holders: pods that hold the model, failed or were tried: never chosen.
        zones: zone -> copies of the model there.
        size: estimate of the model's.
        me: the pod that decides.
        balanced: the clients spread their requests themselves, so the deciding pod takes what it can.
    """

    model_type: str
    last_used: Millis
    holders: frozenset[PodId]
    zones: Mapping[str, int]
    size: Units
    me: PodId
    balanced: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided.

    Attributes:
        pod: the chosen one; None if there is no place at all.
        shortlist: what was drawn from, in the order of desirability.
        rejected: every other place -> why, in words for users; empty unless asked for.
        rules: every other place -> the same without figures, alike for all places that one rule rejected.
    """

    pod: PodId | None
    shortlist: tuple[PodId, ...] = ()
    rejected: Mapping[PodId, str] = field(default_factory=dict)
    rules: Mapping[PodId, str] = field(default_factory=dict, compare=False)


class Rated:
    """A place with the orders under way counted in: what it is judged by.

    Attributes:
        free: units, none if the orders exceed it.
        full: another load would evict (reference 4.2, minSpaceUnits).
        lru: when its oldest model was last used. Orders beyond the free space count: what evicts a tenth makes the cache a tenth younger.
        rank: the order of desirability (reference 5.1); the smaller, the better.
    """

    __slots__ = ("age", "count", "free", "full", "labels", "lru", "orders", "pending", "place", "pod", "rank", "record")

    def __init__(self, place: Place, wish: Wish, now: Millis, churn_age: Millis) -> None:
        self.place, self.pod, self.record, self.pending = place, place.pod, place.record, place.pending
        self.orders = max(place.pending, place.lately)
        record, pending = place.record, place.pending
        self.labels: Labels = record.labels
        self.count = record.count + pending
        free = record.capacity - record.used - pending * wish.size
        self.free = max(0, free)
        self.full = free < max(wish.size, min(wish.size * record.load_threads, record.capacity // 20))
        age = max(0, now - record.lru_time)
        self.lru: int = record.lru_time
        if free < 0 and pending and record.capacity:
            self.lru += age * min(pending * wish.size, -free, record.capacity) // record.capacity
        self.age = max(0, now - self.lru)
        saturated = self.full and self.age < 2 * churn_age
        loads = record.loads_in_progress + pending
        self.rank = (
            saturated,
            0 if saturated else -record.version,
            self.full,
            self.lru if self.full else 0,
            self.count,
            -self.free,
            self.lru,
            loads - record.load_threads,
            loads,
            -record.capacity,
            record.rpm,
            self.pod,
        )


_Words = Callable[[Rated], str]
"""Words with figures on a place that is not kept."""


class _Sieve:
    """The places that are left, and why the others are not."""

    def __init__(self, candidates: list[Rated], trace: bool) -> None:
        self.left = candidates
        self.rejected: dict[PodId, str] = {}
        self.rules: dict[PodId, str] = {}
        self._trace = trace

    def keep(self, good: Callable[[Rated], bool], rule: str, words: _Words | None = None) -> None:
        """Leaves the good ones."""
        if self._trace:
            bad = [candidate for candidate in self.left if not good(candidate)]
            self.rules.update({candidate.pod: rule for candidate in bad})
            self.rejected.update({candidate.pod: words(candidate) if words else rule for candidate in bad})
        self.left = list(filter(good, self.left))

    def prefer(self, good: Callable[[Rated], bool], rule: str, words: _Words | None = None) -> None:
        """Leaves the good ones, if there are any."""
        if any(map(good, self.left)):
            self.keep(good, rule, words)

    def least(self, figure: Callable[[Rated], int], rule: str, words: _Words | None = None) -> None:
        """Leaves those with the smallest figure."""
        smallest = min(map(figure, self.left))
        self.keep(lambda candidate: figure(candidate) == smallest, rule, words)


def choose(
    places: Iterable[Place],
    wish: Wish,
    constraints: Constraints,
    outdated: Set[PodId],
    now: Millis,
    draw: Callable[[int], int],
    *,
    churn_age: Millis = LEAST_CHURN_AGE,
    trace: bool = False,
) -> Choice:
    """Chooses the pod for one more copy.

    Args:
        places: all pods known, the deciding one included; in any order.
        wish: what is to be placed.
        constraints: what the model's type needs and prefers.
        outdated: pods whose replica set is being replaced (`mesh.core.placement.rollout`); taken only if nothing else remains.
        now: the time.
        draw: how many of n places further on the round starts, 0 to n-1: `turn_at(now) % n`, or any number. Not asked if one place is left.
        churn_age: `Policy.churn_age`: a newer pod with a full cache that is younger than twice this is preferred no more.
        trace: whether to say why places were rejected.
    """
    sieve = _Sieve([Rated(place, wish, now, churn_age) for place in places], trace)
    ordinal = sum(candidate.pod < wish.me for candidate in sieve.left)
    _keep_possible(sieve, wish, constraints)
    _avoid_last_resorts(sieve, wish, outdated)
    if not sieve.left:
        return Choice(None, (), sieve.rejected, sieve.rules)
    _keep_as_good_as_best(sieve, wish, constraints)
    _keep_less_busy(sieve, now - wish.last_used)
    zones = wish.zones
    sieve.least(
        lambda c: zones.get(c.record.zone, 0),
        "its zone holds more copies of the model than others",
        lambda c: f"zone {c.record.zone!r} holds more copies of the model than others",
    )
    if wish.balanced and any(candidate.pod == wish.me for candidate in sieve.left):
        sieve.keep(lambda c: c.pod == wish.me, f"as good as {wish.me}, where the request is")
    equals = sieve.left
    sieve.least(
        lambda c: c.orders,
        "more loads went to it lately or are on their way",
        lambda c: f"{c.orders} loads went to it from here lately or are on their way, fewer to others as good",
    )
    sieve.least(lambda c: -c.record.version, "as good, but others run a newer version of the router")
    shortlist = tuple(candidate.pod for candidate in sorted(sieve.left, key=_rank))
    pod = shortlist[0] if len(shortlist) == 1 else _next_in_ring(equals, sieve.left, ordinal, draw)
    return Choice(pod, shortlist, sieve.rejected, sieve.rules)


def _next_in_ring(equals: list[Rated], tied: list[Rated], ordinal: int, draw: Callable[[int], int]) -> PodId:
    """The next tied place in the ring of those as good, tied or not, which is what makes the rounds of all pods alike.

    Args:
        equals, tied: places; the ring leaves out those with an older router than the tied ones.
        ordinal: how many pods come before the deciding one; each starts at another place.
        draw: how many places further on the round starts.
    """
    version, pods = tied[0].record.version, {candidate.pod for candidate in tied}
    ring = sorted(candidate.pod for candidate in equals if candidate.record.version == version)
    start = (ordinal + draw(len(ring))) % len(ring)
    return next(pod for pod in ring[start:] + ring[:start] if pod in pods)


def turn_at(now: Millis) -> int:
    """How many places further on the round of equals starts at a time, before it is taken by their number; the same for all pods.

    Each starts its round at another place, so that what they order at once goes to all; and what one orders over time does, too.
    """
    return now // TURN


def _rank(candidate: Rated) -> tuple[int | str, ...]:
    return candidate.rank


def _keep_possible(sieve: _Sieve, wish: Wish, constraints: Constraints) -> None:
    fits = {labels: constraints.fits(wish.model_type, labels) for labels in {candidate.labels for candidate in sieve.left}}
    needed = ", ".join(constraints.needed(wish.model_type))
    sieve.keep(lambda c: c.pod not in wish.holders, "it holds the model, failed to load it, or was tried already")
    sieve.keep(lambda c: not c.record.shutting_down, "it is shutting down")
    sieve.keep(
        lambda c: bool(c.record.endpoint) or c.pod == wish.me,
        "it is a router of another kind, without an endpoint for calls between pods",
    )
    sieve.keep(
        lambda c: fits[c.labels],
        f"it lacks labels that type {wish.model_type} needs",
        lambda c: f"type {wish.model_type} needs [{needed}]; it has [{', '.join(c.labels)}]",
    )


def _avoid_last_resorts(sieve: _Sieve, wish: Wish, outdated: Set[PodId]) -> None:
    sieve.prefer(lambda c: not c.place.aside, "calls to it fail at present")
    sieve.prefer(
        lambda c: c.record.capacity >= wish.size,
        "its whole cache is smaller than the model",
        lambda c: f"its whole cache ({mib(c.record.capacity)}) is smaller than the model ({mib(wish.size)})",
    )
    sieve.prefer(lambda c: c.pod not in outdated, "its replica set is being replaced")


def _keep_as_good_as_best(sieve: _Sieve, wish: Wish, constraints: Constraints) -> None:
    """Reference 5.3 as intended; but a place that does not qualify is passed over and does not hide those behind it."""
    best, slack = _keep_preferred(sieve, wish, constraints)
    if best.full:
        sieve.keep(
            lambda c: _old_enough(c, best, slack),
            "its cache is younger: what it would evict was used more recently",
            lambda c: f"its oldest model was used {c.age // 1000} s ago, that of {best.pod} {best.age // 1000} s ago",
        )
        return
    sieve.keep(lambda c: not c.full, f"it is full, {best.pod} is not")
    sieve.keep(
        lambda c: c.free * FREE_SHARE >= best.free,
        "it has far less free space",
        lambda c: f"it has {mib(c.free)} free, {best.pod} {mib(best.free)}",
    )
    sieve.keep(
        lambda c: c.count < FEW_MODELS or c.count * 4 <= best.count * 5 or c.pending < best.pending,
        "it holds far more models",
        lambda c: f"it holds {c.count} models, {best.pod} {best.count}",
    )


def _keep_preferred(sieve: _Sieve, wish: Wish, constraints: Constraints) -> tuple[Rated, Slack]:
    """Leaves the pods that the type prefers, unless others are far better; what the places left are measured by."""
    best = min(sieve.left, key=_rank)
    kinds = constraints.favoured(wish.model_type, {candidate.labels for candidate in sieve.left})
    preferred = [candidate for candidate in sieve.left if candidate.labels in kinds]
    if not preferred:
        return best, EQUAL
    slack = EQUAL
    if best.labels not in kinds and best.full:
        slack = PREFERRED
        if not any(_old_enough(candidate, best, slack) for candidate in preferred):
            return best, EQUAL
    elif best.labels not in kinds:
        first = min(preferred, key=_rank)
        if any(candidate.full and candidate.rank < first.rank for candidate in sieve.left if candidate.labels not in kinds):
            return best, EQUAL
        best = first
    sieve.keep(lambda c: c.labels in kinds, f"type {wish.model_type} prefers pods with other labels")
    return best, slack


def _old_enough(candidate: Rated, best: Rated, slack: Slack) -> bool:
    """Whether a cache may be had for a full best one; orders spread over those at least half as old."""
    if candidate.pending < best.pending and candidate.age * 2 >= best.age:
        return True
    return candidate.lru - best.lru <= slack.of(best.age)


def _keep_less_busy(sieve: _Sieve, unused: int) -> None:
    """Drops pods that are busy beside others (reference 5.4); a model used long ago will not add to that.

    Args:
        sieve: the places.
        unused: ms since the model's last use.
    """
    tenths = next((factor for limit, factor in _LOAD_FACTORS if unused < limit), None)
    if tenths is not None:
        least = max(_IDLE_RPM, min(candidate.record.rpm for candidate in sieve.left))
        sieve.keep(lambda c: c.record.rpm * 10 <= least * tenths, "it is busy", lambda c: f"it is busy: {c.record.rpm} requests a minute")


def mib(size: int) -> str:
    """Units for people."""
    return f"{bytes_of(Units(size)) / (1 << 20):.0f} MiB"
