"""What `mesh up` was told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh.local.kits import DEFAULT, Share


@dataclass(frozen=True)
class UpOptions:
    """What `mesh up` was told.

    Attributes:
        environments: that are made already, by the name of their list; others are made when a pod needs them.
        storage_config: None means the data folder's own.
        pods: of each runtime at the start that has no number of its own.
        most_pods: up to which that number follows what the pods want; 0 means that it stays.
        store: the etcd that is used, as `KV_STORE` names it; empty means one of the mesh's own, or none for a single pod.
        runtimes: that have pods though no document asks for them: by name, or by server type; with numbers of their own or without.
        images: folders that stand for images.
    """

    data: Path
    environments: Mapping[str, Path] = field(default_factory=dict)
    claims: Mapping[str, Path] = field(default_factory=dict)
    storage_config: Path | None = None
    namespace: str = "modelmesh-serving"
    grpc_port: int = 8033
    rest_port: int = 8008
    pods: int = 1
    store: str = ""
    most_pods: int = 0
    runtimes: Mapping[str, Share | None] = field(default_factory=lambda: {DEFAULT: None})
    images: Mapping[str, Path] = field(default_factory=dict)

    @property
    def share(self) -> Share:
        """Pods of each runtime that has no number of its own."""
        return Share(self.pods, max(self.pods, self.most_pods))


def options_from(text: str) -> UpOptions:
    """The reverse of `options_text`."""
    fields = json.loads(text)
    return UpOptions(
        data=Path(fields["data"]),
        environments={name: Path(path) for name, path in fields["environments"].items()},
        claims={name: Path(path) for name, path in fields["claims"].items()},
        storage_config=Path(fields["storage_config"]) if fields["storage_config"] else None,
        namespace=fields["namespace"],
        grpc_port=fields["grpc_port"],
        rest_port=fields["rest_port"],
        pods=fields["pods"],
        store=fields["store"],
        most_pods=fields["most_pods"],
        runtimes={name: Share(*numbers) if numbers else None for name, numbers in fields["runtimes"].items()},
        images={name: Path(path) for name, path in fields["images"].items()},
    )


def options_text(options: UpOptions) -> str:
    """The options as one argument."""
    return json.dumps(
        {
            "data": str(options.data),
            "environments": {name: str(path) for name, path in options.environments.items()},
            "claims": {name: str(path) for name, path in options.claims.items()},
            "storage_config": str(options.storage_config) if options.storage_config else "",
            "namespace": options.namespace,
            "grpc_port": options.grpc_port,
            "rest_port": options.rest_port,
            "pods": options.pods,
            "store": options.store,
            "most_pods": options.most_pods,
            "runtimes": {name: (one.least, one.most) if one else None for name, one in options.runtimes.items()},
            "images": {name: str(path) for name, path in options.images.items()},
        }
    )
