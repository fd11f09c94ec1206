"""What this pod can say of why things are as they are, as JSON: about a model, a pod, a request. Asking changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import chain, islice, takewhile
from typing import Any, Protocol

from mesh.core.cache.eviction import Eviction
from mesh.core.explaining.decisions import Decision, Decisions, Kind, size_of, told
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.listing import Listing
from mesh.core.registry.shelf import Shelf
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.store.registry import Registry

Json = dict[str, Any]

LATEST = 20
"""Decisions that an explanation tells, unless more are asked for."""

EFFORT = 4_000
"""Candidates that one answer looks at: some 15 ms on the event loop. Decisions beyond come without theirs."""

FEW = 64
"""Candidates up to which it is tried here what would have changed a decision; who asks for the inputs can try it elsewhere."""

SOON = 60_000
"""ms within which an eviction for the model of a request counts as made for it: loads wait for their turn."""

MATCHES = 8
"""Names told of each kind that begin as asked."""

NEAR = 64
"""Names told of each kind that may be meant: those that begin with the same letters."""


class Views(Protocol):
    """What the pod knows; as of `mesh.pod.facts.Facts`."""

    def pod(self) -> Json:
        """This pod."""
        ...

    def model(self, name: str) -> Json | None:
        """One model; None if there is none."""
        ...

    def alias(self, name: str) -> Json | None:
        """One alias; None if there is none."""
        ...


class Explanations:
    """Of one pod; `mesh explain` puts those of all pods together."""

    def __init__(self, conductor: Conductor, registry: Registry, census: Census, facts: Views) -> None:
        self._conductor, self._registry, self._census, self._facts = conductor, registry, census, facts

    def decisions(self, *, model: str = "", request: str = "", kind: Kind | None = None, limit: int = LATEST, inputs: bool = False) -> Json:
        """Decisions of this pod, oldest first; of more than `limit` the latest. Arguments as of `Decisions.find`."""
        found = self._book.find(model=model, request=request, kind=kind, limit=limit)
        return {"pod": self._conductor.pod.id, "decisions": self._told(found, inputs=inputs)}

    def names(self, text: str) -> Json:
        """What a word may name: `exact` and `begin` are lists of kind and name, `near` names that look like it may be meant."""
        registry = self._registry
        exact = [("isvc", text)] if AliasId(text) in registry.aliases else []
        # A model that was deleted can be asked about as long as something is remembered of it.
        known = ModelId(text) in registry.models or (text and self._book.find(model=text, limit=1))
        exact += [("model", text)] if known else []
        exact += [("pod", text)] if PodId(text) in registry.instances or text == self._conductor.pod.id else []
        exact += [("request", text)] if text and self._book.find(request=text, limit=1) else []
        begin = list(self._beginning(text)) if text and not exact else []
        return {
            "exact": [{"kind": kind, "name": name} for kind, name in exact],
            "begin": [{"kind": kind, "name": name} for kind, name in begin],
            "near": [] if exact or begin else sorted(self._near(text)),
        }

    def about(self, text: str, *, limit: int = LATEST, inputs: bool = False) -> Json:
        """As `explain`, of whatever a word names here; what it may name if that is not one thing."""
        names = self.names(text)
        found = names["exact"] or names["begin"]
        document = (
            self.explain(found[0]["kind"], found[0]["name"], limit=limit, inputs=inputs) if len(found) == 1 or names["exact"] else None
        )
        return document or {"pod": self._conductor.pod.id, "kind": None, "name": text, **names}

    def explain(self, kind: str, name: str, *, limit: int = LATEST, inputs: bool = False) -> Json | None:
        """Everything here that explains something; None if there is nothing of that kind and name.

        Args:
            kind: isvc, model, pod or request.
            name: its name or id.
            limit: decisions at most.
            inputs: whether what decisions were made from is told instead of what follows from it.
        """
        match kind:
            case "isvc":
                return self._service(name, limit, inputs)
            case "model":
                return self._model(name, limit, inputs)
            case "pod":
                return self._pod(name, limit, inputs)
            case "request":
                found = self._book.find(request=name)
                return self._document(kind, name, [*found, *self._made_room(found)][-limit:], inputs) if found else None
            case _:
                return None

    # Kinds

    def _service(self, name: str, limit: int, inputs: bool) -> Json | None:
        alias = self._facts.alias(name)
        if alias is None:
            return None
        bounds = self._conductor.pod.bounds.of(ModelId(alias["active"]))
        target = alias["target"] if alias["target"] != alias["active"] else None
        return {
            "pod": self._conductor.pod.id,
            "kind": "isvc",
            "name": name,
            "alias": alias,
            "bounds": bounds._asdict(),
            "active": self._model(alias["active"], limit, inputs),
            "target": self._model(target, limit, inputs) if target else None,
        }

    def _model(self, name: str, limit: int, inputs: bool) -> Json | None:
        model = self._facts.model(name)
        about = self._book.find(model=name)
        if model is None and not about:
            return None
        made_room = [one for one in self._book.find(kind=Kind.EVICTION) if _is_for(one, {name})]
        found = sorted([*about, *made_room], key=lambda one: one.at)[-limit:]
        bounds = self._conductor.pod.bounds.of(ModelId(name))
        return {**self._document("model", name, found, inputs), "model": model, "bounds": bounds._asdict()}

    def _pod(self, name: str, limit: int, inputs: bool) -> Json | None:
        """Of this pod all that it decided lately; of another one what this pod decided about it."""
        mine = name == self._conductor.pod.id
        if not mine and PodId(name) not in self._registry.instances:
            return None
        placements = [one for one in self._book.find(kind=Kind.PLACEMENT) if mine or one.outcome]
        others = (kind for kind in Kind if kind not in (Kind.PLACEMENT, Kind.ROUTING)) if mine else ()
        found = chain(*(self._book.find(kind=kind, limit=limit) for kind in others), placements[-limit:])
        document = self._document("pod", name, sorted(found, key=lambda one: one.at), inputs)
        return {**document, "figures": self._facts.pod() if mine else None}

    # Parts

    def _made_room(self, found: list[Decision]) -> list[Decision]:
        """What had to go here for the models of a request, once it was decided where they are loaded."""
        models, begun = {one.model for one in found}, found[0].at
        evictions = self._book.find(kind=Kind.EVICTION)
        return [one for one in evictions if _is_for(one, models) and 0 <= one.at - begun <= SOON]

    @property
    def _book(self) -> Decisions:
        return self._conductor.pod.cache.decisions

    def _document(self, kind: str, name: str, found: Iterable[Decision], inputs: bool) -> Json:
        return {"pod": self._conductor.pod.id, "kind": kind, "name": name, "decisions": self._told(list(found), inputs=inputs)}

    def _told(self, found: list[Decision], *, inputs: bool) -> list[Json]:
        """The latest ones first get what effort there is."""
        left, documents = EFFORT, []
        for decision in reversed(found):
            size = size_of(decision)
            left -= size
            documents.append(
                told(
                    decision,
                    candidates=not inputs and left >= 0,
                    changes=not inputs and left >= 0 and size <= FEW,
                    inputs=inputs and left >= 0,
                )
            )
        return documents[::-1]

    def _beginning(self, text: str) -> Iterator[tuple[str, str]]:
        """What begins so. Models that a service found so stands for are left out: who names the service means them."""
        aliases = [AliasId(name) for name in _starting(self._census.aliases, text, MATCHES)]
        records = [self._registry.aliases[alias] for alias in aliases]
        behind = {model for record in records for model in (record.active, record.target)}
        yield from (("isvc", alias) for alias in aliases)
        yield from (("model", name) for name in _starting(self._census.names, text, MATCHES) if name not in behind)
        yield from (("pod", pod) for pod in sorted(self._registry.instances) if pod.startswith(text))
        yield from (("request", request) for request in self._book.requests(text, MATCHES))

    def _near(self, text: str) -> set[str]:
        """Names that share the first letters, the fewer the less there is to choose from; and all pods."""
        found: set[str] = set(self._registry.instances) if len(self._registry.instances) <= NEAR else set()
        for listing in (self._census.aliases, self._census.names):
            for length in (len(text) - 1, 3, 1, 0):
                names = list(_starting(listing, text[: max(0, length)], NEAR))
                found.update(names)
                if names:
                    break
        return found


def _starting(names: Shelf | Listing, text: str, most: int) -> Iterable[str]:
    """Names that begin so, in order."""
    first = [text] if text in names else []
    return islice(chain(first, takewhile(lambda name: name.startswith(text), names.after(text, most))), most)


def _is_for(decision: Decision, models: Set[str]) -> bool:
    """Whether a model was evicted to make room for one of some."""
    return isinstance(decision.evidence, Eviction) and decision.evidence.for_model in models
