"""Texts that resemble each other, each kept in some tens of bytes and read again within a microsecond."""

from __future__ import annotations

import zlib
from collections import deque

from mesh.store.etcd import shapes
from mesh.store.etcd.shapes import Shapes

LOOK = 256
"""Texts after which it is looked at how small they become."""
SMALL = 3
"""So many times smaller is small enough."""
MOST = 256 - shapes.MOST
"""Dictionaries; their number, behind those of the shapes, is a byte."""
_WINDOW, _MEMORY = -11, 2
"""zlib's window of 2 KiB, without a header, and the smallest memory that does not cost speed: a packer is copied for each text."""
_LATEST = 8
_TYPICAL = (
    b'{"o":"ksp","amid":"__isvc-","tmid":"__isvc-","w":"}'
    b'{"type":"mt:tensorflow:1","encKey":"{\\"storage_key\\":\\"localMinIO\\",\\"storage_params\\":{\\"bucket\\":\\"models\\"},'
    b'\\"model_type\\":{\\"name\\":\\"sklearn\\",\\"version\\":\\"1\\"},\\"schema_path\\":\\"/_schema.json\\"}","mPath":"models/",'
    b'"instanceIds":{"":17},"ready":{"":17},"failedIn":{"":17},"fails":{"":{"msg":""}},"refs":1,"autoDel":true,"lu":17,"lul":17,"w":"'
)


class Packer:
    """Packs a text that has a shape by that, and any other beside the latest of these: what it shares with them costs nothing.

    A dictionary is some latest texts; when texts come out large, another one is made of them, and what was packed with the former stays.
    """

    def __init__(self) -> None:
        self._shapes = Shapes()
        self.fit = self._shapes.pack
        """A text that has a shape, smaller; None for any other."""
        self.learn = self._shapes.learn
        """Has texts like this one have a shape: a JSON object of texts, whole numbers and truth values."""
        self._dictionaries: list[zlib._Decompress] = []
        self._latest: deque[bytes] = deque(maxlen=_LATEST)
        self._looked = self._before = self._after = 0
        self._learn(_TYPICAL)

    def pack(self, text: bytes) -> bytes:
        """The text, smaller."""
        if (fitting := self.fit(text)) is not None:
            return fitting
        packer = self._packer.copy()
        packed = b"".join((self._number, packer.compress(text), packer.flush()))
        self._latest.append(text)
        self._looked += 1
        self._before += len(text)
        self._after += len(packed)
        if self._looked == LOOK:
            if self._after * SMALL > self._before and len(self._dictionaries) < MOST:
                self._learn(b"".join(self._latest))
            self._looked = self._before = self._after = 0
        return packed

    def unpack(self, packed: bytes) -> bytes:
        """The text."""
        if packed[0] < shapes.MOST:
            return self._shapes.unpack(packed)
        return self._dictionaries[packed[0] - shapes.MOST].copy().decompress(packed[1:])

    def _learn(self, texts: bytes) -> None:
        self._number = bytes([shapes.MOST + len(self._dictionaries)])
        self._packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, texts)
        self._dictionaries.append(zlib.decompressobj(_WINDOW, texts))
