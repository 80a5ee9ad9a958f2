"""The simulator shares records and configuration with AGLS, and no formula."""

import ast
from pathlib import Path

# SteadyClock divides an index by a rate; the rest are records, their files and their errors.
ALLOWED = {"agls.config", "agls.errors", "agls.messages", "agls.mqtt_settings", "agls.tables", "agls.sensor.clock"}


def test_the_simulator_imports_no_formula_of_agls(project: Path) -> None:
    imported = set()
    for path in (project / "firmware_sim").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
    assert {name for name in imported if name.partition(".")[0] == "agls"} <= ALLOWED
