"""`mesh`: every command in one place. Each lives in a module of its own, of which only the one that is called is imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module

import typer

_LOCAL, _USE, _ROUTER = "A mesh on this machine", "Services and models", "One router"
_WHAT_IF = "What if"


@dataclass(frozen=True)
class _Place:
    """Where a command lives: a module of `mesh.cli`, and its function or group there."""

    panel: str
    module: str
    attribute: str


_COMMANDS = {
    "up": _Place(_LOCAL, "up", "up"),
    "down": _Place(_LOCAL, "down", "down"),
    "status": _Place(_LOCAL, "status", "status"),
    "environment": _Place(_LOCAL, "environment", "app"),
    "image": _Place(_LOCAL, "image", "app"),
    "apply": _Place(_USE, "apply", "apply"),
    "get": _Place(_USE, "get", "get"),
    "describe": _Place(_USE, "describe", "describe"),
    "explain": _Place(_USE, "explain", "explain"),
    "scale": _Place(_USE, "scale", "scale"),
    "rollout": _Place(_USE, "rollout", "app"),
    "infer": _Place(_USE, "infer", "infer"),
    "delete": _Place(_USE, "delete", "delete"),
    "simulate": _Place(_WHAT_IF, "simulate", "simulate"),
    "trace": _Place(_WHAT_IF, "trace", "app"),
    "router": _Place(_ROUTER, "router", "router"),
    "settings": _Place(_ROUTER, "router", "settings"),
}


def commands(only: str = "") -> typer.Typer:
    """The command with all that it can, or with one of them, which takes a fraction of the time to import."""
    app = typer.Typer(
        name="mesh",
        help="A model mesh: many models on few model servers, loaded when they are called.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # A group also with a single command in it.
    app.callback()(lambda: None)
    for name, place in _COMMANDS.items():
        if only in ("", name):
            part = getattr(import_module(f"mesh.cli.{place.module}"), place.attribute)
            if isinstance(part, typer.Typer):
                app.add_typer(part, name=name, rich_help_panel=place.panel)
            else:
                app.command(name, rich_help_panel=place.panel)(part)
    return app


def main() -> None:
    """The `mesh` command; exit code 0 done, 1 failed, 2 wrong usage."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    commands(first if first in _COMMANDS else "")()


if __name__ == "__main__":
    main()
