"""Models that the settings name: registered at the start, and loaded before the pod is ready if they ask for it (reference 9.3)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import LoadFailed, Malformed, MeshError, StoreUnavailable
from mesh.core.explaining.status import AliasState, AliasStatus, ModelState, ModelStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis
from mesh.pod.management import Management
from mesh.settings import Settings
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

AGAIN = (1.0, 3.0)
"""Seconds between two looks at whether a store that was away at the start answers."""
VARIABLE = "MM_AUTO_REGISTER_MODELS"
PATH_VARIABLE = "MM_AUTO_REGISTER_MODELS_PATH"


@dataclass(frozen=True, slots=True)
class StaticModel:
    """One entry.

    Attributes:
        source: the variable and the place in its list, for messages.
        alias: points at the model; empty for none.
        retain: whether the model stays when the alias is pointed elsewhere.
        load: whether the pod waits for it to be loaded.
    """

    source: str
    model: str
    info: ModelInfo
    alias: str = ""
    retain: bool = False
    load: bool = False


def read(settings: Settings) -> list[StaticModel]:
    """The entries of the text and of the file.

    Raises:
        Malformed: one of them makes no sense; names the variable and the entry.
    """
    models = parse(settings.static_models, VARIABLE) if settings.static_models else []
    path = settings.static_models_path
    if path is None:
        return models
    variable = f"{PATH_VARIABLE}={path}"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{variable} cannot be read: {error.strerror if isinstance(error, OSError) else error}") from None
    return models + parse(text, variable)


def parse(text: str, variable: str) -> list[StaticModel]:
    """Reads a JSON list of entries; fields that are not known are passed over.

    Raises:
        Malformed: names `variable` and the entry.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise Malformed(f"{variable} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise Malformed(f"{variable} must be a JSON list of objects with modelId and modelInfo")
    return [_entry(entry, f"{variable}: entry {number}") for number, entry in enumerate(entries, 1)]


async def register(models: list[StaticModel], management: Management, now: Millis) -> None:
    """Registers all of them, then waits for those that are to be loaded.

    Raises:
        MeshError: one could not be registered or loaded; names the variable and the entry.
    """
    for entry in models:
        await _carry_out(entry, management, now)
    loads = [asyncio.ensure_future(_carry_out(entry, management, now, wait=True)) for entry in models if entry.load]
    try:
        for load in asyncio.as_completed(loads):
            await load
    finally:
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
    if models:
        log.info("static models are registered", extra={"models": len(models), "loaded": len(loads)})


async def register_later(models: list[StaticModel], management: Management, registry: Registry, now: Millis) -> None:
    """As `register`, as soon as the store answers; what goes wrong then is logged, because the pod serves by now."""
    while models:
        await asyncio.sleep(random.uniform(*AGAIN))
        if registry.trouble is not None:
            continue
        try:
            await register(models, management, now)
        except StoreUnavailable:
            continue
        except MeshError as error:
            log.error("the models that the settings name are not all registered", extra={"cause": error.message})
        break


async def _carry_out(entry: StaticModel, management: Management, now: Millis, *, wait: bool = False) -> None:
    try:
        if entry.alias:
            edit = SetAlias(AliasId(entry.alias), ModelId(entry.model), now, entry.info, auto_delete=not entry.retain, load_now=entry.load)
            failure = _alias_failure(await management.set_alias(edit, sync=wait))
        else:
            failure = _model_failure(await management.register(entry.model, entry.info, load_now=entry.load, sync=wait))
    except MeshError as error:
        raise type(error)(f"{entry.source}: {error.message}") from None
    if wait and failure is not None:
        raise LoadFailed(f"{entry.source}: it did not load: {failure}")


def _model_failure(status: ModelStatus | None) -> str | None:
    if status is None or status.state is not ModelState.LOADING_FAILED:
        return None
    return "; ".join(status.errors) or "the runtime does not say why"


def _alias_failure(status: AliasStatus) -> str | None:
    return _model_failure(status.target_status if status.state is AliasState.TRANSITION_FAILED else status.active_status)


def _entry(entry: Any, source: str) -> StaticModel:
    if not isinstance(entry, dict):
        raise Malformed(f"{source} must be an object with modelId and modelInfo")
    model = _text(entry, "modelId", source, needed=True)
    source = f"{source} ({model})"
    info = entry.get("modelInfo")
    if not isinstance(info, dict):
        raise Malformed(f"{source}: modelInfo must be an object with type, path and key")
    alias = _text(entry, "vModelId", source)
    retain = _flag(entry, "retainAfterTransition", source)
    if retain and not alias:
        raise Malformed(f"{source}: retainAfterTransition says what becomes of a model when its vModelId moves on; give that too")
    kind = _text(info, "type", f"{source}: modelInfo", needed=True)
    path, key = (_text(info, name, f"{source}: modelInfo") for name in ("path", "key"))
    return StaticModel(source, model, ModelInfo(kind, path, key), alias, retain, _flag(entry, "ensureLoaded", source))


def _text(entry: Mapping[str, Any], name: str, source: str, *, needed: bool = False) -> str:
    value = entry.get(name) if entry.get(name) is not None else ""
    if not isinstance(value, str) or (needed and not value):
        raise Malformed(f"{source}: {name} must be {'a string that is not empty' if needed else 'a string'}")
    return value


def _flag(entry: Mapping[str, Any], name: str, source: str) -> bool:
    value = entry.get(name) or False
    if not isinstance(value, bool):
        raise Malformed(f"{source}: {name} must be true or false")
    return value
