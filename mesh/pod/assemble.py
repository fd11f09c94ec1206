"""One pod put together and brought to life: runtime met, registry opened, mind and hands joined."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

from mesh.core.cache.leaks import Leaks, limit_of
from mesh.core.errors import Malformed
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.placement.rollout import Rollout
from mesh.core.pod import Pod
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.routing.dataplane import Dataplane
from mesh.core.routing.steps import View
from mesh.core.scaling.ticks import Scaling
from mesh.core.units import bytes_of
from mesh.pod.accesses import Accesses
from mesh.pod.admission import Admission
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.pod.dynamic import DynamicConfig, refuse_if_disabled
from mesh.pod.facts import Facts
from mesh.pod.figures import Figures
from mesh.pod.hands import RuntimeHands
from mesh.pod.lane import Publisher
from mesh.pod.live_files import LiveFile
from mesh.pod.loads import Loads
from mesh.pod.management import Management, nothing_to_wait_for
from mesh.pod.membership import Membership
from mesh.pod.payloads import payloads_of
from mesh.pod.peers import Peers
from mesh.pod.recycling import Recycler
from mesh.pod.references import ReferenceKeeper
from mesh.pod.scaling import ScalingKeeper, rules_of
from mesh.pod.serve import CallServer
from mesh.pod.server_memory import ServerMemory
from mesh.pod.surroundings import REAL, Surroundings
from mesh.pod.targets import Targets
from mesh.pod.tasks import Tasks
from mesh.pod.traffic import Traffic
from mesh.pod.transitions import Transitions
from mesh.pod.travel import Travels
from mesh.pod.turns import Turns
from mesh.pod.upkeep import Upkeep
from mesh.pod.versions import Versions
from mesh.pod.wanted_pods import WantedPods
from mesh.runtime import health
from mesh.runtime.channels import address
from mesh.runtime.handshake import Runtime, meet
from mesh.runtime.process import RuntimeProcess
from mesh.settings import Settings
from mesh.store.registry import Registry
from mesh.store.tables import noted
from mesh.telemetry import catalogue
from mesh.telemetry.lag import watch_lag
from mesh.telemetry.metrics import Metrics
from mesh.wire.exchange import Exchange

log = logging.getLogger(__name__)

DEFAULT_RUNTIMES = ("127.0.0.1:8085", "unix:/tmp/mmesh/grpc.sock")
"""Tried in turn when no address is set (reference 2.2)."""


@dataclass
class LivingPod:
    """A pod that is up. Doors are opened on `serving`, `management`, `facts`."""

    serving: CallServer
    peers: Peers
    loads: Loads
    management: Management
    facts: Facts
    metrics: Metrics
    conductor: Conductor
    hands: RuntimeHands
    transitions: Transitions
    registry: Registry
    runtime: Runtime
    admission: Admission
    membership: Membership
    targets: Targets
    serving_address: str
    tasks: Tasks = field(default_factory=Tasks)
    early: Tasks = field(default_factory=Tasks)
    """What ran before there was a pod."""
    lane: Publisher | None = None
    log_each: bool = False

    def __post_init__(self) -> None:
        self.versions = Versions(self.conductor, self.registry, self.management)

    def use_lane(self, lane: Publisher | None) -> None:
        """From now on an express lane takes calls too; None: no more."""
        self.lane = lane
        self.hands.emptied = lane.emptied if lane is not None else None
        self.management.settled = lane.settled if lane is not None else nothing_to_wait_for
        self.metrics.catch_up = self.catch_up
        self.see_each(self.log_each)

    def catch_up(self) -> None:
        """Has the calls of the express lane counted."""
        if self.lane is not None:
            self.lane.collect()

    def see_each(self, wanted: bool) -> None:
        """Has each call of the runtime logged, or not; the express lane sees none of them."""
        self.log_each = wanted
        self.serving.log_each(wanted)
        if self.lane is not None:
            self.lane.pause("a line in the log for each call", wanted)

    async def stop(self) -> None:
        """Ends everything but calls, which the doors have seen out."""
        self.management.accept(False)
        await self.serving.stop()
        await self.tasks.stop()
        await self.early.stop()
        await self.transitions.stop()
        await self.loads.stop()
        await self.peers.close()
        await self.membership.stop()
        self.conductor.stop()
        await self.hands.stop()
        await self.runtime.spi.channel.close()
        await self.registry.close()


async def start(settings: Settings, metrics: Metrics, surroundings: Surroundings = REAL) -> LivingPod:
    """Brings a pod up; returns when the runtime is ready.

    Args:
        settings: of the pod.
        metrics: told what happens.
        surroundings: the outside world, or a simulated one.

    Raises:
        MeshError: says what failed and what to do.
    """
    if not settings.service_name:
        raise Malformed("MM_SERVICE_NAME is not set; it names the mesh that this pod belongs to")
    constraints, dataplane = Constraints.parse(settings.type_constraints), _dataplane(settings)
    early = Tasks()
    if metrics.options is not None:
        # From now on, because nothing takes longer than to read a large registry.
        early.begin(watch_lag(metrics), "measuring the lag of the event loop")
    try:
        registry = await surroundings.registry(settings)
        try:
            living = await _live_on(settings, metrics, surroundings, registry, constraints, dataplane)
        except BaseException:
            await registry.close()
            raise
    except BaseException:
        await early.stop()
        raise
    living.early = early
    return living


async def _live_on(
    settings: Settings, metrics: Metrics, surroundings: Surroundings, registry: Registry, constraints: Constraints, dataplane: Dataplane
) -> LivingPod:
    refuse_if_disabled(registry.parameters)
    configured = address(settings.runtime_port, settings.runtime_socket)
    runtime = await meet(
        [configured] if configured else DEFAULT_RUNTIMES,
        settings.runtime_start_timeout,
        failure_expiry=settings.load_failure_expiry,
        drain_limit=settings.drain_limit,
        waiting=lambda why: log.info("waiting for the runtime: %s", why),
        connect=surroundings.runtime,
    )
    watched = await health.offered(runtime.spi.channel)
    pod = Pod(PodId(settings.instance_id), runtime.policy, labels=settings.labels, watched=watched)
    pod.constraints, pod.models, pod.limited = constraints, registry.models, runtime.limits_concurrency
    living = _join(settings, metrics, surroundings, registry, runtime, pod, Targets(registry, dataplane, Traffic(registry, random.random)))
    if watched:
        living.tasks.begin(health.watch(runtime.spi.channel, living.conductor.tell), "watching the runtime's health")
    log.info(
        "the runtime is ready",
        extra={
            "address": runtime.address,
            "capacity_bytes": bytes_of(runtime.policy.capacity),
            "loading_concurrency": runtime.policy.slots,
            "load_timeout_ms": runtime.policy.load_timeout,
            "watched": watched,
        },
    )
    return living


def _join(
    settings: Settings, metrics: Metrics, surroundings: Surroundings, registry: Registry, runtime: Runtime, pod: Pod, targets: Targets
) -> LivingPod:
    conductor = Conductor(pod, surroundings.clock)
    hands = RuntimeHands(conductor, runtime.spi, registry, metrics)
    conductor.use(hands)
    rollout = Rollout()
    view = View(pod, registry.models, lambda: membership.record(), rollout.outdated, lambda: f"{random.getrandbits(64):016x}")
    peers = Peers(pod.id, pod.pods, settings, conductor.now, surroundings.peer)
    loads = Loads(conductor, view, peers, targets.lookups)
    transitions = Transitions(pod.id, conductor, registry, loads)
    management = Management(conductor, registry, loads, transitions, default_owner=settings.default_alias_owner)
    serving_address = address(settings.serving_port, settings.serving_socket) or runtime.address
    admission = Admission(settings.max_calls, settings.max_held)
    turns = Turns(metrics, limited=runtime.limits_concurrency, longest=settings.max_inflight_per_copy)
    travels = Travels(conductor, view, targets.lookups, admission, turns, metrics)
    membership = Membership(registry, conductor, settings, lambda: turns.busyness if turns.limited else travels.calls)
    serving = CallServer(
        targets,
        runtime,
        Exchange(surroundings.runtime(serving_address, settings.max_message)),
        peers,
        travels,
        admission,
        metrics,
        parallel=settings.multi_parallelism,
        log_each=settings.log_each_invoke,
        payloads=payloads_of(settings, metrics),
    )

    _listen(registry, conductor, rollout, peers)
    census = Census(registry)
    facts = Facts(conductor, registry, management, census)
    living = LivingPod(
        *(serving, peers, loads, management, facts, metrics, conductor, hands, transitions, registry, runtime, admission, membership),
        targets=targets,
        serving_address=serving_address,
    )
    dynamic = DynamicConfig(registry, settings, living.see_each)
    _watch_files(settings, living, pod, targets)
    living.tasks.begin(ReferenceKeeper(registry, conductor, surroundings.spare).keep(), "correcting references")
    _begin_keepers(living, settings, view, rollout, dynamic, turns, census)
    return living


def _begin_keepers(
    living: LivingPod, settings: Settings, view: View, rollout: Rollout, dynamic: DynamicConfig, turns: Turns, census: Census
) -> None:
    """What a pod does by itself from time to time, and what it tells of that."""
    conductor, registry, membership, metrics, facts = living.conductor, living.registry, living.membership, living.metrics, living.facts
    rules, now = rules_of(settings), conductor.now()
    scaling = Scaling(conductor.pod, view.own, rules, lambda: dynamic.scaleup_rpm_threshold, now, limited=turns.limited)
    living.tasks.begin(ScalingKeeper(scaling, conductor, living.loads, living.peers, living.catch_up).keep(), "following the load")
    Upkeep(registry, conductor, living.loads, census, settings).begin(living.tasks)
    wanted = WantedPods(conductor, registry, settings, membership.record, rollout.outdated)
    membership.use, facts.wanted = lambda: wanted.use, wanted.told
    facts.accesses = Accesses(conductor.now, metrics).page
    metrics.read(catalogue.PODS_WANTED, wanted.wanted)
    living.tasks.begin(wanted.keep(), "working out how many pods are wanted")
    _watch_memory(living, settings)
    figures = Figures(metrics, conductor, census, registry)
    if metrics.options is not None:
        living.tasks.begin(figures.watch_store(), "counting the time without a store")


def _watch_memory(living: LivingPod, settings: Settings) -> None:
    """Follows what the model server holds; it begins anew when it leaks, if the settings say so."""
    conductor, process = living.conductor, RuntimeProcess(living.runtime.spi.channel)
    leaks = Leaks(limit_of(settings.recycle_runtime, bytes_of(living.runtime.policy.capacity)))
    parts = (conductor, living.registry, living.membership, living.loads, living.serving.travels, process)
    recycler = Recycler(*parts, settings.runtime_start_timeout)
    memory = ServerMemory(conductor, process, leaks, living.metrics, settings.memory_interval / 1000, recycler.run)
    living.facts.memory = memory.told
    living.tasks.begin(memory.keep(), "watching the model server's memory")


def _listen(registry: Registry, conductor: Conductor, rollout: Rollout, peers: Peers) -> None:
    """Keeps the pod's view of the mesh in step with the registry."""
    pods = conductor.pod.pods

    def model_changed(model: ModelId, record: ModelRecord | None) -> None:
        for event in conductor.pod.record_changed(model, record):
            conductor.tell(event)

    def alias_changed(alias: AliasId, record: AliasRecord | None) -> None:
        conductor.pod.alias_changed(alias, record)

    for alias, pointing in noted(registry.aliases):
        alias_changed(alias, pointing)
    for model, record in noted(registry.models):
        pods.model_changed(model, record)

    def instance_changed(other: PodId, record: InstanceRecord | None) -> None:
        conductor.pod.pod_changed(other, record)
        peers.changed(other)
        if record is None:
            rollout.gone(other, conductor.now())
        else:
            rollout.seen(other, record, conductor.now())

    for other, instance in registry.instances.items():
        instance_changed(other, instance)
    registry.listen(model_changed, alias_changed)
    registry.listen_to_instances(instance_changed)


def _dataplane(settings: Settings) -> Dataplane:
    return Dataplane.parse(settings.dataplane_config) if settings.dataplane_config else Dataplane.DEFAULT


def _watch_files(settings: Settings, living: LivingPod, pod: Pod, targets: Targets) -> None:
    def new_dataplane(text: str) -> None:
        targets.dataplane = Dataplane.parse(text)
        if living.lane is not None:
            living.lane.rules_changed()

    def new_constraints(text: str) -> None:
        pod.constraints = Constraints.parse(text)

    files = (
        (settings.dataplane_config_path, "MM_DATAPLANE_CONFIG_PATH", new_dataplane),
        (settings.type_constraints_path, "MM_TYPE_CONSTRAINTS_PATH", new_constraints),
    )
    for path, variable, apply in files:
        if path is not None:
            file = LiveFile(path, variable, apply)
            file.load()
            living.tasks.begin(file.watch(), f"watching {variable}")
