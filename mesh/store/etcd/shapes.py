"""Records of one shape, each kept as the words in which it differs from the others.

The records of a mesh are written by a few programs: nine tenths of each are the same in all. To recognise that by a regular expression, and
to keep the rest, takes a fifth of the time in which zlib compresses the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

TRIED = 8
"""Shapes that a text is compared with; one that it does not have costs a microsecond at most."""
REMEMBERED = 256
"""Shapes of which it is remembered what differed so far."""
MOST = 128
"""Patterns that are made at most; what was packed begins with the number of its own."""
LOOKS = 5000
"""Texts that are looked at to learn shapes, some ten microseconds each; where so many have not led to those that most have, more do not."""
LONGEST = 4096
"""Bytes of a text from which a shape is learned; to make a regular expression takes a microsecond for each."""

_END = b"\0"
"""Between two words that are kept; neither they nor JSON have such a byte."""
_WORD, _TIME = rb"[\w.-]++", rb"[1-9]\d{9,15}+"
"""What may stand in place of a word in a text, and of a number such as a time in milliseconds: then the text is valid JSON as before, its
fields are the same and of the same types, and no number becomes 0."""
_OUTSIDE = re.compile(rb'(?:"(?:[^"\\]|\\.)*+"\s*+:)|("(?:[^"\\]|\\.)*+")|(\d++)|[^"\d]++')
"""A field's name; a text; digits; anything else."""
_INSIDE = re.compile(rb"(%s)|\\(?:u[0-9a-fA-F]{4}|.)|[^\\\w.-]++" % _WORD)
"""Of a text: a word; an escaped character; anything else."""
_A_TIME = re.compile(_TIME)


class Form(NamedTuple):
    """What texts of one shape have in common at least.

    Attributes:
        between: what is before, between and behind the words: one more than there are words.
        words: what each word may be, as a regular expression.
    """

    between: tuple[bytes, ...]
    words: tuple[bytes, ...]


def cut(text: bytes) -> tuple[Form, list[bytes]]:
    """The form of a JSON object of texts, whole numbers and truth values, and its words."""
    between, forms, words = [b""], list[bytes](), list[bytes]()

    def take(part: bytes, form: bytes | None) -> None:
        if form is None:
            between[-1] += part
        else:
            words.append(part)
            forms.append(form)
            between.append(b"")

    for part in _OUTSIDE.finditer(text):
        value, digits = part.groups()
        if value is not None:
            for inner in _INSIDE.finditer(value):
                take(inner[0], _WORD if inner[1] else None)
        else:
            take(part[0], _TIME if digits and _A_TIME.fullmatch(digits) else None)
    return Form(tuple(between), tuple(forms)), words


class Pattern:
    """Takes the words that differ out of a text, and puts them in again."""

    def __init__(self, number: int, form: Form, words: Sequence[bytes | int]) -> None:
        """Args:
        number: its own.
        form: of the texts.
        words: in the order of the form: one that is always the same, or a number that words have in common that equal each other.
        """
        parts, source = [form.between[0]], [re.escape(form.between[0])]
        self._order: list[int] = []
        groups: dict[int, int] = {}
        for word, allowed, between in zip(words, form.words, form.between[1:], strict=True):
            if isinstance(word, int):
                known, group = word in groups, groups.setdefault(word, len(groups))
                source.append(b"(?:\\%d)" % (group + 1) if known else b"(%s)" % allowed)
                self._order.append(group)
                parts.append(b"")
            else:
                source.append(re.escape(word))
                parts[-1] += word
            source.append(re.escape(between))
            parts[-1] += between
        self._text = b"%s".join(part.replace(b"%", b"%%") for part in parts)
        self.match: Callable[[bytes], re.Match[bytes] | None] = re.compile(b"".join(source)).fullmatch
        self.prefix = bytes([number])

    def read(self, packed: bytes) -> bytes:
        """The text."""
        words = packed[1:].split(_END)
        return self._text % tuple([words[number] for number in self._order])


class _Shape:
    """What is known of the texts of one form.

    Attributes:
        pattern: None until there are two.
    """

    def __init__(self, form: Form, words: list[bytes]) -> None:
        self._form, self._words = form, words
        self._differs = [False] * len(words)
        kinds: dict[tuple[bytes, bytes], int] = {}
        self._kinds = [kinds.setdefault(pair, len(kinds)) for pair in zip(form.words, words, strict=True)]
        """Words that were equal in all texts have the same number."""
        self.pattern: Pattern | None = None

    def widen(self, words: list[bytes], number: int) -> Pattern:
        """Has another text fit as well; the pattern that does, which has this number if it is a new one."""
        kinds: dict[tuple[int, bytes], int] = {}
        found = [kinds.setdefault(pair, len(kinds)) for pair in zip(self._kinds, words, strict=True)]
        differs = [one or mine != word for one, mine, word in zip(self._differs, self._words, words, strict=True)]
        if self.pattern is None or (found, differs) != (self._kinds, self._differs):
            self._kinds, self._differs = found, differs
            each = zip(differs, found, self._words, strict=True)
            self.pattern = Pattern(number, self._form, [kind if one else word for one, kind, word in each])
        return self.pattern


class Shapes:
    """Learns the shapes of texts, and packs those that have one."""

    def __init__(self) -> None:
        self._shapes: dict[Form, _Shape] = {}
        self._patterns: list[Pattern] = []
        self._tried: list[Pattern] = []
        self._looks = 0

    def pack(self, text: bytes) -> bytes | None:
        """The text, smaller; None if it has no known shape."""
        for pattern in self._tried:
            if found := pattern.match(text):
                return pattern.prefix + _END.join(found.groups())
        return None

    def unpack(self, packed: bytes) -> bytes:
        """The text."""
        return self._patterns[packed[0]].read(packed)

    def learn(self, text: bytes) -> None:
        """Has the next text like this be packed: a JSON object of texts, whole numbers and truth values, that was not."""
        if len(self._patterns) == MOST or self._looks == LOOKS or len(text) > LONGEST:
            return
        self._looks += 1
        form, words = cut(text)
        shape = self._shapes.pop(form, None)
        if shape is None:
            shape = _Shape(form, words)
        else:
            former, pattern = shape.pattern, shape.widen(words, len(self._patterns))
            if pattern is not former:
                self._patterns.append(pattern)
            self._tried = [pattern, *(one for one in self._tried if one is not pattern and one is not former)][:TRIED]
        self._shapes[form] = shape
        if len(self._shapes) > REMEMBERED:
            del self._shapes[next(iter(self._shapes))]
