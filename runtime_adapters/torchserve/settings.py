"""What TorchServe's adapter is told beyond what every adapter is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field

from runtime_adapters.settings import FromEnvironment, Port, Target

DEFAULTS: Mapping[str, str] = {"RUNTIME_PORT": "7071", "MODELSIZE_MULTIPLIER": "2.75"}
"""Where this adapter's defaults differ from the others': TorchServe's management port, and memory per byte of an archive."""
_INT32 = 2**31 - 1


class TorchServeSettings(FromEnvironment):
    """Read from the environment; names and defaults are those of ModelMesh's adapter, and the ports that the bridge adds."""

    model_config = ConfigDict(validate_default=True)

    listen: Target = Field("port:7070", validation_alias="RUNTIME_DATA_ENDPOINT")
    """Where the router sends calls; the bridge listens there."""
    grpc_port: Port = Field(7072, validation_alias="TORCHSERVE_GRPC_PORT")
    """TorchServe's own gRPC inference port; the bridge has the one that it would have by default."""
    http_port: Port = Field(8083, validation_alias="TORCHSERVE_HTTP_PORT")
    """TorchServe's REST inference port; its default, 8080, is the router's."""
    batch_size: Annotated[int, Field(ge=0, le=_INT32)] = Field(0, validation_alias="REQUEST_BATCH_SIZE")
    """Rows that a worker is given at a time; 0: as the archive says, else 1."""
    batch_delay: Annotated[int, Field(ge=0, le=_INT32)] = Field(0, validation_alias="MAX_BATCH_DELAY_SECS")
    """Handed on as `max_batch_delay`, which TorchServe takes for milliseconds whatever this name says; 0: as the archive says."""


class Registration(NamedTuple):
    """How each model is registered."""

    workers: int
    """Processes that serve it, each with the model in its memory."""
    batch_size: int
    batch_delay: int
