"""What all pods of a mesh say of one thing, put together: found by any of its names, told by pod."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

from mesh.core.errors import Malformed, MeshError, PeerUnavailable, Unknown
from mesh.local import views
from mesh.local.pods import ask_each
from mesh.local.supervisor import Supervisor

KINDS = ("isvc", "model", "pod", "request")
"""What can be explained, in the order in which a name that several have is taken."""

_ALIKE = 3
"""Names that are suggested for one that nothing has."""


async def explain(supervisor: Supervisor, name: str, kind: str, limit: int) -> dict[str, Any]:
    """What `name` is, and what each pod says of it, with the inputs of its decisions.

    Args:
        supervisor: of the mesh.
        name: of a service, a model, a pod or a request; its first letters are enough if only one begins so.
        kind: one of KINDS; empty for whatever it is.
        limit: decisions at most that each pod tells.

    Raises:
        Unknown: nothing has the name; says which ones look like it.
        Malformed: there is no such kind, or several things begin so.
        PeerUnavailable: no pod answers.
    """
    if kind and kind not in KINDS:
        raise Malformed(f"--kind {kind}: there is no such kind; there are {', '.join(KINDS)}")
    kind, name = await _named(supervisor, name, kind)
    path = f"explain/{quote(name, safe='')}"
    told = await ask_each(supervisor.pods, path, {"kind": kind, "limit": str(limit), "inputs": "true"})
    silent = [pod.name for pod in supervisor.pods if not pod.ready]
    document: dict[str, Any] = {"kind": kind, "name": name, "views": told, "silent": silent}
    if kind == "isvc":
        document["service"] = _service(supervisor, name)
    for role, model in _models(kind, name, told).items():
        # One that was deleted is known by what was decided about it alone.
        with suppress(Unknown):
            document[role] = await views.model(supervisor, model)
    if kind == "pod":
        document["row"] = next((row for row in await views.pod_rows(supervisor) if row["name"] == name), None)
    return document


async def decisions(supervisor: Supervisor, limit: int) -> dict[str, Any]:
    """The latest decisions of each pod, with their inputs."""
    return await ask_each(supervisor.pods, "decisions", {"limit": str(limit), "inputs": "true"})


async def _named(supervisor: Supervisor, text: str, kind: str) -> tuple[str, str]:
    answers = await ask_each(supervisor.pods, "names", {"of": text})
    if not answers:
        raise PeerUnavailable("no pod answers; `mesh status` shows how they are")
    services = [applied.document.name for applied in supervisor.services()]
    exact = {("isvc", text)} if text in services else set()
    exact |= {(one["kind"], one["name"]) for answer in answers.values() for one in answer["exact"]}
    exact = {one for one in exact if kind in ("", one[0])}
    if exact:
        return min(exact, key=lambda one: KINDS.index(one[0]))
    begin = {("isvc", name) for name in services if name.startswith(text)} if text else set()
    begin |= {(one["kind"], one["name"]) for answer in answers.values() for one in answer["begin"]}
    begin = {one for one in begin if kind in ("", one[0])}
    if len(begin) == 1:
        return begin.pop()
    what = {"isvc": "service", "": "service, model, pod or request"}.get(kind, kind)
    if begin:
        listed = sorted(f"{one} ({of})" for of, one in begin)
        more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
        raise Malformed(f"{text!r} may be any of {', '.join(listed[:8])}{more}: write more of it, or the kind (--kind)")
    near = {*services, *(name for answer in answers.values() for name in answer["near"])}
    alike = get_close_matches(text, near, _ALIKE)
    hint = f"; is it {' or '.join(alike)}?" if alike else "; `mesh get isvc`, `mesh get models` and `mesh get pods` list them"
    raise Unknown(f"there is no {what} {text!r}{hint}")


def _service(supervisor: Supervisor, name: str) -> dict[str, Any] | None:
    with suppress(MeshError, StopIteration):
        found = views.service(supervisor, next(one for one in supervisor.services() if one.document.name == name))
        return {part: found[part] for part in ("name", "ready", "state", "targetState", "transition", "message", "model", "type", "path")}
    return None


def _models(kind: str, name: str, told: dict[str, Any]) -> dict[str, str]:
    """The models whose state is told: role -> id."""
    if kind == "model":
        return {"model": name}
    alias = next((view["alias"] for view in told.values() if view.get("alias")), None)
    if kind != "isvc" or alias is None:
        return {}
    return {"model": alias["active"]} | ({"target": alias["target"]} if alias["target"] != alias["active"] else {})
