"""What operators set for all pods of a running mesh, under `config/` in the registry (reference 7.6)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from mesh.core.errors import Rejected
from mesh.settings import Settings
from mesh.store.registry import Registry
from mesh.telemetry import logs

log = logging.getLogger(__name__)

LEVELS: Final[Mapping[str, str]] = {
    **{name: name for name in ("DEBUG", "INFO", "WARNING", "ERROR")},
    # ModelMesh's names of levels.
    "ALL": "DEBUG",
    "TRACE": "DEBUG",
    "WARN": "WARNING",
    "FATAL": "ERROR",
}
TRUTHS: Final[Mapping[str, bool]] = {"true": True, "false": False}
LOWEST_SCALEUP_RPM = 10


def refuse_if_disabled(parameters: Mapping[str, str]) -> None:
    """To be asked before a pod starts.

    Raises:
        Rejected: operators keep pods of this mesh from starting.
    """
    value = parameters.get("disable")
    if value is not None and value.strip().lower() != "false":
        raise Rejected(
            f"pods of this mesh are kept from starting: config/disable in the registry is {value!r}; remove it, or set it to false"
        )


class DynamicConfig:
    """Applies the parameters that there are, and each that changes; what cannot be read is named and counts as not set.

    Attributes:
        scaleup_rpm_threshold: requests a minute to one copy at which another one is wanted.
    """

    def __init__(self, registry: Registry, settings: Settings, log_each: Callable[[bool], None]) -> None:
        """Args:
        registry: whose parameters these are.
        settings: in force where no parameter is set.
        log_each: switches the lines for each call of the runtime on and off.
        """
        self._settings, self._log_each = settings, log_each
        self.scaleup_rpm_threshold = settings.scaleup_rpm
        self._apply: Final[Mapping[str, Callable[[str | None], None]]] = {
            "logger_level": self._logger_level,
            "log_each_invocation": self._log_each_invocation,
            "scaleup_rpm_threshold": self._scaleup_rpm_threshold,
            # Peers are told by instance id in any case; and a pod that runs is not stopped.
            "send_destination_id": lambda _: None,
            "disable": lambda _: None,
        }
        for name, value in registry.parameters.items():
            self._changed(name, value)
        registry.listen_to_parameters(self._changed)

    def _changed(self, name: str, value: str | None) -> None:
        apply = self._apply.get(name)
        if apply is not None:
            apply(value)
        elif value is not None:
            log.warning("config/%s is not known, passed over; known are %s", name, ", ".join(self._apply))

    def _logger_level(self, value: str | None) -> None:
        level = LEVELS.get((value or "").strip().upper())
        if value is not None and level is None:
            _warn("logger_level", value, f"is no level; choose one of {', '.join(LEVELS)}", f"MESH_LOG_LEVEL ({self._settings.log_level})")
        logs.setup(level or self._settings.log_level, self._settings.log_request_headers)

    def _log_each_invocation(self, value: str | None) -> None:
        wanted = TRUTHS.get((value or "").strip().lower())
        if value is not None and wanted is None:
            in_force = f"MM_LOG_EACH_INVOKE ({str(self._settings.log_each_invoke).lower()})"
            _warn("log_each_invocation", value, "has to be true or false", in_force)
        self._log_each(self._settings.log_each_invoke if wanted is None else wanted)

    def _scaleup_rpm_threshold(self, value: str | None) -> None:
        threshold = _whole(value)
        if value is not None and (threshold is None or threshold < LOWEST_SCALEUP_RPM):
            in_force = f"MM_SCALEUP_RPM_THRESHOLD ({self._settings.scaleup_rpm})"
            _warn("scaleup_rpm_threshold", value, f"has to be a whole number, at least {LOWEST_SCALEUP_RPM}", in_force)
            threshold = None
        self.scaleup_rpm_threshold = self._settings.scaleup_rpm if threshold is None else threshold


def _whole(value: str | None) -> int | None:
    try:
        return int(value) if value is not None else None
    except ValueError:
        return None


def _warn(name: str, value: str, fault: str, in_force: str) -> None:
    log.warning("config/%s=%r in the registry %s; in force is %s", name, value, fault, in_force)
