"""A pod of the core with a world around it that answers when a test says so; the registry says yes at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mesh.core.cache.copies import EXPECTED, HOLDING_A_SLOT, LEAVING, SERVING, Copy, State
from mesh.core.errors import Code, MeshError
from mesh.core.events import (
    EditDone,
    EditRefused,
    Event,
    LastCallEnded,
    LoadFailed,
    LoadSucceeded,
    LoadWanted,
    SizeMeasured,
    SizePredicted,
    UnloadFailed,
    UnloadSucceeded,
)
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.instructions import (
    Abandon,
    Announce,
    ChangeRecord,
    EndCalls,
    Instruction,
    LoadElsewhere,
    LoadModel,
    MeasureSize,
    NoteEviction,
    Outcome,
    PredictSize,
    ReleaseWaiters,
    UnloadModel,
    Withdraw,
)
from mesh.core.pod import Pod
from mesh.core.policy import Policy
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis, Units

INFO = ModelInfo("test", "path", "key")
HERE = PodId("here")
START = Millis(10_000_000_000)


@dataclass
class Straight:
    """What the lane knows of a copy."""

    calls: int = 0
    waiting: int = 0
    last_used: int = 0


VERBS = {
    LoadModel: "load",
    UnloadModel: "unload",
    MeasureSize: "measure",
    PredictSize: "predict",
    EndCalls: "end calls",
    Abandon: "abandon",
    Announce: "announce",
    Withdraw: "withdraw",
}


class Stage:
    """Tells the pod events and keeps what it ordered.

    `tell` answers, as text, only what concerns the runtime: `load m#1`, `unload m#1`, `measure m#1`, `abandon m#1`.
    """

    def __init__(
        self,
        capacity: int = 1000,
        default: int = 100,
        slots: int = 2,
        *,
        load_timeout: int = 30_000,
        watched: bool = False,
        predicts: bool = False,
        registers: bool = True,
        expiry: int = 900_000,
    ) -> None:
        policy = Policy(Units(capacity), Units(default), slots, Millis(load_timeout), Millis(expiry), Millis(120_000))
        self.pod = Pod(HERE, policy, watched=watched, predicts=predicts)
        self.now = START
        self.registers = registers
        self.edits: list[object] = []
        self.released: list[tuple[str, Outcome, MeshError | None]] = []
        self.evicted: list[str] = []
        self.elsewhere: list[LoadElsewhere] = []
        self.registry_says: MeshError | None = None
        self.entered: dict[str, list[Copy]] = {}
        self.waiting: dict[str, int] = {}

    # Telling

    def tell(self, event: Event) -> list[str]:
        """What the runtime is to do after an event."""
        orders: list[str] = []
        self._carry_out(self.pod.handle(event, self.now), orders)
        return orders

    def want(self, model: str, *, urgent: bool = True, waits: bool = True, last_used: int | None = None) -> list[str]:
        used = self.now if last_used is None else Millis(last_used)
        self.waiting[model] = self.waiting.get(model, 0) + waits
        return self.tell(LoadWanted(ModelId(model), INFO, used, urgent=urgent, waits=waits))

    def loaded(self, copy: str, size: int | None = None, concurrency: int = 0) -> list[str]:
        known = self.copy(copy).weight if size is None else Units(size)
        return self.tell(LoadSucceeded(copy_id(copy), known, concurrency))

    def loaded_unsized(self, copy: str) -> list[str]:
        return self.tell(LoadSucceeded(copy_id(copy), None))

    def measured(self, copy: str, size: int | None) -> list[str]:
        return self.tell(SizeMeasured(copy_id(copy), None if size is None else Units(size)))

    def predicted(self, copy: str, size: int | None) -> list[str]:
        return self.tell(SizePredicted(copy_id(copy), None if size is None else Units(size)))

    def failed(self, copy: str, message: str = "broken", code: Code = Code.INTERNAL, *, timed_out: bool = False) -> list[str]:
        return self.tell(LoadFailed(copy_id(copy), code, message, timed_out=timed_out))

    def unloaded(self, copy: str) -> list[str]:
        return self.tell(UnloadSucceeded(copy_id(copy)))

    def unload_failed(self, copy: str, message: str = "busy") -> list[str]:
        return self.tell(UnloadFailed(copy_id(copy), message))

    def leave(self, copy: Copy) -> list[str]:
        event = self.pod.leave(copy)
        assert event is None or isinstance(event, LastCallEnded)
        return self.tell(event) if event else []

    def leave_all(self, model: str) -> list[str]:
        orders = []
        for copy in self.entered.pop(model, []):
            orders += self.leave(copy)
        return orders

    def stop_waiting(self, model: str) -> None:
        self.pod.stop_waiting(ModelId(model))
        self.waiting[model] = max(0, self.waiting.get(model, 0) - 1)

    def enter(self, model: str) -> Copy:
        copy = self.pod.enter(ModelId(model), self.now)
        assert copy is not None, f"{model} does not serve"
        return copy

    def later(self, millis: int) -> None:
        self.now = Millis(self.now + millis)

    def holding(self, names: Iterable[str], *, size: int | None = None) -> Stage:
        """Models that are loaded and idle, each used a second after the one before."""
        for name in names:
            self.later(1000)
            for order in self.want(name):
                if order.startswith("load "):
                    self.loaded(order.removeprefix("load "), size)
            self.leave_all(name)
        return self

    # Asking

    def copy(self, name: str) -> Copy:
        found = self.pod.cache.copy(copy_id(name))
        assert found is not None, f"{name} is gone"
        return found

    def states(self) -> Mapping[str, str]:
        return {str(copy.id): copy.state.value for copy in self.copies()}

    def copies(self) -> Iterator[Copy]:
        yield from self.pod.cache.current.values()
        yield from self.pod.cache.leaving.values()

    def last_line(self, model: str) -> str:
        return self.pod.story(ModelId(model))[-1].text

    def check(self) -> None:
        """What holds after every event."""
        cache, copies = self.pod.cache, list(self.copies())
        granted = sum(copy.weight for copy in copies if copy.state in SERVING or copy.state is State.LOADING)
        leaving = sum(copy.weight for copy in copies if copy.state in LEAVING)
        expected = sum(copy.weight for copy in copies if copy.state in EXPECTED)
        assert (cache.space.granted, cache.space.leaving, cache.space.expected) == (granted, leaving, expected)
        assert cache.slots_used == sum(copy.state in HOLDING_A_SLOT for copy in copies) <= cache.policy.slots
        assert len(cache.queue) == sum(copy.state is State.QUEUED for copy in copies)
        assert set(cache.claims) == {copy for copy in copies if copy.state is State.CLAIMING}
        assert all(copy.calls >= 0 and copy.waiting >= 0 for copy in copies)
        assert not any(copy.waiting for copy in copies if copy.state in LEAVING)
        assert cache.down or not any(copy.waiting for copy in copies if copy.state in SERVING)
        assert not any(copy.calls for copy in copies if copy.state not in SERVING | LEAVING)

    def _carry_out(self, instructions: list[Instruction], orders: list[str]) -> None:
        for instruction in instructions:
            match instruction:
                case ChangeRecord(edit, wanted):
                    self.edits.append(edit)
                    if wanted is not None and self.registers:
                        orders += self.tell(EditRefused(wanted, self.registry_says) if self.registry_says else EditDone(wanted))
                case ReleaseWaiters(model, outcome, error, entered):
                    self.released.append((model, outcome, error))
                    waited = self.waiting.pop(model)
                    if entered is not None:
                        self.entered.setdefault(model, []).extend([self.copy(str(entered))] * waited)
                case NoteEviction(model):
                    self.evicted.append(model)
                case LoadElsewhere():
                    self.elsewhere.append(instruction)
                case _:
                    orders.append(f"{VERBS[type(instruction)]} {instruction.copy}")


def copy_id(name: str) -> CopyId:
    model, _, number = name.rpartition("#")
    return CopyId(ModelId(model), int(number))


def names(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]
