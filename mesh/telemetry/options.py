"""What the environment says about metrics: `MM_METRICS` and `MM_INFO_METRICS`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from mesh.core.errors import Malformed

Scheme = Literal["http", "https"]

_log = logging.getLogger(__name__)
_SYNTAX = re.compile(r"[A-Za-z]+(:[^:;=]+=[^;=]+(;[^:;=]+=[^;=]+)*;?)?")
_INFO_SYNTAX = re.compile(r"(?P<name>[a-z_:]+);(?P<labels>[A-Za-z_]\w*=\w+(,[A-Za-z_]\w*=\w+)*)", re.ASCII)
_NO_EFFECT = ("mem_detail",)
"""About the memory of the Java machine: taken, because deployments have it, and without meaning here."""
_WITHOUT_EFFECT = ("MM_METRICS_STATSD_PORT", "MM_METRICS_PROMETHEUS_PORT")
"""ModelMesh's old variables; it too only warns of them (reference 10.1)."""


@dataclass(frozen=True, slots=True)
class Options:
    """How Prometheus finds the metrics of this pod.

    Attributes:
        port: 0 takes any free one.
        scheme: https uses a certificate made at start, which nobody has signed.
        per_model: label histograms with model and alias.
        full_names: methods with package and service instead of the bare name.
        info: name and labels of the constant gauge, if there is one.
    """

    port: int = 2112
    scheme: Scheme = "https"
    per_model: bool = False
    full_names: bool = False
    info: tuple[str, tuple[tuple[str, str], ...]] | None = None


@dataclass(frozen=True, slots=True)
class StatsdOptions:
    """How StatsD gets the metrics of this pod.

    Attributes:
        port: of the StatsD server on this machine, UDP.
        full_names: methods with package and service instead of the bare name.
        legacy: the names of before there was Prometheus.
    """

    port: int = 8126
    full_names: bool = False
    legacy: bool = False


class _Unusable(Exception):
    """A well-formed setting that cannot be followed: metrics are off, the process goes on."""


def read_options(metrics: str, info: str, environ: Mapping[str, str]) -> Options | StatsdOptions | None:
    """Reads `MM_METRICS` and `MM_INFO_METRICS`, the latter's values from `environ`.

    None means that metrics are off: by wish, or because of a type, parameter or value that is unknown, which is logged as an error.

    Raises:
        Malformed: a text does not have the form of its setting, or an environment variable for a label is not set.
    """
    for name in _WITHOUT_EFFECT:
        if name in environ:
            _log.warning("%s has no effect; the port is a parameter of MM_METRICS", name)
    if not _SYNTAX.fullmatch(metrics):
        raise Malformed(f"MM_METRICS={metrics} is not of the form <type>[:name=value;name=value], as in prometheus:port=2112;scheme=http")
    kind, _, rest = metrics.partition(":")
    constant = _info(info, environ) if info else None
    try:
        if kind == "disabled":
            return None
        parameters = dict(pair.split("=", 1) for pair in rest.split(";") if pair)
        if kind == "prometheus":
            return _prometheus(parameters, constant)
        if kind != "statsd":
            raise _Unusable(f"there is no type {kind}; use prometheus, statsd or disabled")
        if constant:
            _log.warning("MM_INFO_METRICS has no effect: only Prometheus gets the constant gauge, and MM_METRICS=%s", metrics)
        return _statsd(parameters)
    except _Unusable as fault:
        _log.error("metrics are disabled, for MM_METRICS=%s: %s", metrics, fault)
        return None


def _prometheus(parameters: dict[str, str], info: tuple[str, tuple[tuple[str, str], ...]] | None) -> Options:
    for name in _NO_EFFECT:
        if parameters.pop(name, None) is not None:
            _log.info("parameter %s of MM_METRICS has no effect", name)
    port, scheme = _port(parameters, "2112"), parameters.pop("scheme", "https")
    per_model, full_names = _truth(parameters, "per_model_metrics"), _truth(parameters, "fq_names")
    _refuse(parameters, "port, scheme, per_model_metrics and fq_names")
    if scheme not in ("http", "https"):
        raise _Unusable(f"scheme={scheme} is neither http nor https")
    return Options(port, cast(Scheme, scheme), per_model, full_names, info)


def _statsd(parameters: dict[str, str]) -> StatsdOptions:
    port, full_names, legacy = _port(parameters, "8126"), _truth(parameters, "fq_names"), _truth(parameters, "legacy")
    _refuse(parameters, "port, fq_names and legacy")
    if port == 0:
        raise _Unusable("port=0 is no port of a StatsD server")
    return StatsdOptions(port, full_names, legacy)


def _refuse(unknown: dict[str, str], known: str) -> None:
    if unknown:
        raise _Unusable(f"there is no parameter {', '.join(unknown)}; known are {known}")


def _port(parameters: dict[str, str], default: str) -> int:
    port = parameters.pop("port", default)
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise _Unusable(f"port={port} is not a number from 0 to 65535")
    return int(port)


def _truth(parameters: dict[str, str], name: str) -> bool:
    text = parameters.pop(name, "false")
    if text.lower() not in ("true", "false"):
        raise _Unusable(f"{name}={text} is neither true nor false")
    return text.lower() == "true"


def _info(text: str, environ: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    parts = _INFO_SYNTAX.fullmatch(text)
    if not parts:
        raise Malformed(f"MM_INFO_METRICS={text} is not of the form <name>;label=VARIABLE,label=VARIABLE with a name of a-z, _ and :")
    labels: list[tuple[str, str]] = []
    for pair in parts["labels"].split(","):
        label, variable = pair.split("=")
        if variable not in environ:
            raise Malformed(f"MM_INFO_METRICS={text} takes label {label} from the environment variable {variable}, which is not set")
        if label in dict(labels):
            raise Malformed(f"MM_INFO_METRICS={text} has label {label} twice")
        labels.append((label, environ[variable]))
    return parts["name"], tuple(labels)
