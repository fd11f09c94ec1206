"""One pod's mind: every event goes in here, and what is to be done comes out.

A call that finds its model serving makes no event: `enter` and `leave` are two look-ups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mesh.core.cache.cache import Cache
from mesh.core.cache.copies import COMING, SERVING, Copy, State
from mesh.core.cache.rules import RULES
from mesh.core.errors import Leaving, MeshError, RuntimeDown
from mesh.core.events import (
    CopyEvent,
    Event,
    FailureCleared,
    LastCallEnded,
    LoadWanted,
    ModelDeleted,
    PodLeaves,
    RecordDiffers,
    RuntimeEvent,
    RuntimeLost,
    RuntimeReleased,
    RuntimeReturned,
    RuntimeWithheld,
    TimePassed,
)
from mesh.core.explaining.story import Line
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.instructions import Abandon, ChangeRecord, Instruction, Outcome, PredictSize, ReleaseWaiters
from mesh.core.placement.cluster import Cluster, Subset
from mesh.core.placement.constraints import Constraints
from mesh.core.policy import SECOND, UNKNOWN_AGE, Policy, is_far
from mesh.core.registry.edits import AddCopy, ClearFailure, SettleCopy
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.routing.hops import Load
from mesh.core.routing.neighbourhood import Neighbourhood
from mesh.core.scaling.bounds import BoundsOfModels
from mesh.core.units import Millis

ROOM_ELSEWHERE = 5
"""Percent of the pods' capacity that has to be free for an evicted model to be loaded on another one (reference 4.5)."""


class BrokenRuleError(AssertionError):
    """An event that no rule foresees in that state: a bug, told with the copy's story."""


