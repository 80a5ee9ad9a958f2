"""True time, and what clocks make of it: the converter's crystal, the computer's clock, the pulse per second.

True time is counted in seconds since the scene began. Everything here is a closed formula of it, drawn once from the
scene's seed, so that any moment can be asked for in any order.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from firmware_sim.faults import ClockStep, GpsLoss, Heat, Reboot, SecondSlip, of_sensor
from firmware_sim.scene import Ear, Scene, generator

PPM = 1e-6
UPTIME_S = 40.0  # of the computer when the scene begins
WAVES_COUNT = 6
PPS_WANDER_S = 1e-6  # of a system clock that follows a pulse per second
PPS_PERIODS_S = (8.0, 300.0)
NTP_PERIODS_S = (300.0, 4_000.0)
RECOVERY_S = 20.0  # in which a clock whose pulse is back has lost all but 1/e of its error
STATED_DRIFT_PPM = 1.0  # by which chrony lets its bound grow without a source


@dataclass(frozen=True, slots=True)
class Ticks:
    """When a converter takes its samples.

    Attributes
    ----------
    rate_hz : float
        Nominal sampling rate.
    offset_ppm : float
        By how much the crystal is too fast.
    swing_ppm, period_s, phase : float
        Half of the swing with temperature, its period [s] and where it begins [rad].
    heat : tuple of Heat
        What changes the rate besides.
    """

    rate_hz: float
    offset_ppm: float = 0.0
    swing_ppm: float = 0.0
    period_s: float = 3_600.0
    phase: float = 0.0
    heat: tuple[Heat, ...] = ()

    def index_at(self, time_s: float) -> float:
        """Count the samples taken until a moment.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        float
            Index, with its fraction; 0 at the beginning of the scene.
        """
        return self.rate_hz * (time_s + self._ahead_s(time_s))

    def time_s(self, index: float) -> float:
        """Say when a sample is taken.

        Parameters
        ----------
        index : float
            Its index, with its fraction.

        Returns
        -------
        float
            True time [s].
        """
        counted_s = index / self.rate_hz
        time_s = counted_s
        for _ in range(4):  # rates differ by parts in a thousand at most, so each turn gains three digits or more
            time_s = counted_s - self._ahead_s(time_s)
        return time_s

    def _ahead_s(self, time_s: float) -> float:
        """Integrate the error of the rate."""
        turn = 2 * math.pi / self.period_s
        swing = (math.cos(self.phase) - math.cos(turn * time_s + self.phase)) / turn
        heat = sum(_warmed_s(heat, time_s) for heat in self.heat)
        return PPM * (self.offset_ppm * time_s + self.swing_ppm * swing + heat)


def _warmed_s(heat: Heat, time_s: float) -> float:
    """Integrate a rate that warms towards `rate_ppm` and cools after its end [ppm s]."""
    lag_s, warm_s = heat.lag_s, min(time_s, heat.end_s) - heat.start_s
    if warm_s <= 0:
        return 0.0
    gone = -math.expm1(-warm_s / lag_s)
    cold = -math.expm1(-max(0.0, time_s - heat.end_s) / lag_s)
    return heat.rate_ppm * (warm_s - lag_s * gone + lag_s * gone * cold)


def ticks_of(scene: Scene, ear: Ear) -> Ticks:
    """Draw the crystal of a sensor's converter.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    Ticks
        When it takes its samples.
    """
    random, card = generator(scene, "crystal", ear.sensor_id), scene.card
    return Ticks(
        rate_hz=float(scene.device.sample_rate_hz),
        offset_ppm=float(random.normal(0, card.rate_sigma_ppm)),
        swing_ppm=card.thermal_ppm,
        period_s=card.thermal_period_s,
        phase=float(random.uniform(0, 2 * math.pi)),
        heat=of_sensor(scene.fault, ear.sensor_id, Heat),
    )


# --------------------------------------------------------------------------------------------- the computer's clocks


@dataclass(frozen=True, slots=True)
class Wander:
    """A slow error that comes and goes, with a constant share.

    Attributes
    ----------
    constant_s : float
        The constant share [s].
    waves : tuple of tuple of float
        Amplitude [s], period [s] and phase [rad] of each wave.
    """

    constant_s: float = 0.0
    waves: tuple[tuple[float, float, float], ...] = ()

    def at(self, time_s: float) -> float:
        """Say how large it is.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        float
            Seconds.
        """
        return self.constant_s + sum(
            size_s * math.sin(2 * math.pi * time_s / period_s + phase) for size_s, period_s, phase in self.waves
        )


def _wander(random: np.random.Generator, sigma_s: float, periods_s: tuple[float, float]) -> Wander:
    """Draw one whose root mean square over time and sensors is sigma, half of its power constant."""
    short, long = map(math.log, periods_s)
    periods = np.exp(random.uniform(short, long, WAVES_COUNT)).tolist()
    phases = random.uniform(0, 2 * math.pi, WAVES_COUNT).tolist()
    constant_s = float(random.normal(0, sigma_s / math.sqrt(2)))
    # A sine's mean square is half its amplitude's.
    size_s = sigma_s / math.sqrt(WAVES_COUNT)
    return Wander(constant_s, tuple((size_s, period_s, phase) for period_s, phase in zip(periods, phases, strict=True)))


@dataclass(frozen=True, slots=True)
class Sync:
    """What the computer itself can tell of its clock, as chrony does; none of it is the truth.

    Attributes
    ----------
    source : str
        What the clock follows now.
    sigma_s : float
        Its own bound of its error [s].
    pulse_age_s : float
        Since the last pulse [s]; infinite where there is none.
    against_ntp_s : float
        By how much the system clock is ahead of network time, as measured [s]; not a number where none is reached.
    """

    source: Literal["pps", "ntp", "none"]
    sigma_s: float
    pulse_age_s: float
    against_ntp_s: float


@dataclass(frozen=True, slots=True)
class HostClock:
    """The clocks of the computer that the card is in.

    Attributes
    ----------
    mode : str
        How it knows the time.
    own, network : Wander
        Error of the system clock while its source is there, and of network time.
    ntp_sigma_s : float
        What it says of network time [s].
    rate_ppm : float
        By how much its crystal is too fast; felt where nothing corrects it, and by USB frames.
    losses, slips, steps, reboots : tuple of Fault
        What goes wrong.
    """

    mode: Literal["pps_audio", "pps_chrony", "ntp", "free"]
    own: Wander
    network: Wander
    ntp_sigma_s: float
    rate_ppm: float
    losses: tuple[GpsLoss, ...] = ()
    slips: tuple[SecondSlip, ...] = ()
    steps: tuple[ClockStep, ...] = ()
    reboots: tuple[Reboot, ...] = ()

    def wall_error_s(self, time_s: float) -> float:
        """Say how far the system clock (``time.time``) is ahead of UTC.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        float
            Seconds.
        """
        slip_s = sum(slip.slip_s for slip in self.slips if slip.holds(time_s))
        step_s = sum(step.step_s for step in self.steps if step.holds(time_s))
        return self._slewed_s(time_s) + slip_s + step_s

    def fault_error_s(self, time_s: float) -> float:
        """Say what share of that error is by what went wrong.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        float
            Seconds.
        """
        return self.wall_error_s(time_s) - self._sound_s(time_s)

    def monotonic_s(self, time_s: float) -> float:
        """Say what ``time.monotonic`` would: it is slewed with the system clock, never stepped, and begins at a boot.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        float
            Seconds.
        """
        booted_s = max((boot.end_s for boot in self.reboots if boot.end_s <= time_s), default=-UPTIME_S)
        return time_s - booted_s + self._slewed_s(time_s) - self._slewed_s(booted_s)

    def boots_count(self, time_s: float) -> int:
        """Count the reboots until a moment; a node's `boot_id` changes with it.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        int
            How many.
        """
        return sum(boot.end_s <= time_s for boot in self.reboots)

    def pulses_at(self, time_s: float) -> bool:
        """Say whether there is a pulse per second.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        bool
            Whether there is.
        """
        return self.mode.startswith("pps") and not any(loss.holds(time_s) for loss in self.losses)

    def sync(self, time_s: float) -> Sync:
        """Say what the computer can tell of its clock.

        Parameters
        ----------
        time_s : float
            True time [s].

        Returns
        -------
        Sync
            Stated, not true.
        """
        if self.mode == "free":
            return Sync("none", 1.0, math.inf, math.nan)
        against_s = self.wall_error_s(time_s) - self.network.at(time_s)
        age_s = math.inf
        if self.mode.startswith("pps"):
            age_s = max((time_s - loss.start_s for loss in self.losses if loss.holds(time_s)), default=0.0) + 0.5
        if self.mode != "pps_chrony":
            return Sync("ntp", self.ntp_sigma_s, age_s, against_s)
        return Sync("pps" if age_s < 3 else "none", PPS_WANDER_S + STATED_DRIFT_PPM * PPM * age_s, age_s, against_s)

    def _slewed_s(self, time_s: float) -> float:
        """Sum up the errors that come without a step."""
        held_over_s = sum(_held_over_s(loss, time_s) for loss in self.losses) if self.mode == "pps_chrony" else 0.0
        return self._sound_s(time_s) + held_over_s

    def _sound_s(self, time_s: float) -> float:
        """Say how far a clock is ahead with which nothing is wrong."""
        return self.own.at(time_s) + (PPM * self.rate_ppm * time_s if self.mode == "free" else 0.0)


def _held_over_s(loss: GpsLoss, time_s: float) -> float:
    alone_s = min(time_s, loss.end_s) - loss.start_s
    if alone_s <= 0:
        return 0.0
    return PPM * loss.drift_ppm * alone_s * math.exp(-max(0.0, time_s - loss.end_s) / RECOVERY_S)


def host_of(scene: Scene, ear: Ear) -> HostClock:
    """Draw the clocks of a sensor's computer.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    HostClock
        What it makes of true time.
    """
    random, card, name = generator(scene, "host", ear.sensor_id), scene.card, ear.sensor_id
    network = _wander(random, card.ntp_sigma_s, NTP_PERIODS_S)
    followed = _wander(random, PPS_WANDER_S, PPS_PERIODS_S) if card.sync == "pps_chrony" else network
    return HostClock(
        mode=card.sync,
        own=Wander(network.constant_s) if card.sync == "free" else followed,
        network=network,
        ntp_sigma_s=max(card.ntp_sigma_s, 1e-6),
        rate_ppm=float(random.normal(0, card.host_sigma_ppm)),
        losses=of_sensor(scene.fault, name, GpsLoss),
        slips=of_sensor(scene.fault, name, SecondSlip),
        steps=of_sensor(scene.fault, name, ClockStep),
        reboots=of_sensor(scene.fault, name, Reboot),
    )
