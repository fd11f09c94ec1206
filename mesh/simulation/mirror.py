"""The store's records as one pod knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.simulation.store import Cell
from mesh.store.tables import RecordTable


class Mirror(RecordTable):
    """The store's records as one registry knows them: what it has not been shown yet stands aside, so that mirrors take no memory.

    Their order, and which are noted, is that of the store: a name may be a moment early there, and then has no record.
    """

    def __init__(self, records: dict[str, Any], order: RecordTable) -> None:
        self._records = records
        self.names, self.noted = order.names, order.noted
        self.late: dict[str, tuple[Cell, int]] = {}
        """What is shown of records that have changed since, and how many changes of each are still to be shown."""

    def __getitem__(self, name: str) -> Any:
        if self.late and name in self.late:
            record = self.late[name][0].record
            if record is None:
                raise KeyError(name)
            return record
        return self._records[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        if self.late and name in self.late:
            record = self.late[name][0].record
            return default if record is None else record
        return self._records.get(name, default)

    def __contains__(self, name: object) -> bool:
        if self.late and name in self.late:
            return self.late[name][0].record is not None
        return name in self._records

    def __iter__(self) -> Iterator[str]:
        late = self.late
        if not late:
            return iter(self._records)
        shown = [name for name in self._records if name not in late]
        return iter(shown + [name for name, (cell, _) in late.items() if cell.record is not None])

    def __len__(self) -> int:
        if not self.late:
            return len(self._records)
        shown = sum(cell.record is not None for cell, _ in self.late.values())
        return len(self._records) - sum(name in self._records for name in self.late) + shown

    def items(self) -> Any:
        """As of any mapping."""
        return self._records.items() if not self.late else [(name, self[name]) for name in self]

    def values(self) -> Any:
        """As of any mapping."""
        return self._records.values() if not self.late else [self[name] for name in self]
