"""What every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT = Path(__file__).resolve().parent.parent

# The suite runs on two slow cores beside other work, so examples are few, repeatable and not timed.
settings.register_profile(
    "agls", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("agls")


@pytest.fixture(scope="session")
def project() -> Path:
    """Find the root of the project."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Find the shared recordings and schemas, or skip the test."""
    named = os.environ.get("AGLS_SHARED")
    folder = Path(named) if named else PROJECT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the shared recordings: no folder data in {folder} (name another with AGLS_SHARED)")
    return folder
