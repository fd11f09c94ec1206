"""S3, Google Cloud Storage and Azure Blob Storage, through one library; directories are common prefixes of keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from runtime_adapters.errors import AdapterError, Denied, InvalidRequest, Missing, NotConfigured
from runtime_adapters.paths import clamp
from runtime_adapters.storage.failures import translate
from runtime_adapters.storage.transfer import CHUNK, Item, Part, download

Store = S3Store | GCSStore | AzureStore

LISTED_AT_ONCE = 1000
"""Objects a page of a listing; every page is read."""
_ERRORS = (BaseError, FileNotFoundError, ValueError)
"""What the library raises."""


class Bucket:
    """One bucket or container. `place` names it in messages."""

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place

    async def fetch(self, path: str, target: Path) -> None:
        """Download the object `path` to `target`, or all objects below `path/` into the directory `target`."""
        await download(f"{path!r} in {self._place}", await self._items(path, target), self._read)

    async def size(self, path: str) -> int | None:
        """Bytes of the object, or of all objects below."""
        return sum(item.size for item in await self._items(path, Path("/unused")))

    async def _items(self, path: str, target: Path) -> list[Item]:
        """The objects of a model. An empty object counts as a directory's marker if there are objects below its name."""
        key = clamp(path)
        denied: AdapterError | None = None
        single = None
        if key and not path.endswith("/"):
            try:
                single = await self._head(key, target)
            except Missing:
                pass
            except (Denied, NotConfigured) as error:
                denied = error  # a HEAD has no body to say why; the listing will
        if single and single.size:
            return [single]
        try:
            below = await self._list(key, target)
        except AdapterError:
            if single:
                return [single]  # may be read but not listed
            raise
        if below or single:
            return below or ([single] if single else [])
        raise denied or Missing(f"{path!r} does not exist in {self._place}: there is no such object, and none below it")

    async def _head(self, key: str, target: Path) -> Item:
        try:
            meta = await obstore.head_async(self._store, key)
        except _ERRORS as error:
            raise translate(error, self._place, key) from None
        return Item(key, meta["size"], meta["e_tag"], target)

    async def _list(self, prefix: str, target: Path) -> list[Item]:
        items = []
        try:
            async for page in obstore.list(self._store, prefix or None, chunk_size=LISTED_AT_ONCE):
                for meta in page:
                    below = meta["path"].removeprefix(prefix).strip("/")
                    if below:
                        items.append(Item(meta["path"], meta["size"], meta["e_tag"], target / clamp(below)))
        except _ERRORS as error:
            raise translate(error, self._place, prefix) from None
        return _without_markers(items)

    async def _read(self, part: Part) -> AsyncIterator[bytes]:
        name = part.item.name
        try:
            if part.whole:
                answer = await obstore.get_async(self._store, name)
            else:
                options: obstore.GetOptions = {"range": (part.start, part.end)}
                if part.item.tag:
                    options["if_match"] = part.item.tag
                answer = await obstore.get_async(self._store, name, options=options)
            async for chunk in answer.stream(min_chunk_size=CHUNK):
                yield chunk
        except _ERRORS as error:
            raise translate(error, self._place, name) from None


def _without_markers(items: list[Item]) -> list[Item]:
    """Drop empty objects that stand for directories: those below whose name there are others.

    Raises:
        InvalidRequest: an object that is not empty has the name of a directory, which no file system can hold.
    """
    folders = {parent for item in items for parent in item.target.parents}
    for item in items:
        if item.target in folders and item.size:
            raise InvalidRequest(f"{item.name!r} is an object and a directory of others at once; rename one of them")
    return [item for item in items if item.target not in folders]
