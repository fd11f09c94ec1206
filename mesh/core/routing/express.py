"""What the express lane is told: which models and aliases it may bring calls to, and what it does with the calls of each method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.routing.dataplane import Dataplane
from mesh.core.routing.hops import Holder
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


def target_of(record: AliasRecord) -> ModelId | None:
    """The model to which all calls of an alias go whatever else happens; None while it is being switched, or versions share them."""
    return None if record.in_transition or record.traffic != NO_POLICY else record.active
