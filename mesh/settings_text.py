"""Settings in words: as they are declared, for the reference page, the command, and messages about values that make no sense."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AliasChoices, Field
from pydantic.fields import FieldInfo


def from_env(*names: str, default: Any, meaning: str, unit: str = "") -> Any:
    """A field read from the first of `names` that is set."""
    extra: dict[str, Any] = {"unit": unit}
    return Field(default, validation_alias=AliasChoices(*names), description=meaning, json_schema_extra=extra)


def described(fields: Mapping[str, FieldInfo]) -> list[dict[str, Any]]:
    """Every setting in order: `names` (first is current, others are old spellings), `default`, `unit`, `meaning`."""
    rows = []
    for field in fields.values():
        alias, extra = field.validation_alias, field.json_schema_extra
        assert isinstance(alias, AliasChoices)
        assert isinstance(extra, dict)
        rows.append(
            {
                "names": [str(name) for name in alias.choices],
                "default": _plain(field.default),
                "unit": extra["unit"],
                "meaning": field.description,
            }
        )
    return rows


def fault(item: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> str:
    """What pydantic found wrong, with the name that the user set and what it means.

    Args:
        item: one of `ValidationError.errors()`.
        rows: of `described`.
    """
    name = str(item["loc"][0]) if item["loc"] else ""
    text = str(item["msg"]).removeprefix("Value error, ")
    if not name:
        return text
    row = next((row for row in rows if name in row["names"]), {"names": [name], "meaning": ""})
    name, meaning = next((known for known in row["names"] if os.environ.get(known)), name), row["meaning"]
    return f"{name}={json.dumps(item.get('input'), default=str)}: {text} ({meaning})"


def _plain(value: Any) -> str:
    if value is None or value == () or value == "":
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
