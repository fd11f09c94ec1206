"""The copies in this pod: one weighted LRU, its loading slots, and the moves that the rules are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mesh.core.cache.copies import EXPECTED, GRANTED, HOLDING_A_SLOT, LEAVING, SERVING, Copy, State
from mesh.core.cache.eviction import TOLD, Evictable, Eviction
from mesh.core.cache.failures import Failures
from mesh.core.cache.queue import LoadQueue, rank
from mesh.core.cache.recency import Recency
from mesh.core.cache.space import Space
from mesh.core.errors import Full, MeshError, Nowhere, RuntimeDown, RuntimeUnavailable
from mesh.core.explaining.decisions import Decision, Decisions, Kind
from mesh.core.explaining.story import Stories
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.instructions import (
    Announce,
    ChangeRecord,
    Instruction,
    LoadElsewhere,
    LoadModel,
    NoteEviction,
    Outcome,
    ReleaseWaiters,
    UnloadModel,
    Withdraw,
)
from mesh.core.numbers import Numbers
from mesh.core.policy import Policy
from mesh.core.registry.edits import ModelEdit, RemoveCopy
from mesh.core.registry.records import ModelInfo
from mesh.core.timers import Timers
from mesh.core.units import Millis, Units, bytes_of


class Cache:
    """State of all copies. Every state changes in `to`, and only there, so that sums, indexes and stories cannot disagree.

    Attributes:
        current: the copy of each model that comes or serves; at most one.
        leaving: copies that drain or unload; a successor may be current.
        claims: copies with a slot that want room, in order.
        paused: while the runtime does not answer, no load starts.
        down: while it is known to be down, no call starts either.
        watched: the runtime's loss would be told (`RuntimeLost`), so a load that got no answer can wait for that verdict.
        alone: whether no other pod could take a model.
        used: copies that calls began on since the last rate tick, each once.
        express: the express lane is to know which copies serve (`Announce`, `Withdraw`).
    """

    def __init__(
        self,
        pod: PodId,
        policy: Policy,
        *,
        watched: bool = False,
        alone: Callable[[ModelInfo], bool] = lambda _: True,
        kept: Callable[[ModelId], bool] = lambda _: False,
        wanted_elsewhere: Callable[[Copy], bool] = lambda _: False,
    ) -> None:
        """Args:
        kept: whether a model's copy here may not be evicted. `recency.reconsider` is to be told when that may have changed.
        wanted_elsewhere: whether another pod has room for a copy that is evicted.
        """
        self._wanted_elsewhere = wanted_elsewhere
        self.pod, self.policy, self.watched, self.alone = pod, policy, watched, alone
        self.space = Space(policy.capacity, policy.reserve)
        self.current: dict[ModelId, Copy] = {}
        self.leaving: dict[ModelId, Copy] = {}
        self.queue = LoadQueue()
        self.claims: list[Copy] = []
        self.recency = Recency(kept)
        self.used: list[Copy] = []
        self.express = False
        self.failures = Failures(policy)
        self.stories = Stories()
        self.decisions = Decisions()
        self.timers: Timers[CopyId] = Timers()
        self.slots_used = 0
        self.paused = False
        self.down = False
        self.now = Millis(0)
        self.out: list[Instruction] = []
        self._numbers = Numbers()

    # What is there

    def copy(self, copy_id: CopyId) -> Copy | None:
        """The copy of that number, unless it is gone."""
        for copy in (self.current.get(copy_id.model), self.leaving.get(copy_id.model)):
            if copy is not None and copy.id == copy_id:
                return copy
        return None

    def next_id(self, model: ModelId) -> CopyId:
        """A number that no copy of the model had before."""
        return CopyId(model, self._numbers.next(model))

    # Moves

    def admit(self, copy: Copy, why: str) -> None:
        """Makes a new copy the model's current one."""
        self.current[copy.id.model] = copy
        self.space.expected = Units(self.space.expected + copy.weight)
        self.stories.tell(copy.id.model, self.now, f"{copy.state.value}: {why}")

    def succeed(self, copy: Copy, why: str) -> None:
        """Replaces a copy whose load came to nothing by one that wants the same, waiting callers included."""
        waiting, copy.waiting = copy.waiting, 0
        self.to(copy, State.GONE, why)
        heir = replace(
            copy,
            id=self.next_id(copy.id.model),
            waiting=waiting,
            calls=0,
            begun=0,
            usage=None,
            state=State.REGISTERING,
            doubt=None,
            registered=True,
        )
        self.admit(heir, "once more")
        self.to(heir, State.QUEUED, "stands in the registry")

    def order(self, instruction: Instruction) -> None:
        """Has something done."""
        self.out.append(instruction)

    def change(self, edit: ModelEdit) -> None:
        """Orders a change of a record whose outcome concerns no copy."""
        self.out.append(ChangeRecord(edit))

    def to(self, copy: Copy, state: State, why: str) -> None:
        """Brings a copy into another state and keeps every sum and index in step."""
        before = copy.state
        copy.state, copy.since, copy.due = state, self.now, None
        self.timers.drop(copy.id)
        self.slots_used += (state in HOLDING_A_SLOT) - (before in HOLDING_A_SLOT)
        self.space.granted = Units(self.space.granted + copy.weight * ((state in GRANTED) - (before in GRANTED)))
        self.space.leaving = Units(self.space.leaving + copy.weight * ((state in LEAVING) - (before in LEAVING)))
        self.space.expected = Units(self.space.expected + copy.weight * ((state in EXPECTED) - (before in EXPECTED)))
        if before is State.QUEUED:
            self.queue.withdraw(copy)
        elif before is State.CLAIMING:
            self.claims.remove(copy)
        if state is State.QUEUED:
            # The runtime knows a model by its id alone, so a copy waits until its predecessor left; others load meanwhile.
            self.queue.push(copy, held=copy.id.model in self.leaving)
        elif state is State.CLAIMING:
            self.claims.append(copy)
        self._place(copy, before, state)
        self.stories.tell(copy.id.model, self.now, f"{before.value} -> {state.value}: {why}")

    def _place(self, copy: Copy, before: State, state: State) -> None:
        model = copy.id.model
        if state in SERVING and before not in SERVING:
            self.recency.add(copy)
            if self.express:
                self.order(Announce(copy.id))
        elif before in SERVING and state not in SERVING:
            self.recency.drop(copy)
            if self.express:
                self.order(Withdraw(copy.id))
        if state in LEAVING and before not in LEAVING:
            del self.current[model]
            self.leaving[model] = copy
        elif state is State.GONE:
            table = self.leaving if before in LEAVING else self.current
            del table[model]
            if before in LEAVING and (heir := self.current.get(model)) is not None:
                self.queue.release(heir)

    def wake_at(self, copy: Copy, due: Millis) -> None:
        """Has `TimePassed` look at a copy then."""
        copy.due = due
        self.timers.set(copy.id, due)

    def weigh(self, copy: Copy, weight: Units) -> None:
        """Gives a copy that waits for its load, loads or serves another weight."""
        if copy.state in GRANTED:
            self.space.granted = Units(self.space.granted + weight - copy.weight)
        else:
            self.space.expected = Units(self.space.expected + weight - copy.weight)
        copy.weight, copy.predicted = weight, True

    def release(self, copy: Copy, outcome: Outcome, error: MeshError | None = None) -> None:
        """Ends the waiting for a copy; those who enter count as calls before anything else is decided."""
        if not copy.waiting:
            return
        if outcome is Outcome.ENTERED:
            copy.calls += copy.waiting
            self.count(copy, copy.waiting)
            copy.last_used = max(copy.last_used, self.now) if copy.urgent else copy.last_used
        copy.waiting = 0
        self.order(ReleaseWaiters(copy.id.model, outcome, error, copy.id if outcome is Outcome.ENTERED else None))

    def count(self, copy: Copy, calls: int) -> None:
        """Counts calls that begin; the next rate tick looks at copies that had any."""
        if not copy.begun:
            self.used.append(copy)
        copy.begun += calls

    def take_used(self) -> list[Copy]:
        """Copies that calls began on since this was asked last."""
        used, self.used = self.used, []
        return used

    def down_for(self, copy: Copy | None) -> RuntimeDown | None:
        """Why a copy, or a new one, does not serve soon: the runtime does not answer."""
        if not (self.down if copy is not None and copy.state in SERVING else self.paused):
            return None
        return RuntimeDown(f"the model server of pod {self.pod} is down; its models come back with it")

    def send_away(self, copy: Copy) -> None:
        """Has who waits for the runtime find the model, or have it loaded, on another pod, if there is one."""
        down = self.down_for(copy)
        if down is not None and not self.alone(copy.info):
            self.release(copy, Outcome.FAILED, down)

    def unload(self, copy: Copy, why: str, after: Millis = Millis(0)) -> None:
        """Has the runtime give a copy's memory back, at once; who waits for it looks again."""
        self.release(copy, Outcome.AGAIN)
        self.to(copy, State.UNLOADING, why)
        self.order(UnloadModel(copy.id, after))

    def retire(self, copy: Copy, why: str) -> None:
        """Takes a serving copy out of service: unloaded now if idle, else when its last call ends or the drain limit passes."""
        if copy.running == 0:
            self.unload(copy, why)
        else:
            # Who waits for a runtime that is down looks for another copy.
            self.release(copy, Outcome.AGAIN)
            self.to(copy, State.DRAINING, f"{why}; {copy.running} calls run on it")
            self.wake_at(copy, Millis(self.now + self.policy.drain_limit))

    # Slots and room

    def advance(self) -> None:
        """Gives slots to queued copies, room to the first claim that can take it, and goes on while that helps."""
        moved = not self.paused
        while moved:
            self._hand_out_slots()
            claim = self._first_claim()
            moved = claim is not None and self._start(claim)

    def _hand_out_slots(self) -> None:
        """Loads that nobody waits for leave the last slot free; what has not begun gives its slot up to what matters more."""
        while (queued := self.queue.first(background=self.slots_used < self.policy.background_slots)) is not None:
            if self.slots_used == self.policy.slots:
                least = max(reversed(self.claims), key=rank, default=None)
                if least is None or rank(least) <= rank(queued):
                    return
                self.to(least, State.QUEUED, f"gives its loading slot to {queued.id.model}, which is waited for")
            self.to(queued, State.CLAIMING, "a loading slot is free")

    def _first_claim(self) -> Copy | None:
        """The claim that matters most, and among equals the oldest."""
        return min(self.claims, key=rank, default=None)

    def _start(self, claim: Copy) -> bool:
        """Makes room for a claim and starts its load; whether another claim is to be looked at."""
        refusal = self._make_room(claim) or self._stuck(claim)
        if refusal is not None:
            self.refuse(claim, refusal)
            return True
        if self.space.must_evict_for(claim.weight) or not self.space.may_start(claim.weight):
            return False
        self.to(claim, State.LOADING, "there is room")
        self.order(LoadModel(claim.id, claim.info))
        return True

    def _make_room(self, claim: Copy) -> MeshError | None:
        """Evicts as much as the claim needs and may displace; an error if it may not."""
        while self.space.must_evict_for(claim.weight):
            victim = self.recency.victim()
            if victim is None:
                return self._kept_from(claim)
            refusal = self._spared(victim, claim)
            if refusal is not None:
                return refusal
            self.evict(victim, claim.id.model)
        return None

    def _stuck(self, claim: Copy) -> MeshError | None:
        """Why a claim gets no room here for a long time: unloads fail. With no other pod to go to, it waits all the same."""
        if self.space.may_start(claim.weight) or not self.leaving or self.alone(claim.info):
            return None
        if not all(copy.tries for copy in self.leaving.values()):
            return None
        stuck = ", ".join(sorted(self.leaving))
        return RuntimeUnavailable(f"pod {self.pod} has no room for model {claim.id.model}: its model server does not unload {stuck}")

    def _spared(self, victim: Copy, claim: Copy) -> MeshError | None:
        """Why a claim may not displace a copy: it was used more recently, or everything is in brisk use and nobody waits."""
        if claim.urgent:
            return None
        if victim.last_used > claim.last_used:
            return Nowhere("Nowhere available to load")
        if not claim.waiting and self.now - victim.last_used < self.policy.churn_age:
            return Nowhere("Cache churn threshold exceeded")
        return None

    def _kept_from(self, claim: Copy) -> MeshError | None:
        """Why a claim will find no room here: what may not be evicted leaves too little. Else it waits for what is still coming."""
        count, weight = self.recency.kept, self.recency.kept_weight()
        if weight + claim.weight <= self.policy.room:
            return None
        return Full(
            f"pod {self.pod} has no room for model {claim.id.model}: {count} models there are pinned or at their minimum of copies, they "
            f"take {bytes_of(weight)} of {bytes_of(self.policy.room)} bytes and are not evicted; unpin some, or add pods"
        )

    def evict(self, victim: Copy, for_model: ModelId, *, grown: bool = False) -> None:
        """Displaces a copy by another model's, which is to be loaded here or has grown."""
        age = Millis(max(0, self.now - victim.last_used))
        self._note_eviction(victim, for_model, age)
        self.order(NoteEviction(victim.id.model, age, grown))
        self.deregister(victim)
        if self._wanted_elsewhere(victim):
            self.order(LoadElsewhere(victim.id.model, victim.last_used))
        self.retire(victim, f"evicted for {for_model}, last used {age} ms ago")

    def _note_eviction(self, victim: Copy, for_model: ModelId, age: Millis) -> None:
        oldest = [copy for copy in self.recency.eldest(TOLD + 1) if copy is not victim and copy.id.model != for_model][: TOLD - 1]
        copies = tuple(map(Evictable.of, (victim, *oldest)))
        evidence = Eviction(for_model, self.now, copies, self.recency.serving, self.recency.kept)
        reason = f"room for {for_model}; used least recently, {age} ms ago"
        if victim.running:
            reason += f"; {victim.running} calls run on it, but on all others too"
        self.decisions.note(Decision(Kind.EVICTION, victim.id.model, self.now, victim.id.model, reason, evidence=evidence))

    def make_fit(self, grown: Copy) -> None:
        """Evicts others after a copy turned out larger than predicted."""
        while self.space.must_evict_for(Units(0)):
            victim = self.recency.victim(spared=grown)
            if victim is None:
                self.stories.tell(grown.id.model, self.now, f"larger than all there is: {self.space.granted} of {self.policy.room} units")
                return
            self.evict(victim, grown.id.model, grown=True)

    # Records

    def deregister(self, copy: Copy) -> None:
        """Takes a copy out of its model's record."""
        self.change(RemoveCopy(copy.id.model, self.pod, copy.created, copy.used(), self.now))

    def not_unloaded(self, model: ModelId, info: ModelInfo) -> MeshError | None:
        """Why a model is better loaded on another pod, if one can: the runtime still holds an earlier copy, and does not unload it."""
        earlier = self.leaving.get(model)
        if earlier is None or not earlier.tries or self.alone(info):
            return None
        return RuntimeUnavailable(f"pod {self.pod} cannot load model {model}: its model server does not unload the copy that it had before")

    def refuse(self, copy: Copy, error: MeshError) -> None:
        """Gives up a copy that has not begun to load."""
        self.deregister(copy)
        self.release(copy, Outcome.FAILED, error)
        self.to(copy, State.GONE, error.message)
