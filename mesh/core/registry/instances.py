"""What a pod publishes of itself, field for field as ModelMesh writes it (reference 7.3); unknown fields are kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.registry.records import Json
from mesh.core.units import Millis, Units

NEVER = Millis(2**63 - 1)
"""`lru_time` of an empty cache: Java's largest long."""

_FIELDS = frozenset(
    [
        "startTime",
        "vers",
        "loc",
        "zone",
        "labels",
        "lruTime",
        "count",
        "cap",
        "used",
        "lThreads",
        "lInProg",
        "rpm",
        "shutdown",
        "actionable",
        "meshEndpoint",
        "meshCalls",
        "meshIdle",
        "meshRecycling",
    ],
)


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One pod: a router with its model server.

    Attributes:
        start_time: when it started.
        version: of its software, as a number that grows.
        location: the node it runs on.
        labels: what type constraints ask for, sorted.
        lru_time: when its least recently used model was last used; NEVER if it has none.
        count: models it holds.
        capacity, used: of its cache.
        load_threads: loads at a time.
        loads_in_progress: loads queued, waiting and running.
        rpm: requests a minute, a measure of how busy it is.
        shutting_down: nothing new is to go there.
        endpoint: `host:port` for calls between pods. Our addition, as what follows; empty for a router that is not ours.
        calls: that run here at a time on average, in hundredths.
        idle: of what is used, models out of recent use (`wanted_pods.RECENT`); the rest of it has to have room somewhere.
        recycling: its model server is about to begin anew; one pod at a time does that.
    """

    start_time: Millis = Millis(0)
    version: int = 0
    location: str = ""
    zone: str = ""
    labels: tuple[str, ...] = ()
    lru_time: Millis = NEVER
    count: int = 0
    capacity: Units = Units(0)
    used: Units = Units(0)
    load_threads: int = 0
    loads_in_progress: int = 0
    rpm: int = 0
    shutting_down: bool = False
    endpoint: str = ""
    calls: int = 0
    idle: Units = Units(0)
    recycling: bool = False
    unknown: Json = field(default_factory=dict)

    def with_(self, **changes: Any) -> InstanceRecord:
        """A changed copy of the record."""
        return replace(self, **changes)


def instance_to_json(record: InstanceRecord) -> dict[str, Any]:
    """The record as JSON; empty fields are left out, as ModelMesh leaves them out."""
    data = {
        **record.unknown,
        "startTime": record.start_time,
        "vers": record.version,
        "loc": record.location,
        "zone": record.zone,
        "labels": sorted(record.labels),
        "lruTime": record.lru_time,
        "count": record.count,
        "cap": record.capacity,
        "used": record.used,
        "lThreads": record.load_threads,
        "lInProg": record.loads_in_progress,
        "rpm": record.rpm,
        "shutdown": record.shutting_down,
        "actionable": True,
        "meshEndpoint": record.endpoint,
        "meshCalls": record.calls,
        "meshIdle": record.idle,
        "meshRecycling": record.recycling,
    }
    return {name: value for name, value in data.items() if value or name in record.unknown}


def instance_from_json(data: Any) -> InstanceRecord:
    """Reads a record.

    Raises:
        Malformed: a field has another type than ModelMesh writes.
    """
    try:
        return InstanceRecord(
            Millis(int(data.get("startTime", 0))),
            int(data.get("vers", 0)),
            sys.intern(str(data.get("loc", ""))),
            sys.intern(str(data.get("zone", ""))),
            tuple(sorted(sys.intern(str(label)) for label in data.get("labels", ()))),
            Millis(int(data.get("lruTime", 0))),
            int(data.get("count", 0)),
            Units(int(data.get("cap", 0))),
            Units(int(data.get("used", 0))),
            int(data.get("lThreads", 0)),
            int(data.get("lInProg", 0)),
            int(data.get("rpm", 0)),
            bool(data.get("shutdown", False)),
            str(data.get("meshEndpoint", "")),
            int(data.get("meshCalls", 0)),
            Units(int(data.get("meshIdle", 0))),
            bool(data.get("meshRecycling", False)),
            {name: value for name, value in data.items() if name not in _FIELDS},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise Malformed(f"instance record is not what ModelMesh writes: {error}") from None
