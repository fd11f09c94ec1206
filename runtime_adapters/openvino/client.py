"""Calls to OpenVINO Model Server: its configuration over REST, its life over gRPC."""

from __future__ import annotations

import grpc
import httpx

from runtime_adapters.errors import AdapterError, Late, RuntimeRefused, Unreachable
from runtime_adapters.openvino import statuses
from runtime_adapters.openvino.statuses import Statuses
from runtime_adapters.v2_client import MANAGEMENT_TIMEOUT, V2Client


class Client:
    """One server: `rest` is host and port of its REST interface, `data` the address of its gRPC port.

    Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with what the server said.
    """

    def __init__(self, rest: str, data: str) -> None:
        self.server = f"OVMS at {rest}"
        # A proxy of the environment is not meant for a server on this machine.
        self._http = httpx.AsyncClient(base_url=f"http://{rest}", trust_env=False, timeout=MANAGEMENT_TIMEOUT)
        self.grpc = V2Client("OVMS", data)
        """Whether it lives, and its version."""

    async def models(self, timeout: float = MANAGEMENT_TIMEOUT) -> Statuses:
        """What the server has: `GET /v1/config`. `timeout` in seconds."""
        return self._statuses(await self._http_ask("GET", "/v1/config", timeout))

    async def reload(self, timeout: float) -> Statuses:
        """Have the configuration file read again; what the server has then. `timeout` in seconds."""
        return self._statuses(await self._http_ask("POST", "/v1/config/reload", timeout))

    async def close(self) -> None:
        """Close both connections; calls in progress end."""
        await self._http.aclose()
        await self.grpc.close()

    async def _http_ask(self, method: str, path: str, timeout: float) -> httpx.Response:
        try:
            # The connection is made at once, if at all; the answer may take as long as loading does.
            return await self._http.request(method, path, timeout=httpx.Timeout(timeout, connect=min(timeout, MANAGEMENT_TIMEOUT)))
        except httpx.TimeoutException:
            raise Late(f"{self.server} did not answer {method} {path} in {timeout:g} s") from None
        except httpx.TransportError as error:
            raise Unreachable(f"{self.server} cannot be reached: {str(error) or type(error).__name__}") from None

    def _statuses(self, answer: httpx.Response) -> Statuses:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not answer.is_success:
            said = document.get("error") if isinstance(document, dict) else None
            raise RuntimeRefused(str(said or answer.text[:200] or f"status {answer.status_code}"), grpc.StatusCode.INTERNAL)
        try:
            return statuses.parse(document)
        except ValueError as error:
            raise AdapterError(f"{self.server} answered what cannot be read: {error}") from None
