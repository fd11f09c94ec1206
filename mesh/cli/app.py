"""`mesh`: every command in one place. Each lives in a module of its own, which is imported here and does its work lazily."""

from __future__ import annotations

import typer

from mesh.cli import apply, delete, describe, down, environment, explain, get, infer, router, scale, simulate, status, trace, up

app = typer.Typer(
    name="mesh",
    help="A model mesh: many models on few model servers, loaded when they are called.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_LOCAL, _USE, _ROUTER = "A mesh on this machine", "Services and models", "One router"
_WHAT_IF = "What if"

app.command("up", rich_help_panel=_LOCAL)(up.up)
app.command("down", rich_help_panel=_LOCAL)(down.down)
app.command("status", rich_help_panel=_LOCAL)(status.status)
app.add_typer(environment.app, name="environment", rich_help_panel=_LOCAL)
app.command("apply", rich_help_panel=_USE)(apply.apply)
app.command("get", rich_help_panel=_USE)(get.get)
app.command("describe", rich_help_panel=_USE)(describe.describe)
app.command("explain", rich_help_panel=_USE)(explain.explain)
app.command("scale", rich_help_panel=_USE)(scale.scale)
app.command("infer", rich_help_panel=_USE)(infer.infer)
app.command("delete", rich_help_panel=_USE)(delete.delete)
app.command("simulate", rich_help_panel=_WHAT_IF)(simulate.simulate)
app.add_typer(trace.app, name="trace", rich_help_panel=_WHAT_IF)
app.command("router", rich_help_panel=_ROUTER)(router.router)
app.command("settings", rich_help_panel=_ROUTER)(router.settings)


def main() -> None:
    """The `mesh` command; exit code 0 done, 1 failed, 2 wrong usage."""
    app()


if __name__ == "__main__":
    main()
