"""A small site, what its nodes say, and a stand-in for the hub's stages, for tests of the shell around them."""

from collections import Counter

from agls.config import Cad, Mqtt, Sensor, SiteConfig
from agls.intake import Intake
from agls.messages import (
    Arrival,
    CadEvent,
    ClockState,
    Detection,
    Ellipse,
    Heartbeat,
    Incident,
    Rejection,
    Shot,
    SlewRequest,
    SlewTarget,
    UtcNs,
)  # fmt: skip

NOW_NS = 1_700_000_000_000_000_000
S = 1_000_000_000
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
ELLIPSE = Ellipse(major_m=4.0, minor_m=2.0, azimuth_deg=30.0)


def site(**changes) -> SiteConfig:
    """Describe four sensors on a square."""
    sensors = tuple(
        Sensor(sensor_id=f"s{number}", x_m=300.0 * (number % 2), y_m=300.0 * (number // 2), z_m=6.0)
        for number in range(4)
    )
    return SiteConfig(name="Town", sensor=sensors, **changes)


def site_with_secrets() -> SiteConfig:
    """Describe the same with what must not be written anywhere."""
    return site(
        mqtt=Mqtt(username="secret-name", ca_file="/secret/file"),
        cad=Cad(webhook_url="http://127.0.0.1:9/secret-token"),
    )


def detection(seq: int, sensor_id: str = "s0", **changes) -> Detection:
    """Make a detection."""
    fields = {"boot_id": "b1", "toa_ns": UtcNs(NOW_NS), "toa_sigma_s": 1e-3, "llr": {"gunshot": 3.0}, "clock": CLOCK}
    return Detection(sensor_id=sensor_id, seq=seq, **fields | changes)


def heartbeat(sensor_id: str = "s0", **changes) -> Heartbeat:
    """Make a heartbeat."""
    fields = {
        "boot_id": "b1", "sent_ns": UtcNs(NOW_NS), "uptime_s": 1.5, "clock": CLOCK, "level_db": 50.0,
        "noise_floor_db": 40.0, "next_seq": 1, "oldest_seq": 0, "queue_count": 1,
    }  # fmt: skip
    return Heartbeat(sensor_id=sensor_id, **fields | changes)


def shot(**changes) -> Shot:
    """Make a shot."""
    fields = {
        "shot_id": "shot-1", "incident": "inc-1", "origin_ns": UtcNs(NOW_NS), "origin_sigma_s": 1e-3, "x_m": 10.0,
        "y_m": 20.0, "z_m": 1.5, "latitude_deg": 40.4406201, "longitude_deg": -79.9958901, "height_m": 250.0,
        "ellipse": ELLIPSE, "p_gunshot": 0.97, "sensor_count": 4,
    }  # fmt: skip
    return Shot(**fields | changes)


def incident(**changes) -> Incident:
    """Make an incident."""
    fields = {
        "incident": "inc-1", "revision": 0, "state": "probable", "first_shot_ns": UtcNs(NOW_NS),
        "last_shot_ns": UtcNs(NOW_NS), "round_count": 1, "x_m": 10.0, "y_m": 20.0, "z_m": 1.5,
        "latitude_deg": 40.4406201, "longitude_deg": -79.9958901, "height_m": 250.0, "ellipse": ELLIPSE,
        "p_gunshot": 0.97, "sensor_count": 4, "shot_ids": ("shot-1",),
    }  # fmt: skip
    return Incident(**fields | changes)


def cad_event(**changes) -> CadEvent:
    """Make a CAD event."""
    fields = {
        "cad_event_id": "cad-1", "incident": "inc-1", "revision": 0, "status": "open", "incident_type": "WEAPON",
        "headline": "Probable gunfire", "issued_ns": UtcNs(NOW_NS),
        "first_shot_ns": UtcNs(NOW_NS), "last_shot_ns": UtcNs(NOW_NS),
        "latitude_deg": 40.44, "longitude_deg": -79.99, "ellipse": ELLIPSE, "p_gunshot": 0.97, "round_count": 1,
        "sensor_count": 4, "caution": "unverified",
    }  # fmt: skip
    return CadEvent(**fields | changes)


def slew_request(**changes) -> SlewRequest:
    """Make a slew request."""
    fields = {
        "request_id": "slew-1", "incident": "inc-1", "revision": 0, "camera_id": "cam", "issued_ns": UtcNs(NOW_NS),
        "not_after_ns": UtcNs(NOW_NS + S), "hold_s": 60.0,
        "target": SlewTarget(latitude_deg=40.44, longitude_deg=-79.99, height_m=250.0, ellipse=ELLIPSE),
        "distance_m": 100.0, "pan_deg": 10.0, "tilt_deg": -3.0, "hfov_deg": 12.0, "fits": True, "reason": "",
    }  # fmt: skip
    return SlewRequest(**fields | changes)


class StandIn:
    """Stand in for `agls.pipeline.Hub`: after a second, detections of one second are a shot and an incident."""

    def __init__(self, site: SiteConfig) -> None:
        self.intake = Intake(site)
        self.waiting: dict[int, list[Detection]] = {}
        self.told: Counter[int] = Counter()

    def feed(self, message, received_ns):
        """Take in a message; one of wave ``shock`` breaks it."""
        out = self.advance(received_ns)
        taken = self.intake.feed(message, received_ns)
        if isinstance(taken, Rejection):
            return [*out, taken]
        if isinstance(taken, Detection):
            if taken.wave == "shock":
                raise ZeroDivisionError("what no mathematics can bear")
            self.waiting.setdefault(taken.toa_ns // S, []).append(taken)
        return out

    def advance(self, now_ns):
        """Decide what is older than a second."""
        due = sorted(second for second in self.waiting if (second + 2) * S <= now_ns)
        return [item for second in due for item in self._found(second)]

    def acks(self, now_ns):
        """Hand on what the intake says."""
        return self.intake.acks(now_ns)

    def _found(self, second):
        heard = sorted(self.waiting.pop(second), key=lambda one: (one.toa_ns, one.sensor_id, one.seq))
        revision, self.told[second] = self.told[second], self.told[second] + 1
        arrivals = tuple(
            Arrival(
                sensor_id=one.sensor_id, boot_id=one.boot_id, seq=one.seq, toa_ns=one.toa_ns, residual_s=1e-3, used=True
            )
            for one in heard
        )  # fmt: skip
        where = {"x_m": sum(one.toa_ns % S for one in heard) / 3e6, "sensor_count": len(heard), "revision": revision}
        times = {"first_shot_ns": heard[0].toa_ns, "last_shot_ns": heard[-1].toa_ns}
        names = {"incident": f"inc-{second}", **where}
        return [
            shot(shot_id=f"shot-{second}", origin_ns=heard[0].toa_ns, arrivals=arrivals, **names),
            incident(shot_ids=(f"shot-{second}",), **times, **names),
            cad_event(incident=f"inc-{second}", revision=revision, **times),
            slew_request(request_id=f"slew-{second}-{revision}"),
        ]
