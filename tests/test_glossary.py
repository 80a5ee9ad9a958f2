"""The glossary holds the words of the house."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agls import messages

RECORDS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type)
    and kind.__module__ == messages.__name__
    and (dataclasses.is_dataclass(kind) or (issubclass(kind, msgspec.Struct) and kind is not messages.Wire))
]
WORDS = """sensor, site, onset, time of arrival (TOA), detection, association, arrival, residual, multilateration,
origin time, shot, round count, incident, muzzle blast, shockwave (N-wave), error ellipse, GDOP, coverage, clock offset,
clock drift, slew, probable / possible / withdrawn"""
# Fields that say all there is to say, or are told once for all records at the top of the glossary.
PLAIN = {
    "samples", "sample_rate_hz", "version", "x_m", "y_m", "z_m", "latitude_deg", "longitude_deg", "height_m", "sent_ns",
    "first_shot_ns", "last_shot_ns", "incident_type", "detail", "camera_id", "request_id", "target", "ellipse", "clock",
}  # fmt: skip


@pytest.fixture(scope="module")
def glossary(project: Path) -> str:
    """Read the glossary."""
    return (project / "GLOSSARY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", [" ".join(word.split()) for word in WORDS.split(",")])
def test_every_word_of_the_design_is_defined(glossary: str, word: str) -> None:
    assert f"**{word}" in glossary.replace("**Coverage", "**coverage")


@pytest.mark.parametrize("kind", RECORDS)
def test_every_record_and_its_fields_stand_in_the_glossary(glossary: str, kind: Any) -> None:
    assert f"`{kind.__name__}`" in glossary
    names = getattr(kind, "__struct_fields__", None) or [field.name for field in dataclasses.fields(kind)]
    assert [name for name in names if name not in PLAIN and f"`{name}`" not in glossary] == []
