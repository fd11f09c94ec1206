"""Settings of the stand-alone puller, read from the environment; names and defaults are those of ModelMesh's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from runtime_adapters.settings import FromEnvironment, OwnFolder, Port, Target


def _env(name: str, default: Any, meaning: str) -> Any:
    return Field(default, validation_alias=name, description=meaning)


class PullerSettings(FromEnvironment):
    """Settings of one puller process."""

    model_config = ConfigDict(validate_default=True)

    port: Port = _env("PORT", 8084, "port of the SPI on 127.0.0.1; 0 lets the system choose")
    target: Target = _env("MODEL_SERVER_ENDPOINT", "port:8085", "the runtime: port:N or unix:/PATH")
    root: OwnFolder = _env("ROOT_MODEL_DIR", Path("/models"), "folder for model files; the puller owns what lies in it")
    storage_config: Path = _env("STORAGE_CONFIG_DIR", Path("/storage-config"), "folder with one JSON file per storage key")
    pvc_mounts: Path = _env("PVC_MOUNTS_DIR", Path("/pvc_mounts"), "folder in which claims are mounted by name")
    log_level: str = _env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")
