"""Try everything a node needs, on the pole, and say for each failure what to do: `agls sensor check`.

First what needs no sound (`agls.sensor.premises`), then the node itself: it is put together as ``run`` does and hears
for some seconds; then somebody claps. The clap is an ordinary detection: it gets its time and number, goes into the
outbox and to the broker, and the hub's own acknowledgement of that number is the proof that the whole way works.

    device, level, hum, clipping      what the microphone gives
    clock, pulse                      whether its samples can be timed
    broker                            whether it answers
    clap                              whether a sound reaches the hub
"""

import argparse
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agls.config import NodeConfig, load_node
from agls.errors import InputError
from agls.messages import Ack, ClockState, Detection, format_utc
from agls.sensor.capture import Source
from agls.sensor.chrony import Chrony
from agls.sensor.finding import Finding, document, row, summary
from agls.sensor.gps import Gps, Gpsd
from agls.sensor.health import CLIPPED, Fix, read_machine
from agls.sensor.hum import hum
from agls.sensor.premises import (
    look_at_broker,
    look_at_disk,
    look_at_model,
    look_at_node,
    look_at_survey,
    look_at_time,
)
from agls.sensor.shell import NodeShell, node_shell

LISTEN_S, CLOCK_S = 8.0, 25.0  # of sound that is judged, and longest wait for the clock
DEAF_S = 6.0  # without a sample
CLAP_S, ACK_S, AWAY_S, ANSWER_S = 20.0, 10.0, 1.0, 8.0
MUTE_DB, FAINT_DB, LOUD_DB = -95.0, -88.0, -20.0  # re full scale: no microphone; a very quiet place; too much gain
HUM_LOOK_DB, HUM_FAILED_DB = -10.0, 0.0  # over all else
CLIPPED_LOOK, CLIPPED_FAILED = 1e-5, 1e-3  # shares
OFFSET = 0.05  # of full scale, that a converter may be off its middle
NTP_S, LONGEST_SIGMA_S = 1e-3, 0.1
PULSE_S = 3.0

Say = Callable[[str], object]
OpenSource = Callable[[NodeConfig, Path], Source]


@dataclass
class Heard:
    """What came of listening.

    Attributes
    ----------
    blocks : list of numpy.ndarray
        Sound that is judged.
    samples_count : int
        Of all sound.
    clock : ClockState or None
        How the clock was once it was known.
    clock_s : float
        How long that took [s].
    fixes : list of Fix
        What the receiver said.
    claps, acks : list
        Detections after somebody was asked to clap, and the hub's words.
    asked : bool
        Whether somebody was.
    connected : bool
        Whether the broker answered.
    counts : collections.Counter
        What befell the node.
    trouble : str
        Why nothing was heard.
    """

    blocks: list[NDArray[np.float32]] = field(default_factory=list)
    samples_count: int = 0
    clock: ClockState | None = None
    clock_s: float = math.nan
    fixes: list[Fix] = field(default_factory=list)
    claps: list[Detection] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    asked: bool = False
    connected: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    trouble: str = ""

    def observe(self, record: Detection | Ack) -> None:
        """Note what the node heard and what the hub said.

        Parameters
        ----------
        record : Detection or Ack
            As the shell tells it.
        """
        if isinstance(record, Ack):
            self.acks.append(record)
        elif self.asked:
            self.claps.append(record)

    @property
    def confirmed(self) -> list[Detection]:
        """List the claps that the hub has.

        Returns
        -------
        list of Detection
            Those that an acknowledgement covers.
        """
        return [clap for clap in self.claps if any(_covers(ack, clap) for ack in self.acks)]


def _covers(ack: Ack, clap: Detection) -> bool:
    return ack.boot_id == clap.boot_id and clap.seq < ack.next_seq and clap.seq not in ack.missing


