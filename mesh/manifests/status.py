"""How a service is → the status block of its document, as `kubectl get -o yaml` shows it (reference D.10)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

from mesh.core.explaining.status import ModelState, TrafficStatus, VersionStatus
from mesh.core.registry.reconciliation import Condition, Failure


@dataclass(frozen=True)
class Addresses:
    """Where the mesh is called: the name it has inside a cluster."""

    service: str = "modelmesh-serving"
    namespace: str = "modelmesh-serving"
    grpc_port: int = 8033
    rest_port: int = 8008

    @property
    def grpc(self) -> str:
        """The URL of the services; all of a mesh share it."""
        return f"grpc://{self.service}.{self.namespace}:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """The same for REST."""
        return f"http://{self.service}.{self.namespace}:{self.rest_port}"


def service_status(condition: Condition, addresses: Addresses, since: str, traffic: TrafficStatus | None = None) -> dict[str, Any]:
    """The status of an InferenceService.

    URL and components stand there only while it is ready; a message explains a False.

    Args:
        condition: how it is.
        addresses: where it is called.
        since: when its readiness last changed (RFC 3339).
        traffic: its versions, of one that has a canary.
    """
    word = "True" if condition.ready else "False"
    cause: dict[str, Any] = {}
    if condition.failure and not condition.ready:
        cause = {"reason": condition.failure.reason.value, "message": condition.failure.message}
    status: dict[str, Any] = {
        "conditions": [{"type": kind, "status": word, "lastTransitionTime": since, **cause} for kind in ("PredictorReady", "Ready")],
        "modelStatus": {
            "transitionStatus": condition.transition.value,
            "states": {
                "activeModelState": condition.active.value,
                "targetModelState": condition.target.value if condition.target else "",
            },
            "copies": {"failedCopies": condition.failed_copies, "totalCopies": condition.total_copies},
        },
    }
    if condition.failure:
        status["modelStatus"]["lastFailureInfo"] = _failure(condition.failure)
    if condition.ready:
        component: dict[str, Any] = {"url": addresses.grpc, "grpcUrl": addresses.grpc, "restUrl": addresses.rest}
        if traffic is not None:
            component |= _component_traffic(traffic)
        status |= {"url": addresses.grpc, "components": {"predictor": component}}
    return status


def _component_traffic(traffic: TrafficStatus) -> dict[str, Any]:
    """As KServe writes it: what has a share, the newest as the latest revision."""
    sharing = [one for one in traffic.versions if one.percent or one.stable]
    latest = next((one for one in reversed(sharing) if not one.stable), None)
    parts = [{"revisionName": one.model, "latestRevision": one is latest, "percent": one.percent} for one in sharing]
    stable = next((one.model for one in sharing if one.stable), None)
    ready = {"latestReadyRevision": latest.model} if _serves(latest) else {}
    return {"traffic": parts, **({"latestRolledoutRevision": stable} if stable else {}), **ready}


def _serves(version: VersionStatus | None) -> TypeGuard[VersionStatus]:
    return version is not None and version.status.state is ModelState.LOADED


def rfc3339(millis: int) -> str:
    """Epoch milliseconds as the API writes times, to the second."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _failure(failure: Failure) -> dict[str, Any]:
    found: dict[str, Any] = {"reason": failure.reason.value, "message": failure.message, "modelRevisionName": failure.model}
    if failure.location:
        found["location"] = failure.location
    if failure.at:
        found["time"] = rfc3339(failure.at)
    return found
