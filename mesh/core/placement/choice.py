"""Where one more copy of a model is loaded (reference 5): a draw among the places that are as good as the best.

Every pod decides by its own, slightly old figures of the others. Four things keep a burst of cold models from going to the one pod that
looks best to all: the orders that are under way count as if they were loaded already; a place that has fewer of them counts as good as
the best; the draw is among those that have the fewest; and each pod goes round from a place of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from mesh.core.ids import PodId
from mesh.core.placement.constraints import Constraints, Labels
from mesh.core.placement.sieve import Sieve, Words
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


class Place(NamedTuple):
    """A pod as a place for one more copy. Some ten are made for each choice, and a tuple is made in a fifth of a frozen dataclass's time.

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


class Wish(NamedTuple):
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
        newness: of its router; the smaller, the newer.
        rank: the order of desirability (reference 5.1); the smaller, the better.
    """

    __slots__ = ("age", "count", "free", "full", "labels", "lru", "newness", "orders", "pending", "place", "pod", "rank", "record")

    def __init__(self, place: Place, wish: Wish, now: Millis, churn_age: Millis) -> None:
        # Comparisons stand where `max` and `min` would do: calls of these were a third of what it takes to rate a place.
        pod, record, pending, lately = place.pod, place.record, place.pending, place.lately
        self.place, self.pod, self.record, self.pending = place, pod, record, pending
        self.orders = pending if pending > lately else lately
        self.labels: Labels = record.labels
        self.newness = -record.version
        self.count = record.count + pending
        size, capacity = wish.size, record.capacity
        free = capacity - record.used - pending * size
        self.free = free if free > 0 else 0
        self.full = free < size or free < min(size * record.load_threads, capacity // 20)
        self.lru: int = record.lru_time
        if free < 0 and pending and capacity:
            self.lru += max(0, now - self.lru) * min(pending * size, -free, capacity) // capacity
        self.age = now - self.lru if now > self.lru else 0
        saturated = self.full and self.age < 2 * churn_age
        loads = record.loads_in_progress + pending
        self.rank = (
            saturated,
            0 if saturated else self.newness,
            self.full,
            self.lru if self.full else 0,
            self.count,
            -self.free,
            self.lru,
            loads - record.load_threads,
            loads,
            -capacity,
            record.rpm,
            pod,
        )


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
    every = [Rated(place, wish, now, churn_age) for place in places]
    sieve = Sieve(every, trace)
    _keep_possible(sieve, wish, constraints)
    _avoid_last_resorts(sieve, wish, outdated)
    if not sieve.left:
        return Choice(None, (), sieve.rejected, sieve.rules)
    _keep_as_good_as_best(sieve, wish, constraints)
    _keep_less_busy(sieve, now - wish.last_used)
    _keep_where_it_helps(sieve, wish)
    equals = sieve.left
    sieve.least(
        _orders,
        "more loads went to it lately or are on their way",
        lambda c: f"{c.orders} loads went to it from here lately or are on their way, fewer to others as good",
    )
    sieve.least(_newness, "as good, but others run a newer version of the router")
    shortlist = tuple([candidate.pod for candidate in sorted(sieve.left, key=_rank)])
    if len(shortlist) == 1:
        return Choice(shortlist[0], shortlist, sieve.rejected, sieve.rules)
    ordinal = [candidate.pod < wish.me for candidate in every].count(True)
    pod = _next_in_ring(equals, sieve.left, ordinal, draw)
    return Choice(pod, shortlist, sieve.rejected, sieve.rules)


def _next_in_ring(equals: list[Rated], tied: list[Rated], ordinal: int, draw: Callable[[int], int]) -> PodId:
    """The next tied place in the ring of those as good, tied or not, which is what makes the rounds of all pods alike.

    Args:
        equals, tied: places; the ring leaves out those with an older router than the tied ones.
        ordinal: how many pods come before the deciding one; each starts at another place.
        draw: how many places further on the round starts.
    """
    newness, pods = tied[0].newness, {candidate.pod for candidate in tied}
    ring = sorted([candidate.pod for candidate in equals if candidate.newness == newness])
    start = (ordinal + draw(len(ring))) % len(ring)
    return next(pod for pod in (*ring[start:], *ring[:start]) if pod in pods)


def turn_at(now: Millis) -> int:
    """How many places further on the round of equals starts at a time, before it is taken by their number; the same for all pods.

    Each starts its round at another place, so that what they order at once goes to all; and what one orders over time does, too.
    """
    return now // TURN


_rank: Callable[[Rated], tuple[int | str, ...]] = attrgetter("rank")
_orders: Callable[[Rated], int] = attrgetter("orders")
_newness: Callable[[Rated], int] = attrgetter("newness")
_labels: Callable[[Rated], Labels] = attrgetter("labels")


def _keep_possible(sieve: Sieve[Rated], wish: Wish, constraints: Constraints) -> None:
    me, holders = wish.me, wish.holders
    fitting = constraints.fitting(wish.model_type)

    def broken(one: Rated) -> int:
        if one.pod in holders:
            return 1
        if one.record.shutting_down:
            return 2
        if not one.record.endpoint and one.pod != me:
            return 3
        return 0 if fitting[one.labels] else 4

    def rules() -> Iterator[tuple[str, Words[Rated] | None]]:
        needed = ", ".join(constraints.needed(wish.model_type))
        yield "it holds the model, failed to load it, or was tried already", None
        yield "it is shutting down", None
        yield "it is a router of another kind, without an endpoint for calls between pods", None
        yield (
            f"it lacks labels that type {wish.model_type} needs",
            lambda c: f"type {wish.model_type} needs [{needed}]; it has [{', '.join(c.labels)}]",
        )

    sieve.sort_out(broken, rules)


def _avoid_last_resorts(sieve: Sieve[Rated], wish: Wish, outdated: Set[PodId]) -> None:
    sieve.prefer(lambda c: not c.place.aside, "calls to it fail at present")
    sieve.prefer(
        lambda c: c.record.capacity >= wish.size,
        "its whole cache is smaller than the model",
        lambda c: f"its whole cache ({mib(c.record.capacity)}) is smaller than the model ({mib(wish.size)})",
    )
    if outdated:
        sieve.prefer(lambda c: c.pod not in outdated, "its replica set is being replaced")


def _keep_as_good_as_best(sieve: Sieve[Rated], wish: Wish, constraints: Constraints) -> None:
    """Reference 5.3 as intended; but a place that does not qualify is passed over and does not hide those behind it."""
    best, slack = _keep_preferred(sieve, wish, constraints)
    if best.full:
        sieve.keep(
            lambda c: _old_enough(c, best, slack),
            "its cache is younger: what it would evict was used more recently",
            lambda c: f"its oldest model was used {c.age // 1000} s ago, that of {best.pod} {best.age // 1000} s ago",
        )
        return
    free, count, pending = best.free, best.count, best.pending

    def broken(one: Rated) -> int:
        if one.full:
            return 1
        if one.free * FREE_SHARE < free:
            return 2
        return 0 if one.count < FEW_MODELS or one.count * 4 <= count * 5 or one.pending < pending else 3

    def rules() -> Iterator[tuple[str, Words[Rated] | None]]:
        yield f"it is full, {best.pod} is not", None
        yield "it has far less free space", lambda c: f"it has {mib(c.free)} free, {best.pod} {mib(free)}"
        yield "it holds far more models", lambda c: f"it holds {c.count} models, {best.pod} {count}"

    sieve.sort_out(broken, rules)


def _keep_preferred(sieve: Sieve[Rated], wish: Wish, constraints: Constraints) -> tuple[Rated, Slack]:
    """Leaves the pods that the type prefers, unless others are far better; what the places left are measured by."""
    best = min(sieve.left, key=_rank)
    kinds = constraints.favoured(wish.model_type, set(map(_labels, sieve.left)))
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


def _keep_less_busy(sieve: Sieve[Rated], unused: int) -> None:
    """Drops pods that are busy beside others (reference 5.4); a model used long ago will not add to that.

    Args:
        sieve: the places.
        unused: ms since the model's last use.
    """
    tenths = next((factor for span, factor in _LOAD_FACTORS if unused < span), None)
    if tenths is not None:
        limit = max(_IDLE_RPM, min([candidate.record.rpm for candidate in sieve.left])) * tenths
        sieve.keep(lambda c: c.record.rpm * 10 <= limit, "it is busy", lambda c: f"it is busy: {c.record.rpm} requests a minute")


def _keep_where_it_helps(sieve: Sieve[Rated], wish: Wish) -> None:
    zones, me = wish.zones, wish.me
    if zones:
        sieve.least(
            lambda c: zones.get(c.record.zone, 0),
            "its zone holds more copies of the model than others",
            lambda c: f"zone {c.record.zone!r} holds more copies of the model than others",
        )
    if wish.balanced and any(candidate.pod == me for candidate in sieve.left):
        sieve.keep(lambda c: c.pod == me, f"as good as {me}, where the request is")


def mib(size: int) -> str:
    """Units for people."""
    return f"{bytes_of(Units(size)) / (1 << 20):.0f} MiB"