def check(
    config: NodeConfig, path: Path, open_source: OpenSource, clap_s: float = CLAP_S, say: Say = id
) -> Iterator[Finding]:
    """Try everything a node needs.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    path : pathlib.Path
        Its file.
    open_source : callable
        Opens its microphone.
    clap_s : float, optional
        How long to wait for a clap; 0 to do without [s].
    say : callable, optional
        Tell the person at the pole what to do now.

    Yields
    ------
    Finding
        One for each thing, as soon as it is known.
    """
    chrony, gpsd = Chrony(), Gpsd(config.gpsd) if config.gpsd else None
    yield look_at_node(config)
    yield look_at_disk(config)
    yield look_at_model(config)
    reached = look_at_broker(config.mqtt)
    if reached.verdict == "FAILED":
        yield reached
    heard, refusal = Heard(), ""
    try:
        _listen(config, open_source(config, path), heard, gpsd, clap_s, say)
    except InputError as error:
        refusal = str(error)
    gps = gpsd.state() if gpsd else Gps()
    yield look_at_time(config, chrony.sync(), gps, time.time_ns())
    yield look_at_survey(config, gps, heard.fixes, gpsd.trouble if gpsd else "")
    if gpsd:
        gpsd.close()
    if refusal:
        yield _refused(refusal)
    else:
        yield from _judged(config, heard, reached, gps)


def _refused(sentence: str) -> Finding:
    """Say why the node could not be put together."""
    if "in use by another node" in sentence:
        said = "the node runs already, so its card and outbox are taken; what needs them was not looked at"
        return Finding("device", "FAILED", said, "sudo systemctl stop 'agls-sensor-*', check, and start it again")
    return Finding("device", "FAILED", sentence, "correct the node's file; arecord -l lists the cards")


# -------------------------------------------------------------------------------------------------------- listening


def _listen(config: NodeConfig, source: Source, heard: Heard, gpsd: Gpsd | None, clap_s: float, say: Say) -> None:
    """Hear as a node does; then wait for a clap, and for the hub to have it."""
    say(f"listening for {LISTEN_S:g} s; be quiet")
    with node_shell(config, source, observe=heard.observe) as shell:
        blocks, begun_s = source.blocks(), time.monotonic()
        for block in blocks:
            shell.hear(block)
            heard.samples_count += block.samples.size
            since_s = time.monotonic() - begun_s
            if block.samples.size and len(heard.blocks) * block.samples.size < LISTEN_S * block.sample_rate_hz:
                heard.blocks.append(block.samples)
            if gpsd and (fix := gpsd.state().fix) and (not heard.fixes or heard.fixes[-1] is not fix):
                heard.fixes.append(fix)
            if heard.clock is None and block.samples.size and source.clock.known(block.first_index) == "yes":
                heard.clock, heard.clock_s = source.clock.state, since_s
            if _heard_enough(heard, block.sample_rate_hz, since_s):
                break
        if heard.clock is not None and clap_s > 0:
            _await_clap(shell, blocks, heard, clap_s, say)
        shell.connection.wait_connected(max(0.0, ANSWER_S - (time.monotonic() - begun_s)))
        heard.connected = shell.connection.connected
        heard.counts, heard.trouble = shell.counts, str(getattr(source, "trouble", ""))
        if heard.clock is not None:
            heard.clock = source.clock.state


def _heard_enough(heard: Heard, rate_hz: float, since_s: float) -> bool:
    if not heard.samples_count:
        return since_s > DEAF_S
    is_clear = heard.samples_count >= LISTEN_S * rate_hz and heard.clock is not None
    return is_clear or since_s > CLOCK_S


def _await_clap(shell: NodeShell, blocks: Iterator[object], heard: Heard, clap_s: float, say: Say) -> None:
    say(f"now clap once, hard, an arm's length from the microphone (within {clap_s:g} s)")
    heard.asked, told = True, False
    until_s = time.monotonic() + clap_s
    for block in blocks:
        shell.hear(block)  # type: ignore[arg-type]
        if heard.claps and not told:
            say("heard; waiting for the hub")
            told, until_s = True, time.monotonic() + (ACK_S if shell.connection.connected else AWAY_S)
        if heard.confirmed or time.monotonic() > until_s:
            return


