"""Write what an evaluation found as one HTML page: figures, curves, and the worst mistakes to see and hear.

The page needs nothing else: curves are inline SVG, spectrograms PNG and sounds WAV inside it. It holds pieces of the
recordings that were judged, so it may be passed on only as far as their licences allow.
"""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from html import escape
from statistics import NormalDist

import numpy as np
import soundfile
from numpy.typing import NDArray

from agls.classify.evaluate import Evaluation, Figure, Judged, roc
from agls.classify.model import probability
from agls.classify.recordings import Recording

Floats = NDArray[np.float64]

SIDE_PX, EDGE_PX = 300, 40
COLOURS = ("#1b6ca8", "#c0392b")
WORST_COUNT = 12
BEFORE_S, AFTER_S = 0.2, 0.8
SPECTRUM_S, STEP_S, TOP_HZ, RANGE_DB = 0.016, 0.004, 8_000.0, 70.0
DET_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1080px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.row{display:flex;flex-wrap:wrap;gap:24px}
figure{margin:0;max-width:340px}figcaption{font-size:13px;color:#444}svg text{font:11px system-ui,sans-serif;fill:#444}
audio{width:300px;height:32px;display:block}img{width:300px;height:120px;image-rendering:pixelated;background:#000}
.note{color:#555}
"""


def page(evaluations: Sequence[Evaluation], compared: dict[str, Figure]) -> str:
    """Write the page.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Of one model or of two on the same recordings.
    compared : dict of str to Figure
        Differences of the two; may be empty.

    Returns
    -------
    str
        HTML.
    """
    first = evaluations[0]
    names = " and ".join(escape(one.model) for one in evaluations)
    parts = [
        f"<h1>What {names} heard</h1>",
        _introduction(first.judged),
        _figures(evaluations),
        _compared(compared),
        '<h2>Curves</h2><div class="row">',
        _curve_figure(evaluations, "ROC: recall over false alarms, all other sounds", det=False),
        _curve_figure(evaluations, "DET: missed over false alarms, on normal scales", det=True),
        *(_reliability(evaluations, name) for name in first.reliability),
        "</div>",
        "<h2>Gunshots missed by most</h2>",
        _mistakes(first.judged, gunshot=True),
        "<h2>Other sounds most like gunshots</h2>",
        _mistakes(first.judged, gunshot=False),
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{names}</title><style>{STYLE}</style>'
    return head + "\n".join(parts) + "</html>\n"


def _introduction(judged: Sequence[Judged]) -> str:
    guns = sum(one.recording.label == "gunshot" for one in judged)
    minutes, sources_count = sum(one.seconds for one in judged) / 60, len({one.recording.group for one in judged})
    return (
        f"<p>{guns} recordings of gunshots and {len(judged) - guns} of other sounds, {minutes:.1f} min from"
        f" {sources_count} sources. A recording is called a gunshot when its likeliest impulse is. Intervals are 95 %,"
        " from drawing sources again.</p>"
    )


def _figures(evaluations: Sequence[Evaluation]) -> str:
    head = "".join(f"<th>{escape(one.model)}</th><th>95 %</th>" for one in evaluations)
    rows = []
    for name, figure in evaluations[0].figures.items():
        cells = "".join(
            _cells(one.figures[name]) if name in one.figures else "<td></td><td></td>" for one in evaluations
        )
        rows.append(
            f'<tr><td>{escape(name)}</td>{cells}<td class="n">{figure.count}</td>'
            f'<td class="n">{figure.sources_count}</td></tr>'
        )
    return f"<h2>Figures</h2><table><tr><th></th>{head}<th>n</th><th>sources</th></tr>{''.join(rows)}</table>"


def _cells(figure: Figure) -> str:
    low, high = figure.interval
    return f'<td class="n">{figure.value:.3f}</td><td>{low:.3f} to {high:.3f}</td>'


def _compared(compared: dict[str, Figure]) -> str:
    if not compared:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td>{_cells(figure)}</tr>" for name, figure in compared.items())
    return f"<h2>The first less the second</h2><table><tr><th></th><th></th><th>95 %</th></tr>{rows}</table>"


# --------------------------------------------------------------------------------------------------------- curves


def _curve_figure(evaluations: Sequence[Evaluation], title: str, *, det: bool) -> str:
    lines = []
    for number, one in enumerate(evaluations):
        guns = np.array([each.llr for each in one.judged if each.recording.label == "gunshot"])
        others = np.array([each.llr for each in one.judged if each.recording.label != "gunshot"])
        false_alarms, recall = roc(guns, others)
        xs, ys = (_normal(false_alarms), _normal(1 - recall)) if det else (false_alarms, recall)
        points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    shares = np.array(DET_SHARES) if det else np.linspace(0, 1, 6)
    places = _normal(shares) if det else shares
    marks = [
        f'<text x="{_x(at):.0f}" y="{SIDE_PX + EDGE_PX - 22}" text-anchor="middle">{share:g}</text>'
        f'<text x="{EDGE_PX - 6}" y="{_y(at) + 4:.0f}" text-anchor="end">{share:g}</text>'
        for share, at in zip(shares.round(3).tolist(), places.tolist(), strict=True)
    ]
    return _frame("".join(lines + marks), title)


def _normal(share: Floats) -> Floats:
    """Place shares on a normal scale, the outermost that is marked at its ends."""
    ends = NormalDist().inv_cdf(DET_SHARES[0]), NormalDist().inv_cdf(DET_SHARES[-1])
    inner = [NormalDist().inv_cdf(one) for one in np.clip(share, DET_SHARES[0], DET_SHARES[-1]).tolist()]
    return (np.array(inner) - ends[0]) / (ends[1] - ends[0])


def _reliability(evaluations: Sequence[Evaluation], prior: str) -> str:
    top = (
        1.0 if prior == "50:50" else max(0.05, *(true for one in evaluations for _, true, _ in one.reliability[prior]))
    )
    marks = [f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#bbb"/>']
    for number, one in enumerate(evaluations):
        for said, true, count in one.reliability[prior]:
            place = f'cx="{_x(min(said / top, 1)):.1f}" cy="{_y(min(true / top, 1)):.1f}"'
            words = f"said {said:.4f}, true {true:.4f}, {count} impulses"
            marks.append(f'<circle {place} r="5" fill="{COLOURS[number]}"><title>{words}</title></circle>')
    marks += [
        f'<text x="{_x(at):.0f}" y="{SIDE_PX + EDGE_PX - 22}" text-anchor="middle">{at * top:.2g}</text>'
        f'<text x="{EDGE_PX - 6}" y="{_y(at) + 4:.0f}" text-anchor="end">{at * top:.2g}</text>'
        for at in (0.0, 0.5, 1.0)
    ]
    return _frame("".join(marks), f"Reliability at {prior}: share of gunshots over what was said, ten equal bins")


def _x(share: float) -> float:
    return EDGE_PX + share * (SIDE_PX - 20)


def _y(share: float) -> float:
    return SIDE_PX - share * (SIDE_PX - 20)


def _frame(inner: str, title: str) -> str:
    side = SIDE_PX + EDGE_PX
    box = f'<rect x="{_x(0)}" y="{_y(1)}" width="{SIDE_PX - 20}" height="{SIDE_PX - 20}" fill="none" stroke="#999"/>'
    return (
        f'<figure><svg viewBox="0 0 {side} {side - 15}" width="{side}" role="img" aria-label="{escape(title)}">'
        f"{box}{inner}</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


# ------------------------------------------------------------------------------------------------------- mistakes


def _mistakes(judged: Sequence[Judged], *, gunshot: bool) -> str:
    """Show the recordings that were judged most wrongly, at most three of a source."""
    wrong = [one for one in judged if (one.recording.label == "gunshot") == gunshot and (one.llr > 0) != gunshot]
    wrong.sort(key=lambda one: one.llr if gunshot else -one.llr)
    shown: list[Judged] = []
    for one in wrong:
        if sum(other.recording.group == one.recording.group for other in shown) < 3 and len(shown) < WORST_COUNT:
            shown.append(one)
    if not shown:
        return '<p class="note">None.</p>'
    return f'<p class="note">{len(wrong)} in all.</p><div class="row">{"".join(map(_mistake, shown))}</div>'


def _mistake(one: Judged) -> str:
    about = one.recording
    caption = f"{about.kind}, source {about.group}: {about.path.name}"
    if not one.impulses:
        return f"<figure><figcaption>{escape(caption)}; nothing was heard in it</figcaption></figure>"
    impulse = max(one.impulses, key=lambda each: each.llr["gunshot"])
    p = probability(impulse.llr["gunshot"], 0.5)
    words = (
        f"{caption}; at {impulse.onset_s:.2f} s, p {p:.3f}, called {impulse.called}, {impulse.snr_db:.0f} dB over noise"
    )
    wave, rate_hz = _piece(about, impulse.onset_s)
    return (
        f'<figure><img alt="spectrogram" src="data:image/png;base64,{_coded(spectrogram_png(wave, rate_hz))}">'
        f'<audio controls src="data:audio/wav;base64,{_coded(_wav(wave, rate_hz))}"></audio>'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def _piece(recording: Recording, onset_s: float) -> tuple[NDArray[np.float32], float]:
    wave, rate_hz = recording.read()
    start = max(0, round((onset_s - BEFORE_S) * rate_hz))
    return wave[start : round((onset_s + AFTER_S) * rate_hz)], rate_hz


def _wav(wave: NDArray[np.float32], rate_hz: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, round(rate_hz), format="WAV", subtype="PCM_16")
    return file.getvalue()


def spectrogram_png(wave: NDArray[np.float32], rate_hz: float) -> bytes:
    """Draw a spectrogram: time to the right, frequency up to 8 kHz, brightness over 70 dB.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,), float32
        The sound.
    rate_hz : float
        Its sampling rate.

    Returns
    -------
    bytes
        A grey PNG.
    """
    size, step = round(SPECTRUM_S * rate_hz), round(STEP_S * rate_hz)
    padded = np.pad(wave.astype(np.float64), (0, max(0, size - wave.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::step] * np.hanning(size)
    level = 10 * np.log10(np.abs(np.fft.rfft(frames, axis=1)) ** 2 + 1e-12)
    level = level[:, : max(2, min(level.shape[1], round(TOP_HZ * SPECTRUM_S)))]
    grey = np.clip((level - level.max()) / RANGE_DB + 1, 0, 1) * 255
    return _png(grey.T[::-1].astype(np.uint8))


def _png(grey: NDArray[np.uint8]) -> bytes:
    def _chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode()
