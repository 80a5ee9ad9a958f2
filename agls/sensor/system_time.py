"""What the system clock is worth: UTC from the monotonic clock, and how far it may be wrong.

Samples are timed on the monotonic clock, which is slewed with the system clock and never set. UTC is a constant ahead
of it, until somebody, or something, sets the system clock. Whether the old constant or the new one is right is for
network time to say; whole seconds that a pulse was counted wrong by come off either.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

from agls.messages import NS_PER_S

SET_S = 1e-3  # by which the constant moves where the clock was set; less is the time between two readings
NEAR_NTP_S = 0.1  # network time is right to this
NTP_SIGMA_S = 0.02  # of network time taken as it is, where nothing better agrees with it
# How a clock runs on when its source is gone, one sigma; chrony's own bound is 1 ppm.
HOLD_PPM_AFTER_PPS, HOLD_PPM_AFTER_NTP = 0.1, 5.0
RECOVERY_S = 20.0  # in which chrony takes back all but 1/e of what it was off by
LONGEST_SIGMA_S = 10.0

Source = Literal["pps", "ntp", "none"]


class Sync(Protocol):
    """What the computer can tell of its clock, as chrony does (`agls.sensor.chrony`, or the simulator)."""

    @property
    def source(self) -> Source:
        """What the clock follows now."""

    @property
    def sigma_s(self) -> float:
        """How far it may be off, by its own account [s]."""

    @property
    def pulse_age_s(self) -> float:
        """Since the last pulse [s]; infinite where there is none."""

    @property
    def against_ntp_s(self) -> float:
        """By how much the system clock is ahead of network time [s]; not a number where none is reached."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What was last told, and when on the monotonic clock."""

    source: Source
    sigma_s: float
    at_ns: int


class SystemTime:
    """UTC from the monotonic clock.

    Attributes
    ----------
    counts : collections.Counter
        ``clock_set`` (the system clock jumped), ``second_slip`` (it was whole seconds wrong), ``clock_distrusted``
        (neither it nor what was known before agrees with network time).
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._raw_ns: int | None = None  # system clock less monotonic clock, as last read
        self._odd_ns: int | None = None  # the last reading, where it was unlike the one before
        self._offset_ns = 0  # what is believed instead
        self._slip_s = 0
        self._told = _Word("none", LONGEST_SIGMA_S, 0)
        self._good: _Word | None = None  # the last word while there was a source
        self._tail = (0.0, 0)  # what a recovery still has to take back [s], as of when

    def read(self, monotonic_ns: int, wall_ns: int) -> None:
        """Take in both clocks, read one after the other.

        Parameters
        ----------
        monotonic_ns : int
            Monotonic clock [ns].
        wall_ns : int
            System clock, UTC [ns].
        """
        raw_ns = wall_ns - monotonic_ns
        if self._raw_ns is None:
            self._raw_ns = self._offset_ns = raw_ns
        elif abs(raw_ns - self._raw_ns) > SET_S * NS_PER_S:
            # Once may be a pause between the two readings; twice alike is none.
            if self._odd_ns is None or abs(raw_ns - self._odd_ns) > SET_S * NS_PER_S:
                self._odd_ns = raw_ns
                return
            self.counts["clock_set"] += 1
            self._raw_ns = raw_ns
        elif raw_ns < self._raw_ns:  # less time between the two readings
            if self._offset_ns == self._raw_ns:
                self._offset_ns = raw_ns
            self._raw_ns = raw_ns
        self._odd_ns = None

    def tell(self, sync: Sync, monotonic_ns: int) -> None:
        """Take in what the computer states.

        Parameters
        ----------
        sync : Sync
            As stated.
        monotonic_ns : int
            When [ns].
        """
        if self._odd_ns is not None:
            return  # which clock is spoken of will be known at once
        before = self._told
        self._tail = (self.sigma_s(monotonic_ns), monotonic_ns)
        extra_s = self._choose(sync, before)
        # What is stated where pulses are followed is a bound; network time errs by more than it can know of.
        stated_s = sync.sigma_s / 2 if sync.source == "pps" else sync.sigma_s
        self._told = _Word(sync.source, min(math.hypot(stated_s, extra_s), LONGEST_SIGMA_S), monotonic_ns)
        if sync.source != "none":
            if self._good is None:
                self._tail = (0.0, monotonic_ns)
            self._good = self._told

    def sigma_s(self, monotonic_ns: int) -> float:
        """Say how far UTC may be wrong.

        Parameters
        ----------
        monotonic_ns : int
            When [ns].

        Returns
        -------
        float
            One standard deviation [s].
        """
        told, good = self._told, self._good
        if good is None:
            return told.sigma_s
        if told.source == "none":
            ppm = HOLD_PPM_AFTER_PPS if good.source == "pps" else HOLD_PPM_AFTER_NTP
            return math.hypot(good.sigma_s, ppm * 1e-6 * (monotonic_ns - good.at_ns) / NS_PER_S)
        left_s, since_ns = self._tail
        return max(told.sigma_s, left_s * math.exp(-max(0, monotonic_ns - since_ns) / (RECOVERY_S * NS_PER_S)))

    def utc_ns(self, monotonic_ns: int) -> int:
        """Say what time it is.

        Parameters
        ----------
        monotonic_ns : int
            Monotonic clock [ns].

        Returns
        -------
        int
            UTC [ns].
        """
        return monotonic_ns + self._offset_ns

    @property
    def source(self) -> Source:
        """Say what the system clock follows.

        Returns
        -------
        Source
            As last told.
        """
        return self._told.source

    @property
    def ever_set(self) -> bool:
        """Say whether the clock ever followed anything.

        Returns
        -------
        bool
            Whether it did.
        """
        return self._good is not None

    def _choose(self, sync: Sync, before: _Word) -> float:
        """Decide between the clock as it is and as it was; return the sigma that the choice adds."""
        if self._raw_ns is None:
            return 0.0
        held_ns, ahead_s = self._offset_ns, sync.against_ntp_s
        if math.isnan(ahead_s):
            if not self.ever_set:
                self._offset_ns = self._raw_ns
            return 0.0
        whole_s = round(ahead_s)
        shifted_ns = self._raw_ns - whole_s * NS_PER_S
        network_ns = self._raw_ns - round(ahead_s * NS_PER_S)
        ordered = [held_ns, shifted_ns] if before.source == sync.source == "pps" else [shifted_ns, held_ns]
        near = [one for one in ordered if abs(one - network_ns) < NEAR_NTP_S * NS_PER_S]
        self._offset_ns = near[0] if near else network_ns
        if whole_s != self._slip_s:
            self._slip_s = whole_s
            self.counts["second_slip"] += whole_s != 0
        self.counts["clock_distrusted"] += not near
        return 0.0 if near else NTP_SIGMA_S
