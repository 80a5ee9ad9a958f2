"""What a node of the simulated city is made of: microphone, converter, sound card and clocks, as tables of a scene."""

from typing import Annotated, Literal

from msgspec import Meta

from agls.config import Table


class Card(Table, frozen=True, kw_only=True):
    """The microphone's response, the converter's crystal, the way of samples to the program, and the computer's time.

    Figures are those of common parts: MEMS microphones as data sheets give them, crystals of a few tens of parts per
    million, USB frames of a millisecond, and lateness as measured of callbacks on a busy small computer.
    """

    low_cut_hz: Annotated[
        float, Meta(ge=2, le=1_000, description="below which the microphone falls 6 dB an octave")
    ] = 30.0
    high_cut_hz: Annotated[
        float, Meta(ge=500, le=100_000, description="above which the microphone falls 12 dB an octave")
    ] = 20_000.0
    gain_sigma_db: Annotated[float, Meta(ge=0, le=10, description="scatter of microphones' sensitivity, one sigma")] = (
        1.0
    )
    overload_db_spl: Annotated[
        float, Meta(ge=60, le=200, description="level at which the microphone itself can no more")
    ] = 130.0
    self_noise_db: Annotated[
        float, Meta(ge=-20, le=120, description="what microphone and converter hiss, as a sound level")
    ] = 30.0
    rate_sigma_ppm: Annotated[
        float, Meta(ge=0, le=500, description="scatter of crystals, one sigma; recorded datasets have none")
    ] = 30.0
    thermal_ppm: Annotated[
        float, Meta(ge=0, le=100, description="swing of the rate with the day's temperature, half of it")
    ] = 1.5
    thermal_period_s: Annotated[float, Meta(ge=60, le=1e6, description="period of that swing")] = 3_600.0
    delivery: Annotated[
        Literal["usb", "i2s"], Meta(description="usb hands samples over in frames of 1 ms, i2s as they come")
    ] = "i2s"
    block_frames: Annotated[int, Meta(ge=16, le=65_536, description="frames of a callback")] = 1_000
    buffer_s: Annotated[float, Meta(ge=0.01, le=60, description="what waits for a callback before it is lost")] = 0.5
    latency_s: Annotated[
        float, Meta(ge=0, le=1, description="from the sound to the earliest moment a callback could see it")
    ] = 1.2e-3
    busy_share: Annotated[float, Meta(ge=0, le=1, description="callbacks that find the computer busy")] = 0.05
    busy_s: Annotated[float, Meta(ge=0, le=1, description="longest that one of them waits")] = 3e-3
    spike_share: Annotated[float, Meta(ge=0, le=1, description="callbacks that come much too late")] = 1e-3
    spike_s: Annotated[float, Meta(ge=0, le=10, description="by how much")] = 5e-3
    sync: Annotated[
        Literal["pps_audio", "pps_chrony", "ntp", "free"],
        Meta(description="how the node knows the time; pps_audio brings the pulse on a second channel"),
    ] = "pps_chrony"
    ntp_sigma_s: Annotated[float, Meta(ge=0, le=10, description="error of network time, one sigma")] = 3e-3
    host_sigma_ppm: Annotated[
        float, Meta(ge=0, le=500, description="scatter of the crystals of computers, one sigma")
    ] = 10.0
    pps_sigma_s: Annotated[float, Meta(ge=0, le=1e-3, description="scatter of the pulse per second")] = 3e-8
