"""`python -m runtime_adapters NAME`: run the adapter of one model server, configured by the environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from runtime_adapters import logs
from runtime_adapters.adapter import Adapter
from runtime_adapters.mlserver.adapter import MLServerAdapter
from runtime_adapters.server import Server
from runtime_adapters.settings import Settings, SettingsError

log = logging.getLogger("runtime_adapters")

ADAPTERS: dict[str, Callable[[Settings], Adapter]] = {
    "mlserver": lambda settings: MLServerAdapter(settings.root.absolute(), settings.runtime_port),
}


async def run(name: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(settings, ADAPTERS[name](settings))
    try:
        await server.start()
        serving = asyncio.create_task(server.wait())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 if the environment or the machine forbids to run, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m runtime_adapters", description=__doc__)
    parser.add_argument("adapter", choices=sorted(ADAPTERS), help="the model server to serve for")
    name = parser.parse_args(arguments).adapter
    try:
        settings = Settings.load()
    except SettingsError as error:
        print(f"runtime_adapters {name}: {error}", file=sys.stderr)
        return 1
    logs.configure(settings.log_level)
    try:
        asyncio.run(run(name, settings))
    except OSError as error:
        log.critical("cannot run: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
