"""Aliases on their way between models, on pods of one process; models load when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mesh.core.errors import LoadFailed, MeshError, Nowhere, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy, CreateModel, Edit, MarkReady, RecordFailure
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.units import Millis
from mesh.pod.clock import WallClock
from mesh.pod.transitions import Transitions
from mesh.store.memory import MemoryRegistry, MemoryStore
from tests.unit.pod.bench import settled

A = AliasId("a")
OLD, NEW, NEWER = ModelId("old"), ModelId("new"), ModelId("newer")
INFO = ModelInfo("test", "path")
NOW = Millis(10**12)


class Unsteady(MemoryRegistry):
    """A registry whose store does not answer while a test says so, and whose changes show before who made them knows, as with etcd."""

    away = False
    slow: asyncio.Event | None = None
    read_only = False

    async def change(self, edit: Edit) -> MeshError | None:
        if self.slow is not None:
            await self.slow.wait()
        if self.away:
            raise StoreUnavailable("the store does not answer")
        refusal = await super().change(edit)
        await asyncio.sleep(0)
        return refusal


class World:
    """Pods of one mesh, of which each has a registry and transitions; models load when the test says so.

    Attributes:
        loading: copies that load.
        ordered: (model, pods to avoid) of each wish for a copy.
        uses: when the model of each wish counts as used.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = self.store.registry()
        self.loading: dict[tuple[ModelId, PodId], asyncio.Future[None]] = {}
        self.ordered: list[tuple[ModelId, frozenset[PodId]]] = []
        self.uses: list[Millis] = []
        self.refusals: list[MeshError] = []
        self.places: list[PodId] = []
        self.pods: dict[PodId, tuple[Unsteady, Transitions]] = {}

    async def pod(self, name: str, *, leads: bool = True, read_only: bool = False) -> Transitions:
        """One more pod; the first that is to lead does."""
        registry, pod = Unsteady(self.store), PodId(name)
        registry.read_only = read_only
        made = Transitions(pod, WallClock(), registry, self)
        self.pods[pod] = registry, made
        self.places.append(pod)
        await registry.publish(pod, InstanceRecord(endpoint="127.0.0.1:1"))
        if leads:
            await registry.stand_for_leader(pod)
        await settled(lambda: pod in self.registry.instances, f"{name} lives")
        return made

    async def ends(self, name: str) -> None:
        """A pod ends, and with it what it did."""
        registry, made = self.pods.pop(PodId(name))
        self.places.remove(PodId(name))
        await registry.close()
        await made.stop()

    # What `Loads` does, over all pods

    async def ensure(self, model: ModelId, *, last_used: Millis, wait: bool, avoid: frozenset[PodId]) -> None:
        assert wait
        self.ordered.append((model, avoid))
        self.uses.append(last_used)
        if self.refusals:
            raise self.refusals.pop(0)
        record = self.registry.models[model]
        chosen = next((pod for pod in record.copies if pod not in avoid), None)
        if chosen is None:
            chosen = next((pod for pod in self.places if pod not in {*avoid, *record.copies, *record.failed}), None)
            if chosen is None:
                raise LoadFailed(next(iter(record.failures.values()))) if record.failed else Nowhere("Nowhere available to load")
            await self.change(AddCopy(model, chosen, NOW, last_used))
            self.loading[model, chosen] = asyncio.get_running_loop().create_future()
        if chosen not in record.ready:
            await asyncio.shield(self.loading[model, chosen])

    async def comes(self, model: ModelId, pod: str) -> None:
        """Waits until a pod loads a model."""
        await settled(lambda: (model, PodId(pod)) in self.loading, f"a load of {model} on {pod}")

    async def loaded(self, model: ModelId, pod: str) -> None:
        await self.change(MarkReady(model, PodId(pod), NOW, NOW))
        self.loading.pop((model, PodId(pod))).set_result(None)

    async def failed(self, model: ModelId, pod: str, text: str = "broken") -> None:
        await self.change(RecordFailure(model, PodId(pod), NOW, NOW, text, NOW))
        future = self.loading.pop((model, PodId(pod)))
        future.set_exception(LoadFailed(text))
        future.exception()

    # The registry

    async def change(self, edit: Edit) -> None:
        assert await self.registry.change(edit) is None

    async def holds(self, model: ModelId, *pods: str) -> None:
        """A model that serves on these pods."""
        await self.change(CreateModel(model, INFO, NOW))
        for pod in map(PodId, pods):
            await self.change(AddCopy(model, pod, NOW, NOW))
            await self.change(MarkReady(model, pod, NOW, NOW))

    async def point(self, target: ModelId, **more: Any) -> None:
        await self.change(SetAlias(A, target, NOW, info=INFO, auto_delete=True, load_now=True, **more))

    async def moving(self, *pods: str) -> World:
        """An alias on its way from a model that serves on some pods."""
        await self.holds(OLD, *pods)
        await self.change(SetAlias(A, OLD, NOW))
        await self.point(NEW)
        await settled(lambda: all(registry.aliases.get(A) == self.alias for registry, _ in self.pods.values()), "all pods know it")
        return self

    @property
    def alias(self) -> AliasRecord:
        return self.registry.aliases[A]

    async def becomes(self, condition: Callable[[AliasRecord], object]) -> None:
        await settled(lambda: condition(self.alias), f"the alias is {self.alias}")

    async def stop(self) -> None:
        for name in list(self.pods):
            await self.ends(name)
        await self.registry.close()
