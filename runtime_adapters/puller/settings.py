"""Settings of the stand-alone puller, read from the environment; names and defaults are those of ModelMesh's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runtime_adapters.settings import OwnFolder, Port, SettingsError


def _target(text: str) -> str:
    """A gRPC target."""
    kind, _, rest = text.partition(":")
    if kind == "port" and rest.isascii() and rest.isdigit() and 0 < int(rest) < 65536:
        return f"127.0.0.1:{rest}"
    if kind == "unix" and rest:
        return text
    raise ValueError("must be port:N or unix:/PATH")


def _env(name: str, default: Any, meaning: str) -> Any:
    return Field(default, validation_alias=name, description=meaning)


class PullerSettings(BaseModel):
    """Settings of one puller process."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    port: Port = _env("PORT", 8084, "port of the SPI on 127.0.0.1; 0 lets the system choose")
    target: Annotated[str, AfterValidator(_target)] = _env("MODEL_SERVER_ENDPOINT", "port:8085", "the runtime: port:N or unix:/PATH")
    root: OwnFolder = _env("ROOT_MODEL_DIR", Path("/models"), "folder for model files; the puller owns what lies in it")
    storage_config: Path = _env("STORAGE_CONFIG_DIR", Path("/storage-config"), "folder with one JSON file per storage key")
    pvc_mounts: Path = _env("PVC_MOUNTS_DIR", Path("/pvc_mounts"), "folder in which claims are mounted by name")
    log_level: str = _env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> PullerSettings:
        """Read `environment`, the process's own unless given.

        Raises:
            SettingsError: a variable cannot be read or is out of bounds. One set to "" counts as set.
        """
        try:
            return cls.model_validate(dict(os.environ if environment is None else environment))
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors()]
            raise SettingsError("; ".join(lines)) from None
