"""Which labels a pod needs to hold a model of some type (`MM_TYPE_CONSTRAINTS`, reference 5.5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mesh.core.errors import Malformed, NoRuntime

DEFAULT_TYPE = "_default"
"""Stands for all types without an entry of their own."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Required labels by type; without any, every type may go anywhere."""

    required: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Constraints:
        """Reads `{type: {"required": [...], "preferred": [...]}}`; other properties are ignored.

        Raises:
            Malformed: names what is wrong.
        """
        try:
            data = json.loads(text or "{}")
        except ValueError as error:
            raise Malformed(f"type constraints are not JSON: {error}") from None
        if not isinstance(data, dict):
            raise Malformed(f"type constraints must be an object of types, not {type(data).__name__}")
        required = {}
        for name, entry in data.items():
            labels = entry.get("required", []) if isinstance(entry, dict) else None
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise Malformed(f'type constraints of {name!r} must look like {{"required": ["label", ...]}}')
            required[name] = tuple(sorted(set(labels)))
        return cls(required)

    def refusal(self, model_type: str, labels: Sequence[str]) -> NoRuntime | None:
        """The error for a type that pods with these labels cannot hold; its text is pinned (reference D.10)."""
        needed = self.required.get(model_type, self.required.get(DEFAULT_TYPE, ()))
        if set(needed) <= set(labels):
            return None
        listed = ", ".join(needed)
        return NoRuntime(f"There are no running instances that meet the label requirements of type {model_type}: [{listed}]")
