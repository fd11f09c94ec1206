"""JSON exactly as Go's encoding/json writes it: the model's id is a hash over these bytes.

Compact, keys in the order given, `<`, `>`, `&`, U+2028 and U+2029 escaped, control characters as \\u00XX but for \\n, \\r and \\t
(Go up to 1.21, which ModelMesh's last release was built with).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = "str | Mapping[str, Json]"

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile('["\\\\<>&\u2028\u2029\x00-\x1f]')
_LONE = re.compile("[\ud800-\udfff]")


def dumps(value: Json) -> str:
    """Texts and mappings of them, which is all that a predictor holds."""
    if isinstance(value, str):
        # A lone surrogate cannot be written as UTF-8; Go reads it as the replacement character.
        return '"' + _ESCAPED.sub(_escape, _LONE.sub("\ufffd", value)) + '"'
    return "{" + ",".join(f"{dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"


def by_bytes(value: Mapping[str, str]) -> dict[str, str]:
    """A Go map's order: keys sorted by their UTF-8 bytes."""
    return dict(sorted(value.items(), key=lambda pair: pair[0].encode("utf-8", "replace")))


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    return _SHORT.get(char) or f"\\u{ord(char):04x}"
