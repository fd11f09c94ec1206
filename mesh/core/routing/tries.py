"""How often a model may fail to load before pods are spared it (reference 3.7)."""

from __future__ import annotations

from collections.abc import Set

from mesh.core.errors import LoadFailed
from mesh.core.ids import PodId
from mesh.core.policy import MAX_LOAD_FAILURES
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis


def latest_failure(record: ModelRecord) -> LoadFailed | None:
    """The failure that was recorded last."""
    if not record.failed:
        return None
    pod = max(record.failed, key=lambda pod: record.failed[pod])
    return LoadFailed(record.failures.get(pod) or f"the load failed on pod {pod}")


def out_of_tries(record: ModelRecord, since: Millis, known: Set[PodId] = frozenset()) -> LoadFailed | None:
    """Why no other pod is to try: the model failed on several.

    Args:
        record: failures in it count that came after `since`.
        since: the time.
        known: pods where it failed just now, whether or not the record shows that yet.
    """
    failed = known | {pod for pod, at in record.failed.items() if at > since}
    if len(failed) < MAX_LOAD_FAILURES:
        return None
    return latest_failure(record) or LoadFailed(f"the load failed on pods {', '.join(sorted(failed))}")
