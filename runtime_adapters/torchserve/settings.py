"""What TorchServe's adapter is told beyond what every adapter is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime_adapters.settings import Port, SettingsError

DEFAULTS: Mapping[str, str] = {"RUNTIME_PORT": "7071", "MODELSIZE_MULTIPLIER": "2.75"}
"""Where this adapter's defaults differ from the others': TorchServe's management port, and memory per byte of an archive."""
_ENDPOINT = re.compile(r"port:([0-9]{1,5})|unix:/.+")
_INT32 = 2**31 - 1


class TorchServeSettings(BaseModel):
    """Read from the environment; names and defaults are those of ModelMesh's adapter, and the ports that the bridge adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data_endpoint: str = Field("port:7070", validation_alias="RUNTIME_DATA_ENDPOINT", pattern=_ENDPOINT.pattern)
    """Where the router sends calls: `port:N` or `unix:/path`. The bridge listens there."""
    grpc_port: Port = Field(7072, validation_alias="TORCHSERVE_GRPC_PORT")
    """TorchServe's own gRPC inference port; the bridge has the one that it would have by default."""
    http_port: Port = Field(8083, validation_alias="TORCHSERVE_HTTP_PORT")
    """TorchServe's REST inference port; its default, 8080, is the router's."""
    batch_size: Annotated[int, Field(ge=0, le=_INT32)] = Field(0, validation_alias="REQUEST_BATCH_SIZE")
    """Rows that a worker is given at a time; 0: as the archive says, else 1."""
    batch_delay: Annotated[int, Field(ge=0, le=_INT32)] = Field(0, validation_alias="MAX_BATCH_DELAY_SECS")
    """Handed on as `max_batch_delay`, which TorchServe takes for milliseconds whatever this name says; 0: as the archive says."""

    @property
    def listen(self) -> str:
        """The bridge's address as gRPC names it."""
        kind, _, rest = self.data_endpoint.partition(":")
        return f"127.0.0.1:{rest}" if kind == "port" else self.data_endpoint

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> TorchServeSettings:
        """Read `environment`, the process's own unless given.

        Raises:
            SettingsError: a variable cannot be read or is out of bounds.
        """
        try:
            return cls.model_validate(dict(os.environ if environment is None else environment))
        except ValidationError as error:
            raise SettingsError("; ".join(f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors())) from None


class Registration(NamedTuple):
    """How each model is registered."""

    workers: int
    """Processes that serve it, each with the model in its memory."""
    batch_size: int
    batch_delay: int
