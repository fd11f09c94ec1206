"""What a pod does by itself to keep the mesh in order; nothing of it is in the way of a call."""

from __future__ import annotations

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.pod.janitor import JanitorKeeper
from mesh.pod.loads import Loads
from mesh.pod.minimum import MinimumKeeper
from mesh.pod.proactive import ProactiveKeeper
from mesh.pod.reaper import Reaper
from mesh.pod.tasks import Tasks
from mesh.settings import Settings
from mesh.store.registry import Registry
from mesh.store.tables import noted


class Upkeep:
    """The keepers of one pod. To be made after the pod's own listeners, which keep its view of others and of bounds."""

    def __init__(self, registry: Registry, conductor: Conductor, loads: Loads, census: Census, settings: Settings) -> None:
        self._mentions = Mentions({})
        self.janitor = JanitorKeeper(registry, conductor, self._mentions, settings.janitor_interval / 1000)
        for model, record in noted(registry.models):
            self._model_changed(model, record)
        registry.listen(self._model_changed, self._alias_changed)
        self.reaper = Reaper(registry, conductor, self._mentions)
        self.minimum = MinimumKeeper(registry, conductor, loads, self._mentions)
        self.proactive = ProactiveKeeper(registry, conductor, loads, census, settings.proactive_interval / 1000)

    def begin(self, tasks: Tasks) -> None:
        """Starts them; they run until the tasks are stopped."""
        tasks.begin(self.reaper.keep(), "forgetting dead pods")
        tasks.begin(self.minimum.keep(), "keeping copies that users want")
        tasks.begin(self.proactive.keep(), "loading models into free space")
        tasks.begin(self.janitor.keep(), "looking over what records say of this pod")

    def _model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        self._mentions.model_changed(model, record)
        self.janitor.model_changed(model, record)

    def _alias_changed(self, _alias: AliasId, _record: AliasRecord | None) -> None:
        """Aliases name no pods."""
