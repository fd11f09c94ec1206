"""Where happenings and figures go: one interface for every monitoring system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mesh.telemetry.catalogue import Family
from mesh.telemetry.series import Key

Figures = Mapping[Key, float]
"""What a source tells of one family: values by the values of the family's labels; `()` is the key of one without labels."""
Readings = Callable[[], Mapping[Family, Figures]]
"""Asks for all figures that are read, not told: gauges, and counters that somebody else keeps."""


class Sink(Protocol):
    """Takes what happened. Called on the event loop's thread; never fails, never waits."""

    def observe(self, family: Family, key: Key, value: float) -> None:
        """One value for a histogram.

        Args:
            family: of the catalogue.
            key: of a call: its method as it is to be told, the number of its gRPC code, and, if models are told, model and alias; of a
                model: its id, or nothing if models are not told.
            value: in the unit of the family's name.
        """
        ...

    def count(self, family: Family, key: Key, by: float) -> None:
        """Raises a counter; `key` has the values of its labels."""
        ...


class Nowhere:
    """Metrics are off."""

    def observe(self, family: Family, key: Key, value: float) -> None:
        """Drops it."""

    def count(self, family: Family, key: Key, by: float) -> None:
        """Drops it."""
