"""`python -m ovms_standin --port N --rest_port N --config_path FILE`: OVMS's flags, as far as the mesh sets them."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .repository import BadConfig, Repository
from .rest import RestServer
from .services import grpc_server

log = logging.getLogger("ovms_standin")

_GRACE = 2.0
"""Seconds that calls in progress get when the server stops."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal; 1 if there is no configuration to start with, or a port is taken; 2 for wrong flags."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    log.info("this is a stand-in for OpenVINO Model Server, over the real OpenVINO runtime")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    repository = Repository(options.config_path)
    try:
        repository.check()
        calls = grpc_server(repository)
        if not calls.add_insecure_port(f"{options.grpc_bind_address}:{options.port}"):
            raise OSError(f"cannot listen on {options.grpc_bind_address}:{options.port}")
        rest = RestServer((options.rest_bind_address, options.rest_port), repository)
    except (BadConfig, OSError, RuntimeError) as error:
        log.critical("cannot run: %s", error)
        return 1
    # As OVMS: it listens once the models of its configuration are loaded, or have failed.
    repository.reload()
    calls.start()
    threading.Thread(target=rest.serve_forever, name="rest", daemon=True).start()
    log.info("listening: gRPC on port %d, REST on port %d", options.port, options.rest_port)
    stop.wait()
    rest.shutdown()
    rest.server_close()
    calls.stop(_GRACE).wait()
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ovms_standin", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of gRPC")
    parser.add_argument("--rest_port", type=int, required=True, help="of REST")
    parser.add_argument("--config_path", type=Path, required=True, help="the list of models")
    parser.add_argument("--grpc_bind_address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--rest_bind_address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--file_system_poll_wait_seconds", choices=["0"], default="0", help="0: the list is read again on request only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
