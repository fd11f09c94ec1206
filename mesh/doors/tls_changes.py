"""Files of TLS that count from the moment they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mesh.core.errors import Malformed

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between looks. Files that changed count from the next one on, if they stay as they are: keys and certificates come one by one."""


async def follow(paths: Sequence[Path], apply: Callable[[], None]) -> None:
    """Has files applied when they changed, until cancelled.

    Args:
        paths: the files, or folders of them.
        apply: reads them, in another thread; what it refuses (`Malformed`, `ValueError`, `OSError`) is logged once and changes nothing.
    """
    applied = seen = _contents(paths)
    while True:
        await asyncio.sleep(PERIOD)
        before, seen = seen, _contents(paths)
        if seen == applied or seen != before:
            continue
        applied = seen
        try:
            # It takes a while: encrypted keys are decrypted by another process.
            await asyncio.to_thread(apply)
            log.info("the files of TLS are read again", extra={"paths": [str(path) for path in paths]})
        except (Malformed, ValueError, OSError) as error:
            log.error("the files of TLS are faulty, what they held before stays in force", extra={"cause": str(error)})


def _contents(paths: Sequence[Path]) -> list[bytes | None]:
    """What is in the files; None for one that is not there, as between two steps of a swap."""
    found: list[bytes | None] = []
    for path in paths:
        try:
            found += _contents(sorted(path.iterdir())) if path.is_dir() else [path.read_bytes()]
        except OSError:
            found.append(None)
    return found
