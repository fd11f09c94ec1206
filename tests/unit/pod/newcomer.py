"""A pod that others see come: a mind with a clock that a test sets, and a runtime that answers loads as a test says."""

from __future__ import annotations

from collections.abc import Callable

from mesh.core.errors import Code
from mesh.core.events import EditDone, LoadFailed, LoadSucceeded, LoadWanted
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.instructions import ChangeRecord, Instruction, LoadModel
from mesh.core.pod import Pod
from mesh.core.policy import Policy
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis, Units
from mesh.pod.conductor import Conductor
from tests.support.waiting import until_async

INFO = ModelInfo("test", "path", "key")
ME, OTHER = PodId("me"), PodId("other")


class HandClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.time = 10_000_000_000

    def now(self) -> Millis:
        return Millis(self.time)


class Newcomer:
    """The conductor and its hands; records are written by nobody."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.conductor = Conductor(Pod(ME, Policy(Units(10_000), Units(100), 4, Millis(30_000)), predicts=False), self.clock)
        self.conductor.use(self)
        self._loading: dict[str, CopyId] = {}

    def carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, ChangeRecord) and instruction.copy is not None:
            self.conductor.tell(EditDone(instruction.copy))
        elif isinstance(instruction, LoadModel):
            self._loading[instruction.copy.model] = instruction.copy

    def load(self, *models: str, fails: bool = False) -> None:
        """Has models loaded; how each load ends is decided here."""
        for model in models:
            self.conductor.tell(LoadWanted(ModelId(model), INFO, self.clock.now()))
            copy = self._loading.pop(model)
            self.conductor.tell(LoadFailed(copy, Code.INTERNAL, "broken") if fails else LoadSucceeded(copy, Units(100)))


async def true(condition: Callable[[], object]) -> None:
    """Returns when it is so: a registry shows what was written in its own time."""

    async def ask() -> bool:
        return bool(condition())

    await until_async(ask)
