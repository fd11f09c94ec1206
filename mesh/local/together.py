"""What several pods say of one model, put together."""

from __future__ import annotations

from typing import Any


def together(found: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """One pod's view of a model, with what the others say of themselves: copies and failures as their own pods see them, one story."""
    for part in ("copies", "failures"):
        own = [item for pod, view in told.items() for item in view[part] if item["pod"] == pod]
        found[part] = own_words(found[part], own)
    lines = ({**line, "pod": pod} for pod, view in told.items() for line in view["story"])
    found["story"] = sorted(lines, key=lambda line: line["at_ms"])
    found["called"] = any(view["called"] for view in told.values())
    found["last_used_ms"] = max(view["last_used_ms"] for view in told.values())
    return found


def own_words(listed: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What one pod says of others, replaced by what these say of themselves; by pod."""
    told = {item["pod"] for item in own}
    return sorted([*own, *(item for item in listed if item["pod"] not in told)], key=lambda item: item["pod"])
