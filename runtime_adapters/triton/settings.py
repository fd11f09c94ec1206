"""What Triton's adapter is told beyond what every adapter is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime_adapters.settings import SettingsError


class TritonSettings(BaseModel):
    """Read from the environment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    unload_timeout: Annotated[int, Field(ge=1)] = Field(30_000, validation_alias="UNLOADTIME_TIMEOUT")
    """Milliseconds until a model that Triton was told to unload must be gone; a load that is still running counts in."""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> TritonSettings:
        """Read `environment`, the process's own unless given.

        Raises:
            SettingsError: a variable cannot be read or is out of bounds.
        """
        try:
            return cls.model_validate(dict(os.environ if environment is None else environment))
        except ValidationError as error:
            raise SettingsError("; ".join(f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors())) from None
