"""The binary tensor extension: a JSON part, its length in a header, and the raw bytes of tensors behind it."""

from __future__ import annotations

from mesh.core.errors import Malformed

HEADER = "inference-header-content-length"
"""Bytes of the JSON part; set on answers too, if raw tensors follow."""

SIZE = "binary_data_size"
"""Parameter of an input or of an answered output: bytes of its raw form."""

WANTED = "binary_data"
"""Parameter of a requested output: whether it is answered raw."""

WANTED_ALL = "binary_data_output"
"""Parameter of a request: whether outputs are answered raw unless they say otherwise."""


class Tail:
    """What follows the JSON part; inputs take their bytes from it in order."""

    def __init__(self, data: bytes = b"", position: int = 0) -> None:
        """The bytes of `data` from `position` on."""
        self._data = data
        self._position = position

    def take(self, size: object, place: str) -> bytes:
        """The next `size` bytes.

        Raises:
            Malformed: `size` is no count, or exceeds what is left.
        """
        if type(size) is not int or size < 0:
            raise Malformed(f"{place}: parameter {SIZE!r} must be a whole number from 0")
        left = len(self._data) - self._position
        if size > left:
            hint = "" if self._data else "; set the header Inference-Header-Content-Length to the length of the JSON part"
            raise Malformed(f"{place}: {SIZE!r} is {size}, but {left} bytes are left behind the JSON part{hint}")
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def finish(self) -> None:
        """Raises Malformed if bytes are left that no input took."""
        if left := len(self._data) - self._position:
            raise Malformed(f"{left} bytes behind the JSON part belong to no input; give each its {SIZE!r}")


def split(body: bytes, length: str | None) -> tuple[bytes, Tail]:
    """JSON part and tail, by the value of the header; without it everything is JSON.

    Raises:
        Malformed: no length of a JSON part that this body can have.
    """
    if length is None:
        return body, Tail()
    text = length.strip()
    if not (text.isascii() and text.isdigit()):
        raise Malformed(f"header Inference-Header-Content-Length: {text[:40]!r} is no number of bytes")
    size = int(text) if len(text) < 20 else len(body) + 1
    if size == 0:
        raise Malformed(
            "header Inference-Header-Content-Length: 0, a raw request without JSON, is not taken; "
            f"describe the input in a JSON part, with its bytes behind it and their number in {SIZE!r}"
        )
    if size > len(body):
        raise Malformed(f"header Inference-Header-Content-Length: the JSON part has {text[:40]} bytes, the body only {len(body)}")
    return body[:size], Tail(body, size)
