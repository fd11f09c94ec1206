"""`python -m mesh.local OPTIONS`: the supervisor as a process of its own, as `mesh up --detach` starts it.

OPTIONS is a JSON object of `UpOptions`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path

from mesh.core.errors import MeshError
from mesh.local.control import serve
from mesh.local.options import UpOptions
from mesh.local.supervisor import Supervisor


def options_from(text: str) -> UpOptions:
    """The reverse of `options_text`."""
    fields = json.loads(text)
    return UpOptions(
        data=Path(fields["data"]),
        environment=Path(fields["environment"]),
        claims={name: Path(path) for name, path in fields["claims"].items()},
        storage_config=Path(fields["storage_config"]) if fields["storage_config"] else None,
        namespace=fields["namespace"],
        grpc_port=fields["grpc_port"],
        rest_port=fields["rest_port"],
        pods=fields["pods"],
        store=fields["store"],
        etcd=Path(fields["etcd"]) if fields["etcd"] else None,
        most_pods=fields["most_pods"],
    )


def options_text(options: UpOptions) -> str:
    """The options as one argument."""
    return json.dumps(
        {
            "data": str(options.data),
            "environment": str(options.environment),
            "claims": {name: str(path) for name, path in options.claims.items()},
            "storage_config": str(options.storage_config) if options.storage_config else "",
            "namespace": options.namespace,
            "grpc_port": options.grpc_port,
            "rest_port": options.rest_port,
            "pods": options.pods,
            "store": options.store,
            "etcd": str(options.etcd) if options.etcd else "",
            "most_pods": options.most_pods,
        }
    )


def main() -> int:
    """Exit code 0 after an end that was asked for, 1 if the mesh cannot run."""

    def say(who: str, what: str) -> None:
        print(f"{datetime.now():%H:%M:%S} {who:<9} {what}", flush=True)

    async def run() -> None:
        await Supervisor(options_from(sys.argv[1]), say).run(serve)

    try:
        asyncio.run(run())
    except MeshError as error:
        print(error.message, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
