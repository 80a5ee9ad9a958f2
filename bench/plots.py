"""Plots as inline SVG, for pages that need nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 30, 40
INK, FAINT = "#222", "#bbb"
RECORDED, SIMULATED = "#b03a2e", "#1f618d"


@dataclass
class Plot:
    """One panel; what is drawn is cut at its frame.

    Attributes
    ----------
    title, across, up : str
        Words over it and at its axes.
    x_range, y_range : tuple of float
        What its axes span.
    log_x : bool
        Whether distances along the first axis are logarithms.
    parts : list of str
        What has been drawn.
    """

    title: str
    across: str
    up: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool = False
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        """Place a value along the first axis.

        Parameters
        ----------
        value : float
            The value.

        Returns
        -------
        float
            Pixels.
        """
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-9))
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Place a value along the second axis.

        Parameters
        ----------
        value : float
            The value.

        Returns
        -------
        float
            Pixels.
        """
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(self, x: ArrayLike, y: ArrayLike, colour: str, dashes: str = "", width: float = 1.8) -> None:
        """Draw a line.

        Parameters
        ----------
        x, y : array_like, shape (n,)
            Its points.
        colour : str
            As HTML has it.
        dashes : str, optional
            As SVG has them; an unbroken line if not given.
        width : float, optional
            Pixels.
        """
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in _pairs(x, y))
        style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"'
        self.parts.append(f'<polyline points="{points}" {style}/>')

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str) -> None:
        """Fill what lies between two lines.

        Parameters
        ----------
        x, low, high : array_like, shape (n,)
            Their points.
        colour : str
            As HTML has it.
        """
        there, back = _pairs(x, high), _pairs(x, low)[::-1]
        points = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in there + back)
        self.parts.append(f'<polygon points="{points}" fill="{colour}" opacity="0.18"/>')

    def dots(self, x: ArrayLike, y: ArrayLike, colour: str, size: float = 3.0, hollow: bool = False) -> None:
        """Draw dots.

        Parameters
        ----------
        x, y : array_like, shape (n,)
            Where.
        colour : str
            As HTML has it.
        size : float, optional
            Radius [pixels].
        hollow : bool, optional
            Whether they are rings.
        """
        paint = f'fill="none" stroke="{colour}"' if hollow else f'fill="{colour}" fill-opacity="0.55"'
        self.parts += [
            f'<circle cx="{self.x(a):.1f}" cy="{self.y(b):.1f}" r="{size}" {paint}/>' for a, b in _pairs(x, y)
        ]

    def steps(self, values: ArrayLike, colour: str) -> None:
        """Draw which share of some values lies below each.

        Parameters
        ----------
        values : array_like, shape (n,)
            The values.
        colour : str
            As HTML has it.
        """
        own = np.sort(np.asarray(values, dtype=np.float64))
        if own.size:
            ends = [self.x_range[0], *np.repeat(own, 2).tolist(), self.x_range[1]]
            self.line(ends, np.repeat(np.arange(own.size + 1) / own.size, 2), colour)

    def words(self, x: float, y: float, text: str, colour: str = INK) -> None:
        """Write something.

        Parameters
        ----------
        x, y : float
            Where, in shares of the panel from its upper left corner.
        text : str
            What.
        colour : str, optional
            As HTML has it.
        """
        across, down = LEFT + x * (WIDTH - LEFT - RIGHT), TOP + y * (HEIGHT - TOP - BOTTOM)
        self.parts.append(f'<text x="{across:.0f}" y="{down:.0f}" fill="{colour}">{escape(text)}</text>')

    def svg(self) -> str:
        """Finish it.

        Returns
        -------
        str
            SVG.
        """
        name = "".join(mark for mark in self.title if mark.isalnum())
        frame = f'x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
        head = f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        return "\n".join([
            f'{head} aria-label="{escape(self.title)}" font-family="sans-serif" font-size="11">',
            f'<clipPath id="{name}"><rect {frame}/></clipPath>',
            f'<text x="{LEFT}" y="16" font-size="13" font-weight="bold" fill="{INK}">{escape(self.title)}</text>',
            *self._axes(), f'<g clip-path="url(#{name})">', *self.parts, "</g>",
            f'<rect {frame} fill="none" stroke="{FAINT}"/>', "</svg>",
        ])  # fmt: skip

    def _axes(self) -> list[str]:
        base, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        parts = [f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle" fill="{INK}">{escape(self.across)}</text>']
        turned = f'transform="rotate(-90 12 {(TOP + base) / 2})" text-anchor="middle" fill="{INK}"'
        parts.append(f'<text x="12" y="{(TOP + base) / 2}" {turned}>{escape(self.up)}</text>')
        for tick in _log_ticks(*self.x_range) if self.log_x else _ticks(*self.x_range):
            at = self.x(tick)
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{base}" stroke="#eee"/>')
            parts.append(f'<text x="{at:.1f}" y="{base + 14}" text-anchor="middle" fill="{INK}">{tick:g}</text>')
        for tick in _ticks(*self.y_range):
            at = self.y(tick)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#eee"/>')
            parts.append(f'<text x="{LEFT - 4}" y="{at + 4:.1f}" text-anchor="end" fill="{INK}">{tick:g}</text>')
        return parts


def _pairs(x: ArrayLike, y: ArrayLike) -> list[tuple[float, float]]:
    a, b = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    there = np.isfinite(a) & np.isfinite(b)
    return list(zip(a[there].tolist(), b[there].tolist(), strict=True))


def _ticks(low: float, high: float) -> Sequence[float]:
    """Choose round numbers, about five."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1, 2, 5, 10), key=lambda one: abs(one * power - rough)) * power
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> Sequence[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [k * 10.0**power for power in powers for k in (1, 2, 5) if low <= k * 10.0**power <= high]
