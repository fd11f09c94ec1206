"""From a model key to the parameters of one storage: an entry of storage-config, its default, and what the request overrides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from runtime_adapters.errors import InvalidRequest, NotConfigured
from runtime_adapters.paths import scoped_join
from runtime_adapters.storage.keys import ModelKey

Parameters = dict[str, Any]
"""The JSON object of a storage-config entry; always has a string `type`."""

OPERATOR_ONLY = frozenset(["local", "file"])
"""Types that a request cannot ask for by itself: they name folders of the machine, which only storage-config may open."""


def resolve(config: Path, key: ModelKey) -> Parameters:
    """The parameters that apply to a model, read from the folder `config` anew each time, so that changed secrets take effect.

    Raises:
        NotConfigured: the storage key has no entry, or the entry is not a JSON object.
        InvalidRequest: an override cannot be applied, or no storage type is known in the end.
    """
    base = _base(config, key)
    configured = base.get("type")
    if base.get("type") == "s3" and "default_bucket" in base:
        base.setdefault("bucket", base["default_bucket"])
    if key.bucket and "bucket" in base:
        base["bucket"] = key.bucket
    for path, value in key.storage_params.items():
        override(base, path, value)
    kind = base.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidRequest("Predictor Storage field missing")
    if kind in OPERATOR_ONLY and (configured != kind or "path" in key.storage_params):
        raise InvalidRequest(f"storage type {kind!r} and its path can only be set by an entry of storage-config; name it as storage key")
    return base


def override(parameters: Parameters, path: str, value: str) -> None:
    """Set one string by a dotted path (`headers.Authorization`), making objects on the way.

    Raises:
        InvalidRequest: the path leads through, or ends at, something that is not a string or an object.
    """
    *parents, last = path.split(".")
    here: Any = parameters
    for name in parents:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise InvalidRequest(f"storage parameter {path!r} cannot be set: {name!r} is a {_json_type(here)}, not an object")
    present = here.get(last, "")
    if not isinstance(present, str):
        raise InvalidRequest(f"storage parameter {path!r} cannot be set: it would replace a {_json_type(present)}, not a string")
    here[last] = value


def required(parameters: Mapping[str, Any], *names: str) -> list[str]:
    """The values of `names`, each a non-empty string.

    Raises:
        InvalidRequest: one is absent, empty, or no string.
    """
    return [optional(parameters, name) or _lacking(parameters, name) for name in names]


def optional(parameters: Mapping[str, Any], name: str) -> str | None:
    """The value of `name`; None if absent or empty.

    Raises:
        InvalidRequest: it is not a string.
    """
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"storage of type {parameters['type']!r}: {name!r} must be a string, not a {_json_type(value)}")
    return value or None


def _lacking(parameters: Mapping[str, Any], name: str) -> NoReturn:
    raise InvalidRequest(f"storage of type {parameters['type']!r} needs {name!r}, in the storage-config entry or in storage parameters")


def _base(config: Path, key: ModelKey) -> Parameters:
    if key.storage_key:
        found = _read(config, key.storage_key)
        if found is None:
            name = key.storage_key
            raise NotConfigured(f"Did not find storage config for key {name}: Storage secretKey not found: {name}")
        return found
    kind = key.storage_params.get("type")
    return _read(config, f"default_{kind}" if kind else "default") or {}


def _read(config: Path, name: str) -> Parameters | None:
    try:
        text = scoped_join(config, name).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except ValueError:
        raise InvalidRequest(f"storage key {name!r} is not a file name") from None
    except OSError as error:
        raise NotConfigured(f"storage config for key {name} cannot be read: {error.strerror}") from None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotConfigured(f"storage config for key {name} is not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise NotConfigured(f"storage config for key {name} must be a JSON object, not a {_json_type(entry)}")
    return entry


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
