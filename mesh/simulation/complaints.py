"""The log of simulated pods, as far as it tells what never may happen."""

from __future__ import annotations

import logging
from collections.abc import Callable


class Errors(logging.Handler):
    """Errors in the log are bugs, or lost records: complaints in any case."""

    def __init__(self, complain: Callable[[str], object]) -> None:
        super().__init__(logging.ERROR)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        """Complains of a record."""
        why = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self._complain(f"logged as an error: {record.getMessage()}{why}")
