"""Which version a call goes to. With the same call, policy and drawn number the answer is the same on every pod and every plane."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from mesh.core.ids import ModelId
from mesh.core.traffic.policy import STABLE_ONLY, WHOLE, Comparison, Destination, Input, Match, Named, Policy, Text, Version, Word


class Tensor(NamedTuple):
    """An input tensor of a call, without its contents."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Asked(Protocol):
    """What a call is like. Nothing is looked up before a rule asks for it."""

    def header(self, name: str) -> str | None:
        """Its value; of several the first; None without one."""
        ...

    def parameter(self, name: str) -> str | None:
        """A parameter of the request as text; None without one, or if the request is none of the open inference protocol."""
        ...

    def inputs(self) -> Sequence[Tensor]:
        """Its input tensors; none if the request is none of the open inference protocol."""
        ...


class Serving(NamedTuple):
    """The versions of a service as a call finds them.

    Attributes:
        stable: the model that calls go to as long as no policy says otherwise.
        versions: those that are kept, oldest first.
        format: of the stable version's model.
        runtime: that the stable version asks for by name; empty if any will do.
        serves: whether a model has a copy that serves.
        matches: whether a pattern fits a whole text.
    """

    service: str
    stable: ModelId
    versions: Sequence[Version]
    format: str
    runtime: str
    serves: Callable[[ModelId], bool]
    matches: Callable[[str, str], bool]


class Chosen(NamedTuple):
    """What a call goes to, and why.

    Attributes:
        rule: name or number (from 1) of the rule that decided; `default` or, without a policy, empty.
        instead_of: the version that was chosen and cannot serve yet; None if it serves.
    """

    model: ModelId
    rule: str = ""
    instead_of: ModelId | None = None


def choose(policy: Policy, serving: Serving, asked: Asked, draw: Callable[[], float]) -> Chosen:
    """The version for a call.

    One that has no copy yet that serves gets no calls: the stable version serves them, or loads for them.

    Args:
        draw: a number from 0 to below 1, a new one each time.
    """
    for number, rule in enumerate(policy.rules, 1):
        if not rule.matches or any(_fits(match, serving, asked, draw) for match in rule.matches):
            return _of(rule.to, rule.name or str(number), serving, asked, draw)
    return _of(policy.default or STABLE_ONLY, "default", serving, asked, draw)


def served(model: ModelId | None, serving: Serving, rule: str) -> Chosen:
    """What serves a call for which this model was chosen; None is a version that is not kept."""
    if model is None or model == serving.stable:
        return Chosen(serving.stable, rule)
    return Chosen(model, rule) if serving.serves(model) else Chosen(serving.stable, rule, model)


def model_of(version: Named, stable: ModelId, versions: Sequence[Version]) -> ModelId | None:
    """The model of a version; None if the service has none like that."""
    if version is Word.STABLE:
        return stable
    if version is Word.CANARY:
        return next((one.model for one in reversed(versions) if one.model != stable), None)
    return next((one.model for one in versions if one.number == version), None)


def position(service: str, value: str) -> float:
    """Where a caller stands from 0 to below 1, for good.

    It is the first 53 bits of SHA-256 over the service's name, a zero byte and the value: for each service a caller stands elsewhere.
    """
    digest = hashlib.sha256(f"{service}\0{value}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def _of(to: Destination, rule: str, serving: Serving, asked: Asked, draw: Callable[[], float]) -> Chosen:
    return served(model_of(_shared(to, serving, asked, draw), serving.stable, serving.versions), serving, rule)


def _shared(to: Destination, serving: Serving, asked: Asked, draw: Callable[[], float]) -> Named:
    """One of those that share. The stable version comes last: when another's weight grows, nobody is taken from it."""
    if len(to.shares) == 1:
        return to.shares[0].version
    key = asked.header(to.sticky) if to.sticky else None
    left = (draw() if key is None else position(serving.service, key)) * WHOLE
    shares = sorted(to.shares, key=lambda share: model_of(share.version, serving.stable, serving.versions) == serving.stable)
    for share in shares[:-1]:
        left -= share.weight
        if left < 0:
            return share.version
    return shares[-1].version


def _fits(match: Match, serving: Serving, asked: Asked, draw: Callable[[], float]) -> bool:
    return (
        (match.format is None or match.format == serving.format)
        and (match.runtime is None or match.runtime == serving.runtime)
        and all(_holds(text, asked.header(text.name), serving) for text in match.headers)
        and all(_holds(text, asked.parameter(text.name), serving) for text in match.parameters)
        and (not match.inputs or _has(match.inputs, asked.inputs()))
        and (match.percent is None or draw() * WHOLE < match.percent)
    )


def _holds(text: Text, value: str | None, serving: Serving) -> bool:
    if text.how is Comparison.PRESENT:
        return (value is not None) == (text.value == "true")
    if value is None:
        return False
    if text.how is Comparison.EXACT:
        return value == text.value
    if text.how is Comparison.PREFIX:
        return value.startswith(text.value)
    return serving.matches(text.value, value)


def _has(wanted: Sequence[Input], inputs: Sequence[Tensor]) -> bool:
    return all(any(_is(one, tensor) for tensor in inputs) for one in wanted)


def _is(wanted: Input, tensor: Tensor) -> bool:
    return (
        wanted.name in (None, tensor.name)
        and wanted.datatype in (None, tensor.datatype)
        and (wanted.shape is None or _like(wanted.shape, tensor.shape))
    )


def _like(wanted: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(wanted) == len(shape) and all(one in (-1, length) for one, length in zip(wanted, shape, strict=True))
