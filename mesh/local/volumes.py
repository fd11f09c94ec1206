"""What stands in for a cluster's volumes and secrets: folders of claims, and one file per storage key."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mesh.core.errors import Conflict, Failed, Malformed
from mesh.local.state import write_atomically
from mesh.manifests.documents import Secret

STORAGE_SECRET = "storage-config"
"""The one Secret that is read; its name is ModelMesh's default."""


def map_claims(folder: Path, mapped: Mapping[str, Path]) -> None:
    """Points claims at folders that exist already, by symbolic links that follow the latest mapping.

    Raises:
        Malformed: a mapped folder does not exist.
        Conflict: the claim has a folder of its own with something in it.
        Failed: the file system refuses.
    """
    try:
        for link in folder.iterdir():
            if link.is_symlink() and link.name not in mapped:
                link.unlink()
        for name, target in mapped.items():
            if not target.is_dir():
                raise Malformed(f"--pvc {name}={target}: there is no such folder")
            place = folder / name
            if place.is_dir() and not place.is_symlink():
                if any(place.iterdir()):
                    raise Conflict(f"--pvc {name}={target}: the claim has a folder with files already: {place}; move them away first")
                place.rmdir()
            place.unlink(missing_ok=True)
            place.symlink_to(target.absolute(), target_is_directory=True)
    except OSError as error:
        raise Failed(f"{folder}: {error.strerror} ({error.filename})") from error


def make_claim(folder: Path, name: str) -> Path:
    """The folder of a claim, made unless it is there or mapped. Failed if the file system refuses."""
    place = folder / name
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise Failed(f"the folder of the claim {name} cannot be made: {place}: {error.strerror}") from error
    return place


def claims(folder: Path) -> dict[str, str]:
    """Claims by name, and where their files lie."""
    return {place.name: str(place.resolve()) for place in sorted(folder.iterdir()) if place.is_dir()}


def storage_keys(secret: Secret, origin: str) -> dict[str, str]:
    """The texts of a Secret by key.

    Raises:
        Malformed: a key is no plain file name, a value is no base64 of UTF-8, or a text is no JSON object.
    """
    found = dict(secret.string_data)
    for key, encoded in secret.data.items():
        try:
            found.setdefault(key, base64.b64decode(encoded, validate=True).decode("utf-8"))
        except (binascii.Error, UnicodeDecodeError):
            raise Malformed(f"{origin}: Secret {secret.name}: data.{key} is not base64 of a UTF-8 text") from None
    for key, text in found.items():
        if not key or key.startswith(".") or "/" in key or "\0" in key:
            raise Malformed(f"{origin}: Secret {secret.name}: the key {key!r} cannot name a storage entry")
        try:
            valid = isinstance(json.loads(text), dict)
        except ValueError:
            valid = False
        if not valid:
            raise Malformed(f"{origin}: Secret {secret.name}: {key} must be the text of a JSON object such as " + '{"type": "s3", …}')
    return found


def write_keys(folder: Path, keys: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Writes one file per key, readable by this user only, and removes those that only `before` had. Failed if that is refused."""
    try:
        for key, text in keys.items():
            write_atomically(folder / key, text, mode=0o600)
        for key in before.keys() - keys.keys():
            with suppress(FileNotFoundError):
                (folder / key).unlink()
    except OSError as error:
        raise Failed(f"the storage keys cannot be written to {folder}: {error.strerror}") from error
