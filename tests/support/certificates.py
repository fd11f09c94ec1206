"""Throw-away certificates, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path

NAMES = "DNS:localhost,IP:127.0.0.1"


class Authority:
    """One that signs for servers on this machine and for their clients; files lie in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = folder / f"{name}.authority.key"
        self.certificate = folder / f"{name}.authority.pem"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                  "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate))  # fmt: skip

    def issue(self, name: str, *, passphrase: str = "", names: str = NAMES, usage: str = "serverAuth,clientAuth") -> tuple[Path, Path]:
        """A key (PKCS 8, encrypted if there is a passphrase) and its certificate; `names` and `usage` as OpenSSL writes them."""
        key, cert = self._folder / f"{name}.key", self._folder / f"{name}.pem"
        lock = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2", *lock,
                  "-CA", str(self.certificate), "-CAkey", str(self._key), "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}",
                  "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}",
                  "-keyout", str(key), "-out", str(cert))  # fmt: skip
        return key, cert

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
