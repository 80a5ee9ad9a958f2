"""Read CSV with headers, and refuse a cell in one sentence: file, line, column, value, what is accepted."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agls.errors import InputError
from agls.messages import format_utc, parse_utc

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-]?")
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV file.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    line : int
        Line number in it, from 1.
    cells : dict of str to str
        Column to text, without surrounding blanks; a column that is not there reads as empty.
    """

    path: Path
    line: int
    cells: dict[str, str]

    def has(self, column: str) -> bool:
        """Tell whether a cell holds anything.

        Parameters
        ----------
        column : str
            Name of the column.

        Returns
        -------
        bool
            False for an empty cell and for a column that is not there.
        """
        return bool(self.cells.get(column))

    def where(self, column: str) -> str:
        """Name a cell, for a sentence.

        Parameters
        ----------
        column : str
            Name of the column.

        Returns
        -------
        str
            File, line and column.
        """
        return f"{self.path} line {self.line}, column {column}"

    def name(self, column: str) -> str:
        """Read a free name.

        Parameters
        ----------
        column : str
            Name of the column.

        Returns
        -------
        str
            One to 200 printable characters.

        Raises
        ------
        InputError
            If it is empty, too long, or not printable.
        """
        text = self.cells.get(column, "")
        if not text or len(text) > MAX_NAME_LENGTH or not text.isprintable():
            raise InputError(f"{self.where(column)}: {text[:60]!r}; 1 to {MAX_NAME_LENGTH} printable characters needed")
        return text

    def identifier(self, column: str) -> str:
        """Read the name of a sensor.

        Parameters
        ----------
        column : str
            Name of the column.

        Returns
        -------
        str
            An identifier, as topics and files are made of.

        Raises
        ------
        InputError
            If it is not one.
        """
        text = self.cells.get(column, "")
        if not IDENTIFIER.fullmatch(text):
            raise InputError(
                f"{self.where(column)}: {text[:60]!r} is not a name; 1 to 64 letters, digits, '_', '-' and '.'"
                " are accepted, beginning with a letter or digit and not ending with '.'"
            )
        return text

    def number(self, column: str, low: float, high: float, unit: str = "") -> float:
        """Read a number.

        Parameters
        ----------
        column : str
            Name of the column.
        low, high : float
            Least and greatest accepted.
        unit : str
            Its unit, for a sentence.

        Returns
        -------
        float
            A finite number in the range.

        Raises
        ------
        InputError
            If it is not.
        """
        text = self.cells.get(column, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            accepted = f"{low:.10g} to {high:.10g} {unit}".strip()
            raise InputError(f"{self.where(column)}: {text[:60]!r}; a number from {accepted} is accepted")
        return value

    def number_or_none(self, column: str, low: float, high: float, unit: str = "") -> float | None:
        """Read a number that may be missing.

        Parameters
        ----------
        column : str
            Name of the column.
        low, high : float
            Least and greatest accepted.
        unit : str
            Its unit, for a sentence.

        Returns
        -------
        float or None
            None for an empty cell or a column that is not there.
        """
        return self.number(column, low, high, unit) if self.has(column) else None

    def moment(self, column: str, latest_ns: int) -> int:
        """Read a moment of UTC.

        Parameters
        ----------
        column : str
            Name of the column.
        latest_ns : int
            Later ones are in the future [ns].

        Returns
        -------
        int
            Nanoseconds since the Unix epoch.

        Raises
        ------
        InputError
            If it is not RFC 3339 with ``Z``, or in the future.
        """
        return moment_ns(self.cells.get(column, ""), self.where(column), latest_ns)


def moment_ns(text: str, where: str, latest_ns: int) -> int:
    """Read a moment of UTC that must not lie in the future.

    Parameters
    ----------
    text : str
        RFC 3339 with ``Z``.
    where : str
        Where it is written, for a sentence.
    latest_ns : int
        Later ones are refused [ns].

    Returns
    -------
    int
        Nanoseconds since the Unix epoch.

    Raises
    ------
    InputError
        If it is no such text, or in the future.
    """
    try:
        moment = parse_utc(text)
    except (ValueError, OverflowError):
        raise InputError(
            f"{where}: {text[:60]!r} is not a time; UTC like 2018-12-19T00:49:27.467Z is accepted"
        ) from None
    if moment > latest_ns:
        raise InputError(
            f"{where}: {text} is in the future; nothing after {format_utc(latest_ns)[:19]}Z can have been recorded"
        )
    return moment


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV file.

    Parameters
    ----------
    path : pathlib.Path
        The file: UTF-8, comma separated, one line of headers.
    columns : sequence of str
        Columns that must be there; others are ignored, in any order.

    Returns
    -------
    list of Row
        Its rows; blank lines are passed over.

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    header, rows = read_table(path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{path} line 1: column {missing[0]} is missing (found: {', '.join(filter(None, header)) or 'nothing'});"
            f" needed are {', '.join(columns)}"
        )
    return rows


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Read a CSV file whatever its columns.

    Parameters
    ----------
    path : pathlib.Path
        The file: UTF-8, comma separated, one line of headers.

    Returns
    -------
    list of str
        Its header.
    list of Row
        Its rows.

    Raises
    ------
    InputError
        If it cannot be read as such, or names a column twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [_row(path, reader.line_num, header, cells) for cells in reader if any(map(str.strip, cells))]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; a CSV file in UTF-8 is accepted") from None
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}; a CSV file with a header is accepted") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a CSV file is needed") from None
    named = [column for column in header if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise InputError(f"{path} line 1: column {twice} is there twice; once is accepted")
    return header, rows


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header):
        raise InputError(f"{path} line {line}: {len(cells)} cells under {len(header)} headers; as many are accepted")
    return Row(path, line, dict(zip(header, map(str.strip, cells), strict=False)))
