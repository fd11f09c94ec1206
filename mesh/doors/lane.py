"""The express lane as a door: takes the clients' gRPC and REST ports, and has the Python doors behind it on Unix sockets."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from mesh.core.errors import Malformed
from mesh.doors.grpc import inference, management, traffic
from mesh.doors.grpc.server import HEADERS
from mesh.doors.lane_tls import LaneTls
from mesh.doors.rest.server import listen
from mesh.pod.assemble import LivingPod
from mesh.pod.lane import PREFIX, SIZE_BOUNDS, TIME_BOUNDS, Publisher
from mesh.pod.peer_lines import SERVICE as PEERS
from mesh.settings import Settings
from mesh.telemetry import traces
from mesh.telemetry.options import StatsdOptions

if TYPE_CHECKING:
    import mesh_lane

MODULE = "mesh_lane"
MOST_WORKERS = 4
"""Threads of the lane; one carries what several model servers answer."""
PRIVATE = (
    *(management.SERVICE, management.LEGACY_SERVICE, traffic.SERVICE, PEERS, "mmesh.ModelRuntime"),
    *(health.SERVICE_NAME, reflection.SERVICE_NAME),
)
"""Services of which every call is the Python door's."""

FOLDER = "mesh-lane-"
"""How the name of the folder begins where the sockets of the doors behind the lane are."""
SHORT_PLACES = ("/tmp", "/run", "/dev/shm")
"""Where it is made if the path of `TMPDIR` is too long."""
MOST_OF_PLACE = 107 - len(f"/{FOLDER}12345678/peer.sock")
"""Bytes of the path of a place for the folder: Unix sockets take paths of up to 107, and the name of the folder ends in eight letters."""


