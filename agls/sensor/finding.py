"""What a check found of one thing: whether it is as it should be, and if not what to do."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "look", "FAILED", "skipped"]
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of a check.

    Attributes
    ----------
    name : str
        What was looked at.
    verdict : str
        ``ok``; ``look`` where it works and could be better; ``FAILED``; ``skipped`` where it could not be looked at.
    said : str
        What was found.
    do : str
        What to do about it; empty where nothing is.
    """

    name: str
    verdict: Verdict
    said: str
    do: str = ""


def table(findings: Sequence[Finding]) -> str:
    """Write findings for a person.

    Parameters
    ----------
    findings : sequence of Finding
        The rows.

    Returns
    -------
    str
        A line or more each, and a last one that sums up.
    """
    return "\n".join([*(row(one) for one in findings), summary(findings)])


def row(finding: Finding) -> str:
    """Write one finding.

    Parameters
    ----------
    finding : Finding
        The row.

    Returns
    -------
    str
        Verdict, name, what was found; below it what to do.
    """
    lines = textwrap.wrap(finding.said, WIDTH - 20) or [""]
    if finding.do:
        lines += textwrap.wrap(f"do: {finding.do}", WIDTH - 20, subsequent_indent="    ")
    first, *rest = lines
    return "\n".join([f"{finding.verdict:<8}{finding.name:<12}{first}", *(20 * " " + line for line in rest)])


def summary(findings: Sequence[Finding]) -> str:
    """Sum findings up.

    Parameters
    ----------
    findings : sequence of Finding
        The rows.

    Returns
    -------
    str
        A line.
    """
    failed = [one.name for one in findings if one.verdict == "FAILED"]
    skipped = [one.name for one in findings if one.verdict == "skipped"]
    said = f"{len(failed)} failed: {', '.join(failed)}" if failed else "nothing failed"
    return said + (f"; not looked at: {', '.join(skipped)}" if skipped else "")


def document(sensor_id: str, findings: Sequence[Finding]) -> str:
    """Write findings for programs.

    Parameters
    ----------
    sensor_id : str
        Whose.
    findings : sequence of Finding
        The rows.

    Returns
    -------
    str
        JSON.
    """
    passed = all(one.verdict != "FAILED" for one in findings)
    rows = [asdict(one) for one in findings]
    return json.dumps({"sensor_id": sensor_id, "passed": passed, "findings": rows}, indent=2, ensure_ascii=False)
