"""What `mesh up` was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class UpOptions:
    """What `mesh up` was told.

    Attributes:
        environment: of the model servers.
        storage_config: None means the data folder's own.
        pods: that it starts with.
        most_pods: up to which the number follows what the pods want; 0 means that it stays.
        store: the etcd that is used, as `KV_STORE` names it; empty means one of the mesh's own, or none for a single pod.
        etcd: environment with an etcd; needed for several pods without a store.
    """

    data: Path
    environment: Path
    claims: Mapping[str, Path] = field(default_factory=dict)
    storage_config: Path | None = None
    namespace: str = "modelmesh-serving"
    grpc_port: int = 8033
    rest_port: int = 8008
    pods: int = 1
    store: str = ""
    etcd: Path | None = None
    most_pods: int = 0

    @property
    def most(self) -> int:
        """Pods that there may ever be."""
        return max(self.pods, self.most_pods)

    @property
    def alone(self) -> bool:
        """Whether there is one pod for good, which has the clients' ports itself."""
        return self.most == 1
