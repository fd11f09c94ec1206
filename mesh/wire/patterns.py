"""Patterns of users, in RE2's syntax: whatever the pattern and the text, matching takes time linear in the text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

_MEMORY = 1 << 20
"""Bytes that a compiled pattern may take; a pattern that unfolds into more is refused."""


def fault(pattern: str) -> str | None:
    """Why a pattern cannot be used; None if it can."""
    try:
        _compiled(pattern)
    except re2.error as error:
        words = error.args[0]
        return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
    return None


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern fits the whole text; one that cannot be used fits none."""
    try:
        return _compiled(pattern).fullmatch(text) is not None
    except re2.error:
        return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors, options.max_mem = False, _MEMORY
    return re2.compile(pattern, options)
