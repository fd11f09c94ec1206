"""The tables of the registry as they are mirrored: a million models and aliases in some hundred bytes each, read when asked for."""

from __future__ import annotations

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


class PackedTable(RecordTable):
    """Records kept as their JSON, packed."""

    def __init__(self, table: Table, packer: Packer | None = None) -> None:
        super().__init__()
        self.table = table
        self.packer = packer or Packer()

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

    def load(self, name: str, text: bytes, revision: int) -> bool:
        """One that no pod has or failed to load, with nothing in it that this code does not know."""
        data = _object(text)
        if data is None or not data.keys() <= _PLAIN_MODEL:
            return False
        # The same for each field, but this is done for a million models while a pod starts.
        get = data.get
        texts = type(get("type", "")) is type(get("encKey", "")) is type(get("mPath", "")) is str
        numbers = type(get("refs", 0)) is type(get("lu", 0)) is type(get("lul", 0)) is int
        if not (texts and numbers and type(get("autoDel", False)) is bool):
            return False
        if not data.get("refs"):
            self.noted.add(name)
        self.names.put(name, self.packer.pack(text), revision)
        return True


class AliasTable(PackedTable):
    """Aliases. One that points at a model and is of the usual owner is kept as that model's id, which the models' table has anyway."""

    def __init__(self, shared: Callable[[str], str], packer: Packer | None = None) -> None:
        """Args:
        shared: a model's id as it is kept elsewhere, or as it is given.
        """
        super().__init__(ALIASES, packer)
        self._shared = shared
        self._owner: str | None = None

    def load(self, name: str, text: bytes, revision: int) -> bool:
        """One that points at a model, with nothing in it that this code does not know."""
        data = _object(text)
        if data is None or not data.keys() <= _PLAIN_ALIAS or not type(data.get("amid")) is type(data.get("o", "")) is str:
            return False
        kept = self._pointer(data["amid"], data.get("tmid"), data.get("o", ""))
        if kept is None:
            return False
        self.names.put(name, kept, revision)
        return True

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

    def shared(model: str) -> str:
        entry = models.names.find(model)
        return entry.name if entry else model

    packed: dict[str, RecordTable] = {MODELS.name: models, ALIASES.name: AliasTable(shared)}
    return {name: packed[name] if name in packed else RecordTable() for name in TABLES}


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        data = orjson.loads(text)
    except ValueError:
        return None
    return data if type(data) is dict else None
