"""Text → plain values that remember their lines: YAML or JSON, several documents, files, folders, standard input.

Scalars follow YAML 1.2's core schema, as JSON has it; time stamps stay strings, as the Kubernetes API has them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mesh.core.errors import Malformed

SUFFIXES = (".yaml", ".yml", ".json")
MAX_VALUES = 1_000_000
"""Values in one document after its aliases are expanded; a few lines of nested aliases would otherwise fill the memory."""

_TAG = "tag:yaml.org,2002:"
_INFINITE = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


@dataclass(frozen=True)
class Source:
    """One document as it was written: its plain value, and where each part of it stands."""

    value: Any
    origin: str
    root: Node | None = None

    def where(self, path: Sequence[str | int] = ()) -> str:
        """`file:line:column` of the value at `path`, or of the nearest part above it that exists."""
        if self.root is None:
            return self.origin
        line, column = self.position(path)
        return f"{self.origin}:{line}:{column}"

    def position(self, path: Sequence[str | int] = ()) -> tuple[int, int]:
        """Line and column of the same, counted from 1; zeros if the text is not known."""
        if self.root is None:
            return 0, 0
        mark = _locate(self.root, path).start_mark
        return mark.line + 1, mark.column + 1


def read_path(path: str) -> list[Source]:
    """All documents of a file, of a folder (its *.yaml, *.yml and *.json by name, not its sub-folders), or of `-`, standard input.

    Raises:
        Malformed: nothing to read, or text that is neither YAML nor JSON, with file, line and column.
    """
    if path == "-":
        return read_text(sys.stdin.read(), "standard input")
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise Malformed(f"{path}: the folder holds no {', '.join(SUFFIXES)} file")
        return [source for file in files for source in read_file(file)]
    return read_file(place)


def read_file(path: Path) -> list[Source]:
    """The documents of one file; errors as for `read_path`."""
    try:
        return read_text(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise Malformed(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: byte {error.start} is not UTF-8 text") from None
    except OSError as error:
        raise Malformed(f"{path}: cannot be read: {error.strerror}") from None


def read_text(text: str, origin: str) -> list[Source]:
    """The documents of a text; empty ones are left out. Errors as for `read_path`."""
    if text.lstrip()[:1] in ("{", "["):
        # JSON may be indented with tabs, YAML may not; inside JSON's strings a tab cannot stand.
        text = text.replace("\t", " ")
    try:
        nodes: list[Node] = [node for node in YAML(typ="rt", pure=True).compose_all(text) if node is not None]
    except MarkedYAMLError as error:
        raise Malformed(_syntax(error, origin)) from None
    except (YAMLError, ValueError) as error:
        raise Malformed(f"{origin}: {error}") from None
    sources = [Source(_Construction(origin).value(node), origin, node) for node in nodes]
    return [source for source in sources if source.value is not None]


def _syntax(error: MarkedYAMLError, origin: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
    said = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return f"{place}: not valid YAML: {said}"


class _Construction:
    """Turns nodes into plain values, counting them and noticing what refers to itself."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.count = 0
        self.open: set[int] = set()

    def value(self, node: Node) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.fault(node, f"the document has more than {MAX_VALUES} values")
        if isinstance(node, ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise self.fault(node, "an alias refers to something that contains it")
        self.open.add(id(node))
        try:
            return [self.value(item) for item in node.value] if isinstance(node, SequenceNode) else self.mapping(node)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: Node) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            if key.tag == _TAG + "merge":
                for part in item.value if isinstance(item, SequenceNode) else [item]:
                    if not isinstance(part, MappingNode):
                        raise self.fault(item, "`<<` merges mappings only")
                    merged = {**self.value(part), **merged}
                continue
            if not isinstance(key, ScalarNode):
                raise self.fault(key, "a key must be a plain name")
            name = str(key.value)
            if name in own:
                raise self.fault(key, f"the key {name!r} stands here a second time")
            own[name] = self.value(item)
        return {**merged, **own}

    def scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        kind = str(node.tag).removeprefix(_TAG)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                return int(text.replace("_", ""), 0) if text.lstrip("+-").startswith(("0x", "0o", "0b")) else int(text.replace("_", ""))
            if kind == "float":
                return float(_INFINITE.get(text.lower(), text.replace("_", "")))
        except ValueError:
            raise self.fault(node, f"{text!r} is not a number; write it in quotes if it is a text") from None
        return text

    def fault(self, node: Node, what: str) -> Malformed:
        return Malformed(f"{self.origin}:{node.start_mark.line + 1}:{node.start_mark.column + 1}: {what}")


def _locate(node: Node, path: Sequence[str | int]) -> Node:
    """The value at `path`; for a missing last part the mapping's key above it, so that an error points at a line that exists."""
    for part in path:
        found = next(_children(node, part), None)
        if found is None:
            break
        node = found
    return node


def _children(node: Node, part: str | int) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        yield from (item for key, item in node.value if str(key.value) == part)
    elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        yield node.value[part]
