"""Run what was recorded through the live pipeline: `agls replay`."""

import argparse
from pathlib import Path

from agls.commands import BAD_INPUT, DONE, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("dataset", type=Path, metavar="DIR", help="a dataset, or the journal of a hub (a .jsonl file)")
    parser.add_argument("--out", type=Path, metavar="OUT", required=True, help="folder for results and report.html")
    parser.add_argument("--from", dest="source", choices=("audio", "detections"), help="where the dataset holds both")
    parser.add_argument("--realtime", action="store_true", help="as fast as it happened, not as fast as possible")
    parser.add_argument(
        "--against", type=Path, metavar="OLD_OUT", help="list shots gained, lost and moved since OLD_OUT"
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay a dataset, or the journal of a hub.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` said.

    Returns
    -------
    int
        Exit code: 2 where a part of the dataset was refused.
    """
    from agls.replay.run import replay, replay_journal

    if arguments.dataset.suffix == ".jsonl":
        replay_journal(arguments.dataset, arguments.out)
        return DONE
    summary = replay(
        arguments.dataset,
        arguments.out,
        source=arguments.source,
        realtime=arguments.realtime,
        against=arguments.against,
    )
    print(summary)
    for sentence in summary.refused:
        say(sentence)
    return BAD_INPUT if summary.refused else DONE