# ---------------------------------------------------------------------------------------------------------- judging


def _judged(config: NodeConfig, heard: Heard, reached: Finding, gps: Gps) -> Iterator[Finding]:
    yield look_at_device(config, heard)
    if heard.blocks and np.ptp(np.concatenate(heard.blocks)) > 0:
        samples = np.concatenate(heard.blocks)
        yield look_at_level(samples, config.microphone.full_scale_db_spl)
        yield look_at_hum(samples, float(config.microphone.sample_rate_hz))
        yield look_at_clipping(samples)
    else:
        yield from (Finding(name, "skipped", "nothing was heard") for name in ("level", "hum", "clipping"))
    yield look_at_clock(heard)
    yield look_at_pulse(config, heard, gps)
    if reached.verdict != "FAILED":
        yield answered(reached, heard)
    yield look_at_clap(heard, config)


def look_at_device(config: NodeConfig, heard: Heard) -> Finding:
    """Say whether the sound card gives sound.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    heard : Heard
        What came of listening.

    Returns
    -------
    Finding
        What was heard, or why nothing.
    """
    name = config.microphone.device
    if not heard.samples_count:
        do = "is the card plugged in? arecord -l lists what is there; its name stands in brackets"
        return Finding("device", "FAILED", f"{name}: {heard.trouble or 'it gives no samples'}", do)
    if heard.counts["card.silent"] or heard.counts["card.stuck"]:
        said = f"{name}: {'nothing but zeros' if heard.counts['card.silent'] else 'one and the same value'}"
        return Finding(
            "device", "FAILED", said, "is the microphone wired to the card, and not muted? alsamixer shows it"
        )
    told = f"{name}: {config.microphone.sample_rate_hz} Hz, {heard.samples_count} samples"
    if lost := heard.counts["card.overflow"] + heard.counts["clock.restart_unsaid_loss"] + heard.counts["card.gone"]:
        do = "what else keeps this computer busy (top)? a weak supply or a bad USB cable does it too"
        return Finding("device", "FAILED", f"{told}, but some were lost {lost} times", do)
    return Finding("device", "ok", f"{told}, none lost")


def look_at_level(samples: NDArray[np.float32], full_scale_db_spl: float) -> Finding:
    """Say how loud it is.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        Some seconds.
    full_scale_db_spl : float
        Level of full scale [dB SPL].

    Returns
    -------
    Finding
        Whether that can be a microphone in a street.
    """
    level_db = 10 * math.log10(max(float(np.mean(np.square(samples - samples.mean(), dtype=np.float64))), 1e-20))
    said = f"{level_db + full_scale_db_spl:.0f} dB SPL ({level_db:.0f} dB re full scale)"
    if level_db < MUTE_DB:
        do = "is the microphone wired to the card, and its gain up? alsamixer shows it"
        return Finding("level", "FAILED", f"{said}: quieter than any microphone", do)
    if level_db > LOUD_DB:
        return Finding(
            "level", "look", f"{said}: a shot would have no room", "lower the gain (alsamixer), or wait for quiet"
        )
    if level_db < FAINT_DB:
        return Finding("level", "look", f"{said}: very quiet", "is something over the microphone, or the gain down?")
    return Finding("level", "ok", said)


def look_at_hum(samples: NDArray[np.float32], rate_hz: float) -> Finding:
    """Say how much of what is heard is the mains.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        Some seconds.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    Finding
        Against all else.
    """
    mains_hz, hum_db = hum(samples, rate_hz)
    do = "a ground loop, or a cable beside the mains: another supply, a shielded cable, an I2S or USB microphone"
    if hum_db >= HUM_FAILED_DB:
        return Finding("hum", "FAILED", f"{mains_hz:g} Hz and its multiples, {hum_db:.0f} dB over all else", do)
    if hum_db >= HUM_LOOK_DB:
        return Finding("hum", "look", f"{mains_hz:g} Hz and its multiples, {-hum_db:.0f} dB below all else", do)
    return Finding("hum", "ok", f"none ({-hum_db:.0f} dB below all else)")


