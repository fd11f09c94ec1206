"""`python -m mesh.local.making NAME <LIST`: makes an environment in a process of its own, which a mesh that ends can end.

Prints each step in a line of its own; exit code 1 with the cause on the error output if it cannot be made.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from mesh.core.errors import Failed, MeshError
from mesh.local import environments
from mesh.local.environments import Environment, Step


async def make(environment: Environment, told: Callable[[str], None]) -> None:
    """Makes the environment unless it is made; cancelling it ends what was started.

    Args:
        told: what is being done, whenever that changes.

    Raises:
        Failed: it could not be made; says why.
    """
    if environment.made:
        return
    command = [sys.executable, "-m", "mesh.local.making", environment.name]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    try:
        process.stdin.write(environment.listed.encode())
        process.stdin.close()
        errors = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            told(line.decode(errors="replace").strip())
        why = (await errors).decode(errors="replace").strip()
        if await process.wait():
            raise Failed(why or f"the environment {environment.name} could not be made")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _shown(step: Step) -> str:
    """One line for every twenty packages that are fetched, one for any other step."""
    if step.text.partition(" ")[0] in ("collecting", "downloading"):
        return f"fetching packages ({step.done // 20 * 20} so far)"
    return step.text


def main() -> int:
    """Exit code 0 when it is made."""
    said = ""

    def report(step: Step) -> None:
        nonlocal said
        if (shown := _shown(step)) != said:
            said = shown
            print(said, flush=True)

    try:
        environments.ensure_made(environments.of_list(sys.argv[1], sys.stdin.read()), progress=report)
    except MeshError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
