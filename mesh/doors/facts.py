"""State as JSON on the probe port, under `/mesh/v1`: the pod, all pods, models, aliases."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from mesh.doors.http_small import Request
from mesh.doors.probes import Answer, Route
from mesh.pod.facts import Facts

PREFIX = "/mesh/v1"


def facts_route(facts: Callable[[], Facts | None]) -> Route:
    """Answers below `PREFIX`; 503 as long as there are no facts."""

    def answer(request: Request) -> Answer:
        known = facts()
        if known is None:
            return 503, {"error": "the pod is still starting"}
        kind, _, name = request.path.removeprefix(PREFIX).strip("/").partition("/")
        found = _view(known, kind, unquote(name), request)
        if found is None:
            return 404, {"error": f"there is no {request.path}; try {PREFIX}/pod, /pods, /copies, /models[/ID], /aliases[/NAME]"}
        return 200, found

    return answer


def _view(facts: Facts, kind: str, name: str, request: Request) -> dict[str, object] | None:
    def one(key: str, default: str) -> str:
        return next(iter(request.query.get(key, ())), default)

    match kind, name:
        case "pod", "":
            return facts.pod()
        case "pods", "":
            return facts.pods()
        case "models", "":
            limit = int(text) if (text := one("limit", "1000")).isdecimal() else 1000
            return facts.models(one("after", ""), min(max(limit, 1), 1000), one("part", ""), one("pod", ""), one("state", ""))
        case "copies", "":
            return facts.copies(one("after", ""), one("until", ""))
        case "models", _:
            return facts.model(name)
        case "aliases", "":
            return facts.aliases()
        case "aliases", _:
            return facts.alias(name)
        case _:
            return None
