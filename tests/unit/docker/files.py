"""What the files in `docker/` say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docker"
MESH = FOLDER / "Dockerfile"
DOCKERFILES = sorted(FOLDER.glob("Dockerfile*"))


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions in order: name and arguments."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def copied(dockerfile: Path) -> list[str]:
    """What an image takes from the checkout."""
    taken = [arguments.split() for name, arguments in steps(dockerfile) if name == "COPY" and not arguments.startswith("--from")]
    return [source for sources in taken for source in sources[:-1]]


def compose() -> dict[str, Any]:
    """The compose file; merge keys are carried out."""
    found: dict[str, Any] = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text())
    return found


def documents() -> list[dict[str, Any]]:
    """The manifest's documents, read as strictly as Kubernetes reads them: no key twice."""
    return list(YAML(typ="safe").load_all((FOLDER / "pod.yaml").read_text()))


def containers() -> dict[str, dict[str, Any]]:
    """The pod's containers by name."""
    return {container["name"]: container for container in documents()[0]["spec"]["template"]["spec"]["containers"]}


def environment(container: str) -> dict[str, Any]:
    """What a container is told."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in containers()[container]["env"]}
