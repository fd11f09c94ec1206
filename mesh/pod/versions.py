"""What the management API does with the versions of services, whatever door it comes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mesh.core.errors import Conflict, Malformed, Unknown
from mesh.core.explaining.status import ModelStatus
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.records import AliasRecord
from mesh.core.traffic.policy import WHOLE
from mesh.core.traffic.reading import Reader, policy_to_json
from mesh.core.traffic.versions import SetPolicy, Standing, numbers, standing, version_named
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.pod.management import Management
from mesh.store.registry import Registry
from mesh.wire import patterns


class ServiceTraffic(NamedTuple):
    """A service's versions, oldest first, and its policy as documents have it."""

    service: AliasId
    owner: str
    versions: Sequence[Standing]
    policy: dict[str, Any]
    blocked: str = ""


class Versions:
    """Versions of services: told, given calls, given a policy."""

    def __init__(self, conductor: Conductor, registry: Registry, management: Management) -> None:
        self._conductor, self._registry, self._management = conductor, registry, management
        self._reader = Reader(patterns.fault)

    async def traffic(self, service: str) -> ServiceTraffic:
        """How a service is.

        Raises:
            Malformed: no name.
            Unknown: there is no such service.
            StoreUnavailable: it is not known here, and the store does not answer.
        """
        return _told(AliasId(service), await self._record(service))

    def status(self, model: ModelId) -> ModelStatus:
        """How a version's model is."""
        return self._management.status(model)

    async def shift(self, service: str, version: int, percent: int, owner: str = "") -> ServiceTraffic:
        """Gives a version all calls, or a share beside the stable one's; returns when this pod's calls follow it.

        Args:
            percent: from 0 to 100; with 100 it becomes the stable one as soon as it can serve.

        Raises:
            Malformed: no name, or a percentage that is none.
            Unknown: there is no such service or version.
            Conflict: it belongs to another owner.
        """
        if not 0 <= percent <= WHOLE:
            raise Malformed(f"percent has to be from 0 to {WHOLE}, not {percent}")
        record = await self._record(service)
        model = version_named(record, version)
        if model is None:
            raise Unknown(f"service {service} keeps no version {version}; it keeps {numbers(record)}")
        if percent < WHOLE and model == record.active:
            raise Conflict(
                f"version {version} of service {service} is the stable one, which has what others leave; give another version a share"
            )
        share = percent if percent < WHOLE else None
        edit = SetAlias(AliasId(service), model, self._now(), load_now=percent > 0, update_only=True, owner=owner, canary=share)
        await self._management.set_alias(edit)
        return await self.traffic(service)

    async def set_policy(self, service: str, data: Any, owner: str = "") -> ServiceTraffic:
        """Replaces the policy; returns when this pod's calls follow it.

        Args:
            data: as the spec of a document; `{}` is none.

        Raises:
            Malformed: names the field that is wrong.
            Unknown: there is no such service.
            Conflict: it belongs to another owner, or a canary has its share by a document.
        """
        policy = self._reader.policy(data)
        await self._record(service)
        await self._management.change(SetPolicy(AliasId(service), policy, owner))
        return await self.traffic(service)

    async def _record(self, service: str) -> AliasRecord:
        if not service:
            raise Malformed("service must not be empty")
        await self._management.look_up_alias(service)
        record = self._registry.aliases.get(AliasId(service))
        if record is None:
            raise Unknown(f"there is no service {service}")
        return record

    def _now(self) -> Millis:
        return self._conductor.now()


def _told(service: AliasId, record: AliasRecord) -> ServiceTraffic:
    return ServiceTraffic(service, record.owner, standing(record), policy_to_json(record.policy), record.cause if record.failed else "")
