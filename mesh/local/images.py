"""What stands for a container's image where there is no container engine: a folder.

    DIR/requirements.txt   optional: pip's list; a virtual environment is made from it on demand, and kept
    DIR/environment        optional: the name of a list that `mesh environment list` knows, or the path of a virtual environment;
                           with requirements.txt the name of the list that it adds to
    DIR/entrypoint         optional: an executable that is run with the server's command as its arguments
    DIR/                   is on PYTHONPATH

Images of the four known servers need no folder; one that is given goes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.core.errors import Failed, Malformed
from mesh.local import environments
from mesh.local.environments import Environment
from mesh.local.state import write_atomically

KNOWN = ("seldonio/mlserver", "nvcr.io/nvidia/tritonserver", "openvino/model_server", "pytorch/torchserve", "pytorch/torchserve-nightly")
"""Images whose server the mesh starts itself, whatever their tag."""

_FILES = ("requirements.txt", "environment", "entrypoint")
_PASSED_OVER = ("__pycache__", ".git", ".venv", "venv")
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Image:
    """A folder that stands for an image.

    Attributes:
        requirements: text of requirements.txt.
        environment: what the file `environment` says.
        entrypoint: None if there is none.
        digest: over names, sizes and times of the files: another one means that pods of it are outdated.
    """

    reference: str
    folder: Path
    requirements: str
    environment: str
    entrypoint: Path | None
    digest: str

    def needs(self, otherwise: str) -> Environment:
        """The environment that it is run with, made or not.

        Args:
            otherwise: the list to use if the folder says nothing; empty for the Python that runs the mesh.

        Raises:
            Malformed: the file `environment` names no list and no virtual environment.
        """
        named = self.environment or otherwise
        if not self.requirements and ("/" in named or named in (".", "..") or not named):
            return self._there(named)
        lists = {one.name: one for one in environments.known()}
        if named and named not in lists:
            raise Malformed(
                f"{self.folder / 'environment'}: {named!r} is no list of `mesh environment list` ({', '.join(lists)}) and no path "
                "of a virtual environment such as ./venv"
            )
        if not self.requirements:
            return lists[named]
        base = lists[named].listed if self.environment else ""
        return environments.of_list(f"image-{self.folder.name}", f"{base}\n{self.requirements}" if base else self.requirements)

    def _there(self, named: str) -> Environment:
        path = (self.folder / named).absolute() if named else Path(sys.prefix)
        if not (path / "bin" / "python").exists():
            raise Malformed(f"{self.folder / 'environment'}: {path} is no virtual environment: it has no bin/python")
        return Environment(path.name, path, "", given=True)


def read(reference: str, folder: Path) -> Image:
    """The folder as it is now.

    Raises:
        Malformed: it does not exist, or a file in it is not what it has to be.
    """
    place = f"image {reference}={folder}"
    if not folder.is_dir():
        raise Malformed(f"{place}: there is no such folder")
    entrypoint = folder / "entrypoint"
    if entrypoint.exists() and not (entrypoint.is_file() and os.access(entrypoint, os.X_OK)):
        raise Malformed(f"{place}: {entrypoint} cannot be executed; `chmod +x` it")
    try:
        texts = {name: (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else "" for name in _FILES[:2]}
        digest = _digest(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{place}: it cannot be read: {error}") from None
    named = texts["environment"].strip()
    if "\n" in named:
        raise Malformed(f"{folder / 'environment'}: it has one line, the name of a list or the path of a virtual environment")
    found = entrypoint.absolute() if entrypoint.exists() else None
    return Image(reference, folder.absolute(), texts["requirements.txt"].strip(), named, found, digest)


def option(text: str) -> tuple[str, Path]:
    """`REF=DIR` of `--image` and `mesh image set`. Malformed if it is none; the folder is looked at by `read`."""
    reference, equals, path = text.rpartition("=")
    if not (equals and reference and path):
        raise Malformed(f"{text!r} is no image and its folder: write REF=DIR, e.g. registry.example.com/my-server:latest=./my-server")
    return reference, Path(path).expanduser().absolute()


def repository(reference: str) -> str:
    """An image's name without tag and digest; a colon before the last slash belongs to the registry's port."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def is_known(reference: str) -> bool:
    """Whether the mesh starts the server of this image itself; also if a document names no image at all."""
    return not reference or repository(reference).removeprefix("docker.io/") in KNOWN


class Images:
    """Which folder stands for which image: those of the command line, and before them nothing; then those that were set and kept.

    Args:
        kept: file in which those that were set are kept.
        given: of the command line.
    """

    def __init__(self, kept: Path, given: Mapping[str, Path]) -> None:
        self._file, self._given = kept, dict(given)
        self._set: dict[str, Path] = {}
        if kept.exists():
            try:
                self._set = {str(name): Path(path) for name, path in json.loads(kept.read_text(encoding="utf-8")).items()}
            except (ValueError, OSError, AttributeError, TypeError) as error:
                raise Malformed(f"{kept}: it cannot be read ({error}); remove it, and set the images again") from None

    def folders(self) -> dict[str, Path]:
        """By reference."""
        return {**self._set, **self._given}

    def find(self, reference: str) -> Image | None:
        """The folder for an image: of exactly this reference, else of the same without tag. None if there is none.

        Raises:
            Malformed: the folder is not what it has to be.
        """
        folders = self.folders()
        for name in dict.fromkeys((reference, repository(reference))):
            if reference and name in folders:
                return read(reference, folders[name])
        return None

    def put(self, reference: str, folder: Path) -> None:
        """Keeps a folder for an image. Malformed if it is not what it has to be; Failed if it cannot be kept."""
        read(reference, folder)
        self._given.pop(reference, None)
        self._set[reference] = folder
        self._write()

    def remove(self, reference: str) -> None:
        """Forgets one; fine if there is none. Failed if that cannot be kept."""
        self._given.pop(reference, None)
        self._set.pop(reference, None)
        self._write()

    def _write(self) -> None:
        try:
            write_atomically(self._file, json.dumps({name: str(path) for name, path in sorted(self._set.items())}, indent=2) + "\n")
        except OSError as error:
            raise Failed(f"the images cannot be kept in {self._file}: {error.strerror}") from error


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for count, (name, path) in enumerate(_walk(folder)):
        if count >= _MOST_FILES:
            raise OSError(f"more than {_MOST_FILES} files; is it the folder that was meant?")
        about = path.stat()
        found.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _PASSED_OVER)
        for name in sorted(files):
            path = Path(place) / name
            if path.exists():
                yield str(path.relative_to(folder)), path
