"""`docs/settings.md` from the settings themselves: `python -m tests.proof.settings_page` writes it, a test compares it."""

from __future__ import annotations

from pathlib import Path

from mesh.settings import describe

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

HEAD = """\
# Settings of the router

`mesh router` is configured by environment variables and by nothing else; `mesh settings` prints this list. What ModelMesh has keeps
ModelMesh's names and meanings, the rest begins with `MESH_`. Where a setting may be spelled otherwise too, the first name set counts.

A value that makes no sense keeps the router from starting: the variable, what is wrong with it and what it means stand in the log, on
standard error, and in the termination log. Some settings exclude each other or go together:

- a port and a socket of the same interface: only one of `INTERNAL_GRPC_PORT` and `INTERNAL_GRPC_SOCKET_PATH`, only one of
  `INTERNAL_SERVING_GRPC_PORT` and `INTERNAL_SERVING_GRPC_SOCKET_PATH`;
- a text and a file of the same thing: only one of `MM_DATAPLANE_CONFIG` and `MM_DATAPLANE_CONFIG_PATH`, only one of
  `MM_TYPE_CONSTRAINTS` and `MM_TYPE_CONSTRAINTS_PATH`;
- TLS: `MM_TLS_PRIVATE_KEY_PATH` and `MM_TLS_KEY_CERT_PATH` are set together, and `MM_TLS_CLIENT_AUTH` needs both.

Settings of the runtime adapters are in [adapters.md](adapters.md), what `MM_METRICS` switches on in [metrics.md](metrics.md).
"""

FOOT = "\nThis page is generated from `mesh/settings.py` by `make docs`.\n"


def page() -> str:
    """The whole page."""
    rows = [["name", "default", "unit", "meaning", "or else"]]
    for setting in describe():
        first, *older = setting["names"]
        rows.append([_code(first), _code(setting["default"]), setting["unit"], _cell(setting["meaning"]), ", ".join(map(_code, older))])
    rows.insert(1, ["---"] * len(rows[0]))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{HEAD}\n{table}\n{FOOT}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """A bar would end the cell, an angle bracket might begin a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page())
