"""Why a pod was chosen for a copy, or none: what each place had to offer, what it lacked, and what would have brought the copy there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from mesh.core.explaining.decisions import Candidate
from mesh.core.ids import PodId
from mesh.core.placement.choice import TURN, Choice, Place, Rated, mib
from mesh.core.placement.inputs import PlacementInputs
from mesh.core.registry.instances import NEVER
from mesh.core.units import Millis, Units, units

SHOWN = 16
"""Places that are told of each by itself; the others are counted by why they lost."""

EFFORT = 20_000
"""Places judged, at most, while it is tried what would have changed a choice: some 50 ms."""

TRIED_FOR = 3
"""Losing places for which that is tried: those that came nearest."""

CHANGES = 2
"""Changes that are told of each, any one of which would have done."""

_MIB = units(1 << 20)


@dataclass(frozen=True, slots=True)
class PlacementEvidence:
    """Of a choice that can be made again."""

    given: PlacementInputs

    @property
    def size(self) -> int:
        """Places that are kept."""
        return len(self.given.places)

    def light(self) -> LightEvidence:
        """What is kept when there is no room for all."""
        choice = self.given.choose()
        kept = {*choice.shortlist[:SHOWN], choice.pod}
        few = self.given._replace(places=tuple(place for place in self.given.places if place.pod in kept))
        short = replace(choice, shortlist=choice.shortlist[:SHOWN])
        return LightEvidence(choice.pod or "", tuple(_listed(few, short)), len(self.given.places) - len(few.places))

    def again(self) -> str:
        """The pod that is chosen; empty for none."""
        return self.given.choose().pod or ""

    def candidates(self) -> Sequence[Candidate]:
        """The chosen pod, then the others by how near they came; of more than `SHOWN`, the rest in one line for each rule."""
        choice = self.given.choose(trace=True)
        every = list(_listed(self.given, choice))
        rest = Counter(choice.rules.get(PodId(one.name), "as good as the chosen one") for one in every[SHOWN:])
        return [*every[:SHOWN], *(Candidate(f"{count} more", False, {}, rule) for rule, count in rest.most_common())]

    def would_change(self) -> Sequence[str]:
        """One change for each of the places that came nearest, found by making the choice again with it; and who comes next."""
        return list(_Trials(self.given).words())

    def inputs(self) -> dict[str, object]:
        """As `PlacementInputs.to_json`."""
        return self.given.to_json()


@dataclass(frozen=True, slots=True)
class LightEvidence:
    """Of an older choice among many pods: the best places, without what would make it again."""

    outcome: str
    best: tuple[Candidate, ...]
    others: int

    def again(self) -> str:
        """What came out then; the inputs are no longer kept."""
        return self.outcome

    def candidates(self) -> Sequence[Candidate]:
        """The best places, and how many there were."""
        return [*self.best, Candidate(f"{self.others} more", False, {}, "why each lost is no longer kept: newer decisions took the room")]

    def would_change(self) -> Sequence[str]:
        """Nothing is known any more."""
        return ()

    def inputs(self) -> dict[str, object]:
        """Only that they are gone."""
        return {"decided_by": "", "forgotten": True}


def _listed(given: PlacementInputs, choice: Choice) -> Iterator[Candidate]:
    """Chosen, as good, rejected by the last rules first: these came nearest."""
    rated = {place.pod: given.rated(place) for place in given.places}
    near = [pod for pod in (choice.pod, *choice.shortlist) if pod is not None]
    far = list(choice.rejected)
    # Rules reject in the order of their weight, so what was rejected last came nearest; of one rule's, the better place.
    steps = {rule: step for step, rule in enumerate(dict.fromkeys(choice.rules.values()))}
    far.sort(key=lambda pod: (-steps[choice.rules[pod]], rated[pod].rank))
    for pod in dict.fromkeys([*near, *far]):
        why = "" if pod == choice.pod else choice.rejected.get(pod) or f"as good as {choice.pod}, whose turn it was"
        yield Candidate(pod, pod == choice.pod, _score(rated[pod]), why)


def _score(rated: Rated) -> dict[str, object]:
    """Figures of a place, orders under way counted in, in about the order of their weight."""
    record = rated.record
    return {
        "full": rated.full,
        "free": mib(rated.free),
        "cache_age_s": None if record.lru_time >= NEVER else rated.age // 1000,
        "models": rated.count,
        "orders": rated.orders,
        "loading": record.loads_in_progress,
        "rpm": record.rpm,
        "version": record.version,
        "zone": record.zone,
        "labels": list(record.labels),
    }


class _Knob(NamedTuple):
    """One thing about a place or a wish that is made another.

    Attributes:
        words: with the amount, what would have to be; begins after "if it".
        turned: the inputs with so much of it.
        most: how far it goes; 1 for what is or is not.
    """

    words: Callable[[int], str]
    turned: Callable[[int], PlacementInputs]
    most: int = 1


class _Trials:
    """Makes one choice again and again, each time with one thing changed."""

    def __init__(self, given: PlacementInputs) -> None:
        self._given = given
        self._left = EFFORT
        self._choice = self._again(given, trace=True)

    def words(self) -> Iterator[str]:
        """Sentences, the nearest place first."""
        chosen = self._choice.pod
        losers = [one for one in _listed(self._given, self._choice) if not one.chosen]
        for one in losers[:TRIED_FOR]:
            yield from self._change_for(PodId(one.name))
        if chosen is not None:
            without = self._given._replace(places=tuple(place for place in self._given.places if place.pod != chosen))
            following = self._again(without).pod
            yield f"without {chosen} it would have been {following}" if following else f"without {chosen} there would have been no place"

    def _change_for(self, pod: PodId) -> Iterator[str]:
        place = next(place for place in self._given.places if place.pod == pod)
        if pod in self._choice.shortlist:
            # It is as good: all that it lacks is its turn.
            yield from (f"{pod} would have been chosen if {words}" for words, turned in self._turns() if self._again(turned).pod == pod)
            return
        found = 0
        for knob in chain(self._of_wish(place), self._of_place(place)):
            if self._reaches(pod, knob.turned(knob.most)):
                amount = self._least(pod, knob)
                outcome = self._again(knob.turned(amount)).pod
                as_what = "chosen" if outcome == pod else f"as good as {outcome}, to be chosen in its turn,"
                yield f"{pod} would have been {as_what} if {knob.words(amount)}"
                found += 1
                if found == CHANGES:
                    return

    def _least(self, pod: PodId, knob: _Knob) -> int:
        """The smallest amount found with which the copy could go there; with the largest it could."""
        low, high = 0, knob.most
        while high - low > 1 and self._left > 0:
            middle = (low + high) // 2
            low, high = (low, middle) if self._reaches(pod, knob.turned(middle)) else (middle, high)
        return high

    def _reaches(self, pod: PodId, given: PlacementInputs) -> bool:
        """Whether a pod is among those that the choice is drawn from."""
        return self._left > 0 and pod in self._again(given).shortlist

    def _again(self, given: PlacementInputs, *, trace: bool = False) -> Choice:
        self._left -= len(given.places)
        return given.choose(trace=trace)

    # What can be changed

    def _turns(self) -> Iterator[tuple[str, PlacementInputs]]:
        """Later rounds; each begins one place further on."""
        for turns in range(1, min(len(self._choice.shortlist), SHOWN)):
            later = self._given._replace(turn=self._given.turn + turns)
            yield f"the call had come {turns * TURN // 1000} s later: it is as good, and then it is its turn", later

    def _of_wish(self, place: Place) -> Iterator[_Knob]:
        given, pod = self._given, place.pod
        wish = given.wish
        if pod in wish.holders:
            free = given._replace(wish=wish._replace(holders=wish.holders - {pod}))
            yield _Knob(
                lambda _: "it did not hold the model already, and had not failed or refused to load it for this wish", lambda _: free
            )
        if wish.balanced:
            yield _Knob(
                lambda _: "the client did not say that it spreads its calls itself (mm-balanced)",
                lambda _: given._replace(wish=wish._replace(balanced=False)),
            )
        if pod in given.outdated:
            yield _Knob(lambda _: "its replica set were not being replaced", lambda _: given._replace(outdated=given.outdated - {pod}))
        if wish.zones.get(place.record.zone, 0):
            zones = {**wish.zones, place.record.zone: 0}
            yield _Knob(
                lambda _: f"zone {place.record.zone!r} had no copy of the model yet",
                lambda _: given._replace(wish=wish._replace(zones=zones)),
            )

    def _of_place(self, place: Place) -> Iterator[_Knob]:
        record, rated = place.record, self._given.rated(place)
        missing = sorted(set(self._given.constraints.needed(self._given.wish.model_type)) - set(record.labels))
        if missing:
            labels = tuple(sorted({*record.labels, *missing}))
            yield self._knob(place, lambda _: f"it had the label {', '.join(missing)} (MM_LABELS)", lambda _: {"labels": labels})
        if record.shutting_down:
            yield self._knob(place, lambda _: "it were not shutting down", lambda _: {"shutting_down": False})
        if place.aside:
            yield self._knob(place, lambda _: "calls to it got through", lambda _: {}, aside=False)
        if place.pending or place.lately:
            yield self._knob(place, lambda _: "no loads were on their way to it", lambda _: {}, pending=0, lately=0)
        if record.used:
            yield self._knob(
                place,
                lambda more: f"it had {mib(more * _MIB)} more free",
                lambda more: {"used": Units(max(0, record.used - more * _MIB))},
                most=-(-record.used // _MIB),
            )
        if record.count:
            yield self._knob(
                place,
                lambda fewer: f"it held {fewer} models fewer, in the same space",
                lambda fewer: {"count": record.count - fewer},
                most=record.count,
            )
        if rated.full and record.lru_time < NEVER:
            seconds = max(1, record.lru_time // 1000)
            yield self._knob(
                place,
                lambda older: f"the model that it would evict had been used {older} s earlier",
                lambda older: {"lru_time": Millis(max(0, record.lru_time - older * 1000))},
                most=seconds,
            )
        yield from self._of_router(place)

    def _of_router(self, place: Place) -> Iterator[_Knob]:
        record = place.record
        if record.rpm:
            yield self._knob(
                place,
                lambda less: f"it had {less} requests a minute fewer",
                lambda less: {"rpm": record.rpm - less},
                most=record.rpm,
            )
        newest = max(one.record.version for one in self._given.places)
        if record.version < newest:
            yield self._knob(place, lambda _: f"its router were of version {newest}", lambda _: {"version": newest})
        largest = max(one.record.capacity for one in self._given.places)
        if record.capacity < largest:
            yield self._knob(
                place,
                lambda more: f"its cache were {mib(more * _MIB)} larger",
                lambda more: {"capacity": Units(record.capacity + more * _MIB)},
                most=-(-(largest - record.capacity) // _MIB),
            )

    def _knob(
        self, place: Place, words: Callable[[int], str], changes: Callable[[int], dict[str, object]], most: int = 1, **of_place: object
    ) -> _Knob:
        def turned(amount: int) -> PlacementInputs:
            changed = place._replace(record=place.record.with_(**changes(amount)), **of_place)  # type: ignore[arg-type]
            places = tuple(changed if one.pod == place.pod else one for one in self._given.places)
            return self._given._replace(places=places)

        return _Knob(words, turned, most)
