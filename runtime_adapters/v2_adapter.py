"""What the adapters of servers with KServe's v2 protocol and its repository extension have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime_adapters.v2_client import V2Client


class V2Adapter:
    """Asks the server about itself over its own gRPC port.

    Args:
        name: of the server, for messages.
        client: the connection to it.
        address: where it listens.
        folder: where layouts lie.
        methods: what passes to it, each with the field path to the model id.
    """

    def __init__(self, name: str, client: V2Client, address: str, folder: Path, methods: Mapping[str, tuple[int, ...]]) -> None:
        self.name, self.address, self.folder, self.methods = name, address, folder, methods
        self._server = client

    async def live(self, timeout: float) -> None:
        """Return if the server answers within `timeout` seconds."""
        await self._server.live(timeout)

    async def disconnected(self) -> None:
        """Return when the connection to the server is lost."""
        await self._server.disconnected()

    async def ready(self) -> bool:
        """Whether the server takes loads."""
        return await self._server.ready()

    async def version(self) -> str:
        """The server's version."""
        return await self._server.version()

    async def close(self) -> None:
        """Close the channel to the server."""
        await self._server.close()
