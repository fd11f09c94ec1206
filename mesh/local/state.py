"""Where a mesh keeps what it has: its data folder, and the context file by which other commands find it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from mesh.core.errors import Conflict, Failed, Malformed, Unknown

_SOCKET_PATH_LIMIT = 100
"""Unix sockets take paths of up to 107 bytes; a little less leaves room for a temporary name."""

_LONGEST_FILE_NAME = 240


def default_data() -> Path:
    """`mesh` in `$XDG_DATA_HOME` (`~/.local/share`)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mesh"


def context_file() -> Path:
    """`$XDG_STATE_HOME/mesh/current.json` (`~/.local/state`)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mesh" / "current.json"


@dataclass(frozen=True)
class Context:
    """A running mesh, as other commands need it."""

    pid: int
    data: str
    socket: str
    grpc_port: int
    rest_port: int

    def named(self) -> str:
        """For messages."""
        return f"pid {self.pid}, data folder {self.data}, ports {self.grpc_port} and {self.rest_port}"


@dataclass(frozen=True)
class DataFolder:
    """The data folder and the places in it; nothing is made before `prepare`."""

    root: Path
    documents: Path
    logs: Path
    config: Path
    models: Path
    pvc: Path
    server: Path
    storage_config: Path
    registry: Path
    images: Path
    lock: Path
    socket: Path

    @classmethod
    def at(cls, root: Path) -> DataFolder:
        """The one with this root."""
        root = root.expanduser().absolute()
        return cls(
            root,
            documents=root / "documents",
            logs=root / "logs",
            config=root / "config",
            models=root / "models",
            pvc=root / "pvc",
            server=root / "server",
            storage_config=root / "storage-config",
            registry=root / "registry.etcd",
            images=root / "images.json",
            lock=root / "mesh.lock",
            socket=root / "control.sock",
        )

    def of_pod(self, name: str) -> DataFolder:
        """The same for one pod of several: its logs, models and server files have folders of its own."""
        return replace(self, logs=self.logs / name, models=self.models / name, server=self.server / name)

    def prepare(self) -> None:
        """Makes the folders. Failed if the file system refuses."""
        try:
            for folder in (self.documents, self.logs, self.config, self.pvc, self.storage_config, self.models, self.server):
                folder.mkdir(parents=True, exist_ok=True)
            self.storage_config.chmod(0o700)
            self.documents.chmod(0o700)
        except OSError as error:
            raise Failed(f"the data folder {self.root} cannot be used: {error.strerror} ({error.filename})") from error

    def leave_models_of(self, pods: Collection[str]) -> None:
        """Of several pods: removes the models of those that are not among them, and of a single one. Raises OSError.

        An adapter clears its own folder when it starts; nobody would clear these.
        """
        for entry in self.models.iterdir():
            if entry.name not in pods and not entry.name.startswith(("_", ".")):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def acquire(self, context: Context) -> IO[str]:
        """Takes the folder for this process, for as long as the answered file is open.

        Raises:
            Conflict: another mesh has it; the message names it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        file = self.lock.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            other = self.running()
            who = f" ({other.named()})" if other else ""
            raise Conflict(f"a mesh runs with this data folder already{who}; `mesh down --mesh {self.root}` ends it") from None
        file.seek(0)
        file.truncate()
        json.dump(asdict(context), file)
        file.flush()
        return file

    def running(self) -> Context | None:
        """The mesh that has this folder now."""
        try:
            with self.lock.open("r") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _context(file.read())
        except OSError:
            pass
        return None


def current() -> Context | None:
    """The running mesh that the context file names."""
    try:
        named = _context(context_file().read_text(encoding="utf-8"))
    except OSError:
        return None
    return DataFolder.at(Path(named.data)).running() if named else None


def find(data: Path | None) -> Context:
    """The mesh with that data folder, or the current one. Unknown if it does not run."""
    found = DataFolder.at(data).running() if data else current()
    if found:
        return found
    if data:
        raise Unknown(f"no mesh runs with the data folder {data}; `mesh up --data {data}` starts one")
    raise Unknown("no mesh runs on this machine; `mesh up` starts one (or name its data folder with --mesh DIR)")


def publish(context: Context) -> bool:
    """Makes this mesh the current one unless another is; answers whether it is now."""
    other = current()
    if other and other.data != context.data:
        return False
    write_atomically(context_file(), json.dumps(asdict(context), indent=2) + "\n")
    return True


def withdraw(context: Context) -> None:
    """Takes this mesh's name out of the context file again."""
    with suppress(OSError):
        named = _context(context_file().read_text(encoding="utf-8"))
        if named and named.data == context.data:
            context_file().unlink()


def file_name(name: str) -> str:
    """The file of a document of this name; file systems take shorter names than Kubernetes."""
    if len(name) > _LONGEST_FILE_NAME:
        name = f"{name[:200]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.json"


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """The file has the old text or the new one, whatever happens meanwhile. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def socket_address(path: Path) -> str:
    """A name of a Unix socket that is short enough; a long one goes through a descriptor of its folder, kept until the process ends."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return str(path)
    if not Path("/proc/self/fd").is_dir():
        raise Malformed(f"the path {path} is too long for a socket; choose a data folder with a shorter name (--data)")
    return f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)}/{path.name}"


def _context(text: str) -> Context | None:
    try:
        fields: Any = json.loads(text)
        return Context(int(fields["pid"]), str(fields["data"]), str(fields["socket"]), int(fields["grpc_port"]), int(fields["rest_port"]))
    except (ValueError, KeyError, TypeError):
        return None
