"""What goes wrong again and again is said now and then: an hour without etcd must not fill the log."""

from __future__ import annotations

import logging
import time

EVERY = 60.0
"""Seconds between two warnings of the same thing; what comes between is for who debugs."""


class Seldom:
    """How loud the next message of one kind is to be."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def level(self) -> int:
        """A warning for the first one, and when the last is long ago."""
        now = time.monotonic()
        if now - self._last < EVERY:
            return logging.DEBUG
        self._last = now
        return logging.WARNING

    def over(self) -> None:
        """It works again: the next time is the first one."""
        self._last = float("-inf")
