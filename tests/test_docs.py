"""The documents tell the truth: what they name exists, and what exists is named."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from agls.cli import COMMANDS
from agls.commands import Group

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "GLOSSARY.md", "CONTRIBUTING.md", "CHANGELOG.md", "ATTRIBUTION.md"]


def read(name: str) -> str:
    """Read a document."""
    return (PROJECT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_folders_that_a_document_names_exist(name: str) -> None:
    named = set(
        re.findall(r"`((?:agls|firmware_sim|calibration|bench|tests|schemas|requirements|\.ci)/[\w./-]*)`", read(name))
    )
    named |= set(re.findall(r"`([A-Z]+\.md)`", read(name)))
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


def test_every_package_and_top_module_stands_in_the_architecture() -> None:
    text = read("ARCHITECTURE.md")
    modules = [f"agls/{path.name}" for path in (PROJECT / "agls").glob("*.py") if not path.name.startswith("_")]
    packages = [f"agls/{path.parent.name}/" for path in (PROJECT / "agls").glob("*/__init__.py")]
    assert [name for name in sorted(modules + packages) if f"`{name}`" not in text] == []


def test_every_dependency_has_a_reason_in_the_architecture() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["hub"], *extras["train"]]
    table = "".join(line for line in read("ARCHITECTURE.md").splitlines() if line.startswith("| "))
    assert [name for name in (re.split(r"[>=<\[]", one)[0] for one in needed) if name not in table] == []


def test_every_command_stands_in_the_readme() -> None:
    words = []
    for name, item in COMMANDS.commands.items():
        words += [f"{name} {below}" for below in item.commands] if isinstance(item, Group) else [name]
    assert [word for word in words if f"`agls {word}`" not in read("README.md")] == []


def test_every_pin_has_a_hash_and_no_address() -> None:
    for path in (PROJECT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        pins = re.findall(r"^[a-z0-9][\w.\-]*==", text, re.MULTILINE)
        assert pins, path.name
        assert len(re.findall(r"==[^\n]*\\\n\s+--hash=sha256:", text)) == len(pins)
        assert "://" not in text


def test_the_licence_is_apache_2() -> None:
    text = read("LICENSE")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_tracked_file_names_this_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("needs git and the project's own repository")
    machine = re.compile(
        r"(^|[^A-Za-z0-9_.])/(wor[k]|far[m])/|://[a-z.-]*(pyp[i]|pythonhoste[d]|npmj[s]|debia[n])", re.MULTILINE
    )
    found = []
    for name in filter(None, tracked.stdout.split("\0")):
        path = PROJECT / name
        assert path.stat().st_size <= 1024 * 1024, f"{name} is larger than 1 MiB"
        if machine.search(path.read_text(encoding="utf-8", errors="replace")):
            found.append(name)
    assert found == []
