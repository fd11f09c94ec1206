"""What OpenVINO's adapter is told beyond what every adapter is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from runtime_adapters.settings import FromEnvironment, Target

DEFAULTS: Mapping[str, str] = {"RUNTIME_PORT": "8888"}
"""The REST port on which the ServingRuntime of ModelMesh starts the server."""
CONFIG_FILE = "model_config_list.json"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"\+?(?:{_PART.pattern})+\Z")


def duration(text: Any) -> float:
    """Seconds of a duration as Go writes them: `100ms`, `1m30s`, `1.5h`, `0`. ValueError if it is none, or negative."""
    if text in ("0", "+0"):
        return 0.0
    if not isinstance(text, str) or not _DURATION.match(text):
        raise ValueError("must be a duration such as 100ms, 3s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


Duration = Annotated[float, BeforeValidator(duration)]


class OpenVinoSettings(FromEnvironment):
    """Read from the environment; names and defaults are those of ModelMesh's adapter. Times in seconds."""

    model_config = ConfigDict(validate_default=True)

    config_file: Path | None = Field(None, validation_alias="MODEL_CONFIG_FILE")
    """The server's `--config_path`; None: `model_config_list.json` in the root of model files."""
    quiet: Duration = Field("100ms", validation_alias="BATCH_WAIT_TIME_MIN")  # type: ignore[assignment] # validated
    """A reload begins when no load or unload was asked for in this time."""
    longest: Duration = Field("3s", validation_alias="BATCH_WAIT_TIME_MAX")  # type: ignore[assignment] # validated
    """Nothing waits longer than this for the others of its batch."""
    reload_timeout: Duration = Field("30s", validation_alias="OVMS_RELOAD_TIMEOUT")  # type: ignore[assignment] # validated
    """The longest time that a reload's answer, or the end of an unload, is waited for."""
    data_address: Target = Field("port:8001", validation_alias="RUNTIME_DATA_ENDPOINT")
    """The server's gRPC port, which tells whether it lives."""

    @model_validator(mode="after")
    def _in_order(self) -> OpenVinoSettings:
        if self.longest < self.quiet:
            raise ValueError(f"BATCH_WAIT_TIME_MAX ({self.longest:g} s) is less than BATCH_WAIT_TIME_MIN ({self.quiet:g} s)")
        if not self.reload_timeout:
            raise ValueError("OVMS_RELOAD_TIMEOUT must be more than 0")
        return self
