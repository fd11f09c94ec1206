"""Parameters that operators set for a running mesh are applied at once; a bad one is named, and what was configured is in force."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from mesh.core.errors import Rejected
from mesh.pod.dynamic import DynamicConfig, refuse_if_disabled
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from tests.unit.pod.bench import turns


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


class Operated:
    """A mesh whose operator sets parameters, and a pod that applies them."""

    def __init__(self, settings: Settings, **parameters: str) -> None:
        self.store = MemoryStore()
        self.logs_each: bool | None = None
        for name, value in parameters.items():
            self.store.set_parameter(name, value)
        self.config = DynamicConfig(self.store.registry(), settings, self._log_each)

    def _log_each(self, wanted: bool) -> None:
        self.logs_each = wanted

    async def set(self, name: str, value: str | None) -> None:
        self.store.set_parameter(name, value)
        await turns()


def level() -> str:
    return logging.getLevelName(logging.getLogger().level)


def settings(**values: object) -> Settings:
    return Settings(service_name="mesh", **values)  # type: ignore[arg-type]


async def test_what_is_set_before_the_start_is_in_force_from_the_start() -> None:
    mesh = Operated(settings(), logger_level="DEBUG", log_each_invocation="true", scaleup_rpm_threshold="10")
    assert (level(), mesh.logs_each, mesh.config.scaleup_rpm_threshold) == ("DEBUG", True, 10)


async def test_a_parameter_that_goes_leaves_what_was_configured() -> None:
    mesh = Operated(settings(log_level="ERROR", log_each_invoke=True))
    for name, value in (("logger_level", "debug"), ("log_each_invocation", "FALSE"), ("scaleup_rpm_threshold", " 500 ")):
        await mesh.set(name, value)
    assert (level(), mesh.logs_each, mesh.config.scaleup_rpm_threshold) == ("DEBUG", False, 500)
    for name in ("logger_level", "log_each_invocation", "scaleup_rpm_threshold"):
        await mesh.set(name, None)
    assert (level(), mesh.logs_each, mesh.config.scaleup_rpm_threshold) == ("ERROR", True, 2000)


@pytest.mark.parametrize(("name", "meant"), [("WARN", "WARNING"), ("TRACE", "DEBUG"), ("FATAL", "ERROR"), ("all", "DEBUG")])
async def test_levels_of_modelmesh_are_understood(name: str, meant: str) -> None:
    await Operated(settings()).set("logger_level", name)
    assert level() == meant


@pytest.mark.parametrize(
    ("name", "bad", "warned"),
    [
        (
            "logger_level",
            "loud",
            r"config/logger_level='loud' in the registry is no level; choose one of .*; in force is MESH_LOG_LEVEL \(ERROR\)",
        ),
        ("logger_level", "", "config/logger_level='' in the registry is no level"),
        ("log_each_invocation", "yes", r"config/log_each_invocation='yes' .* true or false; in force is MM_LOG_EACH_INVOKE \(true\)"),
        ("scaleup_rpm_threshold", "9", "config/scaleup_rpm_threshold='9' .* at least 10; in force is MM_SCALEUP_RPM_THRESHOLD .2000."),
        (
            "scaleup_rpm_threshold",
            "many",
            "config/scaleup_rpm_threshold='many' .* whole number, at least 10; in force is MM_SCALEUP_RPM_THR",
        ),
        ("scaleup_threshold", "100", "config/scaleup_threshold is not known, passed over; known are logger_level, "),
    ],
)
async def test_a_bad_value_is_named_with_what_is_in_force_instead(
    name: str, bad: str, warned: str, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = Operated(settings(log_level="ERROR", log_each_invoke=True), logger_level="DEBUG", log_each_invocation="false")
    await mesh.set("scaleup_rpm_threshold", "100")
    caplog.clear()
    await mesh.set(name, bad)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.match(warned, record.getMessage())
    in_force = {"logger_level": level(), "log_each_invocation": mesh.logs_each, "scaleup_rpm_threshold": mesh.config.scaleup_rpm_threshold}
    fallen_back = {"logger_level": "ERROR", "log_each_invocation": True, "scaleup_rpm_threshold": 2000}
    assert in_force == {"logger_level": "DEBUG", "log_each_invocation": False, "scaleup_rpm_threshold": 100} | {
        key: value for key, value in fallen_back.items() if key == name
    }


async def test_what_has_no_effect_here_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    mesh = Operated(settings())
    for name in ("send_destination_id", "disable"):
        await mesh.set(name, "true")
        await mesh.set(name, None)
    assert caplog.records == []


@pytest.mark.parametrize("value", ["true", "", "yes", "1"])
def test_a_disabled_mesh_lets_no_pod_start(value: str) -> None:
    with pytest.raises(Rejected, match=r"kept from starting: config/disable in the registry is .* remove it, or set it to false"):
        refuse_if_disabled({"disable": value})


@pytest.mark.parametrize("parameters", [{}, {"disable": "false"}, {"disable": " False\n"}, {"logger_level": "DEBUG"}])
def test_a_mesh_that_is_not_disabled_lets_pods_start(parameters: dict[str, str]) -> None:
    refuse_if_disabled(parameters)
