"""What goes wrong at a node and on its way to the broker, by time: the ``[[fault]]`` tables of a scene.

A fault holds from `start_s` until `end_s`, in seconds of the scene, at one sensor or at all of them; where a scene is
played again and again, in its first turn alone. What each kind does stands in its own docstring, and is done by
`device` (microphone), `delivery` (card), `clock` (time) and `network` (messages).
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, TypeAlias, TypeVar

from msgspec import Meta

from agls.config import Table

EVERY = "*"

Share: TypeAlias = Annotated[float, Meta(gt=0, le=1, description="share of the messages that meet it")]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]


class Fault(Table, frozen=True, kw_only=True, tag_field="kind"):
    """Something wrong at one sensor, or at all of them, for a time."""

    sensor_id: Annotated[
        str,
        Meta(max_length=64, title="the name of a sensor, or * for all", description="where"),
    ] = EVERY
    start_s: Annotated[Seconds, Meta(description="when it begins, since the scene began")]
    end_s: Annotated[Seconds, Meta(description="when it is over, since the scene began")]

    def holds(self, time_s: float) -> bool:
        """Say whether it holds at a moment.

        Parameters
        ----------
        time_s : float
            Since the scene began [s].

        Returns
        -------
        bool
            Whether it does; its end is no longer part of it.
        """
        return self.start_s <= time_s < self.end_s


# ------------------------------------------------------------------------------------------------------ microphone


class Dead(Fault, frozen=True, kw_only=True, tag="dead"):
    """The microphone hears nothing; the converter's own noise is left."""


class Drowned(Fault, frozen=True, kw_only=True, tag="drowned"):
    """Water or dirt before the microphone: quieter, and nothing high gets through."""

    loss_db: Annotated[float, Meta(ge=0, le=80, description="by how much it hears less")] = 20.0
    high_cut_hz: Annotated[float, Meta(ge=50, le=20_000, description="above which it falls 12 dB an octave")] = 500.0


class Zeros(Fault, frozen=True, kw_only=True, tag="zeros"):
    """Exact zeros are delivered without a flag, as when a stream has moved to a sink that plays nothing."""


class Stuck(Fault, frozen=True, kw_only=True, tag="stuck"):
    """The same sample is delivered again and again."""


# ------------------------------------------------------------------------------------------------------------ card


class Overflow(Fault, frozen=True, kw_only=True, tag="overflow"):
    """What is sampled meanwhile is lost; how much is not told."""

    flagged: Annotated[bool, Meta(description="whether the next callback says that samples were lost")] = True


class Stall(Fault, frozen=True, kw_only=True, tag="stall"):
    """No callback runs; what the card's buffer does not hold until the end is lost, the rest comes all at once."""


class Unplugged(Fault, frozen=True, kw_only=True, tag="unplugged"):
    """The card is gone: callbacks just stop, and opening it fails until it is back."""


class Stamps(Fault, frozen=True, kw_only=True, tag="stamps"):
    """The stated time of conversion is of no use: zero, or the same again and again."""

    frozen_time: Annotated[bool, Meta(description="true for the same time again and again, false for zero")] = False


# ------------------------------------------------------------------------------------------------------------ time


class GpsLoss(Fault, frozen=True, kw_only=True, tag="gps_loss"):
    """No pulse a second: the system clock runs on alone, and is brought back when the pulse is."""

    drift_ppm: Annotated[
        float, Meta(ge=-100, le=100, description="by how much the clock that runs on alone is too fast")
    ] = 0.05


class SecondSlip(Fault, frozen=True, kw_only=True, tag="second_slip"):
    """The pulse is counted as that of another second, so all times are wrong by whole seconds."""

    slip_s: Annotated[int, Meta(ge=-60, le=60, description="what is added to all times")] = 1


class ClockStep(Fault, frozen=True, kw_only=True, tag="clock_step"):
    """Somebody sets the system clock wrong, and right again at the end."""

    step_s: Annotated[float, Meta(ge=-1e9, le=1e9, description="by how much")] = -3600.0


class Heat(Fault, frozen=True, kw_only=True, tag="heat"):
    """Sun on the box: the converter's crystal changes its rate over minutes."""

    rate_ppm: Annotated[float, Meta(ge=-200, le=200, description="change of the sampling rate in the end")] = 5.0
    lag_s: Annotated[float, Meta(gt=0, le=86_400, description="time constant of warming and cooling")] = 120.0


# ------------------------------------------------------------------------------------------- computer and messages


class Reboot(Fault, frozen=True, kw_only=True, tag="reboot"):
    """The computer is off from the start, and up again with another `boot_id` at the end."""


class Outage(Fault, frozen=True, kw_only=True, tag="outage"):
    """The broker cannot be reached; what is said meanwhile arrives after the end."""


class Loss(Fault, frozen=True, kw_only=True, tag="loss"):
    """Messages vanish after the broker has taken them."""

    share: Share = 0.1


class Duplication(Fault, frozen=True, kw_only=True, tag="duplication"):
    """Messages arrive twice."""

    share: Share = 0.1


class Reordering(Fault, frozen=True, kw_only=True, tag="reordering"):
    """Messages are held back, so that later ones overtake them."""

    share: Share = 0.1
    hold_s: Annotated[float, Meta(gt=0, le=3_600, description="at most for how long")] = 1.0


AnyFault: TypeAlias = (
    Dead | Drowned | Zeros | Stuck
    | Overflow | Stall | Unplugged | Stamps
    | GpsLoss | SecondSlip | ClockStep | Heat
    | Reboot | Outage | Loss | Duplication | Reordering
)  # fmt: skip

F = TypeVar("F", bound=Fault)


def of_sensor(faults: Sequence[AnyFault], sensor_id: str, kind: type[F]) -> tuple[F, ...]:
    """Pick the faults of one kind that meet one sensor.

    Parameters
    ----------
    faults : sequence of AnyFault
        All of a scene.
    sensor_id : str
        The sensor.
    kind : type
        The kind.

    Returns
    -------
    tuple
        In order of their beginning.
    """
    met = [fault for fault in faults if isinstance(fault, kind) and fault.sensor_id in (sensor_id, EVERY)]
    return tuple(sorted(met, key=lambda fault: (fault.start_s, fault.end_s)))


def mistakes(faults: Sequence[AnyFault], sensor_ids: Collection[str], duration_s: float) -> Iterator[str]:
    """Say what faults contradict the scene they are to happen in.

    Parameters
    ----------
    faults : sequence of AnyFault
        All of a scene.
    sensor_ids : collection of str
        Its sensors.
    duration_s : float
        How long it lasts [s].

    Yields
    ------
    str
        A sentence each.
    """
    for number, fault in enumerate(faults):
        if fault.sensor_id not in (EVERY, *sensor_ids):
            known = ", ".join(sorted(sensor_ids)[:20])
            yield f'fault[{number}].sensor_id is "{fault.sensor_id}", but must be * or one of {known}'
        if not fault.start_s < fault.end_s:
            yield f"fault[{number}].end_s is {fault.end_s:g}, but must be more than start_s ({fault.start_s:g})"
        if math.ceil(fault.start_s) > duration_s:
            yield f"fault[{number}].start_s is {fault.start_s:g}, but the scene ends at {duration_s:g} s"