def look_at_clipping(samples: NDArray[np.float32]) -> Finding:
    """Say whether full scale is reached.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        Some seconds.

    Returns
    -------
    Finding
        By the share of samples there, and how far the middle is off.
    """
    share, offset = float(np.mean(np.abs(samples) >= CLIPPED)), float(abs(samples.mean()))
    said = f"{share:.2%} of samples at full scale, offset {offset:.2%} of it"
    if share > CLIPPED_FAILED:
        return Finding(
            "clipping", "FAILED", said, "lower the gain (alsamixer) until nothing but a shot reaches full scale"
        )
    if share > CLIPPED_LOOK or offset > OFFSET:
        return Finding(
            "clipping", "look", said, "lower the gain (alsamixer); an offset is a microphone without its supply"
        )
    return Finding("clipping", "ok", said)


def look_at_clock(heard: Heard) -> Finding:
    """Say whether samples can be timed.

    Parameters
    ----------
    heard : Heard
        What came of listening.

    Returns
    -------
    Finding
        How well, or why not.
    """
    if not heard.samples_count:
        return Finding("clock", "skipped", "nothing was heard")
    if heard.clock is None:
        said = f"no time within {CLOCK_S:g} s: the clock follows nothing, or samples come too unevenly"
        do = "chronyc tracking: wait until it is synchronised, then check again; hw: devices alone can be timed"
        return Finding("clock", "FAILED", said, do)
    state = heard.clock
    ppm = "" if state.drift_ppm is None else f", crystal {state.drift_ppm:+.1f} ppm"
    sigma = f"{state.sigma_s * 1e6:.1f} us" if state.sigma_s < 1e-3 else f"{state.sigma_s * 1e3:.1f} ms"
    said = f"{state.mode}, +-{sigma}{ppm}, known after {heard.clock_s:.1f} s"
    set_count = heard.counts["clock_set"]
    if set_count:
        said += f"; the system clock was set {set_count} times meanwhile"
    if state.sigma_s > LONGEST_SIGMA_S or state.mode == "free":
        return Finding(
            "clock", "FAILED", said, "give it network time (chrony), or better a receiver with a pulse per second"
        )
    if state.sigma_s > NTP_S or set_count:
        metres = 343 * state.sigma_s
        return Finding(
            "clock", "look", f"{said}: {metres:.1f} m of sound", "a GNSS receiver with a pulse per second, to chrony"
        )
    return Finding("clock", "ok", said)


def look_at_pulse(config: NodeConfig, heard: Heard, gps: Gps) -> Finding:
    """Say whether the pulse per second comes.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    heard : Heard
        What came of listening.
    gps : Gps
        What the receiver says.

    Returns
    -------
    Finding
        Of the audio channel where there is one, else of the kernel or gpsd.
    """
    channel = config.microphone.pulse_channel
    mode = heard.clock.mode if heard.clock else ""
    if channel:
        if mode == "pps_audio":
            return Finding("pulse", "ok", f"heard on channel {channel}")
        do = f"does the receiver have a fix, and its pulse a wire to channel {channel}?"
        return Finding("pulse", "FAILED", f"none was heard on channel {channel}", do)
    ages_s = [age_s for age_s in (read_machine().pps_age_s, gps.pulse_age_s) if age_s is not None]
    if ages_s and min(ages_s) < PULSE_S:
        return Finding("pulse", "ok", f"{min(ages_s):.1f} s ago")
    if mode == "pps_chrony":
        return Finding("pulse", "ok", "the system clock follows one")
    if ages_s or config.gpsd:
        told = f"the last {min(ages_s):.0f} s ago" if ages_s else "none"
        return Finding("pulse", "FAILED", told, "does the receiver have a fix? sudo ppstest /dev/pps0 shows each pulse")
    return Finding("pulse", "skipped", "none is set up; times are those of the network")


