"""`python -m runtime_adapters NAME`: run the adapter of one model server, or the puller, configured by the environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime_adapters import logs
from runtime_adapters.adapter import Adapter
from runtime_adapters.server import Server
from runtime_adapters.settings import Settings, SettingsError

if TYPE_CHECKING:
    from runtime_adapters.puller.server import PullerServer
    from runtime_adapters.puller.settings import PullerSettings

log = logging.getLogger("runtime_adapters")

# Each is imported where it is wanted: a pod has one, and the others together take longer to import than that one.


def _mlserver(settings: Settings) -> Adapter:
    from runtime_adapters.mlserver.adapter import MLServerAdapter

    return MLServerAdapter(settings.root.absolute(), settings.runtime_port)


def _openvino(settings: Settings) -> Adapter:
    from runtime_adapters.openvino.adapter import OpenVinoAdapter
    from runtime_adapters.openvino.settings import OpenVinoSettings

    return OpenVinoAdapter(settings, OpenVinoSettings.load())


def _torchserve(settings: Settings) -> Adapter:
    from runtime_adapters.torchserve.adapter import TorchServeAdapter
    from runtime_adapters.torchserve.settings import TorchServeSettings

    return TorchServeAdapter(settings, TorchServeSettings.load())


def _triton(settings: Settings) -> Adapter:
    from runtime_adapters.triton.adapter import TritonAdapter
    from runtime_adapters.triton.settings import TritonSettings

    return TritonAdapter(settings.root.absolute(), settings.runtime_port, TritonSettings.load().unload_timeout / 1000)


ADAPTERS: dict[str, Callable[[Settings], Adapter]] = {
    "mlserver": _mlserver,
    "ovms": _openvino,
    "torchserve": _torchserve,
    "triton": _triton,
}
PULLER = "puller"
"""What stands before a runtime that answers the SPI itself and wants its models' files brought."""


def _load(name: str) -> Settings | PullerSettings:
    """The settings of the environment. Some defaults are another one for one adapter."""
    match name:
        case "puller":
            from runtime_adapters.puller.settings import PullerSettings

            return PullerSettings.load()
        case "ovms":
            from runtime_adapters.openvino import settings as openvino

            return Settings.load({**openvino.DEFAULTS, **os.environ})
        case "torchserve":
            from runtime_adapters.torchserve import settings as torchserve

            return Settings.load({**torchserve.DEFAULTS, **os.environ})
        case _:
            return Settings.load(os.environ)


def _server(name: str, settings: Settings | PullerSettings) -> PullerServer | Server:
    if isinstance(settings, Settings):
        return Server(settings, ADAPTERS[name](settings))
    from runtime_adapters.puller.server import PullerServer

    return PullerServer(settings)


async def run(name: str, settings: Settings | PullerSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: what only this adapter is told does not make sense.
    """
    server = _server(name, settings)
    serving = asyncio.create_task(_serve(server))
    # Before it listens: who reads that it does may end it the next moment.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        await server.stop()


async def _serve(server: PullerServer | Server) -> None:
    await server.start()
    await server.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 if the environment or the machine forbids to run, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m runtime_adapters", description=__doc__)
    parser.add_argument("adapter", choices=sorted([*ADAPTERS, PULLER]), help="the model server to serve for, or the puller")
    name = parser.parse_args(arguments).adapter
    try:
        settings = _load(name)
    except SettingsError as error:
        print(f"runtime_adapters {name}: {error}", file=sys.stderr)
        return 1
    logs.configure(settings.log_level)
    try:
        asyncio.run(run(name, settings))
    except SettingsError as error:
        print(f"runtime_adapters {name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        log.critical("cannot run: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
