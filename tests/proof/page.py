"""`docs/proof.md` as data: its rows, and whether what they name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "proof.md"

OPEN = "OPEN:"
"""What a row says instead of what shows it, if nothing does yet."""


@dataclass(frozen=True)
class Row:
    """One requirement.

    Attributes:
        id: a letter with a number of the part, and a number in it: `B3.4`.
        shown: what stands between backticks in its last column.
    """

    id: str
    what: str
    shown: tuple[str, ...]
    open: str

    @property
    def place(self) -> tuple[str, int]:
        part, _, number = self.id.partition(".")
        return part, int(number)


def rows(text: str) -> list[Row]:
    """Every row of the tables that have the columns id, what, shown by."""
    found = []
    for cells in _tables(text, ["id", "what", "shown by"]):
        missing = cells[2].partition(OPEN)[2].strip() if OPEN in cells[2] else ""
        found.append(Row(cells[0], cells[1], tuple(re.findall(r"`([^`]+)`", cells[2].partition(OPEN)[0])), missing))
    return found


def listed_open(text: str) -> list[str]:
    """Ids in the table of what is open."""
    return [cells[0] for cells in _tables(text, ["id", "missing"])]


def _tables(text: str, head: list[str]) -> Iterator[list[str]]:
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells == head:
            inside = True
        elif inside and not set("".join(cells)) <= set("-: "):
            yield cells


def fault(shown: str) -> str:
    """Why what a row names shows nothing; empty if it may."""
    if shown.startswith("make "):
        target = shown.split()[1]
        return "" if re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE) else f"there is no `{shown}`"
    if not shown.startswith("tests/"):
        return f"`{shown}` is neither a test nor a target of make"
    path, _, name = shown.partition("::")
    if not (ROOT / path).is_file():
        return f"there is no file {path}"
    if not name:
        return f"`{shown}` names a file and no test in it"
    return "" if name in names_in(path) else f"there is no {name} in {path}"


@cache
def names_in(path: str) -> frozenset[str]:
    """Tests in a file: functions, methods as `Class::test`, names given to test cases, and those of a suite that it takes over."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test"):
                names.add(name)
            case ast.ClassDef(name=name) if name.startswith("Test"):
                names |= {f"{name}::{inner}" for inner in _functions(node)}
            case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("Test"):
                names.add(name)
            case ast.ImportFrom(module=str(module), names=[ast.alias(name="*")]):
                names |= names_in(f"{module.replace('.', '/')}.py")
    return frozenset(names)


def _functions(node: ast.ClassDef) -> list[str]:
    functions = [inner.name for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for name in functions if name.startswith("test")]
