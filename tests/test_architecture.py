"""The rules of the house, held by reading the code: who imports whom, how long, in which words."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
ARMS = {"sensor", "classify", "locate", "bridge"}
FORBIDDEN_MODULES = {"utils", "util", "helpers", "manager", "base", "common", "misc"}
FORBIDDEN_NAMES = {"event", "trigger", "alert", "data", "info", "tmp"}
# The CAD formats call their file so (DESIGN names agls/bridge/cad/event.py).
FORBIDDEN_MODULE_EXCEPTIONS = {"agls/bridge/cad/event.py"}
# What a pole must not carry: it costs hundreds of megabytes and seconds at start.
NOT_ON_A_NODE = {"scipy", "numba", "librosa", "sklearn", "pyproj", "amqtt", "jinja2", "starlette", "uvicorn"}


def sources(*packages: str) -> list[Path]:
    """List the modules of packages, as paths from the root."""
    found = [path.relative_to(PROJECT) for package in packages for path in (PROJECT / package).rglob("*.py")]
    assert found
    return sorted(found)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Find what a module imports, and whether it does so inside a function."""
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", id(node) in inside) for alias in node.names)


def arm(name: str) -> str:
    """Name the arm of the star that a module of `agls` belongs to, or nothing."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "agls" and parts[1] in ARMS else ""


@pytest.mark.parametrize("path", [path for path in sources("agls") if path.parts[1] in ARMS], ids=str)
def test_sensor_classify_locate_and_bridge_do_not_import_each_other(path: Path) -> None:
    strangers = [name for name, _ in imports(path) if arm(name) not in ("", path.parts[1])]
    # The node's shell is where the node's pipeline meets the network.
    assert [name for name in strangers if path.name != "shell.py"] == []


@pytest.mark.parametrize("path", [path for path in sources("agls") if path.parts[1] in ARMS], ids=str)
def test_no_arm_of_the_star_imports_what_stands_above_it(path: Path) -> None:
    above = ("agls.cli", "agls.hub", "agls.demo", "agls.replay", "agls.console", "agls.pipeline", "agls.verbs")
    met = [name for name, _ in imports(path) if name.startswith(above)]
    assert [name for name in met if path.name != "shell.py"] == []


def test_agls_imports_simulator_and_calibration_only_in_a_command() -> None:
    for path in sources("agls"):
        for name, inside in imports(path):
            if name.split(".")[0] in {"firmware_sim", "calibration", "tests", "bench"}:
                assert (path.as_posix(), inside) == ("agls/cli.py", True), f"{path} imports {name}"


def test_the_simulator_knows_only_the_boundary_of_agls() -> None:
    allowed = (
        "agls.messages.",
        "agls.config.",
        "agls.errors.",
        "agls.mqtt_settings.",
        "agls.tables.",
        "agls.sensor.capture.",
        "agls.sensor.clock.",
    )
    strangers = [
        f"{path}: {name}"
        for path in sources("firmware_sim")
        for name, _ in imports(path)
        if name.split(".")[0] == "agls" and not f"{name}.".startswith(allowed)
    ]
    assert strangers == []


def test_only_the_transport_and_the_simulated_crowd_speak_mqtt() -> None:
    speakers = {
        path.as_posix() for path in sources("agls", "firmware_sim") for name, _ in imports(path) if "paho" in name
    }
    assert speakers == {"agls/transport.py", "firmware_sim/crowd.py"}


def test_stages_that_compute_read_no_clock() -> None:
    pure = [path for path in sources("agls/locate", "agls/bridge/cad") if path.name != "jit.py"]
    pure += [Path("agls/pipeline.py"), Path("agls/intake.py"), Path("agls/physics.py"), Path("agls/sensor/onset.py")]
    clocks = [
        f"{path}: {name}"
        for path in pure
        for name, _ in imports(path)
        if name.split(".")[0] in {"time", "socket", "threading", "random", "secrets", "os"}
    ]
    assert clocks == []


@pytest.mark.parametrize(
    "start",
    ["import agls.pipeline; from agls.sensor.onset import OnsetDetector; import agls.classify.model",
     "import agls.sensor.shell, agls.sensor.capture, agls.sensor.clock, agls.sensor.outbox",
     "from agls.classify.model import load_model; load_model()"],
)  # fmt: skip
def test_a_node_loads_nothing_heavy(start: str) -> None:
    tell = f"import sys; {start}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    assert NOT_ON_A_NODE & set(loaded.stdout.split()) == set()


@pytest.mark.parametrize("path", sources("agls", "firmware_sim"), ids=str)
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = (PROJECT / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    assert len(text.splitlines()) - docstring_lines(tree) <= MAX_LINES
    assert not set(path.with_suffix("").parts) & FORBIDDEN_MODULES


def docstring_lines(tree: ast.AST) -> int:
    """Count the lines of docstrings: documenting a function well must not push it out of its module."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    return sum((text.end_lineno or text.lineno) - text.lineno + 1 for text in texts)


@pytest.mark.parametrize("path", sources("agls", "firmware_sim"), ids=str)
def test_forbidden_words_name_nothing(path: Path) -> None:
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    assert [f"line {line}: {name}" for name, line in names(tree) if name in FORBIDDEN_NAMES] == []
    if path.as_posix() not in FORBIDDEN_MODULE_EXCEPTIONS:
        assert path.stem not in FORBIDDEN_NAMES


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Find every name that a module gives: to variables, arguments, fields, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def test_no_module_unpickles_or_evaluates() -> None:
    for path in sources("agls", "firmware_sim", "calibration"):
        assert [name for name, _ in imports(path) if name.split(".")[0] in {"pickle", "marshal", "shelve"}] == []
        tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert called & {"eval", "exec"} == set(), path
