"""State as JSON on the probe port, under `/mesh/v1`: the pod, all pods, models, aliases, and why they are as they are."""

from __future__ import annotations

from collections.abc import Callable

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Kind
from mesh.core.explaining.status import ModelState
from mesh.doors.http_small import Request
from mesh.doors.probes import Answer, Route
from mesh.pod.explaining import LATEST, Explanations
from mesh.pod.facts import Facts

PREFIX = "/mesh/v1"

MORE = "/decisions?model=&request=&kind=&limit=, /names?of=, /explain/NAME"
"""Paths that tell why."""

MOST = 1000
"""Entries of a page at most, and unless fewer are asked for."""


def facts_route(facts: Callable[[], Facts | None]) -> Route:
    """Answers below `PREFIX`; 503 as long as there are no facts."""

    def answer(request: Request) -> Answer:
        known = facts()
        if known is None:
            return 503, {"error": "the pod is still starting"}
        kind, _, name = request.path.removeprefix(PREFIX).strip("/").partition("/")
        try:
            found = _view(known, kind, name, request)
        except Malformed as error:
            return error.http, {"error": error.message}
        if found is None:
            return 404, {
                "error": f"there is no {request.path}; try {PREFIX}/pod, /pods, /wanted, /accesses, "
                f"/copies, /models[/ID], /aliases[/NAME], {MORE}"
            }
        return 200, found

    return answer


def _view(facts: Facts, kind: str, name: str, request: Request) -> dict[str, object] | None:
    def one(key: str) -> str:
        return next(iter(request.query.get(key, ())), "")

    match kind, name:
        case "pod", "":
            return facts.pod()
        case "pods", "":
            return facts.pods()
        case "wanted", "":
            return facts.wanted()
        case "accesses", "":
            return facts.accesses(_number(one("after")))
        case "models", "":
            return facts.models(one("after"), _limit(one("limit")), one("part"), one("pod"), _state(one("state")))
        case "copies", "":
            return facts.copies(one("after"), one("until"))
        case "models", _:
            return facts.model(name)
        case "aliases", "":
            return facts.aliases(one("after"), _limit(one("limit")))
        case "aliases", _:
            return facts.alias(name)
        case _:
            return _reasons(facts.explanations, kind, name, one)


def _reasons(explanations: Explanations, kind: str, name: str, one: Callable[[str], str]) -> dict[str, object] | None:
    """Views that tell why; `one` is a parameter's value."""
    inputs = one("inputs") == "true"
    match kind, name:
        case "names", "":
            return explanations.names(one("of"))
        case "decisions", "":
            wanted = _kind(one("kind"))
            return explanations.decisions(
                model=one("model"), request=one("request"), kind=wanted, limit=_latest(one("limit")), inputs=inputs
            )
        case "explain", _ if name and one("kind"):
            return explanations.explain(one("kind"), name, limit=_latest(one("limit")), inputs=inputs)
        case "explain", _ if name:
            return explanations.about(name, limit=_latest(one("limit")), inputs=inputs)
        case _:
            return None


def _latest(text: str) -> int:
    return _limit(text) if text else LATEST


def _kind(text: str) -> Kind | None:
    known = [kind.value for kind in Kind]
    if text and text not in known:
        raise Malformed(f"kind={text}: there are no such decisions; there are {', '.join(known)}")
    return Kind(text) if text else None


def _limit(text: str) -> int:
    if not text:
        return MOST
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise Malformed(f"limit={text}: it has to be a whole number above 0; a page has {MOST} entries at most")
    return min(int(text), MOST)


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Malformed(f"after={text}: it has to be the number that an earlier answer gave as `next`")
    return int(text or 0)


def _state(text: str) -> str:
    known = [state.name for state in ModelState]
    if text and text.upper() not in known:
        raise Malformed(f"state={text}: there is no such state of a model; there are {', '.join(known)}")
    return text.upper()
