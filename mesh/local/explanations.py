"""What all pods of a mesh say of one thing, put together: found by any of its names, told by pod."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Protocol
from urllib.parse import quote

from mesh.core.errors import Malformed, PeerUnavailable, Unknown

Json = dict[str, Any]


class Pods(Protocol):
    """The pods of a mesh, however they are reached."""

    async def each(self, path: str, params: dict[str, str]) -> Json:
        """What every pod that answers tells at `/mesh/v1/<path>`, by pod."""
        ...

    async def model(self, name: str) -> Json:
        """One model as all pods together know it. Unknown if there is none."""
        ...

    async def figures(self, pod: str) -> Json | None:
        """One pod as `mesh get pods` shows it; None if nothing is known of it."""
        ...

    def silent(self) -> Sequence[str]:
        """Pods that do not answer."""
        ...

    def services(self) -> Sequence[str]:
        """Names of services that are known without asking the pods."""
        ...

    def service(self, name: str, /) -> Json | None:
        """What is known of one of these."""
        ...


KINDS = ("isvc", "model", "pod", "request")
"""What can be explained, in the order in which a name that several have is taken."""

_ALIKE = 3
"""Names that are suggested for one that nothing has."""


async def explain(pods: Pods, name: str, kind: str, limit: int) -> Json:
    """What `name` is, and what each pod says of it, with the inputs of its decisions.

    Args:
        pods: of the mesh.
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
    kind, name = await _named(pods, name, kind)
    path = f"explain/{quote(name, safe='')}"
    told = await pods.each(path, {"kind": kind, "limit": str(limit), "inputs": "true"})
    document: Json = {"kind": kind, "name": name, "views": told, "silent": list(pods.silent())}
    if kind == "isvc":
        document["service"] = pods.service(name)
    for role, model in _models(kind, name, told).items():
        # One that was deleted is known by what was decided about it alone.
        with suppress(Unknown):
            document[role] = await pods.model(model)
    if kind == "pod":
        document["row"] = await pods.figures(name)
    return document


async def decisions(pods: Pods, limit: int) -> Json:
    """The latest decisions of each pod, with their inputs."""
    return await pods.each("decisions", {"limit": str(limit), "inputs": "true"})


async def _named(pods: Pods, text: str, kind: str) -> tuple[str, str]:
    answers = await pods.each("names", {"of": text})
    if not answers:
        asked = f" ({', '.join(silent)})" if (silent := pods.silent()) else ""
        raise PeerUnavailable(f"no pod answers{asked}; `mesh status` shows how they are, and --at takes addresses of MM_PROBE_PORT")
    services = pods.services()
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
    if kind in ("", "request") and not alike:
        hint += "; a request that found its model serving leaves nothing to explain"
    raise Unknown(f"there is no {what} {text!r}{hint}")


def _models(kind: str, name: str, told: dict[str, Any]) -> dict[str, str]:
    """The models whose state is told: role -> id."""
    if kind == "model":
        return {"model": name}
    alias = next((view["alias"] for view in told.values() if view.get("alias")), None)
    if kind != "isvc" or alias is None:
        return {}
    return {"model": alias["active"]} | ({"target": alias["target"]} if alias["target"] != alias["active"] else {})
