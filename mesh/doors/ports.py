"""What a door asks of the pod behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from mesh.pod.management import Listed
from mesh.wire.call import Answer, Call, Metadata

SERVER_NAME = "modelmesh-router"
EXTENSIONS = ("binary_tensor_data", "parameters")
"""What the mesh says of itself at every door: extensions of the v2 protocol that are offered whole."""


class Stream(Protocol):
    """The answering side of a stream that the runtime accepted."""

    headers: Metadata

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Response messages in order; ends with a `RuntimeStatus` or `MeshError` unless the runtime said OK."""
        ...

    @property
    def trailers(self) -> Metadata:
        """Known once the iteration is over."""
        ...

    def close(self) -> None:
        """Ends it, whether the iteration is over or was never begun; its copy is free then. Doing it again changes nothing."""
        ...


class Serving(Protocol):
    """Carries out one call, wherever its model is or is best loaded."""

    async def unary(self, call: Call, payload: bytes) -> Answer:
        """One message in, one out.

        Raises:
            RuntimeStatus: the runtime answered another status than OK; it passes as it is.
            MeshError: the mesh could not get an answer.
        """
        ...

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> Stream:
        """Any number of messages both ways; the first request message, or metadata, names the model. Errors as for `unary`."""
        ...


class Directory(Protocol):
    """What the mesh knows of itself and of its models, without using or loading any."""

    def ready(self) -> bool:
        """Whether this pod takes calls."""
        ...

    def model_ready(self, name: str) -> bool:
        """Whether a call for this alias or model would be served now: resident, or loadable and not failing.

        Raises:
            Unknown: there is no such alias or model.
        """
        ...

    def index(self, *, ready: bool = False, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        """Aliases, and models without an alias, by name, from the one following `after`. `ready` keeps READY ones only."""
        ...