def why_off(settings: Settings, pod: LivingPod) -> str:
    """What keeps off a lane that is wanted; empty if nothing does."""
    reasons = {
        "payload processors see every call (MM_PAYLOAD_PROCESSORS)": bool(settings.payload_processors),
        "every call has a line in the log (MM_LOG_EACH_INVOKE)": settings.log_each_invoke,
        "headers of every call go into the log (MM_LOG_REQUEST_HEADERS)": bool(settings.log_request_headers),
        "traces of every call are exported": traces.exported(),
        "every call is sent to StatsD (MM_METRICS)": isinstance(pod.metrics.options, StatsdOptions),
        "the runtime may be ended when no call runs (MESH_RECYCLE_RUNTIME)": bool(settings.recycle_runtime),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    return "; ".join(found) or _unusable() or _unsecured(settings) or _nowhere()


def _unusable() -> str:
    try:
        importlib.import_module(MODULE)
    except ModuleNotFoundError:
        return f"its module {MODULE} is not built; `make lane` builds it where cargo is"
    except ImportError as error:
        return f"its module {MODULE} cannot be loaded ({error}); `make lane` builds it anew where cargo is"
    return ""


def _unsecured(settings: Settings) -> str:
    """What of the doors' TLS the lane cannot do.

    Raises:
        Malformed: nor can any door.
    """
    try:
        LaneTls.of(settings)
    except ValueError as error:
        return f"it cannot use the TLS files of the doors ({error}), which the Python doors can"
    return ""


def _nowhere() -> str:
    if _place_of_sockets():
        return ""
    places = ", ".join((tempfile.gettempdir(), *SHORT_PLACES))
    return (
        f"none of {places} can be written to and has a path short enough for its sockets ({MOST_OF_PLACE} bytes); set TMPDIR to one that is"
    )


def _place_of_sockets() -> str:
    """Where a folder for sockets can be: where temporary files lie, or else where paths are short; empty if nowhere."""
    fit = (place for place in (tempfile.gettempdir(), *SHORT_PLACES) if len(os.fsencode(place)) <= MOST_OF_PLACE)
    return next((place for place in fit if os.access(place, os.W_OK | os.X_OK)), "")


class LaneDoor:
    """Listens for clients in place of the gRPC door and of the REST door.

    Attributes:
        socket, peer_socket, rest_socket: where the gRPC door, that for pods and the REST door have to listen; in a folder that only this
            process's user may enter.
        key: tells the REST door that it is the lane which says what was tried.
        rest_port: of REST, once it listens.
    """

    def __init__(self, settings: Settings, pod: LivingPod) -> None:
        self._settings, self._pod = settings, pod
        self._folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=_place_of_sockets()))
        self.socket = f"unix:{self._folder / 'grpc.sock'}"
        self.rest_socket = self._folder / "rest.sock"
        self.peer_socket = f"unix:{self._folder / 'peer.sock'}"
        self.key = secrets.token_hex()
        self.rest_port = 0
        self._tls = LaneTls.of(settings)
        self._lane = self._make()
        self.publisher: Publisher | None = None
        # Before the first call of either plane.
        pod.admission.share(self._lane.gate)

    async def start_peers(self) -> int:
        """Listens for other pods, and answers the bound port; until `start` all their calls are the Python door's.

        Raises:
            Malformed: the port is taken.
        """
        return self._listen("peers", self._settings.peer_port, "calls between pods", "MESH_PEER_PORT", self.peer_socket)

    async def start(self) -> int:
        """Listens for clients, tells the lane what is resident, and answers the bound port of gRPC.

        Raises:
            Conflict, Malformed: a port is taken, or the address is none of an interface.
        """
        settings, pod, lane = self._settings, self._pod, self._lane
        if settings.rest_port:
            # As for gRPC: the lane itself would share the port with whoever has it.
            listen(settings.bind, settings.rest_port).close()
        rest = f"unix:{self.rest_socket}"
        port = self._listen("clients", settings.grpc_port, "gRPC", "MM_SVC_GRPC_PORT", self.socket)
        self.rest_port = self._listen("rest", settings.rest_port, "REST", "REST_PROXY_LISTEN_PORT", rest)
        for who, shared, name, python in (
            ("clients", settings.shared_grpc_port, "MESH_SHARED_GRPC_PORT", self.socket),
            ("rest", settings.shared_rest_port, "MESH_SHARED_REST_PORT", rest),
        ):
            if shared is not None:
                self._listen(who, shared, "the pods' common port", name, python, shared=True)
        self.publisher = Publisher(
            *(lane, pod.conductor, pod.registry, pod.targets, pod.runtime, pod.serving.travels, pod.metrics),
            address=pod.serving_address,
            answered=inference.ANSWERED,
            private=PRIVATE,
        )
        await self.publisher.begin()
        pod.use_lane(self.publisher)
        if self._tls is not None:
            pod.tasks.begin(self._tls.follow(), "watching the files of TLS")
        return port

    def _listen(self, who: str, port: int, what: str, variable: str, python: str, *, shared: bool = False) -> int:
        host = f"[{self._settings.bind}]" if ":" in self._settings.bind else self._settings.bind
        where = f"{host}:{port}"
        try:
            if not shared:
                _see_that_it_is_free(self._settings.bind, port)
            bound = self._lane.listen(who, where, python)
        except (OSError, ValueError) as error:
            raise Malformed(f"{what} cannot listen on {where}: is the port taken? Set {variable} to another one ({error})") from None
        return int(bound.rpartition(":")[2])

    def _make(self) -> mesh_lane.Lane:
        # Imported by its name only: it is optional.
        settings, module = self._settings, cast("type[mesh_lane.Lane]", vars(importlib.import_module(MODULE))["Lane"])
        return module(
            None,
            self.socket,
            workers=min(MOST_WORKERS, len(os.sched_getaffinity(0))),
            max_message=settings.max_message,
            # As the Python door: a request of one message can be made again, whatever its size.
            max_kept=settings.max_message + PREFIX,
            max_age=float(settings.max_connection_age),
            max_age_grace=float(settings.max_connection_age_grace),
            max_headers=settings.max_headers if settings.max_headers > 0 else HEADERS,
            times=TIME_BOUNDS,
            sizes=SIZE_BOUNDS,
            me=self._pod.conductor.pod.id,
            key=self.key,
            **(self._tls.given() if self._tls is not None else {}),
        )

    async def stop(self, grace: float) -> None:
        """Takes no new calls, gives running ones `grace` seconds, and counts the last."""
        if self.publisher is not None:
            self.publisher.count(await asyncio.to_thread(self._lane.stop, grace))
            self._pod.use_lane(None)
            self.publisher.end()

    def remove(self) -> None:
        """Removes the folder; the doors behind it have stopped."""
        self._lane.stop(0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _see_that_it_is_free(host: str, port: int) -> None:
    """Workers share their port by a way that would also share another process's.

    Raises:
        OSError: somebody listens there.
    """
    if port:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
