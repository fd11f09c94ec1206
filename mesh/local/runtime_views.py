"""What the control socket answers of runtimes: what each serves, its pods, what they hold, and why it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.core.errors import Malformed
from mesh.local.kits import Wanted
from mesh.local.pods import LocalPod, ask_each
from mesh.local.servers import MODULES
from mesh.local.supervisor import Supervisor
from mesh.manifests import runtimes
from mesh.manifests.documents import AnyRuntime

Json = dict[str, Any]


async def rows(supervisor: Supervisor) -> list[Json]:
    """Every runtime in force, the built-in ones included, by name."""
    figures = await ask_each(supervisor.pods, "pod", {})
    return [_row(supervisor, name, document, figures) for name, document in sorted(supervisor.runtimes_in_force().items())]


def hint(supervisor: Supervisor, model_type: str) -> str:
    """Why no pod takes models of this type though some runtime does, and what to do; empty if nothing useful can be said."""
    told = []
    for name, document in sorted(supervisor.runtimes_in_force().items()):
        if runtimes.supports(runtimes.labels(name, document.spec), model_type):
            one = supervisor.crew.wanted.get(name)
            there = [pod for pod in supervisor.pods if pod.runtime == name]
            if one is None:
                told.append(f"{name} takes it and has no pods here; start the mesh with `--runtime {_with(supervisor, name)}`")
            elif why := supervisor.crew.why_not(name):
                told.append(f"{name} takes it and cannot run: {why}")
            elif not there:
                told.append(
                    f"{name} takes it; its pods are being started" if one.share.least else f"{name} takes it and is to have no pods"
                )
            elif words := _last_words(there):
                told.append(f"{name} takes it and has no pod that takes calls: {words}")
    return "; ".join(told)


def _with(supervisor: Supervisor, name: str) -> str:
    """The option that the mesh would be started with."""
    named = supervisor.runtimes.named()
    return ",".join([*(_written(one, share) for one, share in named.items()), _word(name)])


def _written(name: str, share: Any) -> str:
    if share is None:
        return _word(name)
    return f"{_word(name)}={share.least}" + (f"..{share.most}" if share.most != share.least else "")


def _word(name: str) -> str:
    """The shortest word for a runtime: the server type for a built-in one."""
    server_type = name.rpartition("-")[0]
    return server_type if server_type in MODULES else name


def _row(supervisor: Supervisor, name: str, document: AnyRuntime, figures: Json) -> Json:
    wanted = supervisor.crew.wanted.get(name)
    pods = [one for one in supervisor.pods if one.runtime == name]
    told = [figures[one.name] for one in pods if one.name in figures]
    planned, server, image = _planned(document)
    why = supervisor.crew.why_not(name) or _last_words(pods)
    if wanted is None:
        why = f"not started: `mesh up --runtime {_with(supervisor, name)}` does"
    return {
        "name": name,
        "kind": document.kind,
        "builtIn": (document.kind, name) not in supervisor.documents.held,
        "server": server,
        "image": image,
        "folder": str(wanted.kit.image.folder) if wanted and wanted.kit and wanted.kit.image else "",
        "formats": [_format(one) for one in document.spec.supported_model_formats],
        "labels": list(runtimes.labels(name, document.spec)),
        "pods": {
            "names": [one.name for one in pods],
            "there": len(pods),
            "ready": sum(one.ready for one in pods),
            "least": wanted.share.least if wanted else 0,
            "most": wanted.share.most if wanted else 0,
            "outdated": sum(bool(wanted and wanted.kit and one.kit != wanted.kit) for one in pods),
        },
        "models": sum(one["models"] for one in told),
        "plannedBytes": planned,
        "capacityBytes": sum(one["capacity_bytes"] for one in told) if told else None,
        "usedBytes": sum(one["used_bytes"] for one in told) if told else None,
        "freeBytes": sum(one["free_bytes"] for one in told) if told else None,
        "health": _health(wanted, pods, why, supervisor),
        "whyNot": why,
        "notes": [*filter(None, [wanted.warning]), *wanted.notes] if wanted else [],
        "document": document.model_dump(by_alias=True, exclude_unset=True, mode="json"),
    }


def _last_words(pods: Sequence[LocalPod]) -> str:
    return next((f"{one.name}: {words}" for one in pods if (words := one.last_words())), "")


def _planned(document: AnyRuntime) -> tuple[int | None, str, str]:
    """Bytes for models in each pod, model server and image; of a document that makes no pod what it says."""
    adapter = document.spec.built_in_adapter
    server = adapter.server_type if adapter else "own"
    try:
        plan = runtimes.pod_plan(document)
    except Malformed:
        return None, server, ""
    return plan.capacity, server, plan.image


def _format(one: Any) -> str:
    """With a star if a service has to name the runtime for it."""
    return f"{one.name}{f':{one.version}' if one.version else ''}{'' if one.auto_select else '*'}"


def _health(wanted: Wanted | None, pods: list[LocalPod], why: str, supervisor: Supervisor) -> str:
    """`off` if no pods are wanted; `blocked` if something is in the way; `making` an environment; `ready`, `starting`, `degraded`."""
    if wanted is None or (not wanted.share.least and not pods):
        return "off"
    if wanted.kit and wanted.kit.environment.name in supervisor.crew.making:
        return "making"
    ready = sum(one.ready for one in pods)
    if why and not ready:
        return "blocked"
    if ready >= max(wanted.share.least, 1) and ready == len(pods):
        states = {one.state() for one in pods}
        return "ready" if states == {"ready"} else "degraded"
    return "degraded" if any(one.served for one in pods) else "starting"
