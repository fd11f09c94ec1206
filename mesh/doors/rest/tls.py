"""TLS of the REST door, from the files that the settings name."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mesh.core.errors import Malformed
from mesh.settings import ClientAuth, Settings

_MODES = {"NONE": ssl.CERT_NONE, "OPTIONAL": ssl.CERT_OPTIONAL, "REQUIRE": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the listener shows and asks for.

    Attributes:
        key, cert: PEM files.
        passphrase: of the key, if it is encrypted.
        client_auth: whether clients show a certificate.
        trust: PEM files to check client certificates with; empty means the system's.
    """

    key: Path
    cert: Path
    passphrase: str | None = None
    client_auth: ClientAuth = "NONE"
    trust: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> TlsFiles | None:
        """From the settings; None if TLS is off."""
        if settings.tls_key is None or settings.tls_cert is None:
            return None
        return cls(settings.tls_key, settings.tls_cert, settings.tls_passphrase, settings.tls_client_auth, settings.tls_trust)

    def context(self) -> ssl.SSLContext:
        """Reads the files; TLS 1.2 or later.

        Raises:
            Malformed: names the file that is missing or wrong, and the variable that names it.
        """
        for path, variable in [
            (self.key, "MM_TLS_PRIVATE_KEY_PATH"),
            (self.cert, "MM_TLS_KEY_CERT_PATH"),
            *((path, "MM_TLS_TRUST_CERT_PATH") for path in self.trust),
        ]:
            _readable(path, variable)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a passphrase OpenSSL would ask on the terminal.
            context.load_cert_chain(self.cert, self.key, self.passphrase or "")
        except ssl.SSLError as error:
            raise Malformed(
                f"TLS: {self.key} (MM_TLS_PRIVATE_KEY_PATH) and {self.cert} (MM_TLS_KEY_CERT_PATH) cannot be used together: "
                f"{error.reason or error}; check that they belong together, and MM_TLS_PRIVATE_KEY_PASSPHRASE if the key is encrypted"
            ) from None
        context.verify_mode = _MODES[self.client_auth]
        if self.client_auth != "NONE":
            self._trust(context)
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        if not self.trust:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        for path in self.trust:
            try:
                context.load_verify_locations(path)
            except ssl.SSLError as error:
                raise Malformed(f"TLS: {path} (MM_TLS_TRUST_CERT_PATH) has no PEM certificates: {error.reason or error}") from None


def _readable(path: Path, variable: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise Malformed(f"TLS: {path} ({variable}) cannot be read: {error.strerror}") from None
