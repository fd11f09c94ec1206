"""The names in a call's metadata: which models it asks for, and what of it travels on."""

from __future__ import annotations

from functools import lru_cache

from mesh.core.errors import Malformed
from mesh.core.ids import AliasId, ModelId
from mesh.wire.call import Metadata, Target

MODEL, ALIAS = "mm-model-id", "mm-vmodel-id"
"""Both are repeatable; with `-bin` appended the value is UTF-8, and counts only where the plain header is absent."""
LEGACY_MODEL = "tas-model-id"
"""Counts only if no other header names a model or alias."""
DETAILS = "grpc-status-details-bin"
"""Belongs to a status, not to the transport: it passes."""
RETRY_LOAD = "mesh-retry-load"
"""Our addition: with `true`, `setVModel` forgets that the target failed to load. Sent when a user applies a document again."""
BOUNDS = "mesh-bounds"
"""Our addition: JSON of the bounds on an alias's copies (`mesh.core.scaling.bounds`) that `setVModel` keeps with it; absent leaves them."""
TRAFFIC = "mesh-traffic"
"""Our addition: JSON with `keep`, the versions that `setVModel` keeps of an alias, and `canary`, so many of a hundred calls that its target
gets while the others stay with the active model; absent keeps none beside those that there are, and sends all calls to the target."""
BALANCED, REQUIRED = "mm-balanced", "mm-required"

HOP_PREFIXES = ("mesh-hop", "mesh-pod", "mesh-load", "mesh-error")
"""What pods say to each other beside a call or its answer (`mesh.wire.hops`)."""
TRANSPORT = frozenset({"content-type", "user-agent", "te"})
"""Belong to one connection."""

_OWN_PREFIXES = ("mm-", "grpc-", *HOP_PREFIXES)
_OWN_NAMES = frozenset({LEGACY_MODEL, *TRANSPORT})


def target_of(metadata: Metadata) -> Target | None:
    """What the headers name; None if they name nothing.

    Raises:
        Malformed: an id is empty or not UTF-8, or both models and aliases are named.
    """
    found: dict[str, list[str | bytes]] = {}
    every = False
    for name, value in metadata:
        if name in _ID_HEADERS:
            found.setdefault(name, []).append(value)
        elif name == REQUIRED:
            every = every or _text(name, value).lower() == "all"
    if not found:
        return None
    models, aliases = _ids(found, MODEL), _ids(found, ALIAS)
    if models and aliases:
        raise Malformed("must include only one of model id and vmodel id")
    if not models and not aliases:
        models = [_text(LEGACY_MODEL, value) for value in found[LEGACY_MODEL]]
    if "" in models:
        raise Malformed("provided model-id header must be non-empty")
    if "" in aliases:
        raise Malformed("provided vmodel-id header must be non-empty")
    return Target(tuple(map(ModelId, models)), tuple(map(AliasId, aliases)), all_required=every)


def balanced(metadata: Metadata) -> bool:
    """Whether the caller spreads its calls over the pods itself; anything but `true` means no."""
    return (BALANCED, "true") in metadata


def to_runtime(metadata: Metadata, model: ModelId) -> Metadata:
    """What the runtime gets: the caller's headers without the mesh's and the transport's own, and the concrete model."""
    return from_runtime(metadata) + _naming(model)


def from_runtime(metadata: Metadata) -> Metadata:
    """What the caller gets of the runtime's headers or trailers: all but the mesh's and the transport's own."""
    return tuple([entry for entry in metadata if _passes(entry[0])]) if metadata else ()


@lru_cache(maxsize=4096)
def _passes(name: str) -> bool:
    return name == DETAILS or not (name.startswith(_OWN_PREFIXES) or name in _OWN_NAMES)


_ID_HEADERS = frozenset({MODEL, f"{MODEL}-bin", ALIAS, f"{ALIAS}-bin", LEGACY_MODEL})


def _ids(found: dict[str, list[str | bytes]], name: str) -> list[str]:
    for header in (name, f"{name}-bin"):
        if header in found:
            return [_text(header, value) for value in found[header]]
    return []


def _text(name: str, value: str | bytes) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise Malformed(f"header {name} is not UTF-8 at byte {error.start}; send the id as UTF-8") from None


@lru_cache(maxsize=4096)
def _naming(model: ModelId) -> Metadata:
    """The headers that name `model`: binary always, plain if it is of characters 32 to 126 only."""
    binary = (f"{MODEL}-bin", model.encode())
    return (binary, (MODEL, model)) if model.isascii() and model.isprintable() else (binary,)
