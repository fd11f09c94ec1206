"""What the express lane is told: which models and aliases it may bring calls to, and what it does with the calls of each method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.routing.dataplane import Dataplane
from mesh.core.routing.hops import Holder
from mesh.core.routing.sharing import Sharing, sharing_of
from mesh.core.traffic.policy import NO_POLICY

MethodRule = tuple[tuple[int, ...], bool, bool, tuple[int, ...]]
"""Path where callers name the model, whether that is an alias, whether headers come first, path where the runtime wants the id."""


class Methods(NamedTuple):
    """What is done with calls.

    Attributes:
        rules: by method, `pkg.Service/Method`.
        others: of methods without a rule; None: they are not the lane's.
        withheld: services and methods that are not the lane's, whatever `others` says.
    """

    rules: list[tuple[str, MethodRule]]
    others: MethodRule | None
    withheld: list[str]


def methods_of(
    dataplane: Dataplane, injections: Mapping[str, tuple[int, ...]], *, any_other: bool, answered: Collection[str], private: Collection[str]
) -> Methods:
    """Rules of all methods.

    Args:
        dataplane: where callers name models.
        injections: where the runtime wants the id, by method; methods that it names are allowed.
        any_other: whether the runtime takes methods that it does not name.
        answered: methods that this pod answers itself.
        private: services whose methods are not for the lane.
    """
    rules: list[tuple[str, MethodRule]] = []
    withheld = [*private, *answered]
    for method in sorted({*dataplane.rules, *injections}):
        rule, service = dataplane.rule(method), method.rpartition("/")[0]
        allowed = rule is not None and (method in injections or any_other)
        if method in answered or service in private:
            continue
        if rule is None or not allowed:
            withheld.append(method)
        else:
            rules.append((method, (rule.path, rule.alias, rule.prefer_headers, injections.get(method, ()))))
    others = ((), False, False, ()) if dataplane.allow_others and any_other else None
    return Methods(rules, others, withheld)


def others_of(record: ModelRecord | None, me: PodId) -> tuple[Holder, ...]:
    """The copies of other pods that serve a model, in the order of its record."""
    if record is None or not record.ready:
        return ()
    return tuple((pod, wanted) for pod, wanted in record.copies.items() if pod != me and pod in record.ready)


Lead = ModelId | Sharing | None
"""Where calls of an alias go: to a model whatever else happens, to one of several, or None: that is Python's to find out."""


def lead_of(record: AliasRecord, info: ModelInfo | None) -> Lead:
    """Where the lane brings calls of an alias. While it is being switched that is Python's.

    Args:
        info: of its active model; None if that is not known.
    """
    if record.in_transition:
        return None
    return record.active if record.traffic == NO_POLICY else sharing_of(record, info)


def models_of(lead: Lead) -> frozenset[ModelId]:
    """The models that calls may go to."""
    if lead is None:
        return frozenset()
    return lead.models if isinstance(lead, Sharing) else frozenset((lead,))
