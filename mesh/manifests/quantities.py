"""Kubernetes quantities such as 512Mi, and what of a container's memory they say."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from mesh.core.errors import Malformed
from mesh.manifests.documents import Container

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE]([+-]?\d{1,3}))?\Z")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse_quantity(value: str | int | float, place: str) -> int:
    """A Kubernetes quantity in whole units, rounded up: `1Gi` is 1073741824, `500m` is 1. Malformed if it is none."""
    match = _QUANTITY.match(str(value))
    if not match:
        raise Malformed(f"{place}: {value!r} is not a quantity such as 512Mi or 1Gi")
    number, suffix, exponent = match.groups()
    amount = Fraction(number)
    if suffix in _BINARY:
        amount *= 2 ** _BINARY[suffix]
    else:
        amount *= Fraction(10) ** (_POWERS[suffix] if suffix else int(exponent or 0))
    return math.ceil(amount)


def memory_request(place: str, container: Container) -> int | None:
    """Bytes of `resources.requests.memory`; the limit stands in for a missing request, as in Kubernetes. None if neither is there.

    Raises:
        Malformed: what is there is no quantity.
    """
    resources = container.resources
    for field_name, given in (("requests", resources.requests), ("limits", resources.limits)):
        if "memory" in given:
            return parse_quantity(given["memory"], f"{place}: container {container.name}: resources.{field_name}.memory")
    return None
