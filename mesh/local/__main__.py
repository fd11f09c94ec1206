"""`python -m mesh.local OPTIONS`: the supervisor as a process of its own, as `mesh up --detach` starts it.

OPTIONS is a JSON object of `UpOptions`.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

from mesh.core.errors import MeshError
from mesh.local.control import serve
from mesh.local.options import options_from
from mesh.local.supervisor import Supervisor


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
