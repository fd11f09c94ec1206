"""Configuration files that count from the moment they change, Kubernetes' symlink swaps included."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from mesh.core.errors import Malformed

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between looks."""


class LiveFile:
    """One file and what is made of its text.

    Args:
        path: the file.
        variable: the setting that names it, for messages.
        apply: takes its text; what it refuses leaves the former in force.
    """

    def __init__(self, path: Path, variable: str, apply: Callable[[str], None]) -> None:
        self._path, self._variable, self._apply = path, variable, apply
        self._text: str | None = None

    def load(self) -> None:
        """Reads the file for the first time.

        Raises:
            Malformed: it cannot be read, or says nonsense.
        """
        try:
            self._text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Malformed(
                f"{self._variable}={self._path} cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            ) from None
        try:
            self._apply(self._text)
        except Malformed as error:
            raise Malformed(f"{self._variable}={self._path}: {error}") from None

    async def watch(self) -> None:
        """Applies changes until cancelled; a faulty one is logged once and changes nothing."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                text = self._path.read_text()
            except (OSError, UnicodeDecodeError):
                # Between the two steps of a swap there may be no file.
                continue
            if text == self._text:
                continue
            self._text = text
            try:
                self._apply(text)
                log.info("configuration read again", extra={"path": str(self._path)})
            except Malformed as error:
                log.error("configuration is faulty, the former stays in force", extra={"path": str(self._path), "cause": error.message})
