"""Calls to MLServer over its own gRPC port."""

from __future__ import annotations

import grpc

from mesh.protocols import inference_pb2 as v2
from runtime_adapters.errors import RuntimeRefused
from runtime_adapters.v2_client import V2Client

UNLOAD_TIMEOUT = 30.0
"""Seconds. Unloading itself takes milliseconds, but it waits for a load in progress."""

_NOT_LOADED = frozenset([grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT])
"""How MLServer answers an unload of what it does not have: ModelNotFound, ModelNotReady."""


class Client(V2Client):
    """One channel to MLServer. Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with MLServer's own code and text."""

    def __init__(self, address: str) -> None:
        super().__init__("MLServer", address)

    async def known(self) -> list[str]:
        """Names of the models whose settings MLServer finds on disk, loaded or not."""
        return [entry.name for entry in await self.index()]

    async def unload(self, name: str) -> None:
        """Unload a model; one that is not loaded is fine."""
        request = v2.RepositoryModelUnloadRequest(model_name=name)
        try:
            await self._ask(self._stub.RepositoryModelUnload(request, timeout=UNLOAD_TIMEOUT))
        except RuntimeRefused as error:
            if error.status not in _NOT_LOADED:
                raise
