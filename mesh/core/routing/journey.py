"""One call, step by step: a small decider that the call's coroutine asks after each outcome (reference 3.5, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mesh.core.cache.copies import COMING, SERVING, Copy
from mesh.core.errors import Failed, LoadFailed, MeshError, NotHere, Nowhere, Overloaded, RuntimeDown, Unknown
from mesh.core.events import LoadWanted
from mesh.core.explaining.decisions import Evidence
from mesh.core.explaining.diary import Diary
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.evidence import PlacementEvidence
from mesh.core.placement.loaders import loader_inputs
from mesh.core.policy import MAX_ITERATIONS, MAX_LOCATIONS
from mesh.core.registry.edits import MODEL_NOT_FOUND
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.attempts import Attempt
from mesh.core.routing.balancing import Draw, lighter
from mesh.core.routing.dead_ends import DeadEnd
from mesh.core.routing.failed_loads import REFUSED, FailedLoads
from mesh.core.routing.hops import Holder, Hop, Kind
from mesh.core.routing.joining import Joining
from mesh.core.routing.steps import CALL, Asker, Forward, Purpose, Refuse, Serve, Step, View, WaitFor
from mesh.core.routing.tries import latest_failure, out_of_tries
from mesh.core.units import Millis


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

    # What plain hits never touch stands in the class: most calls are that, and each makes a journey.
    _diary: Diary | None = None
    _failure: Attempt | None = None
    _joins: Joining | None = None
    _grounds: Evidence | None = None

    def __init__(self, model: ModelId, view: View, purpose: Purpose = CALL, asker: Asker | None = None) -> None:
        self.model = model
        self._asker = asker
        self._view, self._purpose, self._pods = view, purpose, view.pod.pods
        hop = purpose.hop
        self._tried: set[Holder] = set(hop.tried) if hop else set()
        self._avoid: set[PodId] = set(purpose.avoid | (hop.avoid if hop else frozenset()))
        self._without: set[PodId] = set()
        self._failed: set[PodId] = set()
        self._down: Forward | None = None
        self._tries = 0
        self._healed: tuple[bool, ...] = ()
        self._overloaded = 0
        self._load_error: LoadFailed | None = None
        self._error: MeshError | None = None

    @property
    def request(self) -> str:
        """The id under which the book has what was decided for this call; empty if nothing was, as for a plain hit."""
        return self._diary.request if self._diary is not None else ""

    # Asked

    def next(self, now: Millis, draw: Draw) -> Step:
        """What to do now."""
        step = self._way(now, draw)
        if self._failure is not None or self._joins is not None or self._diary is not None:
            return self._told(step, now)
        return step

    def _told(self, step: Step, now: Millis) -> Step:
        """Writes down what led to a step, and sends the id of the request along with it."""
        if self._failure is not None:
            following = step.hop.dest if isinstance(step, Forward) else "" if isinstance(step, Refuse) else self._pods.me
            failure, self._failure = replace(self._failure, copies=self._standing(), following=following), None
            self._book().retried(failure, step, now)
        elif self._joins is not None and self._asker is not None:
            self._book().goes(self._joins, now)
        self._joins = None
        if self._diary is not None and isinstance(step, Forward) and step.hop.request != self._diary.request:
            return step._replace(hop=step.hop._replace(request=self._diary.request))
        return step

    def _way(self, now: Millis, draw: Draw) -> Step:
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

    def again(self, *, down: bool = False) -> bool:
        """The runtime did not know the copy, or went down: whether to go on, which helps once each. One that is back knows no copy."""
        again, self._healed = down not in self._healed, (*self._healed, down)
        if again:
            said = "the model server does not know the model any more, or went down"
            self._failure = Attempt("serve", self._pods.me, RuntimeDown.label, said, True, False, self._overloaded)
        return again

    def failed(self, step: Step, error: MeshError, now: Millis) -> bool:
        """A step ended with an error; whether to ask for another one (appendix A.2)."""
        if isinstance(step, Refuse):
            self._book().refused(error, now, self._why_refused(error, now))
            return False
        self._note(error)
        match step:
            case Forward(sent, holder):
                self._exclude(sent.dest, holder, error)
                self._down = step if isinstance(error, RuntimeDown) else self._down
            case Serve(copy):
                self._tried.add((self._pods.me, copy.created))
            case _:
                if not isinstance(error, RuntimeDown):
                    self._exclude(self._pods.me, None, error)
        attempt = Attempt.of(step, self._pods.me, error, handed_on=self._purpose.hop is not None, overloaded=self._overloaded)
        if attempt.goes_on:
            self._failure = attempt
        else:
            self._book().gave_up(replace(attempt, copies=self._standing()), now)
        return attempt.goes_on

    # Copies that there are

    def _asked_for_a_copy(self, record: ModelRecord, now: Millis) -> Step:
        """Another pod believes that there is a copy here. If the runtime forgot it under this very call it is loaded again, unless the
        sender has another copy to go to."""
        copy = self._view.pod.copy(self.model)
        if copy is None and (not self._healed or self._elsewhere(record).ready):
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
        if copy is None and not record.copies:
            return None
        found = self._elsewhere(record)
        if serves and not (pod.leaving and found.ready):
            found.ready.append(me)
        elif copy is not None and comes:
            found.coming.append((copy.created, me))
        if found.ready:
            first = self._purpose.first
            chosen = first if first is not None and first in found.ready else lighter(found.ready, self._pods, now, draw)
            spreads = self._purpose.balanced and me in found.ready and chosen != first
            if spreads and self._pods.calls(me, now) <= self._pods.calls(chosen, now):
                chosen = me
        elif found.coming:
            chosen = min(found.coming)[1]
            self._joins = Joining(me, coming=tuple((pod, wanted) for wanted, pod in found.coming))
        else:
            return None
        if chosen == me and copy is not None:
            return self._here(record, now)
        return self._forward(Kind.HIT, chosen, now, (chosen, record.copies[chosen]))

    def _stays(self, record: ModelRecord, serves: bool) -> bool:
        """Whether no other copy is to be looked at."""
        if len(record.copies) < 2 and (self._pods.me in record.copies or not record.copies):
            return True
        pod = self._view.pod
        # Where calls stand in line, a caller's even spread over the pods is not one over the copies (reference 6.5).
        return self._purpose.hop is not None or (self._purpose.balanced and serves and not pod.leaving and not pod.limited)

    def _here(self, record: ModelRecord, now: Millis) -> Step:
        """Serves from the copy here, or waits for it."""
        if self._purpose.enters:
            entered = self._view.pod.enter(self.model, now)
            if entered is not None:
                return Serve(entered)
            self._joins = self._joins or self._joins_here()
        return self._wait(record, now)

    def _joins_here(self) -> Joining:
        copy, hop = self._view.pod.copy(self.model), self._purpose.hop
        coming = () if copy is None else ((self._pods.me, copy.created),)
        return Joining(self._pods.me, hop.sender if hop and hop.kind is Kind.LOAD else "", coming)

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
            self._joins = Joining(self._pods.me, self._purpose.hop.sender)
            return Refuse(refusal) if refusal else self._wait(record, now)
        stop = self._enough(record, now)
        if stop is not None:
            return Refuse(stop)
        excluded = self._excluded(record, refusal)
        chosen = self._pods.intention(self.model, now)
        if chosen is None or chosen in excluded or not (chosen == self._pods.me or self._pods.callable(chosen)):
            chosen = self._choose(record, excluded, now)
        else:
            self._joins = Joining(self._pods.me, intended=chosen)
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
        inputs = loader_inputs(self._view, record, excluded, self._last_used(now), now, balanced=self._purpose.balanced)
        choice = inputs.choose()
        self._book().placed(inputs, choice, now)
        self._grounds = PlacementEvidence(inputs) if choice.pod is None else None
        return choice.pod

    def _enough(self, record: ModelRecord, now: Millis) -> MeshError | None:
        """Why no further copy is to be tried: it failed on several pods lately, or many copies did not serve."""
        if not record.copies and not record.failed and not self._failed:
            return None
        failed = self._out_of_tries(record, now)
        if failed is not None:
            return failed
        if self._reachable(record) >= MAX_LOCATIONS:
            return self._error or Failed(f"Failed to invoke model loaded in >={MAX_LOCATIONS} locations")
        return None

    def _reachable(self, record: ModelRecord) -> int:
        """Copies on pods that can be called."""
        return sum(pod not in self._purpose.avoid and (pod == self._pods.me or self._pods.callable(pod)) for pod in record.copies)

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
        unmet = self._view.pod.constraints.refusal(record.info.type, self._view.pod.labels, *labels)
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
                self.request,
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

    # Told

    def _book(self) -> Diary:
        if self._diary is None:
            self._diary = Diary(self.model, self._view, self._purpose, self._asker)
        return self._diary

    def _why_refused(self, error: MeshError, now: Millis) -> Evidence | None:
        """What a refusal goes by, if it can be looked at again."""
        record = self._view.models.get(self.model)
        if record is not None and isinstance(error, LoadFailed):
            cache = self._view.pod.cache
            blocking = cache.failures.blocking(self.model, now)
            until = blocking.retry_at if blocking else Millis(0)
            loads = FailedLoads.of(record, sorted(self._failed), now, cache.policy.failure_counts, until)
            return loads if loads.again() == REFUSED else self._grounds
        return self._grounds or self._dead_end(record, error)

    def _dead_end(self, record: ModelRecord | None, error: MeshError) -> DeadEnd | None:
        """What a refusal goes by that is neither about failed loads nor about places; None if it has other grounds."""
        hop, pod = self._purpose.hop, self._view.pod
        sender = hop.sender if hop is not None and hop.kind is Kind.HIT else ""
        copy = pod.copy(self.model)
        up = copy is None or pod.down(copy) is None
        reachable = 0 if record is None or hop is not None else self._reachable(record)
        found = DeadEnd(record is not None, sender, copy is not None, up, self._tries, reachable, error.label, self._standing())
        return found if found.again() == error.label else None

    def _standing(self) -> tuple[tuple[str, str], ...]:
        """The pods that have the model, and how each stands with this call."""
        record = self._view.models.get(self.model)
        return tuple((pod, self._stands(record, pod, at)) for pod, at in record.copies.items()) if record else ()

    def _stands(self, record: ModelRecord, pod: PodId, wanted: Millis) -> str:
        if (pod, wanted) in self._tried:
            return "it was tried and did not serve this call"
        if pod in self._avoid:
            return "the model failed to load there, or this call is not to go there"
        if pod != self._pods.me and not self._pods.callable(pod):
            return "it is gone, or cannot be called"
        if self._pods.aside(pod):
            return "calls to it fail at present"
        return "it serves" if pod in record.ready else "it is loading"
