"""What commands are made of: groups of them, arguments that only the one asked for adds, words, and an orderly end."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FrameType

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One command: what it does in a line, its arguments, and the function that runs it."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Group:
    """Commands under one word; where none of them is named, `otherwise` says which is meant."""

    summary: str
    commands: "Mapping[str, Command | Group]"
    otherwise: str = ""


def of_module(summary: str, module: str) -> Command:
    """Make a command of a module that brings `add_arguments` and `run` with it, imported only when asked for.

    Parameters
    ----------
    summary : str
        What it does, in a line.
    module : str
        The module's name.

    Returns
    -------
    Command
        The command.
    """
    return Command(
        summary,
        lambda parser: import_module(module).add_arguments(parser),
        lambda arguments: int(import_module(module).run(arguments)),
    )


def fill(parser: argparse.ArgumentParser, group: Group, words: Sequence[str]) -> None:
    """Add the commands of a group; arguments are added to the one that is asked for alone, whose module knows them.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    group : Group
        The commands.
    words : sequence of str
        The arguments given, from where this group's command stands.
    """
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, item in group.commands.items():
        below = commands.add_parser(name, help=item.summary, description=item.summary)
        if name not in words[:1]:
            continue
        if isinstance(item, Group):
            fill(below, item, words[1:])
        else:
            item.add_arguments(below)
            below.set_defaults(run=item.run)


def spelled_out(group: Group, words: Sequence[str]) -> list[str]:
    """Name the command that is meant where a group has one for words that are none of its own.

    Parameters
    ----------
    group : Group
        The commands.
    words : sequence of str
        The arguments given, from where this group's command stands.

    Returns
    -------
    list of str
        The same with that command's name.
    """
    if not words:
        return []
    item = group.commands.get(words[0])
    if isinstance(item, Group):
        return [words[0], *spelled_out(item, words[1:])]
    meant = group.otherwise and item is None and words[0] not in ("-h", "--help")
    return [group.otherwise, *words] if meant else list(words)


def port(text: str) -> int:
    """Read a port.

    Parameters
    ----------
    text : str
        As typed.

    Returns
    -------
    int
        The port.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.
    """
    if text.isdecimal() and 0 <= int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; a whole number from 0 (any free one) to 65535 is")


def counted(count: int, noun: str) -> str:
    """Say how many there are of something.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        What one is called.

    Returns
    -------
    str
        Such as ``2 sensors``.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say(sentence: str) -> None:
    """Tell whoever runs the command, on stderr.

    Parameters
    ----------
    sentence : str
        What.
    """
    print(f"agls: {sentence}", file=sys.stderr)


def show_progress(what: str, done: int, count: int) -> None:
    """Show on a terminal how far long work is; nothing in a pipe.

    Parameters
    ----------
    what : str
        The work.
    done : int
        How much of it is done.
    count : int
        How much there is.
    """
    if sys.stderr.isatty():
        filled = round(30 * done / max(count, 1))
        bar = "#" * filled + "." * (30 - filled)
        print(f"\r{what:<16} [{bar}] {done}/{count} ", end="", file=sys.stderr, flush=True)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give what SIGTERM or the first Ctrl-C sets, so that what runs may finish; the second Ctrl-C interrupts.

    Yields
    ------
    threading.Event
        Set once it should end.
    """
    stop = threading.Event()

    def _ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, _ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def end_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end what runs as Ctrl-C does, tidied up after, and the process then as SIGTERM does.

    Within, `stop_on_signal` has its own way.

    Yields
    ------
    None
        Once it is so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    asked: list[int] = []

    def _ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            os.kill(os.getpid(), signal.SIGTERM)
