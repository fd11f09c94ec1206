"""What Triton's adapter is told beyond what every adapter is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime_adapters.settings import FromEnvironment


class TritonSettings(FromEnvironment):
    """Read from the environment."""

    unload_timeout: Annotated[int, Field(ge=1)] = Field(30_000, validation_alias="UNLOADTIME_TIMEOUT")
    """Milliseconds until a model that Triton was told to unload must be gone; a load that is still running counts in."""
