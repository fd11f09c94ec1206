"""A pod's conductor over a registry in memory; what would go to the runtime waits for the test to answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mesh.core.cache.copies import Copy, State
from mesh.core.errors import Code
from mesh.core.events import EditDone, EditRefused, Event, LoadFailed, LoadSucceeded, UnloadSucceeded
from mesh.core.events import LoadWanted as Wanted
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.instructions import ChangeRecord, EndCalls, Instruction, LoadModel, UnloadModel
from mesh.core.pod import Pod
from mesh.core.policy import Policy
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelInfo
from mesh.core.routing.steps import View
from mesh.core.units import Millis, Units
from mesh.pod.clock import WallClock
from mesh.pod.conductor import Conductor
from mesh.pod.loads import Loads
from mesh.pod.lookups import Lookups
from mesh.pod.management import Management
from mesh.pod.peers import Peers
from mesh.pod.transitions import Transitions
from mesh.settings import Settings
from mesh.store.memory import MemoryRegistry
from mesh.telemetry.metrics import Metrics

INFO = ModelInfo("test", "path", "key")
OFF = Metrics(None)


class Bench:
    """The conductor's hands, and what a test asks of it.

    Attributes:
        loads, unloads: ordered of the runtime and not yet answered.
        ordered: all that the runtime was ever asked for, as text.
    """

    def __init__(self, *, slots: int = 2, capacity: int = 1000, failure_expiry: int = 900_000, drain_limit: int = 120_000) -> None:
        policy = Policy(Units(capacity), Units(100), slots, Millis(30_000), Millis(failure_expiry), Millis(drain_limit))
        self.pod = Pod(PodId("here"), policy, predicts=False)
        self.conductor = Conductor(self.pod, WallClock())
        self.conductor.use(self)
        self.registry = MemoryRegistry()
        self.view = View(self.pod, self.registry.models, lambda: self.pod.figures(InstanceRecord()), lambda _: frozenset())
        self.peers = Peers(self.pod.id, self.pod.pods, Settings(), self.conductor.now)
        self.loads_of_models = Loads(self.conductor, self.view, self.peers, Lookups(self.registry))
        self.transitions = Transitions(self.pod.id, self.conductor, self.registry, self.loads_of_models)
        self.management = Management(self.conductor, self.registry, self.loads_of_models, self.transitions, default_owner="")
        self.loads: dict[ModelId, CopyId] = {}
        self.unloads: dict[ModelId, CopyId] = {}
        self.ordered: list[str] = []
        self._writes: set[asyncio.Task[None]] = set()

    def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case ChangeRecord():
                writing = asyncio.get_running_loop().create_task(self._write(instruction))
                self._writes.add(writing)
                writing.add_done_callback(self._writes.discard)
            case LoadModel(copy):
                self.loads[copy.model] = copy
                self.ordered.append(f"load {copy.model}")
            case UnloadModel(copy):
                self.unloads[copy.model] = copy
                self.ordered.append(f"unload {copy.model}")
            case EndCalls(copy):
                self.ordered.append(f"end calls of {copy.model}")

    async def _write(self, order: ChangeRecord) -> None:
        refusal = await self.registry.change(order.edit)
        if order.copy is not None:
            self.conductor.tell(EditRefused(order.copy, refusal) if refusal else EditDone(order.copy))

    # The world

    async def known(self, *models: str) -> Bench:
        """Registers models."""
        for model in models:
            await self.management.register(model, INFO)
        return self

    def call(self, model: str) -> asyncio.Task[Copy | None]:
        """A caller that has a model loaded and keeps what it gets."""
        wanted = Wanted(ModelId(model), INFO, self.conductor.now(), urgent=True, waits=True)
        return asyncio.get_running_loop().create_task(self.conductor.have_loaded(wanted), name=model)

    async def loading(self, model: str) -> None:
        """Waits until the runtime is asked to load a model."""
        await settled(lambda: ModelId(model) in self.loads, f"a load of {model}")

    def loaded(self, model: str, concurrency: int = 0) -> None:
        """The runtime has loaded it."""
        self.conductor.tell(LoadSucceeded(self.loads.pop(ModelId(model)), Units(100), concurrency))

    def failed(self, model: str, text: str = "broken") -> None:
        """The runtime could not load it."""
        self.conductor.tell(LoadFailed(self.loads.pop(ModelId(model)), Code.INTERNAL, text))

    def unloaded(self, model: str) -> None:
        """The runtime has given it up."""
        self.conductor.tell(UnloadSucceeded(self.unloads.pop(ModelId(model))))

    def tell(self, event: Event) -> None:
        self.conductor.tell(event)

    async def serving(self, model: str) -> Copy:
        """A model that is loaded, with one call on it."""
        await self.known(model)
        caller = self.call(model)
        await self.loading(model)
        self.loaded(model)
        copy = await caller
        assert copy is not None
        return copy

    def state(self, model: str) -> State | None:
        copy = self.pod.copy(ModelId(model))
        return copy.state if copy else None

    async def stop(self) -> None:
        await self.transitions.stop()
        await self.loads_of_models.stop()
        await self.peers.close()
        self.conductor.stop()
        for writing in list(self._writes):
            await writing


async def settled(condition: Callable[[], object], what: str) -> None:
    """Gives the event loop turns until a condition holds; what is asked for here happens without waiting for time."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"never: {what}")


async def turns(count: int = 5) -> None:
    """Lets everything run that can run now."""
    for _ in range(count):
        await asyncio.sleep(0)
