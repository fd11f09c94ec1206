"""TLS of the express lane: on the ports of clients and of pods, and towards pods; from the files of the doors, also when they change."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from mesh.doors.tls import TlsFiles, material
from mesh.doors.tls_changes import follow
from mesh.settings import ClientAuth, Settings
from mesh.wire.peer_tls import PeerTls

if TYPE_CHECKING:
    import mesh_lane


class Given(TypedDict, total=False):
    """What the lane is told at its start."""

    tls: mesh_lane.Tls
    tls_of_peers: mesh_lane.Tls
    peer_tls: mesh_lane.PeerTls


@dataclass(slots=True)
class LaneTls:
    """What the lane shows, and to whom.

    Attributes:
        clients: who connect to the ports of clients.
        pods, to_pods: who connect to that of pods, and pods that are called; None where these talk plaintext.
    """

    settings: Settings
    files: TlsFiles
    clients: mesh_lane.Tls
    pods: mesh_lane.Tls | None
    to_pods: mesh_lane.PeerTls | None

    @classmethod
    def of(cls, settings: Settings) -> LaneTls | None:
        """Reads the files; None if TLS is off.

        Raises:
            Malformed: no door can use them.
            ValueError: the lane cannot use what other doors can.
        """
        files = TlsFiles.of(settings)
        if files is None:
            return None
        module = vars(importlib.import_module("mesh_lane"))
        shown, peer = material(files), PeerTls.of(settings)
        clients = module["Tls"](shown.key, shown.chain, clients=shown.clients, trust=shown.trust)
        if peer is None:
            return cls(settings, files, clients, None, None)
        pods = module["Tls"](peer.key, peer.chain, clients=_asked(peer), trust=peer.trust)
        return cls(settings, files, clients, pods, module["PeerTls"](peer.key, peer.chain, peer.trust, peer.name))

    def given(self) -> Given:
        """What the lane is told at its start."""
        given = Given(tls=self.clients)
        if self.pods is not None and self.to_pods is not None:
            given |= Given(tls_of_peers=self.pods, peer_tls=self.to_pods)
        return given

    async def follow(self) -> None:
        """Uses what the files have from the moment they change; until cancelled."""
        pair = [path for path in (self.settings.tls_key, self.settings.tls_cert) if path is not None]
        await follow([*pair, *self.settings.tls_trust, *self.settings.peer_trust], self._read_again)

    def _read_again(self) -> None:
        """Either all files count from now on, or none.

        Raises:
            Malformed, ValueError: one is unusable.
        """
        # What is refused is refused here.
        LaneTls.of(self.settings)
        shown, peer = material(self.files), PeerTls.of(self.settings)
        self.clients.replace(shown.key, shown.chain, clients=shown.clients, trust=shown.trust)
        if peer is not None and self.pods is not None and self.to_pods is not None:
            self.pods.replace(peer.key, peer.chain, clients=_asked(peer), trust=peer.trust)
            self.to_pods.replace(peer.key, peer.chain, peer.trust, peer.name)


def _asked(peer: PeerTls) -> ClientAuth:
    return "REQUIRE" if peer.mutual else "NONE"