class Pod:
    """Decides for one pod.

    Args:
        pod: its id.
        policy: what it decides by.
        watched: whether the runtime's loss will be told.
        labels: what type constraints ask for.
        predicts: whether the runtime is asked for a size before a load, until it says that it cannot.

    Attributes:
        pods: the others.
        bounds: what users want of models' copies, by the aliases that point at them.
        models: the models' records, a view of the registry.
        limited: the runtime takes only so many calls at a time on a copy.
        leaving: no new copy is made here any more.
        resting: the runtime is about to begin anew; what moves to other pods meanwhile leaves the records for good.
    """

    def __init__(self, pod: PodId, policy: Policy, *, labels: Sequence[str] = (), watched: bool = False, predicts: bool = True) -> None:
        self.id = pod
        self.labels = tuple(labels)
        self.constraints = Constraints()
        self.pods = Neighbourhood(pod)
        self.bounds = BoundsOfModels()
        self.models: Mapping[ModelId, ModelRecord] = {}
        self.cache = Cache(pod, policy, watched=watched, alone=self.alone, kept=self.kept, wanted_elsewhere=self.wanted_elsewhere)
        self._cluster: tuple[Millis, Cluster] | None = None
        self.predicts = predicts
        self.limited = False
        self.leaving = False
        self.resting = False
        # What is known of the runtime, and what this pod wills, each for loads and for calls.
        self._lost = self._gone = False
        self._withheld = self._quiet = False

    def handle(self, event: Event, now: Millis) -> list[Instruction]:
        """Takes one event and answers what is to be done, in order."""
        cache = self.cache
        cache.now, cache.out = now, []
        match event:
            case LoadWanted():
                self._wanted(event)
            case ModelDeleted(model):
                self._model_deleted(model)
            case FailureCleared(model):
                if cache.failures.clear(model):
                    cache.change(ClearFailure(model, self.id))
            case RecordDiffers(model):
                edit = self.settled(model)
                if edit is not None:
                    cache.change(edit)
            case RuntimeLost() | RuntimeReturned() | RuntimeWithheld() | RuntimeReleased():
                self._about_runtime(event)
            case PodLeaves():
                self._leaves()
            case TimePassed():
                self._time_passed()
            case _:
                self._about_copy(event)
        cache.advance()
        return cache.out

    # Calls

    def enter(self, model: ModelId, now: Millis) -> Copy | None:
        """Begins a call on the model's copy, if it serves here."""
        copy = self.cache.current.get(model)
        if copy is None or copy.state not in SERVING or self.cache.down:
            return None
        copy.calls += 1
        if not copy.begun:
            self.cache.used.append(copy)
        copy.begun += 1
        if now > copy.last_used:
            copy.last_used = now
        return copy

    def leave(self, copy: Copy) -> LastCallEnded | None:
        """Ends a call; an event to handle if the copy waited for that."""
        copy.calls -= 1
        return LastCallEnded(copy.id) if copy.running == 0 and copy.state is State.DRAINING else None

    def stop_waiting(self, model: ModelId) -> None:
        """A caller that waited for the model's copy left; the load goes on."""
        copy = self.cache.current.get(model)
        if copy is not None and copy.waiting > 0:
            copy.waiting -= 1

    # What may be asked

    def next_due(self) -> Millis | None:
        """When `TimePassed` is to be told next."""
        times = [due for due in (self.cache.timers.next_due(), self.cache.failures.timers.next_due()) if due is not None]
        return min(times, default=None)

    def refusal(self, model: ModelId, info: ModelInfo, now: Millis | None = None) -> MeshError | None:
        """Why a model that is not here cannot be loaded now: no runtime for its type, a failure whose pause is not over, the pod's end."""
        if self.leaving:
            return Leaving(f"pod {self.id} is shutting down and loads nothing more; try again")
        failure = self.cache.failures.blocking(model, self.cache.now if now is None else now)
        if failure is not None:
            return self.constraints.refusal(info.type, self.labels) or failure.error
        return self.constraints.refusal(info.type, self.labels) or self.cache.not_unloaded(model, info)

    def down(self, copy: Copy | None = None) -> RuntimeDown | None:
        """What calls that could go elsewhere are told while the runtime does not answer, or does not serve the copy that they want."""
        return self.cache.down_for(copy)

    def alone(self, info: ModelInfo) -> bool:
        """Whether no other pod could take a model of this type: none has its labels, stays and answers."""
        others = ((other.shutting_down or self.pods.aside(pod), other.labels) for pod, other in self.pods.others())
        return all(useless or self.constraints.refusal(info.type, labels) for useless, labels in others)

    def kept(self, model: ModelId) -> bool:
        """Whether a copy here may not be evicted: it is pinned, or others that serve are fewer than the model's minimum."""
        if model not in self.bounds.bounded:
            return False
        bounds, record = self.bounds.of(model), self.models.get(model)
        if bounds.pinned or not bounds.least or record is None:
            return bounds.pinned
        return len(self.pods.serving(record)) < bounds.least

    def wanted_elsewhere(self, copy: Copy) -> bool:
        """Whether another pod loads a copy that is evicted: it had its time, no other copy serves, and there is room (reference 4.5)."""
        cache, record = self.cache, self.models.get(copy.id.model)
        if record is None or not copy.registered or cache.now - copy.created < 2 * cache.policy.load_timeout or self.pods.serving(record):
            return False
        subset = self.subset(copy.info.type, cache.now)
        return subset.pods > 1 and subset.free_percent >= ROOM_ELSEWHERE

    def subset(self, model_type: str, now: Millis) -> Subset:
        """The pods that may hold models of a type, this one included, as they were within the last second."""
        if self._cluster is None or not 0 <= now - self._cluster[0] < SECOND:
            size = self.cache.policy.default_size
            me = self.figures(InstanceRecord(labels=tuple(sorted(self.labels)), endpoint="here"))
            others = ((pod, self.pods.figures(record, pod, size)) for pod, record in self.pods.others())
            self._cluster = now, Cluster([(self.id, me), *others], size)
        return self._cluster[1].of(model_type, self.constraints)

    def load(self, now: Millis) -> Load:
        """How busy this pod is."""
        oldest = self.cache.recency.oldest()
        return Load(self.pods.calls(self.id, now), oldest.last_used if oldest else Millis(0), now)

    def figures(self, identity: InstanceRecord) -> InstanceRecord:
        """What there is to tell of this pod: an unchanging part, with what changes filled in."""
        cache = self.cache
        oldest = cache.recency.oldest()
        return identity.with_(
            lru_time=oldest.last_used if oldest else NEVER,
            count=len(cache.current),
            capacity=cache.policy.room,
            used=cache.space.spoken_for,
            load_threads=cache.policy.slots,
            loads_in_progress=cache.slots_used + len(cache.queue),
            shutting_down=self.leaving,
            recycling=self.resting,
        )

    def copy(self, model: ModelId) -> Copy | None:
        """The copy that comes or serves."""
        return self.cache.current.get(model)

    def settled(self, model: ModelId) -> SettleCopy | None:
        """What the model's record has to say of this pod; None while a copy is written there anyway, while it rests, once it leaves."""
        copy = self.cache.current.get(model)
        if self.leaving or self.resting or (copy is not None and not copy.registered):
            return None
        failed = self.cache.failures.of(model) is not None
        if copy is None:
            return SettleCopy(model, self.id, None, None, failed, Millis(0))
        ready = copy.loaded_at if copy.state in SERVING else None
        return SettleCopy(model, self.id, copy.created, ready, failed, copy.last_used)

    def record_changed(self, model: ModelId, record: ModelRecord | None) -> Sequence[Event]:
        """What a model's record, new, changed or gone, means for this pod."""
        cleared = self.pods.model_changed(model, record)
        self.cache.recency.reconsider(model)
        self.cache.stories.known(model, record is not None)
        if record is None:
            return (ModelDeleted(model),)
        events: list[Event] = [FailureCleared(model)] if cleared else []
        copy, failure = self.cache.current.get(model), self.cache.failures.of(model)
        known = copy or failure
        if known is not None and known.info != record.info:
            # Deleted and registered as another model before this pod saw either.
            events.append(ModelDeleted(model))
        if (copy is None or copy.registered) and self._differs(record, copy):
            events.append(RecordDiffers(model))
        return events

    def _differs(self, record: ModelRecord, copy: Copy | None) -> bool:
        """Whether a record says anything else of this pod's copy than is true; it may be older than the end of the load."""
        if record.copies.get(self.id) != (copy.created if copy is not None else None):
            return True
        return copy is not None and copy.state in SERVING and self.id not in record.ready

    def story(self, model: ModelId) -> Sequence[Line]:
        """What happened to a model here, oldest first."""
        return self.cache.stories.of(model)

    def alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        """An alias is new, changed or gone, and with it what is wanted of its models' copies."""
        for model in self.bounds.alias_changed(alias, record):
            self.cache.recency.reconsider(model)

    def pod_changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """A pod came, changed or went; copies of one that came count again toward what models have to keep."""
        came = record is not None and self.pods.instance(pod) is None
        self.pods.instance_changed(pod, record)
        if came:
            self.cache.recency.reconsider()

    # Events

    def _about_copy(self, event: CopyEvent) -> None:
        copy = self.cache.copy(event.copy)
        if copy is not None:
            self._apply(copy, event)

    def _apply(self, copy: Copy, event: CopyEvent | ModelDeleted | PodLeaves | TimePassed) -> None:
        rule = RULES.get((copy.state, type(event)))
        if rule is None:
            story = "\n".join(f"  {line.at} {line.text}" for line in self.story(copy.id.model))
            raise BrokenRuleError(f"no rule for {type(event).__name__} of {copy!r}; its story:\n{story}")
        rule(self.cache, copy, event)

    def _wanted(self, event: LoadWanted) -> None:
        cache = self.cache
        if is_far(event.last_used, cache.now):
            event = replace(event, last_used=Millis(cache.now - UNKNOWN_AGE))
        copy = cache.current.get(event.model)
        refusal = self.refusal(event.model, event.info) if copy is None else None
        if refusal is not None:
            if event.waits:
                cache.order(ReleaseWaiters(event.model, Outcome.FAILED, refusal))
            return
        if copy is None:
            copy = self._begin(event)
        copy.last_used = max(copy.last_used, event.last_used)
        copy.urgent = copy.urgent or event.urgent
        copy.waiting += event.waits
        if copy.state in SERVING and not cache.down:
            cache.release(copy, Outcome.ENTERED)
        elif copy.state is State.QUEUED and event.waits:
            cache.queue.promote(copy)

    def _begin(self, event: LoadWanted) -> Copy:
        cache = self.cache
        copy = Copy(cache.next_id(event.model), event.info, cache.policy.default_size, event.last_used, cache.now, cache.now)
        copy.predicted = not self.predicts
        cache.admit(copy, "a call wants it" if event.urgent else "wanted")
        since = Millis(cache.now - cache.policy.failure_counts)
        cache.order(ChangeRecord(AddCopy(event.model, self.id, copy.created, event.last_used, event.beside, since), copy.id))
        if self.predicts:
            cache.order(PredictSize(copy.id, event.info))
        return copy

    def _model_deleted(self, model: ModelId) -> None:
        self.cache.failures.clear(model)
        copy = self.cache.current.get(model)
        if copy is not None:
            self._apply(copy, ModelDeleted(model))

    # The runtime

    def _about_runtime(self, event: RuntimeEvent) -> None:
        match event:
            case RuntimeLost(down):
                self._lost, self._gone = True, self._gone or down
                self._runtime_lost()
            case RuntimeReturned(emptied):
                self._lost = self._gone = False
                if emptied:
                    # It is no longer the one that was withheld.
                    self._withheld = self._quiet = False
                    self._use_runtime()
                    self._runtime_emptied()
                self._let_in()
            case RuntimeWithheld(calls):
                self._withheld, self._quiet = True, self._quiet or calls
                self._hold_back()
            case _:
                # RuntimeReleased.
                self._withheld = self._quiet = False
                self._let_in()

    def _use_runtime(self) -> None:
        """No load starts on a runtime that is lost or withheld, and no call on one that is down or withheld from calls too."""
        self.cache.paused, self.cache.down = self._lost or self._withheld, self._gone or self._quiet

    def _runtime_lost(self) -> None:
        self._use_runtime()
        for copy in [copy for copy in self.cache.current.values() if copy.doubt is not None]:
            self.cache.succeed(copy, "the runtime was lost while loading")
        self._hold_back()

    def _hold_back(self) -> None:
        self._use_runtime()
        for copy in self.cache.current.values():
            self.cache.send_away(copy)

    def _let_in(self) -> None:
        self._use_runtime()
        if self.cache.down:
            return
        for copy in [copy for copy in self.cache.current.values() if copy.state in SERVING]:
            self.cache.release(copy, Outcome.ENTERED)

    def _runtime_emptied(self) -> None:
        """Everything that the runtime held is gone; what was loading, or is waited for, is wanted still."""
        cache = self.cache
        for copy in list(cache.leaving.values()):
            cache.order(Abandon(copy.id))
            cache.to(copy, State.GONE, "the runtime restarted")
        for copy in list(cache.current.values()):
            if copy.state is State.LOADING:
                cache.order(Abandon(copy.id))
                cache.succeed(copy, "the runtime restarted while loading")
            elif copy.state in SERVING and copy.waiting:
                cache.succeed(copy, "the runtime restarted while calls wait")
            elif copy.state in SERVING:
                cache.deregister(copy)
                cache.to(copy, State.GONE, "the runtime restarted")

    def _leaves(self) -> None:
        """Gives up what does not serve yet; who waits for it looks elsewhere."""
        self.leaving = True
        for copy in [copy for copy in self.cache.current.values() if copy.state in COMING]:
            self.cache.deregister(copy)
            self._apply(copy, PodLeaves())

    def _time_passed(self) -> None:
        cache = self.cache
        for copy in filter(None, map(cache.copy, cache.timers.take_due(cache.now))):
            self._apply(copy, TimePassed())
        for model, failure in cache.failures.take_due(cache.now):
            if failure.by_itself and self.alone(failure.info):
                self._wanted(LoadWanted(model, failure.info, failure.last_used))
            else:
                cache.failures.clear(model)
                cache.change(ClearFailure(model, self.id))
