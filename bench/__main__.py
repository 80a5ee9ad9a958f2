"""Measure: ``make bench``, or ``python -m bench [GROUP ...] [--quick]``.

Prints a table of what is asked and what was measured, and writes ``bench.json``; groups that are not run keep what the
file holds of them. Times below are for two slow cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.rows import REPORTED_SEED, Plan, Row, table, write

# Name, module and function, about how long in full and when quick [min], what it measures.
GROUPS: tuple[tuple[str, str, float, float, str], ...] = (
    ("chain", "bench.chain:measure", 1, 0.5, "what each stage costs"),
    ("pittsburgh", "bench.pittsburgh:measure_replay", 0.5, 0.5, "live fire: found, errors, ghosts, rounds, scatter"),
    ("six", "bench.pittsburgh:measure_six", 8, 0.7, "live fire with six sensors a shot"),
    (
        "held-out",
        "bench.pittsburgh:measure_held_out",
        15,
        3,
        "the same, settings chosen on two positions for the third",
    ),
    ("halves", "bench.pittsburgh:measure_halves", 8, 1, "live fire: two halves of a shot's sensors"),
    ("association", "bench.association:measure", 75, 12, "F1 where shots interleave, streamed through the hub"),
    ("wind", "bench.association:measure_wind", 5, 1, "F1 and place in wind that nobody reported, streamed"),
    ("search", "bench.association:measure_search", 10, 1, "F1 of the search alone, all picks at once"),
    ("clutter", "bench.association:measure_clutter", 15, 1, "false shots where none were fired"),
    ("coherent", "bench.coherent:measure", 12, 2, "what is no gun and every sensor hears: how much is told as gunfire"),
    ("solver", "bench.solver:measure", 10, 1, "solver against the Cramer-Rao bound, and in a moved frame"),
    ("echoes", "bench.solver:measure_echoes", 10, 1, "how many late echoes the solver survives"),
    ("coverage", "bench.coverage:measure", 15, 1, "ellipses that hold the truth: as told, and not as told"),
    ("sizes", "bench.coverage:measure_sizes", 2, 0.5, "the same with 4 to 20 sensors"),
    ("bursts", "bench.coverage:measure_bursts", 15, 1.5, "the same for bursts, whose path error is common"),
    ("rifle", "bench.rifle:measure", 10, 2, "N-waves heard before the blast"),
    ("clocks", "bench.clocks:measure", 20, 3, "who is named whose clock is off, and what a node that lies can do"),
    ("solve-speed", "bench.speed:measure_solve", 1, 0.3, "a robust solution beside scipy"),
    ("throughput", "bench.speed:measure_throughput", 15, 2, "picks a second beside PyOcto"),
    ("latency", "bench.latency:measure", 10, 1, "from the muzzle to the published shot"),
    ("timing", "bench.timing:measure", 12, 3, "the sample clock: how far off, how honest, how soon, and over a week"),
    ("picks", "bench.picks:measure", 8, 1, "onsets: how far off, whether sigma is true, rounds, N-waves, cost"),
    ("node", "bench.node:measure", 12, 3, "a running node: memory, start, quiet, a week, deafness"),
    ("muzzle-to-cad", "bench.muzzle:measure", 6, 2, "audio to bytes on CAD's socket, 200 detections/s"),
    ("fleet", "bench.fleet:measure", 6, 0.5, "ten thousand nodes through mosquitto, every message accounted for"),
    ("outbox", "bench.outbox:measure", 8, 2, "a day without a broker and fifty kills; onset to MQTT"),
    ("bridge", "bench.bridge:measure", 20, 2, "a thousand kills of hub, broker, store and dispatch; bursts, dead days"),
    ("formats", "bench.formats:measure", 5, 0.3, "10,000 incidents, every format against its schema; peers read them"),
    ("cameras", "bench.cameras:measure", 3, 0.5, "from location to slew request; a head on target, verified"),
    ("survey", "bench.survey:measure", 2, 0.3, "sensors' places and clocks from test shots, and whether sigma is true"),
    ("simulator", "bench.simulator:measure", 2, 1, "how fast the simulated city is rendered, and what its scenes hold"),
    ("physics", "bench.physics:measure", 12, 1, "the solver where the simulator's physics makes the arrivals"),
    ("likeness", "bench.likeness:measure", 5, 2, "the simulated city beside the recorded one"),
    ("classify", "bench.classify:measure", 4, 2, "gunfire or not: other guns, fireworks, calibration, cost"),
    ("audio", "bench.pittsburgh:measure_audio", 2, 0, "live fire from audio"),
)


def run(names: list[str], plan: Plan, out: Path) -> list[Row]:
    """Run groups of benchmarks, each written as soon as it is done.

    Parameters
    ----------
    names : list of str
        Which; all if empty.
    plan : Plan
        How much to measure.
    out : pathlib.Path
        JSON file to write.

    Returns
    -------
    list of Row
        All rows.
    """
    rows: list[Row] = []
    for name, where, *_ in GROUPS:
        if names and name not in names:
            continue
        module, _, function = where.partition(":")
        measure: Callable[[Plan], list[Row]] = getattr(import_module(module), function)
        started = time.perf_counter()
        found = measure(plan)
        taken_s = time.perf_counter() - started
        print(f"\n{name} ({taken_s:.0f} s)\n{table(found)}", flush=True)
        write(out, name, found, plan, taken_s)
        rows += found
    return rows


def main() -> None:
    """Measure, print tables and write them as JSON."""
    known = [name for name, *_ in GROUPS]
    about = "\n".join(f"  {name:<12} {tells} ({full:g} min, quick {quick:g})" for name, _, full, quick, tells in GROUPS)
    parser = argparse.ArgumentParser(
        prog="bench", description=f"Measure.\n\ngroups:\n{about}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="which groups (default: all)")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="file to write (default: bench.json)")
    parser.add_argument("--quick", action="store_true", help="fewer draws: for development, not for a report")
    parser.add_argument(
        "--first-seed", type=int, default=REPORTED_SEED, help="seeds count from here; below 1000 for development"
    )
    parser.add_argument("--processes", type=int, default=2, help="processes that may work at once (default: 2)")
    arguments = parser.parse_args()
    strange = sorted(set(arguments.groups) - set(known))
    if strange:
        parser.error(f"there is no group {strange[0]!r}; there are: {', '.join(known)}")
    plan = Plan(arguments.quick, arguments.first_seed, arguments.processes)
    rows = run(arguments.groups, plan, arguments.out)
    verdicts = [row.verdict for row in rows]
    print("\n" + ", ".join(f"{verdicts.count(one)} {one}" for one in ("ok", "MISSED", "not run")))
    if plan.quick:
        print("quick: fewer draws than asked for; not for a report")


if __name__ == "__main__":
    main()
