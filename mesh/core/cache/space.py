"""Memory of one pod: two sums, two questions."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.units import Units


@dataclass(slots=True)
class Space:
    """All of the memory accounting.

    Attributes:
        capacity: of the runtime.
        reserve: kept free of models, so that a load may start while its victim is still being unloaded.
        granted: held by copies that load, are sized or are ready.
        leaving: held by copies that drain or unload; the runtime still has them.
        expected: of copies that wait for their load; nothing is held for them yet.
    """

    capacity: Units
    reserve: Units
    granted: Units = Units(0)
    leaving: Units = Units(0)
    expected: Units = Units(0)

    def must_evict_for(self, weight: Units) -> bool:
        """Whether models must go before one of this weight may come."""
        return self.granted + weight + self.reserve > self.capacity

    def may_start(self, weight: Units) -> bool:
        """Whether the runtime has room for this weight now, what leaves included."""
        return self.granted + self.leaving + weight <= self.capacity

    @property
    def spoken_for(self) -> Units:
        """What is held, and what is about to be; loads beyond the room displace something."""
        return Units(min(self.capacity - self.reserve, self.granted + self.expected))

    @property
    def free(self) -> Units:
        """Room for models beside the granted ones."""
        return Units(max(0, self.capacity - self.reserve - self.granted))
