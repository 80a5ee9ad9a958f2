"""A line through noisy readings of when samples were taken, by a Kalman filter of offset and rate.

The readings are few (one a second) and each says: sample `index` was taken at `time_ns`, give or take `sigma_s`. The
crystal's rate wanders with temperature; how fast is learnt from how well the line predicts the next reading, so that it
averages long in a steady night and follows when the sun comes out.
"""

import math
from typing import NamedTuple

from agls.messages import NS_PER_S

RATE_SIGMA = 1e-4  # of a sound card's crystal that nothing is known of
RATE_LEAST_SIGMA = 3e-7  # of a rate that was learnt before an interruption
# How a rate wanders, in a second: between a night and the sun on the box.
WANDER_LEAST, WANDER_MOST, WANDER_FIRST = 3e-8, 1e-6, 1e-7
ALONE_AFTER_S, ALONE_WANDER = 3.0, 2e-7  # without readings the sun may come out unnoticed
FIRST_COUNT, MOST_ALIKE = 8, 4.0
LEARNING = 0.1  # how much one reading says of that wandering


class Reading(NamedTuple):
    """What a line says of one sample.

    Attributes
    ----------
    time_ns : int
        When it was taken.
    sigma_s : float
        One standard deviation [s].
    """

    time_ns: int
    sigma_s: float


class Line:
    """When samples were taken, as far as readings tell.

    Parameters
    ----------
    rate_hz : float
        Nominal sampling rate.

    Attributes
    ----------
    count : int
        Readings taken in since the start.
    index : float
        Sample of the last reading.
    rate_error, rate_sigma : float
        By how much seconds of samples are longer than seconds of the time they are read in, and one sigma of that.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._log_wander = math.log(WANDER_FIRST)
        self._surprise = 0.0
        self.rate_error, self.rate_sigma = 0.0, RATE_SIGMA
        self._variance, self._shared = 0.0, 0.0
        self.index, self._time_ns, self._rest_s = 0.0, 0, 0.0
        self.count = 0

    def start(self, index: float, time_ns: int, sigma_s: float) -> None:
        """Begin anew at a reading; of what was known before the rate is kept, which is the crystal's.

        Parameters
        ----------
        index : float
            Sample.
        time_ns : int
            When it was taken.
        sigma_s : float
            One standard deviation of that [s].
        """
        self.index, self._time_ns, self._rest_s = index, time_ns, 0.0
        self._variance, self._shared = sigma_s**2, 0.0
        self.rate_sigma = min(RATE_SIGMA, max(self.rate_sigma, RATE_LEAST_SIGMA))
        self.count = 1

    def again(self) -> "Line":
        """Make the line of the same crystal after an interruption.

        Returns
        -------
        Line
            Without a reading, but with the rate.
        """
        line = Line(self._rate_hz)
        line._log_wander, line.rate_error, line.rate_sigma = self._log_wander, self.rate_error, self.rate_sigma
        return line

    def at(self, index: float) -> Reading:
        """Say when a sample was taken.

        Parameters
        ----------
        index : float
            Sample, before or after the last reading.

        Returns
        -------
        Reading
            Its time.
        """
        span_s = (index - self.index) / self._rate_hz
        variance = self._variance + 2 * span_s * self._shared + (span_s * self.rate_sigma) ** 2
        variance += self._wander**2 * abs(span_s) ** 3 / 3 + ALONE_WANDER**2 * max(0.0, span_s - ALONE_AFTER_S) ** 3 / 3
        # Whole nanoseconds apart from the small rest, so that no digit is lost in months.
        nominal_ns = round(span_s * NS_PER_S)
        rest_s = self._rest_s + span_s * self.rate_error
        return Reading(self._time_ns + nominal_ns + round(rest_s * NS_PER_S), math.sqrt(max(variance, 0.0)))

    def surprise_s(self, index: float, time_ns: int) -> float:
        """Say how much later a reading is than the line has it.

        Parameters
        ----------
        index : float
            Sample.
        time_ns : int
            When it is read to have been taken.

        Returns
        -------
        float
            Seconds.
        """
        return (time_ns - self.at(index).time_ns) / NS_PER_S

    def feed(self, index: float, time_ns: int, sigma_s: float) -> None:
        """Take in a reading.

        Parameters
        ----------
        index : float
            Sample, after the last.
        time_ns : int
            When it was taken.
        sigma_s : float
            One standard deviation of that [s].
        """
        span_s = (index - self.index) / self._rate_hz
        expected = self.at(index)
        surprise_s = (time_ns - expected.time_ns) / NS_PER_S
        rate_variance = self.rate_sigma**2
        shared = self._shared + span_s * rate_variance + self._wander**2 * span_s**2 / 2
        rate_variance += self._wander**2 * span_s
        whole = expected.sigma_s**2 + sigma_s**2
        gain, rate_gain = expected.sigma_s**2 / whole, shared / whole
        self._learn(surprise_s / math.sqrt(whole))
        self.index, self._time_ns, self._rest_s = index, expected.time_ns, gain * surprise_s
        self.rate_error += rate_gain * surprise_s
        self._variance = (1 - gain) * expected.sigma_s**2
        self._shared = (1 - gain) * shared
        self.rate_sigma = math.sqrt(max(rate_variance - rate_gain * shared, 1e-24))
        self.count += 1

    @property
    def _wander(self) -> float:
        return math.exp(self._log_wander)

    def _learn(self, surprise: float) -> None:
        """Let the rate wander more where one surprise is like the one before, and less where it is not."""
        alike, self._surprise = surprise * self._surprise, surprise
        if self.count < FIRST_COUNT:
            return
        step = LEARNING * max(-MOST_ALIKE, min(alike, MOST_ALIKE))
        least, most = math.log(WANDER_LEAST), math.log(WANDER_MOST)
        self._log_wander = min(max(self._log_wander + step, least), most)
