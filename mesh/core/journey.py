"""One call, step by step: a small decider that the call's coroutine asks after each outcome (reference 3.5, appendix A)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mesh.core.balancing import Draw, lighter
from mesh.core.copies import COMING, SERVING, Copy
from mesh.core.edits import MODEL_NOT_FOUND
from mesh.core.errors import Failed, LoadFailed, MeshError, NoRuntime, NotHere, Nowhere, Overloaded, RuntimeDown, Unknown
from mesh.core.events import LoadWanted
from mesh.core.hops import Holder, Hop, Kind
from mesh.core.ids import ModelId, PodId
from mesh.core.instances import InstanceRecord
from mesh.core.neighbourhood import Neighbourhood
from mesh.core.placement import Place, Wish, choose, rotation
from mesh.core.pod import Pod
from mesh.core.policy import MAX_ITERATIONS, MAX_LOCATIONS
from mesh.core.records import ModelRecord
from mesh.core.tries import latest_failure, out_of_tries
from mesh.core.units import Millis

Models = Mapping[ModelId, ModelRecord]


@dataclass(frozen=True, slots=True)
class Serve:
    """Make the call on this copy, which was entered; leave it afterwards."""

    copy: Copy


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Have the model loaded here and wait; then ask again."""

    wanted: LoadWanted


@dataclass(frozen=True, slots=True)
class Forward:
    """Pass the call on to another pod; what comes back is the answer.

    Attributes:
        holder: the copy that it is sent to; None if that pod is to load one.
    """

    hop: Hop
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this error."""

    error: MeshError


Step = Serve | WaitFor | Forward | Refuse


@dataclass(frozen=True, slots=True)
class View:
    """What journeys of one pod look at.

    Attributes:
        own: this pod's figures, fresh.
        outdated: pods that are likely to be replaced by a rollout soon.
    """

    pod: Pod
    models: Models
    own: Callable[[], InstanceRecord]
    outdated: Callable[[Millis], frozenset[PodId]]

    @property
    def pods(self) -> Neighbourhood:
        """The other pods."""
        return self.pod.pods


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a model is wanted.

    Attributes:
        hop: how the wish came from another pod; None if it came from a caller or from this pod.
        alias: what the caller named, if that was an alias.
        balanced: the caller spreads its calls over the pods, so that a copy here serves.
        last_used: what a new copy counts as; None is now.
        urgent: a request waits for it.
        enters: the wish is a call that goes to the copy; else the model is only to be loaded.
        avoid: pods whose copies do not count and that are not to load it.
    """

    hop: Hop | None = None
    alias: str = ""
    balanced: bool = False
    last_used: Millis | None = None
    urgent: bool = True
    enters: bool = True
    avoid: frozenset[PodId] = frozenset()


CALL = Purpose()


@dataclass(slots=True)
class _Found:
    """Usable copies of a model: those that serve, and those that come, each with the time at which it was wanted."""

    ready: list[PodId] = field(default_factory=list)
    coming: list[tuple[Millis, PodId]] = field(default_factory=list)
    aside: list[PodId] = field(default_factory=list)


