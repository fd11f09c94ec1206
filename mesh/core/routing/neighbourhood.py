"""What one pod knows of the others: who lives, who answers, how busy each is, and what it ordered of them lately."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from mesh.core.ids import ModelId, PodId
from mesh.core.placement.places import Places
from mesh.core.policy import SECOND
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.hops import Load
from mesh.core.units import Millis, Units

INTENTION = Millis(10 * SECOND)
"""How long calls follow a pod that was chosen for a model without the registry showing the copy there: two timeouts of a write."""


WORD = Millis(3 * SECOND)
"""How long a pod's word of its load counts. A pod once busy would else be passed over for good: only a call to it brings another word."""


@dataclass(frozen=True, slots=True)
class _Intention:
    pod: PodId
    at: Millis


class Busy(Protocol):
    """Calls of this pod on another, and what that one last said of itself; all pods' numbers of turns are drawn from one row."""

    @property
    def own(self) -> int:
        """Calls of this pod that run there."""
        ...

    @property
    def turn(self) -> int:
        """The smaller, the longer ago it was chosen."""
        ...

    @property
    def lru_time(self) -> int:
        """When its least recently used model was last used, by its clock; 0 if it did not tell."""
        ...

    @property
    def behind(self) -> int:
        """ms that its clock is behind this pod's, as the latest answer showed."""
        ...

    def began(self) -> None:
        """A call of this pod begins."""
        ...

    def ended(self) -> None:
        """A call of this pod is over."""
        ...

    def calls(self, now: int, /) -> int:
        """All calls that run there, as far as is known: those of others count if it told of them just now."""
        ...

    def reported(self, calls: int, lru_time: int, at: int, now: int, /) -> None:
        """It said how many calls run there, and `lru_time` and its time, each 0 if it did not."""
        ...


@dataclass(slots=True)
class _Busy:
    turns: Iterator[int]
    own: int = 0
    others: int = 0
    own_then: int = 0
    at: int = 0
    turn: int = 0
    lru_time: int = 0
    behind: int = 0

    def began(self) -> None:
        self.own, self.turn = self.own + 1, next(self.turns)

    def ended(self) -> None:
        self.own = max(0, self.own - 1)

    def calls(self, now: int) -> int:
        return self.own + (max(0, self.others - self.own_then) if now - self.at < WORD else 0)

    def reported(self, calls: int, lru_time: int, at: int, now: int) -> None:
        # The call that brought the word counts neither there nor here.
        self.others, self.own_then, self.at, self.lru_time = calls, max(0, self.own - 1), now, lru_time
        if at:
            self.behind = now - at


