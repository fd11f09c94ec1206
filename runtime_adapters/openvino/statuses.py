"""What OpenVINO Model Server says of its models (`GET /v1/config`), and what that means for a load or an unload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

OK = "OK"
AVAILABLE, UNLOADING = "AVAILABLE", "UNLOADING"
_COMING = frozenset(["START", "LOADING"])
"""States before AVAILABLE; with an error code beside them the load has failed, and nothing is in memory."""


class Version(NamedTuple):
    """The state of one version of a model: START, LOADING, AVAILABLE, UNLOADING or END."""

    number: str
    state: str
    code: str
    message: str


Statuses: TypeAlias = Mapping[str, tuple[Version, ...]]
"""By model. A model without versions is one whose folder has none that the server can read."""


def parse(document: Any) -> Statuses:
    """The server's answer as `Statuses`. ValueError if it is something else."""
    try:
        return {str(name): tuple(_version(entry) for entry in model["model_version_status"]) for name, model in document.items()}
    except (AttributeError, TypeError, LookupError) as error:
        raise ValueError(f"not a list of models' states ({type(error).__name__}: {error})") from None


def _version(entry: Any) -> Version:
    status = entry.get("status") or {}
    return Version(
        str(entry.get("version", "")), str(entry["state"]), str(status.get("error_code", OK)), str(status.get("error_message", ""))
    )


def serves(versions: tuple[Version, ...]) -> bool:
    """Whether the model answers calls."""
    return any(one.state == AVAILABLE for one in versions)


def comes(versions: tuple[Version, ...]) -> bool:
    """Whether the model is still being loaded."""
    return not serves(versions) and any(one.state in _COMING and one.code == OK for one in versions)


def held(versions: tuple[Version, ...]) -> bool:
    """Whether the server has anything of the model in memory, or soon will."""
    return any(one.state in (AVAILABLE, UNLOADING) or (one.state in _COMING and one.code == OK) for one in versions)


def failure(versions: tuple[Version, ...]) -> str:
    """Why a model that neither serves nor comes does not."""
    if not versions:
        return "OVMS finds no version of it that it can read: a numbered folder with files of a format that it knows"
    shown = next((one for one in versions if one.code != OK), versions[0])
    return (
        f"OVMS model load failed. code: '{shown.code}' reason: '{shown.message}' (version {shown.number}, {shown.state}); its log says more"
    )
