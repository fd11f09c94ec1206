"""What one pod does about the numbers of copies of the models that it holds: at each rate tick, and at each look of the janitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mesh.core.cache.copies import SERVING, Copy, State
from mesh.core.explaining.decisions import Decision, Evidence, Kind
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.pod import Pod
from mesh.core.policy import SECOND
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.scaling.rates import ENOUGH_SAMPLES, SKIPPED, ScalingRules, Usage, Verdict, capacity_of, per_minute
from mesh.core.scaling.scale_down import GiveBackCopy, ScaleDown, ages
from mesh.core.scaling.scale_up import ScaleUp
from mesh.core.scaling.second_copy import SecondCopy
from mesh.core.units import Millis

AHEAD = Millis(20 * SECOND)
"""A copy that load asks for counts as used this far in the future: placement then looks at how busy pods are (reference 6.4)."""

PART = 512
"""Copies, and pods that might take one, looked at in one go: a millisecond."""

NAMED = 8
"""Pods that were left out and are written down, for each reason."""

AT_ONCE = 20
"""The janitor gives back this part (a twentieth) of the room in one run, but one copy in any case (reference 6.8)."""

DECLINED = 6
"""Intervals for which a pod is not asked again that was asked for a copy and has none."""

BUSY = 900
"""Where concurrency is limited, how busy a pod may be for each call at a time: tenths of a percent of its time (reference 6.5)."""


@dataclass(frozen=True, slots=True)
class AddCopies:
    """Have so many more copies loaded, each on another pod.

    Attributes:
        avoid: pods that are not to load one.
        last_used: what they count as.
    """

    model: ModelId
    copies: int
    avoid: frozenset[PodId]
    last_used: Millis


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Give back a copy here, once one of the others has answered.

    Attributes:
        others: pods that serve the model.
    """

    copy: CopyId
    edit: GiveBackCopy
    others: tuple[PodId, ...]
    why: str


Order = AddCopies | GiveBack


