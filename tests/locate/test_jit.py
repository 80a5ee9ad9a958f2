"""Compiled kernels are never older than what they are made of."""

import shutil
import subprocess
import sys
from pathlib import Path

CALLED = "from agls.locate.jit import kernel\n\n@kernel\ndef inner(x: float) -> float:\n    return x + {}\n"
CALLER = (
    "from agls.locate._inner import inner\nfrom agls.locate.jit import kernel\n\n"
    "@kernel\ndef outer(x: float) -> float:\n    return inner(x) * 10.0\n"
)


def test_a_kernel_is_compiled_again_when_one_that_it_calls_has_changed(project: Path, tmp_path: Path) -> None:
    package = tmp_path / "agls" / "locate"
    package.mkdir(parents=True)
    for name in ("__init__.py", "locate/__init__.py", "locate/jit.py"):
        shutil.copy(project / "agls" / name, tmp_path / "agls" / name)
    (package / "_outer.py").write_text(CALLER)
    said = []
    for number in (1.0, 100.0):
        (package / "_inner.py").write_text(CALLED.format(number))
        tell = "from agls.locate._outer import outer; print(outer(1.0))"
        run = subprocess.run(
            [sys.executable, "-c", tell],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        said.append(float(run.stdout))
    assert said == [20.0, 1010.0]
    assert len(list((package / "__pycache__").glob("kernels-*"))) == 2
