"""Traffic policies as `mesh get`, `mesh describe` and `mesh rollout status` show them."""

from __future__ import annotations

import json
from typing import Any

from mesh.cli import output
from mesh.cli.client import Control

HEADER = ["NAME", "SERVICE", "RULES", "DEFAULT", "STATE", "MESSAGE"]


def row(policy: dict[str, Any]) -> list[str]:
    """One of a table."""
    rules, default = policy["policy"].get("rules", []), policy["policy"].get("default")
    shown = destination(default) if default else "100 % stable"
    return [policy["name"], policy["service"], str(len(rules)), shown, policy["state"], policy["message"] or "-"]


def lines(policy: dict[str, Any]) -> list[str]:
    """The rules in their order, and the default."""
    rules = policy.get("rules", [])
    found = ["Rules, of which the first that fits decides:"] if rules else []
    for number, rule in enumerate(rules, 1):
        match = " or ".join(json.dumps(one, ensure_ascii=False) for one in rule.get("match", [])) or "every call"
        found.append(f"  {rule.get('name') or number}: {match} -> {destination(rule)}")
    return [*found, *([f"Default: {destination(policy['default'])}"] if "default" in policy else [])]


def destination(to: dict[str, Any]) -> str:
    """Versions and weights, and what decides among them."""
    named = ((f"version {one['version']}" if isinstance(one["version"], int) else one["version"], one["weight"]) for one in to["to"])
    shares = ", ".join(f"{weight} % {version}" for version, weight in named)
    return f"{shares}, by the header {to['sticky']}" if to.get("sticky") else shares


def describe(control: Control, name: str, format_: output.Format) -> None:
    """Shows one."""
    (found,) = control.get("policies", name=name)
    if format_ in (output.Format.json, output.Format.yaml):
        output.data(found, format_)
        return
    output.fields([("Name", name), ("Service", found["service"]), ("State", found["state"]), ("Message", found["message"] or "none")])
    for line in lines(found["policy"]) or ["No rules: the stable version has all calls"]:
        output.console.print(line, markup=False)
