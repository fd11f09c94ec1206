"""The house is as it is said to be: its folders, its rules, its commands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    "name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"]
)
def test_what_a_reader_looks_for_first_is_there(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) > 5, f"{name} says nothing"


@pytest.mark.parametrize("name", ["protos", "mesh", "runtime_adapters", "docker", "tests", "benchmarks", "examples", "docs"])
def test_every_part_has_its_folder(name: str) -> None:
    assert any((ROOT / name).iterdir()), f"{name} is empty"


def test_the_distribution_and_its_pythons() -> None:
    project = PROJECT["project"]
    assert (project["name"], project["requires-python"], project["license"]) == ("modelmesh-router", ">=3.11,<3.14", "Apache-2.0")
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert project["scripts"] == {"mesh": "mesh.cli.app:main"}


def test_types_are_strict_and_warnings_are_errors() -> None:
    tool = PROJECT["tool"]
    assert tool["mypy"]["strict"]
    assert {"mesh", "runtime_adapters", "tests"} <= set(tool["mypy"]["packages"])
    assert tool["pytest"]["ini_options"]["filterwarnings"] == ["error"]


def test_the_core_is_covered_whole() -> None:
    coverage = PROJECT["tool"]["coverage"]
    assert (coverage["run"]["source"], coverage["run"]["branch"], coverage["report"]["fail_under"]) == (["mesh.core"], True, 100)


def test_every_package_has_its_layer() -> None:
    (layers,) = (contract["layers"] for contract in PROJECT["tool"]["importlinter"]["contracts"] if contract["type"] == "layers")
    listed = {name.strip() for layer in layers for name in layer.split("|")}
    packages = {f"mesh.{path.name}" for path in (ROOT / "mesh").iterdir() if (path / "__init__.py").exists() and path.name != "protocols"}
    modules = {f"mesh.{path.stem}" for path in (ROOT / "mesh").glob("*.py") if path.stem != "__init__"}
    assert listed == packages | modules


def test_one_command_runs_everything() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    for part in (
        "ruff check",
        "ruff format --check",
        "mypy",
        "lint-imports",
        "tests/proof",
        "tests/unit",
        "tests/conformance",
        "tests/integration",
    ):
        assert part in done.stdout, f"`make test` leaves out {part}"


def test_skips_are_told() -> None:
    assert "-ra" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"].split()


def test_the_cache_lies_inside_the_checkout() -> None:
    bare = {name: value for name, value in os.environ.items() if name != "MESH_CACHE"}
    asked = subprocess.run(
        ["make", "-s", "-f", "-", "where"],
        input="include Makefile\nwhere:\n\t@echo $$MESH_CACHE\n",
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(asked.stdout.strip()) == ROOT / ".cache"


def test_generated_code_is_not_kept() -> None:
    kept = subprocess.run(["git", "ls-files", "mesh/protocols", "tests/support/protocols"], cwd=ROOT, capture_output=True, text=True)
    assert kept.stdout == ""


@pytest.mark.parametrize("package", ["mesh", "runtime_adapters"])
def test_modules_are_small(package: str) -> None:
    long = [path for path in (ROOT / package).rglob("*.py") if "protocols" not in path.parts and len(path.read_text().splitlines()) > 400]
    assert long == []


@pytest.mark.parametrize("package", ["mesh", "runtime_adapters"])
def test_functions_are_short(package: str) -> None:
    trees = [(path, ast.parse(path.read_text())) for path in (ROOT / package).rglob("*.py") if "protocols" not in path.parts]
    functions = [
        (path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [f"{path.relative_to(ROOT)} {node.name}" for path, node in functions if _statements(node) > LONGEST] == []


LONGEST = 40
"""Lines of a function without its signature and docstring."""


def _statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []
