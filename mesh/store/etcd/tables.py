"""The tables of the registry as they are mirrored: a million models and aliases in some hundred bytes each, read when asked for."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import orjson

from mesh.core.ids import ModelId
from mesh.core.registry.records import AliasRecord
from mesh.store.etcd.layout import ALIASES, MODELS, STAMP, TABLES, Table, decode, encode
from mesh.store.etcd.packing import Packer
from mesh.store.tables import RecordTable

_PLAIN_MODEL = frozenset({"type", "encKey", "mPath", "refs", "autoDel", "lu", "lul", STAMP})
_PLAIN_ALIAS = frozenset({"o", "amid", "tmid", STAMP})
_USUAL_ALIAS = re.compile(rb'\{"o":"([\w.-]++)","amid":"([\w.-]++)","tmid":"\2","%s":"[\w.-]*+"\}' % STAMP.encode()).fullmatch
"""How this router writes an alias that points at a model: its owner and the model. To look for that is quicker than to read JSON."""


class PackedTable(RecordTable):
    """Records kept as their JSON, packed."""

    def __init__(self, table: Table, packer: Packer | None = None) -> None:
        super().__init__()
        self.table = table
        self.packer = packer or Packer()

    def load(self, name: str, text: bytes, revision: int) -> bool:
        """One that is plain: nobody has it or failed to load it, and nothing is in it that this code does not know."""
        kept = self._plain(name, text)
        if kept is not None:
            self.names.put(name, kept, revision)
        return kept is not None

    def load_all(self, names: list[str], texts: list[bytes], revisions: list[int]) -> list[int]:
        """Those that are plain."""
        kept, left = [], []
        for at, text in enumerate(texts):
            one = self._plain(names[at], text)
            kept.append(one)
            if one is None:
                left.append(at)
        for at in reversed(left):
            del kept[at], names[at], revisions[at]
        self.names.extend(names, kept, revisions)
        return left

    @abstractmethod
    def _plain(self, name: str, text: bytes) -> Any:
        """How a plain record is kept; None if it is none."""

    def _kept(self, record: Any, text: bytes | None) -> Any:
        return self.packer.pack(encode(self.table, record, "") if text is None else text)

    def _read(self, kept: Any) -> Any:
        return decode(self.table, self.packer.unpack(kept))

    def _is(self, kept: Any, text: bytes) -> bool:
        return self.packer.unpack(kept) == text

    def _text(self, kept: Any) -> bytes | None:
        return self.packer.unpack(kept)


class ModelTable(PackedTable):
    """Models."""

    def __init__(self, packer: Packer | None = None) -> None:
        super().__init__(MODELS, packer)

    def _plain(self, name: str, text: bytes) -> Any:
        # Of a shape that was found to be plain, and referred to by an alias, is whatever has that shape.
        if (fitting := self.packer.fit(text)) is not None:
            return fitting
        data = _object(text)
        if data is None or not data.keys() <= _PLAIN_MODEL:
            return None
        texts = all(type(data.get(field, "")) is str for field in ("type", "encKey", "mPath"))
        numbers = all(type(data.get(field, 0)) is int for field in ("refs", "lu", "lul"))
        if not (texts and numbers and type(data.get("autoDel", False)) is bool):
            return None
        if not data.get("refs"):
            self.noted.add(name)
        elif type(data.get(STAMP, "")) is str:
            self.packer.learn(text)
        return self.packer.pack(text)


class AliasTable(PackedTable):
    """Aliases. One that points at a model and is of the usual owner is kept as that model's id, which the models' table has anyway."""

    def __init__(self, shared: Callable[[str], str], packer: Packer | None = None) -> None:
        """Args:
        shared: a model's id as it is kept elsewhere, or as it is given.
        """
        super().__init__(ALIASES, packer)
        self._shared = shared
        self._owner: str | None = None

    def _plain(self, _name: str, text: bytes) -> Any:
        if found := _USUAL_ALIAS(text):
            owner, active = found.groups()
            return self._pointer(name := active.decode(), name, owner.decode())
        data = _object(text)
        if data is None or not data.keys() <= _PLAIN_ALIAS or not type(data.get("amid")) is type(data.get("o", "")) is str:
            return None
        return self._pointer(data["amid"], data.get("tmid"), data.get("o", ""))

    def _kept(self, record: Any, text: bytes | None) -> Any:
        plain = record == AliasRecord(record.active, record.active, record.owner)
        return (self._pointer(record.active, record.active, record.owner) if plain else None) or super()._kept(record, text)

    def _read(self, kept: Any) -> Any:
        if isinstance(kept, str):
            return AliasRecord(ModelId(kept), ModelId(kept), self._owner or "")
        return super()._read(kept)

    def _is(self, kept: Any, text: bytes) -> bool:
        if isinstance(kept, str):
            data = _object(text) or {}
            return data.keys() <= _PLAIN_ALIAS and (data.get("amid"), data.get("tmid"), data.get("o", "")) == (kept, kept, self._owner)
        return super()._is(kept, text)

    def _text(self, kept: Any) -> bytes | None:
        return orjson.dumps(self.table.write(self._read(kept))) if isinstance(kept, str) else super()._text(kept)

    def _pointer(self, active: str, target: str | None, owner: str) -> str | None:
        if self._owner is None:
            self._owner = owner
        return self._shared(active) if active and active == target and owner == self._owner else None


def tables() -> dict[str, RecordTable]:
    """An empty table of each kind, by name."""
    models = ModelTable()
    packed: dict[str, RecordTable] = {MODELS.name: models, ALIASES.name: AliasTable(models.names.same)}
    return {name: packed[name] if name in packed else RecordTable() for name in TABLES}


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        data = orjson.loads(text)
    except ValueError:
        return None
    return data if type(data) is dict else None
