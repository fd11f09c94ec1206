"""What the layouts of several model servers have in common: versions as folders, and links into a model's files."""

from __future__ import annotations

import os
import re
from pathlib import Path

LARGEST_VERSION = (1 << 63) - 1
"""Model servers read a version as a signed 64-bit integer."""

_NUMBER = re.compile(r"[+-]?[0-9]+")


def newest_version(folder: Path) -> tuple[int, Path] | None:
    """The folder of the largest version in `folder`, if its folders are versions.

    They are if the name of every one is an integer; files do not count. None if one is not, or if no version is above zero. Nor do
    symbolic links count: what they point at may lie outside of the model, and is not for its author to open.

    Raises:
        OSError: the folder cannot be read.
    """
    versions: list[tuple[int, Path]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            number = int(entry.name) if _NUMBER.fullmatch(entry.name) else None
            if number is None or abs(number) > LARGEST_VERSION:
                return None
            versions.append((number, Path(entry.path)))
    # Of two spellings of one number, the plain one.
    newest = max(versions, key=lambda one: (one[0], one[1].name == str(one[0])), default=None)
    return newest if newest and newest[0] > 0 else None


def link(place: Path, source: Path) -> None:
    """Make `place` a link to `source`, with the folders that it lies in."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(source.absolute())
