"""What the control socket answers: services, runtimes and pods as plain values."""

from __future__ import annotations

from typing import Any

from mesh.core.ids import AliasId
from mesh.local import pod
from mesh.local.controller import Service
from mesh.local.documents import shown
from mesh.local.supervisor import Supervisor
from mesh.manifests import runtimes
from mesh.manifests.parsing import Applied
from mesh.manifests.status import Addresses, rfc3339, service_status


def service(supervisor: Supervisor, applied: Applied) -> dict[str, Any]:
    """One line of `mesh get isvc`, with what `describe` and `-o wide` add, and the document with its status."""
    namespace = supervisor.options.namespace
    known = supervisor.controller.services[AliasId(applied.document.name)]
    condition = known.condition()
    addresses = Addresses(pod.SERVICE, namespace)
    status = service_status(condition, addresses, rfc3339(known.since))
    return {
        "name": applied.document.name,
        "kind": applied.document.kind,
        "namespace": namespace,
        "url": status.get("url", ""),
        "ready": condition.ready,
        "address": f"http://127.0.0.1:{supervisor.options.rest_port}/v2/models/{applied.document.name}/infer",
        "grpcAddress": f"127.0.0.1:{supervisor.options.grpc_port}",
        "model": known.wanted.model,
        "type": known.wanted.type,
        "path": known.wanted.path,
        "key": known.wanted.key,
        "state": condition.active.value,
        "targetState": condition.target.value if condition.target else "",
        "transition": condition.transition.value,
        "settled": not known.applied,
        "copies": {"total": condition.total_copies, "failed": condition.failed_copies},
        "message": _message(known),
        "document": shown(applied, namespace, status),
    }


def runtime_rows(supervisor: Supervisor) -> list[dict[str, Any]]:
    """Every runtime in force, the built-in ones included."""
    rows = []
    for name, document in sorted(supervisor.runtimes_in_force().items()):
        formats = [f"{one.name}:{one.version}" if one.version else one.name for one in document.spec.supported_model_formats]
        mine = name == supervisor.plan.name
        rows.append(
            {
                "name": name,
                "kind": document.kind,
                "formats": formats,
                "labels": list(runtimes.labels(name, document.spec)),
                "builtIn": (document.kind, name) not in supervisor.documents.held,
                "pods": 1 if mine else 0,
                "capacityBytes": supervisor.plan.capacity if mine else None,
                "document": document.model_dump(by_alias=True, exclude_unset=True, mode="json"),
            }
        )
    return rows


def pod_row(supervisor: Supervisor, details: dict[str, Any]) -> dict[str, Any]:
    """The one pod, with what its router tells of itself."""
    return {
        "name": pod.POD,
        "runtime": supervisor.plan.name,
        "ready": supervisor.ready.is_set(),
        "capacityBytes": supervisor.plan.capacity,
        "processes": [child.described() for child in supervisor.children],
        "router": details,
    }


def _message(known: Service) -> str:
    if known.refusal:
        return known.refusal
    failure = known.condition().failure
    return failure.message if failure else ""
