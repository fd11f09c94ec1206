"""What the control socket answers: services and pods as plain values."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote

from mesh.core.errors import Unavailable, Unknown
from mesh.core.explaining.status import ModelState, ModelStatus, Standing, Word, standing
from mesh.core.ids import AliasId
from mesh.core.registry.reconciliation import Canary, Reason
from mesh.core.routing.failed_loads import FailedLoads
from mesh.core.scaling.bounds import bounds_to_json
from mesh.core.units import Millis
from mesh.local import pod, runtime_views, scaler
from mesh.local.controller import Service
from mesh.local.documents import shown
from mesh.local.pods import ask_each
from mesh.local.supervisor import Supervisor
from mesh.local.together import own_words, together
from mesh.manifests.documents import TrafficPolicy
from mesh.manifests.parsing import Applied
from mesh.manifests.status import Addresses, rfc3339, service_status


def service(supervisor: Supervisor, applied: Applied) -> dict[str, Any]:
    """One line of `mesh get isvc`, with what `describe` and `-o wide` add, and the document with its status."""
    namespace = supervisor.options.namespace
    known = supervisor.controller.services[AliasId(applied.document.name)]
    condition = known.condition()
    addresses = Addresses(pod.SERVICE, namespace)
    status = service_status(condition, addresses, rfc3339(known.since), known.traffic if condition.canary else None)
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
        "canary": _canary(condition.canary),
        **_standing(known),
        "copies": {"total": condition.total_copies, "failed": condition.failed_copies},
        "bounds": bounds_to_json(known.wanted.bounds),
        "message": _with_hint(supervisor, known, _message(known, supervisor.controller.trouble)),
        "document": shown(applied, namespace, status),
    }


def policy(supervisor: Supervisor, applied: Applied) -> dict[str, Any]:
    """One line of `mesh get trafficpolicies`, and the document with its status."""
    document = applied.document
    assert isinstance(document, TrafficPolicy), "its kind was asked for"
    held = supervisor.policies.of(document.service)
    status = {"state": held.state, "message": held.message}
    return {
        "name": document.name,
        "service": document.service,
        "policy": held.policy,
        **status,
        "document": shown(applied, supervisor.options.namespace, status),
    }


async def pod_rows(supervisor: Supervisor) -> list[dict[str, Any]]:
    """Every pod: ours with their processes and what their routers tell now, others of the same registry as that shows them.

    `router` has the figures, of which a pod's record in the registry may be half a minute old; it is empty if nobody tells any.
    """
    recorded: dict[str, dict[str, Any]] = {}
    with suppress(Unavailable, Unknown):
        answer = await supervisor.router.details("pods", {})
        recorded = {one["id"]: one for one in answer["pods"]}
    fresh = await ask_each(supervisor.pods, "pod", {})
    rows = []
    for one in supervisor.pods:
        figures = {**recorded.pop(one.name, {}), **fresh.get(one.name, {})}
        state = one.state()
        if state == "ready" and figures.get("runtime") == "lost":
            state = "impaired"
        rows.append(
            {
                **one.described(),
                "state": state,
                "ready": one.ready,
                "capacityBytes": one.kit.plan.capacity,
                "processes": [child.described() for child in one.children],
                "router": figures,
            }
        )
    for name, figures in recorded.items():
        seen = {"state": figures["state"], "ready": figures["state"] == "ready", "peer": figures["endpoint"] or ""}
        rows.append({"name": name, "runtime": "", **seen, "processes": [], "router": figures})
    return rows


async def wanted(supervisor: Supervisor) -> list[dict[str, Any]]:
    """How many pods each runtime wants, why, and between which bounds the mesh follows that; these are equal if it does not."""
    bounds = {name: {"least": one.share.least, "most": one.share.most} for name, one in supervisor.crew.wanted.items()}
    return [{**one, **bounds.get(one["runtime"], {})} for one in await scaler.wanted(supervisor.pods)]


async def model_page(supervisor: Supervisor, params: dict[str, str]) -> dict[str, Any]:
    """A page of models as one router lists them, each copy as its own pod sees it."""
    page: dict[str, Any] = await supervisor.router.details("models", params)
    if len(supervisor.pods) > 1 and page["models"]:
        bounds = {"after": params.get("after", ""), "until": page["models"][-1]["id"]}
        of_model: dict[str, list[dict[str, Any]]] = {}
        for answer in (await ask_each(supervisor.pods, "copies", bounds)).values():
            for copy in answer["copies"]:
                of_model.setdefault(copy.pop("model"), []).append(copy)
        for model in page["models"]:
            own = of_model.get(model["id"], [])
            model["copies"] = own_words(model["copies"], own)
            # Written to the registry lazily; whoever serves it knows better.
            model["called"] = model["called"] or any(copy["called"] for copy in own)
            model["last_used_ms"] = max([model["last_used_ms"], *(copy["last_used_ms"] for copy in own)])
    return page


async def model(supervisor: Supervisor, name: str) -> Any:
    """One model as all pods together know it: copies and failures as their own pods see them, one story."""
    path = f"models/{quote(name, safe='')}"
    found = await supervisor.router.details(path, {})
    told = await ask_each(supervisor.pods, path, {})
    if len(supervisor.pods) == 1 or not told:
        return found
    return together(found, told)


def _canary(canary: Canary | None) -> dict[str, Any] | None:
    if canary is None:
        return None
    told = {"version": canary.number or None, "percent": canary.percent, "state": canary.state.value}
    return {**told, "settled": canary.resting, "text": canary.text}


def _standing(known: Service) -> dict[str, Any]:
    return status_told(known.seen.active_status or ModelStatus(ModelState.NOT_FOUND), known.refusal)


def status_told(status: ModelStatus, refusal: str = "") -> dict[str, Any]:
    """The word for how a model is, as a router told it; the model itself says when a failing one is tried again.

    Args:
        status: what was told.
        refusal: why it was not registered.
    """
    if refusal:
        found = Standing(Word.FAILED, why=refusal)
    else:
        failed = tuple((copy.pod, copy.at, "") for copy in status.copies if copy.state is ModelState.LOADING_FAILED)
        found = standing(status, FailedLoads(failed, (), Millis(0), Millis(0)))
    told = {"since_ms": found.since or None, "retry_at_ms": None, "why": found.why or None}
    return {"status_word": found.word.value, "status": told}


def _message(known: Service, trouble: str) -> str:
    if known.refusal:
        return known.refusal
    if known.applied and trouble:
        return f"not written to the registry yet, which is tried until it succeeds: {trouble}"
    condition = known.condition()
    canary = condition.canary
    failure = condition.failure if canary is None or canary.failure is not condition.failure else None
    return "; ".join([*([failure.message] if failure else ()), *([canary.text] if canary else ())])


def _with_hint(supervisor: Supervisor, known: Service, message: str) -> str:
    """For a service that waits for a pod: which runtime would take its model, and what brings it here."""
    failure = known.condition().failure
    waits = failure is not None and message == failure.message and failure.reason is Reason.RUNTIME_UNHEALTHY
    hint = runtime_views.hint(supervisor, known.wanted.type) if waits else ""
    return f"{message}: {hint}" if hint else message