class Neighbourhood:
    """The pods of a mesh as `me` sees them. Routers of ModelMesh have no endpoint: they are listed, and never called."""

    def __init__(self, me: PodId) -> None:
        self.me = me
        self.instances: dict[PodId, InstanceRecord] = {}
        self.places = Places()
        """The others as places for copies."""
        self.orders = 0
        """How many copies this pod ordered so far."""
        self._aside: set[PodId] = set()
        self._busy: dict[PodId, Busy] = {}
        turns = count(1)
        self._account: Callable[[PodId], Busy] = lambda _: _Busy(turns)
        self.watch: Callable[[PodId], None] = lambda _: None
        """Told of pods of which it may have changed whether and where they can be called."""
        self._intentions: dict[ModelId, _Intention] = {}
        self._ordered: Counter[PodId] = Counter()
        self._latest: deque[tuple[Millis, PodId, ModelId]] = deque()
        self._lately: Counter[PodId] = Counter()
        self._holders: dict[ModelId, tuple[PodId, ...]] = {}
        self._copies: Counter[PodId] = Counter()
        self._failed_here: set[ModelId] = set()

    # Who there is

    def instance_changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """A pod came, changed or went."""
        if pod != self.me:
            self.places.changed(pod, record)
        if record is not None:
            self.instances[pod] = record
        else:
            self.instances.pop(pod, None)
            self._aside.discard(pod)
            self._busy.pop(pod, None)
        self.watch(pod)

    def instance(self, pod: PodId) -> InstanceRecord | None:
        """A pod's record; None if it does not live."""
        return self.instances.get(pod)

    def others(self) -> Iterator[tuple[PodId, InstanceRecord]]:
        """Pods that can be called, this one left out."""
        return ((pod, record) for pod, record in self.instances.items() if pod != self.me and record.endpoint)

    def callable(self, pod: PodId) -> bool:
        """Whether a pod lives and can be called."""
        record = self.instances.get(pod)
        return pod != self.me and record is not None and bool(record.endpoint)

    def fails(self, pod: PodId) -> None:
        """Calls to a pod do not get through: it is put aside until it answers."""
        self._aside.add(pod)
        self.watch(pod)

    def answers(self, pod: PodId) -> None:
        """A pod that was put aside answers again."""
        self._aside.discard(pod)
        self.watch(pod)

    @property
    def put_aside(self) -> frozenset[PodId]:
        """All pods that are put aside."""
        return frozenset(self._aside)

    def aside(self, pod: PodId) -> bool:
        """Whether a pod is put aside."""
        return pod in self._aside

    # How busy they are

    def accounts(self, account: Callable[[PodId], Busy]) -> None:
        """From now on calls count where `account` says, for each pod; those under way are counted there, too."""
        self._account = account
        for pod, before in self._busy.items():
            busy = self._busy[pod] = account(pod)
            for _ in range(before.own):
                busy.began()

    def began(self, pod: PodId) -> None:
        """A call on a pod begins."""
        self.account(pod).began()

    def account(self, pod: PodId) -> Busy:
        """Where calls on a pod count."""
        busy = self._busy.get(pod)
        if busy is None:
            busy = self._busy[pod] = self._account(pod)
        return busy

    def ended(self, pod: PodId) -> None:
        """A call on a pod ended."""
        busy = self._busy.get(pod)
        if busy is not None:
            busy.ended()

    def reported(self, pod: PodId, load: Load, now: Millis) -> None:
        """A pod said how busy it is; the call that brought the word counts neither there nor here."""
        busy = self._busy.get(pod)
        # Without one the call was the last to a pod that is gone.
        if busy is not None:
            busy.reported(load.calls, load.lru_time, load.at, now)

    def calls(self, pod: PodId, now: Millis) -> int:
        """Calls that run on a pod, as far as is known: this pod's own, and those of others when it last told, if that was just now."""
        busy = self._busy.get(pod)
        return busy.calls(now) if busy else 0

    def turn(self, pod: PodId) -> int:
        """A number that grows with each call: the smaller, the longer ago a pod was last chosen."""
        busy = self._busy.get(pod)
        return busy.turn if busy else 0

    # What was ordered of them

    def intend(self, model: ModelId, pod: PodId, now: Millis) -> None:
        """A pod was chosen to load a model: calls that come meanwhile go there too, and it counts as a copy there."""
        self._drop_old(now)
        self.forget(model)
        self._intentions[model] = _Intention(pod, now)
        self.orders += 1
        self._ordered[pod] += 1
        self._latest.append((now, pod, model))
        self._lately[pod] += 1

    def intention(self, model: ModelId, now: Millis) -> PodId | None:
        """The pod chosen for a model lately, unless that came to something, or to nothing."""
        intention = self._intentions.get(model)
        if intention is None:
            return None
        if now - intention.at > INTENTION:
            self.forget(model)
            return None
        return intention.pod

    def intended(self, model: ModelId) -> PodId | None:
        """The pod chosen for a model, however long ago."""
        intention = self._intentions.get(model)
        return intention.pod if intention else None

    def forget(self, model: ModelId) -> None:
        """An intention failed, was fulfilled or grew old."""
        intention = self._intentions.pop(model, None)
        if intention is not None:
            _take_one(self._ordered, intention.pod)

    def ordered(self, pod: PodId, now: Millis) -> int:
        """Copies that this pod ordered of another, or of itself, lately, and that no model record shows yet."""
        self._drop_old(now)
        return self._ordered[pod]

    def lately(self, pod: PodId, now: Millis) -> int:
        """Copies that this pod ordered of another, or of itself, lately, whatever came of them."""
        self._drop_old(now)
        return self._lately[pod]

    def orders_of(self, now: Millis) -> tuple[Mapping[PodId, int], Mapping[PodId, int]]:
        """What `ordered` and `lately` say of every pod, where that is more than none; to be read at once, for it changes."""
        self._drop_old(now)
        return self._ordered, self._lately

    def _drop_old(self, now: Millis) -> None:
        """Forgets what was ordered long ago: its call may have left before the order did, and nobody may ask for the model again."""
        while self._latest and now - self._latest[0][0] > INTENTION:
            at, pod, model = self._latest.popleft()
            _take_one(self._lately, pod)
            intention = self._intentions.get(model)
            if intention is not None and intention.at <= at:
                self.forget(model)

    def figures(self, record: InstanceRecord, pod: PodId, size: Units) -> InstanceRecord:
        """What a pod told of itself in its record, with what it told with answers, and the copies that model records show there by now.

        Args:
            size: assumed of a copy that its pod does not count yet.
        """
        more, busy = self._copies.get(pod, 0) - record.count, self._busy.get(pod)
        if more < 0:
            more = 0
        if busy is None and not more:
            return record
        lru_time = record.lru_time
        if busy is not None and lru_time < NEVER:
            # Both only grow while a pod has models: the greater one is the later one. What is compared with other pods' goes by this clock.
            lru_time = Millis(max(0, max(lru_time, busy.lru_time) + busy.behind))
        if not more and lru_time == record.lru_time:
            return record
        return record.with_(count=record.count + more, used=Units(record.used + more * size), lru_time=lru_time)

    # What the model records show

    def model_changed(self, model: ModelId, record: ModelRecord | None) -> bool:
        """A model's record changed; whether somebody took away the failure of this pod that stood in it."""
        after = tuple(record.copies) if record else ()
        before = self._holders.pop(model, ())
        self._copies.update(after)
        for pod in before:
            _take_one(self._copies, pod)
        if after:
            self._holders[model] = after
        intention = self._intentions.get(model)
        if intention is not None and (record is None or intention.pod in after or intention.pod in record.failed):
            self.forget(model)
        cleared = model in self._failed_here and (record is None or self.me not in record.failed)
        if record is not None and self.me in record.failed:
            self._failed_here.add(model)
        else:
            self._failed_here.discard(model)
        return cleared

    def holders(self, model: ModelId) -> tuple[PodId, ...]:
        """Pods in a model's record, whether they live or not; cheaper than the record."""
        return self._holders.get(model, ())

    def serving(self, record: ModelRecord) -> list[PodId]:
        """Other pods that live, answer, are to stay, and serve a model."""
        return [pod for pod in record.ready if pod in record.copies and self.stays(pod)]

    def stays(self, pod: PodId) -> bool:
        """Whether another pod lives, can be called, answers and is not about to end."""
        return self.callable(pod) and pod not in self._aside and not self.instances[pod].shutting_down

    def zones(self, record: ModelRecord) -> Mapping[str, int]:
        """Copies of a model by the zone of the pod that holds them."""
        return Counter(self.instances[pod].zone for pod in record.copies if pod in self.instances) if record.copies else {}


def _take_one(counts: Counter[PodId], pod: PodId) -> None:
    """Counts one less; nothing is kept of a pod without any, which may be gone for good."""
    counts[pod] -= 1
    if not counts[pod]:
        del counts[pod]