class Scaling:
    """Decides for the copies of one pod.

    Args:
        pod: whose copies these are.
        own: its figures, fresh.
        rules: spans and shares.
        threshold: calls a minute to one copy at which another one is wanted.
        limited: whether the runtime takes only so many calls at a time on a copy.
        now: the time.
    """

    def __init__(
        self,
        pod: Pod,
        own: Callable[[], InstanceRecord],
        rules: ScalingRules,
        threshold: Callable[[], int],
        now: Millis,
        *,
        limited: bool = False,
    ) -> None:
        self.rules = rules
        self._pod, self._own, self._threshold, self._limited = pod, own, threshold, limited
        self._last = now
        self._asked: dict[ModelId, dict[PodId, Millis]] = {}
        self._under_way: set[ModelId] = set()
        self._looked_at = 0

    def tick(self, now: Millis) -> Iterator[list[Order]]:
        """Looks at what was used since the last tick, a part at a time; nothing if that was just now."""
        window = Millis(now - self._last)
        if window * 100 < self.rules.interval * SKIPPED:
            return
        self._last = now
        self._forget(now)
        used = self._pod.cache.take_used()
        if not self._acts():
            for copy in used:
                copy.begun = 0
            return
        orders = [order for copy in self._bounded() for order in self._give_back(copy, now, surplus=True)]
        for copy in used:
            orders += self._used(copy, now, window)
            self._looked_at += 1
            if self._looked_at >= PART:
                yield orders
                orders, self._looked_at = [], 0
        yield orders

    def sweep(self, now: Millis) -> Iterator[list[Order]]:
        """Looks for copies to give back, a part at a time, the longest unused first; a bounded weight in one run."""
        if not self._acts():
            return
        cache, pods = self._pod.cache, self._pod.pods
        several = [copy for model, copy in cache.current.items() if len(pods.holders(model)) > 1]
        several.sort(key=lambda copy: copy.last_used)
        left = cache.policy.room // AT_ONCE
        for begin in range(0, len(several), PART):
            orders: list[Order] = []
            for copy in several[begin : begin + PART]:
                if left <= 0:
                    break
                found = self._give_back(copy, now, surplus=False)
                left -= copy.weight if found else 0
                orders += found
            yield orders

    def asked(self, model: ModelId, pods: list[PodId], now: Millis) -> None:
        """`AddCopies` is carried out: these pods took a copy on."""
        self._under_way.discard(model)
        if pods:
            self._asked.setdefault(model, {}).update(dict.fromkeys(pods, now))

    # More copies

    def _used(self, copy: Copy, now: Millis, window: Millis) -> list[Order]:
        usage = copy.usage = copy.usage or Usage()
        calls, copy.begun = copy.begun, 0
        threshold = self._threshold_of(copy, usage)
        waiting = max(0, copy.running - max(1, copy.concurrency)) if self._limited else 0
        rpm = per_minute(calls + waiting, window)
        usage.measured(rpm, threshold, now)
        recurs = usage.used(now, self.rules.second_least, self.rules.second_most)
        model = copy.id.model
        busy = threshold and rpm >= threshold
        if not (busy or recurs) or copy.state not in SERVING or model in self._under_way:
            return []
        record = self._pod.models.get(model)
        if record is None:
            return []
        subset = self._pod.subset(copy.info.type, now)
        if subset.pods < 2:
            return []
        ready, coming = self._others(model, record)
        declined = self._declined(model, record)
        places, overloaded, avoid = self._places(copy, record, declined)
        most = self._pod.bounds.of(model).most
        if busy:
            state = (waiting, max(1, copy.concurrency) if self._limited else 0, copy.loaded_at)
            named, asked = tuple(overloaded[:NAMED]), tuple(sorted(declined)[:NAMED])
            up = ScaleUp(model, now, window, rpm, threshold, *state, tuple(ready), coming, places, named, subset.pods, most, asked)
            return self._add(copy, up, avoid, now + AHEAD)
        copies = 1 + len(ready) + coming
        second = SecondCopy(model, recurs, copies, places, subset.free_percent, subset.age(now), self.rules.old_enough, most)
        return self._add(copy, second, avoid, now - window)

    def _add(self, copy: Copy, evidence: ScaleUp | SecondCopy, avoid: frozenset[PodId], last_used: int) -> list[Order]:
        verdict = evidence.verdict()
        self._note(Kind.SCALE_UP, copy, verdict, evidence, self._last)
        if not verdict.copies:
            return []
        self._under_way.add(copy.id.model)
        return [AddCopies(copy.id.model, verdict.copies, avoid, Millis(last_used))]

    def _threshold_of(self, copy: Copy, usage: Usage) -> int:
        """Calls a minute at which a copy wants company; by its latency, if calls wait for their turns (reference 6.5)."""
        if not self._limited:
            return self._threshold()
        samples, spent = copy.timed, copy.busy
        copy.timed, copy.busy = 0, 0.0
        before, usage.samples, usage.spent = (usage.samples, usage.spent), samples, spent
        if samples < ENOUGH_SAMPLES:
            samples, spent = samples + before[0], spent + before[1]
        return capacity_of(max(1, copy.concurrency), samples, spent, self.rules.bandwidth, self._threshold())

    def _others(self, model: ModelId, record: ModelRecord) -> tuple[list[Millis], int]:
        """Since when other copies serve, and how many still load; what was asked for just now loads."""
        pods = self._pod.pods
        serving = pods.serving(record)
        recent = {pod for pod, at in self._asked.get(model, {}).items() if self._last - at < self.rules.interval}
        coming = {pod for pod in {*record.copies, *recent} if pods.stays(pod)} - set(serving)
        return [record.ready[pod] for pod in serving], len(coming)

    def _places(self, copy: Copy, record: ModelRecord, declined: set[PodId]) -> tuple[int, list[PodId], frozenset[PodId]]:
        """How many pods could take a copy, which ones are too busy, and all that are not to be asked."""
        pods, constraints = self._pod.pods, self._pod.constraints
        limit = self._overloaded(copy)
        taken = {*record.copies, *declined}
        places, overloaded = 0, list[PodId]()
        self._looked_at += len(pods.instances)
        for pod, other in pods.others():
            if other.rpm > limit:
                overloaded.append(pod)
            elif pods.stays(pod) and pod not in taken and pod not in record.failed and constraints.fits(copy.info.type, other.labels):
                places += 1
        return places, overloaded, frozenset(taken | {self._pod.id, *overloaded})

    def _overloaded(self, copy: Copy) -> int:
        """Pods busier than this get no copy for load's sake (reference 6.4; where calls are limited, in tenths of a percent of time)."""
        unit = BUSY * max(1, copy.concurrency) if self._limited else self._threshold()
        own: int = self._own().rpm
        return max(4 * unit, own - 2 * unit)

    def _declined(self, model: ModelId, record: ModelRecord) -> set[PodId]:
        """Pods that were asked for a copy, had time for it, and have none."""
        asked = self._asked.get(model, {})
        return {pod for pod, at in asked.items() if pod not in record.copies and self._last - at >= self.rules.interval}

    def _forget(self, now: Millis) -> None:
        for model, pods in list(self._asked.items()):
            left = {pod: at for pod, at in pods.items() if now - at < DECLINED * self.rules.interval}
            if left:
                self._asked[model] = left
            else:
                del self._asked[model]

    # Fewer copies

    def _bounded(self) -> list[Copy]:
        """Copies of models whose number users limit, where there are too many."""
        bounded, current = self._pod.bounds.bounded, self._pod.cache.current
        names = [model for model in bounded if model in current] if len(bounded) < len(current) else [m for m in current if m in bounded]
        return [current[model] for model in names if 0 < self._pod.bounds.of(model).most < len(self._pod.pods.holders(model))]

    def _give_back(self, copy: Copy, now: Millis, *, surplus: bool) -> list[Order]:
        model = copy.id.model
        record = self._pod.models.get(model)
        if record is None or copy.state is not State.READY or not copy.registered or self._pod.id not in record.copies:
            return []
        serving = self._pod.pods.serving(record)
        down = self._scale_down(copy, record, serving, now)
        verdict = down.verdict()
        if surplus and verdict.case != "surplus":
            return []
        self._note(Kind.SCALE_DOWN, copy, verdict, down, now)
        if not verdict.copies:
            return []
        edit = GiveBackCopy(
            *(model, self._pod.id, copy.created, copy.last_used, now), frozenset(record.copies), frozenset(serving), down.keep
        )
        return [GiveBack(copy.id, edit, tuple(serving), verdict.reason)]

    def _scale_down(self, copy: Copy, record: ModelRecord, serving: list[PodId], now: Millis) -> ScaleDown:
        model, usage, pods = copy.id.model, copy.usage or Usage(), self._pod.pods
        subset, bounds = self._pod.subset(copy.info.type, now), self._pod.bounds.of(model)
        living = [at for pod, at in record.copies.items() if pod == self._pod.id or pods.stays(pod)]
        waiting = max(0, copy.running - max(1, copy.concurrency)) if self._limited else 0
        threshold = usage.threshold if usage.at else self._threshold()
        return ScaleDown(
            *(model, now, copy.last_used, usage.heavy_at, usage.rate(self._last), threshold, waiting),
            *(len(serving), len(living), max(living), record.last_unload, bounds.least, bounds.most),
            *(self._comes_last(serving), subset.free_percent, subset.age(now)),
            *ages(self.rules),
        )

    def _comes_last(self, serving: list[PodId]) -> bool:
        """Whether of the pods that serve a model this one would be chosen last to load one, by what all pods see of each other."""
        instances, me = self._pod.pods.instances, self._pod.id
        return me in instances and all(_rank(me, instances[me]) > _rank(pod, instances[pod]) for pod in serving)

    # Both

    def _acts(self) -> bool:
        """A pod that is about to end, or has no runtime at the moment, changes no numbers."""
        return not (self._pod.leaving or self._pod.cache.paused)

    def _note(self, kind: Kind, copy: Copy, verdict: Verdict, evidence: Evidence, now: Millis) -> None:
        """Writes down what was decided; a copy that is not added or given back again and again for the same reason, once."""
        usage = copy.usage = copy.usage or Usage()
        told = f"{kind.value}: {verdict.case}"
        if not verdict.case or (told == usage.told and not verdict.copies):
            return
        usage.told = told
        decisions = self._pod.cache.decisions
        decisions.note(Decision(kind, copy.id.model, now, str(verdict.copies), verdict.reason, evidence=evidence))


def _rank(pod: PodId, record: InstanceRecord) -> tuple[int, int, PodId]:
    """How desirable a pod is for a copy; the smaller, the better (reference 5.1, in short)."""
    return record.count, record.used - record.capacity, pod
