"""Sample clocks: which moment of UTC a sample index stands for, and how well that is known."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agls.messages import NS_PER_S, ClockMode, ClockState
from agls.sensor.line import Line
from agls.sensor.system_time import LONGEST_SIGMA_S, Sync, SystemTime

Known = Literal["yes", "not yet", "never"]

FIRST_SIGMA_S = 3e-3  # of one block's arrival
LEAST_SIGMA_S = 3e-7
# Half of the spacings of numbers of exponential distribution are below 0.69 of their mean.
MEDIAN_SHARE = 0.69
SPACINGS_COUNT = 20
SPACING_FACTOR = 0.75  # by bench/timing.py, seeds below 1000: a line through the earliest of many scatters less
FRAMED_S = 2.5e-4  # half of the blocks of a bus with frames of a millisecond are later than this
# A time is told once so many seconds agree: fewer where the crystal is known from before an interruption.
SETTLED_COUNT, RESETTLED_COUNT, PULSES_COUNT = 6, 4, 4
SETTLED_SIGMA_S, USELESS_SIGMA_S = 5e-5, 1e-3
UNSET_S = 60.0  # a system clock that nobody has set by then is taken as it is: its sigma says so
OUTLIER = 6.0
LATE_S, EARLY_S, STRAY_S = 3e-5, 5e-5, 5e-6  # below, nothing is an outlier
LOST_S, LOST_FOR_S = 1.5e-3, 0.25  # blocks that all come later by this, for so long: samples were lost
MOST_COUNT = 3  # outliers in a row that are believed
NO_PULSE_S = 3.0
PULSE_NEAR_S = 0.2
EPOCHS_COUNT = 8


class SampleClock(Protocol):
    """Turn the index of a sample into a moment of UTC.

    Attributes
    ----------
    state : ClockState
        Where the time comes from, and its standard deviation.
    """

    @property
    def state(self) -> ClockState:
        """Where the time comes from, and its standard deviation.

        Returns
        -------
        ClockState
            As of now; it may change while a node runs.
        """

    def known(self, index: float) -> Known:
        """Say whether the time of a sample is known.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        Known
            Whether it is, or may become known, or will not.
        """

    def state_at(self, index: float) -> ClockState:
        """Say how well the time of a sample is known.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        ClockState
            Where its time comes from, and its standard deviation.
        """

    def utc_ns(self, index: float) -> int:
        """Say when a sample was taken.

        Parameters
        ----------
        index : float
            Index of the sample since the source started its epoch, with its fraction.

        Returns
        -------
        int
            Nanoseconds since the Unix epoch, UTC.
        """


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """A clock that started at a known moment and runs at exactly its nominal rate: files and simulation.

    Attributes
    ----------
    start_ns : int
        When sample 0 was taken, UTC [ns].
    sample_rate_hz : float
        Samples a second.
    state : ClockState
        Where the start is known from, and its standard deviation.
    """

    start_ns: int
    sample_rate_hz: float
    state: ClockState

    def known(self, index: float) -> Known:  # noqa: ARG002 - as every clock
        """Say whether the time of a sample is known: always.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        Known
            That it is.
        """
        return "yes"

    def state_at(self, index: float) -> ClockState:  # noqa: ARG002 - as every clock
        """Say how well the time of a sample is known: as any other's.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        ClockState
            `state`.
        """
        return self.state

    def utc_ns(self, index: float) -> int:
        """Say when a sample was taken.

        Parameters
        ----------
        index : float
            Index of the sample, with its fraction.

        Returns
        -------
        int
            Nanoseconds since the Unix epoch, UTC.
        """
        # Whole seconds apart, so that months of samples lose no nanosecond to the 53 bits of a float.
        seconds, rest = divmod(index, self.sample_rate_hz)
        return self.start_ns + int(seconds) * NS_PER_S + round(rest / self.sample_rate_hz * NS_PER_S)


# ------------------------------------------------------------------------------------------------------- a sound card


@dataclass(slots=True)
class _Epoch:
    """Samples without a gap: the line of their arrivals on the monotonic clock, and that of pulses in UTC."""

    first_index: int
    arrivals: Line
    pulses: Line
    enough_count: int = SETTLED_COUNT
    known: bool = False  # as it stood when the next epoch began


@dataclass(slots=True)
class _Second:
    """The blocks of a second: how late each was against the line, and its end and arrival."""

    begin_index: int = 0
    blocks: list[tuple[float, int, int]] = field(default_factory=list)


class FittedClock:
    """The clock of a sound card, fitted to when its blocks arrive, or to a pulse per second that it hears.

    A block arrives after its last sample was taken, by a latency and by chance. The earliest block of each second,
    against the line so far, is a reading of the line; what is late by chance counts for nothing. The constant that is
    left is measured by ``agls calibrate clock``. Pulses, where they are heard, are readings by themselves; of the two
    lines the surer one is taken. Where samples were lost a new epoch begins: another line of the same crystal.

    Parameters
    ----------
    rate_hz : float
        Nominal sampling rate.
    block_frames : int
        Samples of a block.

    Attributes
    ----------
    system : SystemTime
        What the system clock is worth.
    """

    def __init__(self, rate_hz: float, block_frames: int) -> None:
        self.system = SystemTime()
        self._rate_hz = rate_hz
        # A bus with frames of a millisecond lets blocks wait for them in steps of this.
        self._grid_s = math.gcd(block_frames * 1000, round(rate_hz)) / rate_hz / 1000
        self._epochs = deque([_Epoch(0, Line(rate_hz), Line(rate_hz))], maxlen=EPOCHS_COUNT)
        self._second = _Second()
        self._spacings_s: deque[float] = deque(maxlen=SPACINGS_COUNT)
        self._typical_s: deque[float] = deque(maxlen=SPACINGS_COUNT)
        self._counts: Counter[str] = Counter()
        self._begun_ns, self._now_ns, self._end_index = 0, 0, 0
        self._late: tuple[int, int] | None = None  # since which sample and moment all blocks are late
        self._outliers_count = self._strays_count = 0

    # ---------------------------------------------------------------------------------------------------- what is heard

    def feed(self, end_index: int, monotonic_ns: int, wall_ns: int) -> None:
        """Take in that a block has arrived.

        Parameters
        ----------
        end_index : int
            Index of the sample after its last.
        monotonic_ns, wall_ns : int
            What the monotonic and the system clock said then [ns].
        """
        self.system.read(monotonic_ns, wall_ns)
        self._begun_ns = self._begun_ns or monotonic_ns
        line = self._epochs[-1].arrivals
        if not line.count:
            line.start(end_index, monotonic_ns, FIRST_SIGMA_S)
        late_s = line.surprise_s(end_index, monotonic_ns)
        if self._losing(late_s, monotonic_ns):
            self.restart(self._end_index if self._late is None else self._late[0], "unsaid_loss")
            self._epochs[-1].arrivals.start(end_index, monotonic_ns, FIRST_SIGMA_S)
            late_s = 0.0
        self._now_ns, self._end_index = monotonic_ns, end_index
        self._second.blocks.append((late_s, end_index, monotonic_ns))
        if end_index - self._second.begin_index >= self._rate_hz and len(self._second.blocks) > 1:
            blocks, self._second = self._second.blocks, _Second(end_index)
            self._end_second(sorted(blocks))

    def feed_pulse(self, index: float, sigma_frames: float) -> None:
        """Take in a pulse per second.

        Parameters
        ----------
        index : float
            Sample at which it rises, with its fraction.
        sigma_frames : float
            One standard deviation of that [samples].
        """
        epoch, sigma_s = self._epochs[-1], sigma_frames / self._rate_hz
        if not self.system.ever_set or epoch.arrivals.count < 2:
            return  # nobody can say which second it is
        line, told_ns = epoch.pulses, self.system.utc_ns(epoch.arrivals.at(index).time_ns)
        told_s, own_s = _whole_s(told_ns), _whole_s(line.at(index).time_ns if line.count else told_ns)
        if abs(told_ns - told_s * NS_PER_S) > PULSE_NEAR_S * NS_PER_S:
            self._counts["clock.stray_pulse"] += 1
        elif not line.count:
            line.start(index, told_s * NS_PER_S, sigma_s)
        elif told_s == own_s and self._fits(line, index, own_s * NS_PER_S, sigma_s):
            self._strays_count = 0
            line.feed(index, own_s * NS_PER_S, sigma_s)
        else:
            self._stray(line, index, told_s * NS_PER_S, sigma_s)

    def tell(self, sync: Sync) -> None:
        """Take in what the computer states of its clock.

        Parameters
        ----------
        sync : Sync
            As of the last block.
        """
        self.system.tell(sync, self._now_ns)

    def restart(self, index: int, reason: str, same_card: bool = True) -> None:
        """Begin a new epoch: samples are missing.

        Parameters
        ----------
        index : int
            First sample after what is missing.
        reason : str
            Why; it is counted.
        same_card : bool, optional
            Whether it is the same crystal that goes on.
        """
        last = self._epochs[-1]
        self._counts[f"clock.restart_{reason}"] += bool(last.arrivals.count)
        last.known = self._settled(last) or (last.arrivals.count > 2 and self._fit_s(last, index) < USELESS_SIGMA_S)
        arrivals, pulses = (line.again() if same_card else Line(self._rate_hz) for line in (last.arrivals, last.pulses))
        known_rate = same_card and last.arrivals.count >= SETTLED_COUNT
        self._epochs.append(_Epoch(index, arrivals, pulses, RESETTLED_COUNT if known_rate else last.enough_count))
        self._second, self._late, self._outliers_count, self._strays_count = _Second(index), None, 0, 0

    # --------------------------------------------------------------------------------------------------- what is told

    @property
    def counts(self) -> Counter[str]:
        """Count what was noticed, by name.

        Returns
        -------
        collections.Counter
            ``clock.restart_`` and the reason, ``clock.late_second``, ``clock.early``, ``clock.stray_pulse``, and what
            `SystemTime` counts.
        """
        return self._counts + self.system.counts

    @property
    def drift_ppm(self) -> float:
        """Say how fast the converter's crystal is against UTC, as far as is known.

        Returns
        -------
        float
            Parts in a million; positive where it takes more samples than it should.
        """
        epoch = self._epochs[-1]
        line = epoch.pulses if epoch.pulses.rate_sigma < epoch.arrivals.rate_sigma else epoch.arrivals
        return -1e6 * line.rate_error

    @property
    def state(self) -> ClockState:
        """Where the time comes from, and its standard deviation.

        Returns
        -------
        ClockState
            For the last sample heard.
        """
        return self.state_at(self._end_index)

    def known(self, index: float) -> Known:
        """Say whether the time of a sample is known.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        Known
            Whether it is; ``never`` where samples were lost before its time could be found.
        """
        epoch = self._epoch(index)
        if epoch is self._epochs[-1]:
            return "yes" if self._settled(epoch) else "not yet"
        return "yes" if epoch.known else "never"

    def state_at(self, index: float) -> ClockState:
        """Say how well the time of a sample is known.

        Parameters
        ----------
        index : float
            Index of the sample.

        Returns
        -------
        ClockState
            Where its time comes from, and its standard deviation.
        """
        return self._time(index)[1]

    def utc_ns(self, index: float) -> int:
        """Say when a sample was taken.

        Parameters
        ----------
        index : float
            Index of the sample, with its fraction.

        Returns
        -------
        int
            Nanoseconds since the Unix epoch, UTC.
        """
        return self._time(index)[0]

    # ------------------------------------------------------------------------------------------------------- the fit

    def _time(self, index: float) -> tuple[int, ClockState]:
        epoch = self._epoch(index)
        if not epoch.arrivals.count:
            return self.system.utc_ns(self._now_ns), ClockState(mode="free", sigma_s=LONGEST_SIGMA_S)
        by_arrival, system_s = epoch.arrivals.at(index), self.system.sigma_s(self._now_ns)
        sigma_s = math.hypot(by_arrival.sigma_s, self._grid_sigma_s, system_s)
        mode: ClockMode = {"pps": "pps_chrony", "ntp": "ntp", "none": "free"}[self.system.source]  # type: ignore[assignment]
        time_ns = self.system.utc_ns(by_arrival.time_ns)
        if epoch.pulses.count >= PULSES_COUNT:
            by_pulse = epoch.pulses.at(index)
            if by_pulse.sigma_s < sigma_s:
                alone_s = (index - epoch.pulses.index) / self._rate_hz
                time_ns, sigma_s, mode = *by_pulse, "pps_audio" if alone_s < NO_PULSE_S else "free"
        sigma_s = min(max(sigma_s, LEAST_SIGMA_S), LONGEST_SIGMA_S)
        return time_ns, ClockState(mode=mode, sigma_s=sigma_s, drift_ppm=round(self.drift_ppm, 4))

    def _epoch(self, index: float) -> _Epoch:
        for epoch in reversed(self._epochs):
            if index >= epoch.first_index:
                return epoch
        return self._epochs[0]

    def _settled(self, epoch: _Epoch) -> bool:
        if not self.system.ever_set and self._now_ns - self._begun_ns < UNSET_S * NS_PER_S:
            return False
        if epoch.pulses.count >= PULSES_COUNT:
            return True
        enough = epoch.arrivals.count > epoch.enough_count
        return enough and self._fit_s(epoch, self._end_index) < SETTLED_SIGMA_S

    def _fit_s(self, epoch: _Epoch, index: float) -> float:
        return math.hypot(epoch.arrivals.at(index).sigma_s, self._grid_sigma_s)

    @property
    def _grid_sigma_s(self) -> float:
        """Where blocks wait for frames in steps that the crystal moves past slowly: what is not averaged."""
        framed = len(self._typical_s) > 0 and sorted(self._typical_s)[len(self._typical_s) // 2] > FRAMED_S
        return self._grid_s / math.sqrt(12) if framed else 0.0

    @property
    def _reading_sigma_s(self) -> float:
        """How much the earliest of a second scatters: as much as it is earlier than the next."""
        if not self._spacings_s:
            return FIRST_SIGMA_S
        middle_s = sorted(self._spacings_s)[len(self._spacings_s) // 2]
        return max(SPACING_FACTOR * middle_s / MEDIAN_SHARE, LEAST_SIGMA_S)

    def _end_second(self, blocks: list[tuple[float, int, int]]) -> None:
        """Take the earliest block of a second as a reading of the line."""
        late_s, index, monotonic_ns = blocks[0]
        line = self._epochs[-1].arrivals
        self._spacings_s.append(blocks[1][0] - late_s)
        self._typical_s.append(blocks[len(blocks) // 2][0] - late_s)
        sigma_s = self._reading_sigma_s
        allowed_s = OUTLIER * math.hypot(line.at(index).sigma_s, sigma_s, self._grid_sigma_s)
        if late_s < -max(allowed_s, EARLY_S):
            # Nothing can arrive before it was taken: the line was too late, so what was known is not.
            self._counts["clock.early"] += line.count > 2
            line.start(index, monotonic_ns, FIRST_SIGMA_S)
        elif late_s > max(allowed_s, LATE_S):
            self._counts["clock.late_second"] += 1
            self._outliers_count += 1
            if self._outliers_count >= MOST_COUNT:
                self.restart(blocks[0][1], "late")
                self._epochs[-1].arrivals.start(index, monotonic_ns, FIRST_SIGMA_S)
            return
        else:
            line.feed(index, monotonic_ns, sigma_s)
        self._outliers_count = 0

    def _losing(self, late_s: float, monotonic_ns: int) -> bool:
        """Say whether all blocks have come late for a while, more than busy computers and buses make them."""
        line = self._epochs[-1].arrivals
        if line.count <= RESETTLED_COUNT or late_s < LOST_S + OUTLIER * line.at(self._end_index).sigma_s:
            self._late = None
            return False
        self._late = self._late or (self._end_index, monotonic_ns)
        return monotonic_ns - self._late[1] > LOST_FOR_S * NS_PER_S

    def _fits(self, line: Line, index: float, time_ns: int, sigma_s: float) -> bool:
        allowed_s = OUTLIER * math.hypot(line.at(index).sigma_s, sigma_s) + STRAY_S
        return abs(line.surprise_s(index, time_ns)) < allowed_s

    def _stray(self, line: Line, index: float, time_ns: int, sigma_s: float) -> None:
        """Refuse a pulse, unless several in a row say the same."""
        self._counts["clock.stray_pulse"] += 1
        self._strays_count += 1
        if self._strays_count >= MOST_COUNT:
            self._strays_count = 0
            self._counts["clock.pulses_anew"] += 1
            line.start(index, time_ns, sigma_s)


def _whole_s(time_ns: int) -> int:
    return (time_ns + NS_PER_S // 2) // NS_PER_S
