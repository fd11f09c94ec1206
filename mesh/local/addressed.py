"""Pods anywhere, by the addresses at which they tell of themselves, for what is asked of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from mesh.core.errors import Failed, PeerUnavailable, Unknown
from mesh.local.together import together

Json = dict[str, Any]

_TIMEOUT = 10.0
"""Seconds that a pod gets for one answer."""


class AddressedPods:
    """Routers anywhere, by the `host:port` of their probe ports (MM_PROBE_PORT); as of `mesh.local.explanations.Pods`."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._ids: dict[str, str] = {}
        self._silent: set[str] = set()

    async def each(self, path: str, params: dict[str, str]) -> Json:
        """By pod; those that do not answer are left out, and named by `silent`."""
        answers = await asyncio.gather(*(self._one(address, path, params) for address in self._addresses))
        return {self._ids[address]: answer for address, answer in zip(self._addresses, answers, strict=True) if answer is not None}

    async def model(self, name: str) -> Json:
        """Put together as for a local mesh. Unknown if no pod knows it."""
        told = await self.each(f"models/{quote(name, safe='')}", {})
        if not told:
            raise Unknown(f"the routers know nothing of {name}")
        return together(dict(next(iter(told.values()))), told)

    async def figures(self, pod: str) -> Json | None:
        """As the registry shows it."""
        for answer in (await self.each("pods", {})).values():
            for one in answer["pods"]:
                if one["id"] == pod:
                    return {"name": pod, "state": one["state"], "router": one}
        return None

    def silent(self) -> Sequence[str]:
        """Addresses at which nobody answered."""
        return sorted(self._silent)

    def services(self) -> Sequence[str]:
        """None: only pods were named."""
        return ()

    def service(self, _: str) -> Json | None:
        """None: only pods were named."""
        return None

    async def _one(self, address: str, path: str, params: dict[str, str]) -> Any:
        try:
            # Not TLS: the authorities' certificates, which take tens of ms to read each time, are left alone.
            async with httpx.AsyncClient(base_url=f"http://{address}/mesh/v1/", timeout=_TIMEOUT, trust_env=False, verify=False) as client:
                if address not in self._ids:
                    self._ids[address] = _json(address, await client.get("pod"))["id"]
                answer = await client.get(path, params=params)
        except (httpx.HTTPError, httpx.InvalidURL, PeerUnavailable):
            self._silent.add(address)
            return None
        return None if answer.status_code == 404 else _json(address, answer)


def _json(address: str, answer: httpx.Response) -> Any:
    if answer.status_code == 503:
        raise PeerUnavailable(f"the pod at {address} is still starting")
    if not answer.is_success:
        raise Failed(f"{address} answered {answer.status_code}: {answer.text[:200]}; is it the probe port of a router (MM_PROBE_PORT)?")
    return answer.json()
