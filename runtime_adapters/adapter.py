"""What the SPI server asks of the adapter of one model server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from runtime_adapters.schema import Schema


class LocalModel(NamedTuple):
    """A model whose files lie on this machine."""

    id: str
    type: str
    """Lower case, without version: `sklearn`; empty if unknown."""
    path: Path
    """File or directory."""
    schema: Schema | None


class Adapter(Protocol):
    """Speaks to one model server. Every method but `discard` and `prepare` raises `AdapterError`s of the server's answers."""

    name: str
    """For messages: `MLServer`."""
    address: str
    """For messages: `127.0.0.1:8001`."""
    folder: Path
    """Where the layouts lie; below the root of model files, its name begins with `_`."""
    methods: Mapping[str, tuple[int, ...]]
    """Data-plane methods to let through, each with the field path to the model id."""

    async def live(self, timeout: float) -> None:
        """Return if the server answers within `timeout` seconds; `Late` if it is silent, `Unreachable` if nothing listens."""
        ...

    async def disconnected(self) -> None:
        """Return when an established connection to the server is lost. A restarted server is always seen here."""
        ...

    async def ready(self) -> bool:
        """Whether the server takes loads."""
        ...

    async def version(self) -> str:
        """The server's version; "" if it tells none."""
        ...

    def prepare(self, model: LocalModel) -> None:
        """Lay the files out as the server wants them; what was there for this id is replaced. Blocking.

        Raises:
            AdapterError: the files are not what they should be.
            OSError: the disk refuses.
        """
        ...

    def discard(self, model_id: str) -> None:
        """Remove the layout of a model; fine if there is none. Blocking."""
        ...

    async def load(self, model_id: str, timeout: float) -> None:
        """Load what was prepared; returns when the model can serve."""
        ...

    async def unload(self, model_id: str) -> None:
        """Unload a model; one that is not loaded is fine. Returns when the server does not have it any more."""
        ...

    async def unload_all(self) -> None:
        """Unload whatever the server has."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


@runtime_checkable
class Starts(Protocol):
    """An adapter that has something to do before the model server is asked for the first time."""

    async def start(self) -> None:
        """The folder is there. OSError if this machine does not allow it."""
        ...


@runtime_checkable
class Measures(Protocol):
    """An adapter whose server tells how much memory a loaded model takes. Loads then answer size 0, and the router asks with modelSize."""

    async def measure(self, model_id: str) -> int | None:
        """Bytes that a loaded model takes, waited for within reason; None if the server cannot tell: it is then guessed from the files."""
        ...


@runtime_checkable
class Limits(Protocol):
    """An adapter whose server tells how many calls a loaded model takes at a time."""

    async def concurrency(self, model_id: str) -> int | None:
        """Calls at a time, at least 1; None if the server does not say: LIMIT_PER_MODEL_CONCURRENCY counts then. Asked if that is set."""
        ...
