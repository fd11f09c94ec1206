"""Units of memory and time."""

from __future__ import annotations

from typing import NewType

Units = NewType("Units", int)
"""Memory in cache units of 8 KiB, the unit of ModelMesh's records (reference 0.2, UNIT_SIZE)."""

Millis = NewType("Millis", int)
"""Milliseconds since the epoch, or a span of them."""

UNIT_BYTES = 8192


def units(size: int) -> Units:
    """Units that `size` bytes take, at least one."""
    return Units(max(1, -(-size // UNIT_BYTES)))


def whole_units(size: int) -> Units:
    """Units that fit into `size` bytes."""
    return Units(size // UNIT_BYTES)


def bytes_of(weight: Units) -> int:
    """Bytes of so many units."""
    return weight * UNIT_BYTES
