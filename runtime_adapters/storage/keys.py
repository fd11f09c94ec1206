"""The model key: the JSON text in a load request that says where a model lies and what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime_adapters.errors import AdapterError, InvalidRequest

CONTEXT = "Invalid modelKey in LoadModelRequest"
LABEL_PREFIXES = ("mt:", "rt:")
"""What the controller puts before a model type and a runtime's name when it sends a label as type."""


@dataclass(frozen=True)
class ModelKey:
    """The fields of a model key; unknown ones are ignored."""

    model_type: str = ""
    """As written, version included: `sklearn` or `sklearn:1`; "" if absent."""
    storage_key: str | None = None
    storage_params: Mapping[str, str] = field(default_factory=dict)
    bucket: str | None = None
    """Deprecated; takes effect only where the storage configuration has a bucket."""
    schema_path: str | None = None
    disk_size: int | None = None
    """Bytes on disk, told by a puller that stands in front."""
    size: int | None = None
    """Bytes in memory, told by the user; wins over every estimate."""


def parse(text: str) -> ModelKey:
    """Read a model key.

    Raises:
        InvalidRequest: not a JSON object, or a field has the wrong type.
    """
    try:
        return _parse(text)
    except AdapterError as error:
        raise error.within(CONTEXT) from None


def _parse(text: str) -> ModelKey:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"it must be a JSON object, not {type(document).__name__}")
    params = document.get("storage_params") or {}
    if not isinstance(params, dict):
        raise InvalidRequest("`storage_params` must be an object of strings")
    for name, value in params.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"`storage_params.{name}` must be a string, not {json.dumps(value)[:60]}")
    return ModelKey(
        model_type=_model_type(document.get("model_type")),
        storage_key=_text(document, "storage_key"),
        storage_params=params,
        bucket=_text(document, "bucket"),
        schema_path=_text(document, "schema_path"),
        disk_size=_bytes(document.get("disk_size_bytes")),
        size=_bytes(document.get("size_bytes"), field_name="size_bytes"),
    )


def model_type(key: ModelKey, requested: str) -> str:
    """The bare type, lower case: of the key if it has one, else of the request (`mt:sklearn:1` gives `sklearn`)."""
    text = key.model_type or requested
    for prefix in LABEL_PREFIXES:
        text = text.removeprefix(prefix)
    return text.partition(":")[0].lower()


def _model_type(value: Any) -> str:
    """Either a string or an object with a name; anything else counts as absent, as it always did."""
    if isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) else ""


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string, not {json.dumps(value)[:60]}")
    return value or None


def _bytes(value: Any, field_name: str | None = None) -> int | None:
    """A positive number of bytes; anything else is absent, unless a user wrote it into `field_name`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 2**63:
        return int(value)
    if field_name and value is not None:
        raise InvalidRequest(f"`{field_name}` must be a positive number of bytes, not {json.dumps(value)[:60]}")
    return None