def answered(reached: Finding, heard: Heard) -> Finding:
    """Complete what is known of the broker by what it did with the node.

    Parameters
    ----------
    reached : Finding
        That it can be reached.
    heard : Heard
        What came of listening.

    Returns
    -------
    Finding
        Whether it accepts the node, and keeps it.
    """
    if lost := heard.counts["connection_lost"]:
        said = f"but the connection broke {lost} times"
        do = "does another node use this name or certificate? see node; if not, is the network that bad (ping)?"
    elif heard.connected:
        return Finding("broker", reached.verdict, f"{reached.said}; it accepts this node", reached.do)
    elif heard.counts["connect_refused"]:
        said, do = (
            "but it refuses this node",
            "is it enrolled, and not revoked? [mqtt] username and password_file, or bundle",
        )
    elif heard.counts["connect_ended"]:
        said, do = (
            "but it ends the connection without an answer",
            "does it want TLS (mqtts://), or another certificate?",
        )
    else:
        said, do = "but it accepts the connection and never answers", "is that a broker? restart it; nothing is lost"
    return Finding("broker", "FAILED", f"{reached.said}, {said}", do)


def look_at_clap(heard: Heard, config: NodeConfig) -> Finding:
    """Say whether a clap has reached the hub.

    Parameters
    ----------
    heard : Heard
        What came of listening.
    config : NodeConfig
        The node's configuration.

    Returns
    -------
    Finding
        When it was, what it seemed to be, and what the hub said.
    """
    if not heard.asked:
        return Finding(
            "clap", "skipped", "nobody was asked to clap" if heard.clock else "without a time nothing is sent"
        )
    if not heard.claps:
        do = "clap once, hard, within a metre; if the level is right and nothing is heard, is the right microphone in?"
        return Finding("clap", "FAILED", "nothing impulsive was heard", do)
    clap = (heard.confirmed or heard.claps)[0]
    label = max(clap.llr, key=lambda one: clap.llr[one], default="unknown")
    said = (
        f"heard at {format_utc(clap.toa_ns)[11:26]} UTC +-{clap.toa_sigma_s * 1e6:.0f} us,"
        f" {clap.snr_db or 0:.0f} dB over the noise, most like {label}, number {clap.seq}"
    )
    if heard.confirmed:
        return Finding("clap", "ok", f"{said}; the hub has it")
    kept = "it is kept in the outbox" if config.outbox_file else "it is kept until this ends"
    if not heard.connected:
        return Finding("clap", "FAILED", f"{said}; it did not get out, {kept}", "see broker")
    asked = any(clap.seq in ack.missing for ack in heard.acks)
    word = "the hub asks for it again" if asked else f"the hub said nothing within {ACK_S:g} s"
    do = f'does the hub run, and is "{config.sensor_id}" in its site\'s file? may this node publish (ACL)?'
    return Finding("clap", "FAILED", f"{said}; {word}, {kept}", do)


# ------------------------------------------------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls sensor check``.
    """
    parser.add_argument("node", type=Path, metavar="NODE.toml", help="made by `agls sensor init`")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--no-clap", action="store_true", help="do not wait for a clap")
    parser.add_argument("--clap-s", type=float, default=CLAP_S, metavar="S", help=f"wait so long (default: {CLAP_S:g})")


def run(arguments: argparse.Namespace, open_source: OpenSource) -> int:
    """Check a node and print what was found.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.
    open_source : callable
        Opens its microphone.

    Returns
    -------
    int
        0, or 1 where something failed.
    """
    config = load_node(arguments.node)
    clap_s = 0.0 if arguments.no_clap else arguments.clap_s
    findings = []
    with _only_errors_logged():
        for finding in check(
            config, arguments.node, open_source, clap_s, lambda said: print(f"... {said}", file=sys.stderr)
        ):
            findings.append(finding)
            if not arguments.json:
                print(row(finding), flush=True)
    print(document(config.sensor_id, findings) if arguments.json else summary(findings))
    return int(any(finding.verdict == "FAILED" for finding in findings))


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Keep the library from saying what stands in the table."""
    library = logging.getLogger("agls")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(level)
