"""Sample clocks: which moment of UTC a sample index stands for, and how well that is known."""

from dataclasses import dataclass
from typing import Protocol

from agls.messages import NS_PER_S, ClockState


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
