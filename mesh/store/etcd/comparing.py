"""What etcd has, compared with what is known here, a portion at a time."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from mesh.store.etcd.layout import ALIASES, MODELS, Layout, Raw
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.reading import Page

PORTION = 200
"""Records that are compared at a time: at most some milliseconds' work."""


class Comparison:
    """Of one reading of the whole registry.

    The first reading is told to nobody and fills an empty mirror: what it brings is kept at once, most of it without a look at more than
    its outline. Later ones find few differences, and these are to be told in the order in which they came about, when all is read.

    Attributes:
        news: what differs, in lists that are each in the order of revisions.
        gone: keys that are known here and not there.
    """

    def __init__(self, layout: Layout, mirror: Mirror, *, first: bool) -> None:
        self._layout, self._mirror, self._first = layout, mirror, first
        self._loads = first and not any(mirror.listeners[table.name] for table in (MODELS, ALIASES))
        prefixes = [(layout.key(table, ""), mirror.tables[table.name]) for table in (MODELS, ALIASES)]
        self._tables = [(prefix, len(prefix), table) for prefix, table in prefixes]
        self._blank = self._loads and mirror.is_blank
        self.news: list[list[Raw]] = []
        self.gone: list[bytes] = []

    def compare(self, page: Page) -> Iterator[list[Raw]]:
        """Portion by portion what is to be taken at once, in the order of revisions."""
        begin = page.begin
        for at in range(0, len(page.kvs) or 1, PORTION):
            kvs = page.kvs[at : at + PORTION]
            end = kvs[-1].key + b"\0" if at + PORTION < len(page.kvs) else page.end
            differing = self._differing(begin, end, kvs)
            begin = end
            if not self._first and differing:
                self.news.append(differing)
            yield differing if self._first else []

    def _differing(self, begin: bytes, end: bytes, kvs: list[Any]) -> list[Raw]:
        known = dict(self._mirror.known(self._layout, begin, end))
        if self._blank:
            kvs = self._load(kvs)
        found = [
            raw
            for kv in kvs
            if known.pop(kv.key, None) != kv.mod_revision
            and not self._settled(raw := Raw(kv.key, kv.mod_revision, kv.value, kv.create_revision, kv.lease))
        ]
        self.gone.extend(known)
        return sorted(found, key=_by_revision)

    def _load(self, kvs: list[Any]) -> list[Any]:
        """Those that are not shown now; quicker than `_settled`, for a mirror that showed nothing before."""
        for prefix, length, table in self._tables:
            # Keys are in order: all lie in a table if the first and the last do.
            if kvs and kvs[0].key.startswith(prefix) and kvs[-1].key.startswith(prefix):
                try:
                    names = [kv.key[length:].decode() for kv in kvs]
                except UnicodeDecodeError:
                    return kvs
                if names[0]:
                    left = table.load_all(names, [kv.value for kv in kvs], [kv.mod_revision for kv in kvs])
                    return [kvs[at] for at in left]
        return kvs

    def _settled(self, raw: Raw) -> bool:
        """Whether the mirror shows it already, or as soon as it was read; nobody is told."""
        place = self._layout.place(raw.key)
        if place is None or not (place[0] is MODELS or place[0] is ALIASES) or not self._mirror.may_load(raw.key):
            return False
        table, text = self._mirror.tables[place[0].name], raw.value or b""
        try:
            name = place[1].decode()
        except ValueError:
            return False
        if name in table:
            return table.same(name, text, raw.revision)
        return self._loads and table.load(name, text, raw.revision)


_by_revision = attrgetter("revision")
