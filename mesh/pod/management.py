"""What the management API does, whatever door it comes through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mesh.core.errors import Malformed, MeshError
from mesh.core.events import FailureCleared
from mesh.core.explaining.status import AliasState, AliasStatus, ModelState, ModelStatus, alias_state, model_status
from mesh.core.ids import AliasId, ModelId
from mesh.core.policy import AGE_ON_LOAD, AGE_ON_REGISTER
from mesh.core.registry.aliases import DeleteAlias, ReadAlias, SetAlias, TryAgain
from mesh.core.registry.edits import CreateModel, DeleteModel, Edit, ReadModel
from mesh.core.registry.listing import Listing
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.registry.transitions import Living
from mesh.core.routing.names import resolve_name
from mesh.core.units import Millis
from mesh.pod import state_lines
from mesh.pod.conductor import Conductor
from mesh.pod.loads import Loads
from mesh.pod.transitions import Transitions
from mesh.store.registry import Registry
from mesh.store.tables import in_order, noted

log = logging.getLogger(__name__)

PART = 250
"""Names that are put in order at a time for a list."""
TRANSITION_WAIT = 240.0
"""Seconds that setting an alias with `sync` waits for its target (reference 1.9)."""


class Listed(NamedTuple):
    """One line of the repository index."""

    name: str
    version: str
    state: str
    reason: str


async def nothing_to_wait_for() -> None:
    """Where the mirrors are all that is asked."""


class Management:
    """Models and aliases: registered, loaded, asked about, removed."""

    def __init__(self, conductor: Conductor, registry: Registry, loads: Loads, transitions: Transitions, *, default_owner: str) -> None:
        self._conductor, self._registry, self._loads, self._transitions = conductor, registry, loads, transitions
        self._default_owner = default_owner
        self._lines = state_lines.StateLines(conductor, registry)
        self._living = Living(conductor.pod.id, registry.instances)
        self._aliases = in_order(registry.aliases)
        self._unreferenced = Listing(model for model, record in noted(registry.models) if not record.refs)
        self._accepting = False
        self.settled: Callable[[], Awaitable[None]] = nothing_to_wait_for
        """Returns when all who carry calls know of a change that the mirrors show."""
        registry.listen(self._model_changed, self._alias_changed)

    # Models

    async def register(self, model: str, info: ModelInfo, *, load_now: bool = False, sync: bool = False, last_used: int = 0) -> ModelStatus:
        """Makes a model known, and has it loaded if asked to.

        Args:
            model: its id.
            info: given to the runtime at every load.
            load_now: load it.
            sync: wait for the load; without `load_now` without effect.
            last_used: epoch milliseconds; 0 leaves it to the mesh.

        Raises:
            Malformed: the id or the type is empty.
            Conflict: the model exists with other attributes.
        """
        self._need(model)
        if not info.type:
            raise Malformed(f"model {model}: must provide non-empty model type")
        now = self._conductor.now()
        aged = now - (AGE_ON_LOAD if load_now else AGE_ON_REGISTER)
        used = Millis(min(now, last_used) if last_used > 0 else aged)
        known = ModelId(model) in self._registry.models
        await self._change(CreateModel(ModelId(model), info, used, uncalled=last_used <= 0))
        if load_now:
            return await self._load(ModelId(model), used, sync=sync)
        return self.status(model) if known else ModelStatus(ModelState.NOT_LOADED)

    async def unregister(self, model: str) -> None:
        """Forgets a model; an unknown one succeeds.

        Raises:
            Malformed: the id is empty.
            Referenced: aliases point at it.
        """
        self._need(model)
        await self._change(DeleteModel(ModelId(model)))

    def status(self, model: str) -> ModelStatus:
        """How a model is, without using it.

        Raises:
            Malformed: the id is empty.
        """
        self._need(model)
        return self._status(ModelId(model), self._registry.models.get(ModelId(model)))

    async def look_up(self, model: str) -> ModelStatus:
        """As `status`; a model that is not known here is looked for in the store: another pod may have registered it a moment ago.

        Two names ask for what this pod knows instead (reference 1.6): `***GETSTATE***` answers it, `***LOGCACHE***` logs it.

        Raises:
            Malformed: the id is empty.
            StoreUnavailable: it is not known here, and the store does not answer.
        """
        self._need(model)
        if model == state_lines.ASK:
            return ModelStatus(ModelState.UNKNOWN, tuple(self._lines.lines()))
        if model == state_lines.LOG:
            for line in self._lines.lines():
                log.info(line)
        if ModelId(model) not in self._registry.models:
            await self._registry.change(ReadModel(ModelId(model)))
        return self.status(model)

    def _status(self, model: ModelId, record: ModelRecord | None) -> ModelStatus:
        """Copies on pods that are gone, or of another kind, serve nobody who asks here."""
        pod = self._conductor.pod
        refusal = None
        if record is not None:
            serving = self._living.serve(record.copies) if record.copies else ()
            if len(serving) < len(record.copies):
                record = record.with_(copies={pod: at for pod, at in record.copies.items() if pod in serving})
            refusal = self._unfit(record.info)
        return model_status(record, pod.id, pod.copy(model), pod.cache.failures.of(model), refusal)

    def _unfit(self, info: ModelInfo) -> MeshError | None:
        """Why no pod of the mesh can hold a model; None if one can."""
        pod = self._conductor.pod
        refusal = pod.constraints.refusal(info.type, pod.labels)
        if refusal is None or any(pod.constraints.refusal(info.type, other.labels) is None for _, other in pod.pods.others()):
            return None
        return refusal

    async def ensure_loaded(self, model: str, *, last_used: int = 0, sync: bool = False) -> ModelStatus:
        """Has a model loaded and marks it as used then.

        Raises:
            Malformed: the id is empty.
            Unknown: there is no such model.
        """
        self._need(model)
        if ModelId(model) not in self._registry.models:
            # Another pod may have registered it a moment ago.
            await self._change(ReadModel(ModelId(model)))
        return await self._load(ModelId(model), Millis(last_used or self._conductor.now()), sync=sync)

    async def load_or_fail(self, model: ModelId, deadline: float | None) -> None:
        """Has a model loaded and waits, until `deadline` on the event loop's clock.

        Raises:
            LoadFailed: it did not load.
            DeadlineExceeded: the time is over; the load goes on.
        """
        limit = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        await self._loads.ensure(model, wait=True, urgent=True, limit=limit)

    async def _load(self, model: ModelId, last_used: Millis, *, sync: bool) -> ModelStatus:
        if model not in self._registry.models:
            return ModelStatus(ModelState.NOT_FOUND)
        try:
            await self._loads.ensure(model, last_used=last_used, wait=sync)
        except MeshError as error:
            status = self.status(model)
            return status if status.state is ModelState.LOADING_FAILED else ModelStatus(ModelState.LOADING_FAILED, (error.message,))
        # That it is loading, or loaded, is known sooner than the registry shows it.
        least = ModelState.LOADED if sync else ModelState.LOADING
        status = self.status(model)
        return status if status.state in (least, ModelState.LOADED, ModelState.NOT_FOUND) else replace(status, state=least, errors=())

    # Aliases

    async def set_alias(self, edit: SetAlias, *, sync: bool = False, retry: bool = False) -> AliasStatus:
        """Points an alias at a model; loads and switches as the edit asks.

        Args:
            edit: what is wanted.
            sync: wait for the switch, or the load.
            retry: forget that the target failed to load, as somebody who applies a document again wants.

        Raises:
            Malformed, Unknown, Conflict, Referenced: as the edit refuses.
        """
        if not edit.alias:
            raise Malformed("Must provide vModelId")
        if not edit.target:
            raise Malformed("Must provide targetModelId")
        before = self._registry.aliases.get(edit.alias)
        was = self._registry.models.get(before.active) if before else None
        owner = edit.default_owner or self._default_owner
        await self._change(replace(edit, default_owner=owner, live=self._living.serve((self._living.me, *self._living.instances))))
        if retry:
            await self._change(TryAgain(edit.alias, edit.target))
            self._conductor.tell(FailureCleared(edit.target))
        record = self._registry.aliases.get(edit.alias)
        if record is not None and record.in_transition:
            if sync:
                await self._transitions.follow(edit.alias, edit.target, TRANSITION_WAIT)
        elif edit.load_now or (was is not None and was.copies and before is not None and before.active != edit.target):
            last_used = max(was.last_used if was else 0, self._conductor.now() - AGE_ON_LOAD)
            await self._load(edit.target, Millis(last_used), sync=sync and edit.info is not None)
        await self.settled()
        return self.alias_status(edit.alias)

    async def delete_alias(self, alias: str, owner: str = "") -> None:
        """Removes an alias; an absent one, or one of another owner, succeeds without effect."""
        if not alias:
            raise Malformed("Must provide vModelId")
        await self._change(DeleteAlias(AliasId(alias), owner))
        await self.settled()

    async def look_up_alias(self, alias: str, owner: str = "") -> AliasStatus:
        """As `alias_status`; one that is not known here, or whose model is not, is read from the store first.

        Raises:
            Malformed: the id is empty.
            StoreUnavailable: it is not known here, and the store does not answer.
        """
        record = self._registry.aliases.get(AliasId(alias))
        if alias and (record is None or record.active not in self._registry.models):
            await self._registry.change(ReadAlias(AliasId(alias)))
        return self.alias_status(alias, owner)

    def alias_status(self, alias: str, owner: str = "") -> AliasStatus:
        """How an alias is; one of another owner reads as absent.

        Raises:
            Malformed: the id is empty.
        """
        if not alias:
            raise Malformed("Must provide vModelId")
        record = self._registry.aliases.get(AliasId(alias))
        if record is None or (owner and owner != record.owner):
            return AliasStatus(AliasState.NOT_FOUND)
        target = self._target_status(record) if record.in_transition else None
        return AliasStatus(alias_state(record), record.active, record.target, record.owner, self.status(record.active), target)

    def _target_status(self, record: AliasRecord) -> ModelStatus:
        """Without a copy or a failure to tell of, what blocks the transition, or that it is about to have the model loaded."""
        status = self.status(record.target)
        if status.state is not ModelState.NOT_LOADED:
            return status
        if record.failed:
            return ModelStatus(ModelState.LOADING_FAILED, (record.cause,) if record.cause else ())
        return ModelStatus(ModelState.LOADING)

    # The directory that doors ask

    def ready(self) -> bool:
        """Whether this pod takes calls."""
        return self._accepting

    def accept(self, accepting: bool) -> None:
        """Says whether this pod takes calls."""
        self._accepting = accepting

    def model_ready(self, name: str) -> bool:
        """Whether a call for this alias or model would be served now.

        Raises:
            Unknown: there is no such alias or model.
        """
        model = resolve_name(name, self._registry.aliases, self._registry.models)
        return self._listed(name, model).state == "READY"

    def index(self, *, ready: bool = False, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        """Aliases, and models without one, by name, from the one following `after`."""
        found: list[Listed] = []
        for name in self._named(after):
            try:
                listed = self._listed(name, resolve_name(name, self._registry.aliases, self._registry.models))
            except MeshError as error:
                listed = Listed(name, "", "UNAVAILABLE", error.message)
            if not ready or listed.state == "READY":
                found.append(listed)
                if len(found) == limit:
                    break
        return found

    def _listed(self, name: str, model: ModelId) -> Listed:
        status = self._status(model, self._registry.models[model])
        match status.state:
            case ModelState.LOADED:
                return Listed(name, "", "READY", "")
            case ModelState.LOADING:
                copy = self._conductor.pod.copy(model)
                return Listed(name, "", "LOADING", copy.state.value if copy is not None else "loading on another pod")
            case ModelState.LOADING_FAILED:
                return Listed(name, "", "UNAVAILABLE", status.errors[0] if status.errors else "its load failed")
            case _:
                return Listed(name, "", "READY", "not resident, will load on demand")

    # The registry

    async def change(self, edit: Edit) -> None:
        """Makes a change of the registry; returns when all who carry calls here know of it. Raises what the edit refuses with."""
        await self._change(edit)
        await self.settled()

    async def _change(self, edit: Edit) -> None:
        refusal = await self._registry.change(edit)
        if refusal is not None:
            raise refusal

    def _model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        if record is not None and not record.refs:
            self._unreferenced.add(model)
        else:
            self._unreferenced.discard(model)

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        if isinstance(self._aliases, Listing):
            if record is None:
                self._aliases.discard(alias)
            else:
                self._aliases.add(alias)

    def _named(self, after: str) -> Iterator[str]:
        """Aliases, and models without one, in order."""
        while names := sorted({*self._aliases.after(after, PART), *self._unreferenced.after(after, PART)})[:PART]:
            yield from names
            after = names[-1]

    @staticmethod
    def _need(model: str) -> None:
        if not model:
            raise Malformed("must provide non-empty modelId")