class Journey:
    """The way of one call to a copy of its model.

    Deadline and cancellation belong to the coroutine that asks, and never reach a load.
    """

    def __init__(self, model: ModelId, view: View, purpose: Purpose = CALL) -> None:
        self.model = model
        self._view, self._purpose, self._pods = view, purpose, view.pod.pods
        hop = purpose.hop
        self._tried: set[Holder] = set(hop.tried) if hop else set()
        self._avoid: set[PodId] = set(purpose.avoid | (hop.avoid if hop else frozenset()))
        self._without: set[PodId] = set()
        self._failed: set[PodId] = set()
        self._down: Forward | None = None
        self._tries = 0
        self._healed = False
        self._overloaded = 0
        self._load_error: LoadFailed | None = None
        self._error: MeshError | None = None

    # Asked

    def next(self, now: Millis, draw: Draw) -> Step:
        """What to do now."""
        record = self._view.models.get(self.model)
        if record is None:
            return Refuse(Unknown(MODEL_NOT_FOUND))
        if self._tries == MAX_ITERATIONS:
            return Refuse(self._load_error or self._error or Failed(f"{MAX_ITERATIONS} retry iterations exhausted for model {self.model}"))
        self._tries += 1
        hop = self._purpose.hop
        if hop is not None and hop.kind is Kind.HIT:
            return self._asked_for_a_copy(record, now)
        return self._to_a_copy(record, now, draw) or self._to_a_new_copy(record, now)

    def again(self) -> bool:
        """The runtime did not know the copy, or went down: whether to go on, which helps once."""
        again, self._healed = not self._healed, True
        return again

    def failed(self, step: Step, error: MeshError) -> bool:
        """A step ended with an error; whether to ask for another one (appendix A.2)."""
        self._note(error)
        hop = self._purpose.hop
        match step:
            case Forward(sent, holder):
                self._exclude(sent.dest, holder, error)
                self._down = step if isinstance(error, RuntimeDown) else self._down
                return (error.elsewhere or isinstance(error, Nowhere | NoRuntime)) and self._overloaded < 2
            case Serve(copy):
                self._tried.add((self._pods.me, copy.created))
            case WaitFor():
                if not isinstance(error, RuntimeDown):
                    self._exclude(self._pods.me, None, error)
            case _:
                return False
        return hop is None and error.elsewhere and self._overloaded < 2

    # Copies that there are

    def _asked_for_a_copy(self, record: ModelRecord, now: Millis) -> Step:
        """Another pod believes that there is a copy here; if the runtime forgot it under this very call, there is going to be one again."""
        copy = self._view.pod.copy(self.model)
        if copy is None and not self._healed:
            refusal = self._view.pod.refusal(self.model, record.info, now)
            failed = isinstance(refusal, LoadFailed)
            return Refuse(refusal if refusal and failed else NotHere(f"model {self.model} is not on pod {self._pods.me}"))
        if copy is not None and (self._pods.me, copy.created) not in self._tried and (down := self._view.pod.down(copy)):
            return Refuse(down)
        return self._here(record, now)

    def _to_a_copy(self, record: ModelRecord, now: Millis, draw: Draw) -> Step | None:
        """To the copy that serves best, else to the one that is going to serve first."""
        me, pod = self._pods.me, self._view.pod
        copy = self._local()
        serves = copy is not None and copy.state in SERVING and not pod.cache.down
        comes = copy is not None and copy.state in COMING and not pod.cache.paused
        if (serves or comes) and self._stays(record, serves):
            return self._here(record, now)
        found = self._elsewhere(record)
        if serves and not (pod.leaving and found.ready):
            found.ready.append(me)
        elif copy is not None and comes:
            found.coming.append((copy.created, me))
        if found.ready:
            chosen = lighter(found.ready, self._pods, now, draw)
        elif found.coming:
            chosen = min(found.coming)[1]
        else:
            return None
        if chosen == me and copy is not None:
            return self._here(record, now)
        return self._forward(Kind.HIT, chosen, now, (chosen, record.copies[chosen]))

    def _stays(self, record: ModelRecord, serves: bool) -> bool:
        """Whether no other copy is to be looked at."""
        if len(record.copies) < 2 and (self._pods.me in record.copies or not record.copies):
            return True
        return self._purpose.hop is not None or (self._purpose.balanced and serves and not self._view.pod.leaving)

    def _here(self, record: ModelRecord, now: Millis) -> Step:
        """Serves from the copy here, or waits for it."""
        if self._purpose.enters:
            entered = self._view.pod.enter(self.model, now)
            if entered is not None:
                return Serve(entered)
        return self._wait(record, now)

    def _local(self) -> Copy | None:
        """This pod's copy, if this call may use it."""
        me = self._pods.me
        copy = self._view.pod.copy(self.model) if me not in self._avoid else None
        return None if copy is not None and self._tried and (me, copy.created) in self._tried else copy

    def _elsewhere(self, record: ModelRecord) -> _Found:
        """Copies of other pods that live, can be called, and were not tried."""
        found = _Found()
        for pod, wanted in record.copies.items():
            if not self._pods.callable(pod) or pod in self._avoid or (pod, wanted) in self._tried:
                continue
            if self._pods.aside(pod):
                found.aside.append(pod)
            elif pod in record.ready:
                found.ready.append(pod)
            else:
                found.coming.append((wanted, pod))
        return found

    # Copies to be made

    def _to_a_new_copy(self, record: ModelRecord, now: Millis) -> Step:
        """Has the model loaded where it fits best."""
        refusal = self._view.pod.refusal(self.model, record.info, now)
        if self._purpose.hop is not None:
            refusal = refusal or self._out_of_tries(record, now) or (None if self._pods.me in self._avoid else self._view.pod.down())
            return Refuse(refusal) if refusal else self._wait(record, now)
        stop = self._enough(record, now)
        if stop is not None:
            return Refuse(stop)
        excluded = self._excluded(record, refusal)
        chosen = self._pods.intention(self.model, now)
        if chosen is None or chosen in excluded or not (chosen == self._pods.me or self._pods.callable(chosen)):
            chosen = self._choose(record, excluded, now)
        if chosen is None:
            return self._last_resort(record, refusal, now)
        if self._pods.intention(self.model, now) != chosen:
            self._pods.intend(self.model, chosen, now)
        return self._wait(record, now) if chosen == self._pods.me else self._forward(Kind.LOAD, chosen, now, None)

    def _excluded(self, record: ModelRecord, refusal: MeshError | None) -> frozenset[PodId]:
        """Pods that hold it, where it failed, or where this call does not want it."""
        me, pod = self._pods.me, self._view.pod
        # A holder that said it has none was right: the record is older than that.
        others = {*(record.copies.keys() - self._without), *record.failed} - {me}
        here = refusal is not None or pod.cache.paused or pod.copy(self.model) is not None
        return frozenset(others | self._avoid | ({me} if here else set()))

    def _choose(self, record: ModelRecord, excluded: frozenset[PodId], now: Millis) -> PodId | None:
        pods, pod = self._pods, self._view.pod
        policy = pod.cache.policy
        places = [Place(pods.me, self._view.own(), pods.ordered(pods.me, now), lately=pods.lately(pods.me, now))]
        places += [
            Place(
                *(other, pods.figures(record, other, policy.default_size), pods.ordered(other, now), pods.aside(other)),
                lately=pods.lately(other, now),
            )
            for other, record in pods.others()
        ]
        wish = Wish(
            record.info.type,
            self._last_used(now),
            excluded,
            pods.zones(record),
            policy.default_size,
            pods.me,
            self._purpose.balanced,
        )
        return choose(places, wish, pod.constraints, self._view.outdated(now), now, rotation(now), churn_age=policy.churn_age).pod

    def _enough(self, record: ModelRecord, now: Millis) -> MeshError | None:
        """Why no further copy is to be tried: it failed on several pods lately, or many copies did not serve."""
        failed = self._out_of_tries(record, now)
        if failed is not None:
            return failed
        live = [pod for pod in record.copies if pod not in self._purpose.avoid and (pod == self._pods.me or self._pods.callable(pod))]
        if len(live) >= MAX_LOCATIONS:
            return self._error or Failed(f"Failed to invoke model loaded in >={MAX_LOCATIONS} locations")
        return None

    def _out_of_tries(self, record: ModelRecord, now: Millis) -> LoadFailed | None:
        stop = out_of_tries(record, Millis(now - self._view.pod.cache.policy.failure_counts), self._failed)
        return stop and (self._load_error or stop)

    def _last_resort(self, record: ModelRecord, refusal: MeshError | None, now: Millis) -> Step:
        """No pod can load it: a pod whose runtime is coming back, or that does not answer at the moment, is better than none."""
        down, pod = self._down, self._view.pod
        if self._local() is not None or (pod.cache.paused and refusal is None and self._pods.me not in self._avoid):
            return self._wait(record, now)
        if down is not None:
            # One that is asked again waits for its runtime.
            self._down = None
            return self._forward(down.hop.kind, down.hop.dest, now, down.holder)
        aside = self._elsewhere(record).aside
        if aside:
            return self._forward(Kind.HIT, aside[0], now, (aside[0], record.copies[aside[0]]))
        return Refuse(self._load_error or self._nowhere(record, refusal))

    def _nowhere(self, record: ModelRecord, refusal: MeshError | None) -> MeshError:
        labels = (other.labels for _, other in self._pods.others())
        unmet = self._view.pod.constraints.refusal(record.info.type, tuple(self._view.pod.labels), *labels)
        if unmet is not None:
            return unmet
        if isinstance(refusal, LoadFailed):
            return refusal
        return latest_failure(record) or self._error or refusal or Nowhere("Nowhere available to load")

    # Steps

    def _wait(self, record: ModelRecord, now: Millis) -> WaitFor:
        purpose = self._purpose
        beside = frozenset({*record.copies, *self._avoid})
        return WaitFor(LoadWanted(self.model, record.info, self._last_used(now), urgent=purpose.urgent, waits=True, beside=beside))

    def _forward(self, kind: Kind, dest: PodId, now: Millis, holder: Holder | None) -> Forward:
        purpose = self._purpose
        return Forward(
            Hop(
                kind,
                self.model,
                self._pods.me,
                dest,
                purpose.alias,
                self._last_used(now),
                purpose.urgent,
                frozenset(self._tried),
                frozenset(self._avoid),
            ),
            holder,
        )

    def _last_used(self, now: Millis) -> Millis:
        return now if self._purpose.last_used is None else self._purpose.last_used

    # Errors

    def _exclude(self, pod: PodId, holder: Holder | None, error: MeshError) -> None:
        if holder is not None:
            self._tried.add(holder)
            if isinstance(error, NotHere):
                self._without.add(pod)
        if holder is None or isinstance(error, LoadFailed):
            self._avoid.add(pod)
        if isinstance(error, LoadFailed):
            self._failed.add(pod)
        if self._pods.intended(self.model) == pod:
            self._pods.forget(self.model)

    def _note(self, error: MeshError) -> None:
        if isinstance(error, LoadFailed):
            self._load_error = error
        elif not isinstance(error, NotHere) or self._error is None:
            self._error = error
        self._overloaded += isinstance(error, Overloaded)
