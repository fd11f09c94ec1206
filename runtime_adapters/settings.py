"""Settings of an adapter, read from the environment; names and defaults are those of ModelMesh's runtime adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError


def _own_folder(path: Path) -> Path:
    """A purge empties this folder, so it must not be one that somebody named by mistake."""
    if not path.is_absolute() or path == Path("/"):
        raise ValueError("must be the absolute path of a folder that holds nothing else")
    return path


def _target(text: str) -> str:
    """A gRPC target."""
    kind, _, rest = text.partition(":")
    if kind == "port" and rest.isascii() and rest.isdigit() and 0 < int(rest) < 65536:
        return f"127.0.0.1:{rest}"
    if kind == "unix" and rest.startswith("/"):
        return text
    raise ValueError("must be port:N or unix:/PATH")


Port = Annotated[int, Field(ge=0, le=65535)]
Target = Annotated[str, AfterValidator(_target)]
"""`port:N` of this machine or `unix:/PATH`, read into what gRPC calls it."""
OwnFolder = Annotated[Path, AfterValidator(_own_folder)]


def _env(name: str, default: Any, meaning: str) -> Any:
    return Field(default, validation_alias=name, description=meaning)


class SettingsError(Exception):
    """The environment does not make sense; the message names each variable."""


class FromEnvironment(BaseModel):
    """Settings that variables hold; each field names its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read `environment`, the process's own unless given.

        Raises:
            SettingsError: a variable cannot be read or is out of bounds. One set to "" counts as set.
        """
        try:
            return cls.model_validate(dict(os.environ if environment is None else environment))
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors()]
            raise SettingsError("; ".join(lines)) from None


class Settings(FromEnvironment):
    """Settings of one adapter process. Sizes are bytes, times milliseconds."""

    port: Port = _env("ADAPTER_PORT", 8085, "port of the SPI on 127.0.0.1; 0 lets the system choose")
    socket: str = _env("ADAPTER_SOCKET", "", "path of a Unix socket to serve the SPI on instead of the port")
    runtime_port: Port = _env("RUNTIME_PORT", 8001, "management port of the model server on 127.0.0.1")
    memory_request: Annotated[int, Field(ge=0)] = _env("CONTAINER_MEM_REQ_BYTES", -1, "memory request of the server's container; required")
    memory_buffer: Annotated[int, Field(ge=0)] = _env(
        "MEM_BUFFER_BYTES", 268_435_456, "memory that the server needs for itself; the rest is for models"
    )
    loading_concurrency: Annotated[int, Field(ge=1)] = _env("LOADING_CONCURRENCY", 1, "models that may load at the same time")
    load_timeout: Annotated[int, Field(ge=1)] = _env("LOADTIME_TIMEOUT", 30_000, "longest time a load may take, milliseconds")
    default_size: Annotated[int, Field(ge=1)] = _env("DEFAULT_MODELSIZE", 1_000_000, "size of a model of which nothing is known, bytes")
    size_multiplier: Annotated[float, Field(gt=0)] = _env("MODELSIZE_MULTIPLIER", 1.25, "memory a model takes per byte on disk")
    runtime_version: str = _env("RUNTIME_VERSION", "v1", "version to report if the server tells none")
    model_concurrency: Annotated[int, Field(ge=0)] = _env("LIMIT_PER_MODEL_CONCURRENCY", 0, "calls that one copy takes at a time; 0: any")
    root: OwnFolder = _env("ROOT_MODEL_DIR", Path("/models"), "folder for model files; the adapter owns what lies in it")
    storage_config: Path = _env("STORAGE_CONFIG_DIR", Path("/storage-config"), "folder with one JSON file per storage key")
    pvc_mounts: Path = _env("PVC_MOUNTS_DIR", Path("/pvc_mounts"), "folder in which claims are mounted by name")
    embedded_puller: bool = _env("USE_EMBEDDED_PULLER", True, "fetch models; false where a puller of its own stands in front")
    silence_limit: Annotated[int, Field(ge=1000)] = _env(
        "RUNTIME_SILENCE_LIMIT", 30_000, "a connected model server that answers nothing for so long counts as down, milliseconds"
    )
    log_level: str = _env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

    @property
    def capacity(self) -> int:
        """Bytes for models; not positive if the buffer takes all of the request."""
        return self.memory_request - self.memory_buffer

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read `environment`, the process's own unless given.

        Raises:
            SettingsError: a variable cannot be read or is out of bounds, or the memory request is not set.
        """
        settings = super().load(environment)
        if settings.memory_request < 0:
            raise SettingsError("CONTAINER_MEM_REQ_BYTES is not set: give the memory request of the model server's container")
        return settings
