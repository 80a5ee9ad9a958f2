"""Configuration: one TOML file per site, one per node, read strictly.

Each table is a frozen record whose fields carry unit (in the name), range, meaning and default; the commented
examples (`agls config example`), the checks and the error sentences are all made from these definitions.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from agls.messages import Identifier, Latitude, Longitude, Metres
from agls.site_checks import check_site
from agls.site_policy import Budget, Dialect, Policy, PositiveSeconds, Realm, Rule, Store, Subscriber
from agls.tables import Table, load_table, read_toml

__all__ = [
    "Budget", "Dialect", "NodeConfig", "Policy", "Realm", "Rule", "SiteConfig", "Store", "Subscriber", "Table",
    "check_site", "load_any", "load_node", "load_site", "load_table",
]  # fmt: skip

Height: TypeAlias = Annotated[float, Meta(ge=-500, le=9_000)]


class Mqtt(Table, frozen=True, kw_only=True):
    """How to reach the MQTT broker."""

    url: Annotated[
        str,
        Meta(
            title="an address like mqtt://127.0.0.1:1883",
            pattern=r"^mqtts?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(?!\n)$",
            description="where the broker is; mqtts:// for TLS",
        ),
    ] = "mqtt://127.0.0.1:1883"
    username: Annotated[str, Meta(description="name at the broker; empty for none")] = ""
    password_file: Annotated[str, Meta(description="file (mode 0600) that holds the password; empty for none")] = ""
    ca_file: Annotated[str, Meta(description="certificate authority for mqtts://; empty for the system's")] = ""
    certificate_file: Annotated[str, Meta(description="client certificate for mutual TLS; empty for none")] = ""
    key_file: Annotated[str, Meta(description="key of the client certificate; empty for none")] = ""
    queue_limit_count: Annotated[
        int, Meta(ge=10, le=1_000_000, description="messages held while the broker is away")
    ] = 10_000
    realm: Annotated[
        Realm, Meta(description="live, or an exercise: its topics, store and receivers are none of the live ones")
    ] = "live"


# ------------------------------------------------------------------------------------------------------ a node


class Microphone(Table, frozen=True, kw_only=True):
    """The microphone and how it is read."""

    device: Annotated[
        str,
        Meta(
            description="stable name of the capture device, such as hw:Device; sim or sim:SCENE.toml for the"
            " simulator's; empty where audio comes from files"
        ),
    ] = ""
    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=192_000, description="sampling rate asked of the device")] = 48_000
    full_scale_db_spl: Annotated[
        float, Meta(ge=60, le=200, description="sound pressure level that reaches full scale (from the data sheet)")
    ] = 120.0
    pulse_channel: Annotated[
        int, Meta(ge=0, le=8, description="channel of the device that carries a pulse per second, from 1; 0 for none")
    ] = 0
    forced: Annotated[
        bool, Meta(description="hear by a device that cannot be timed, such as pulse or default; times are then wrong")
    ] = False
    latency_s: Annotated[
        float, Meta(ge=-1, le=1, description="how late samples are stamped, taken off every time of arrival")
    ] = 0.0
    latency_sigma_s: Annotated[
        float, Meta(ge=0, le=1, description="one standard deviation of the latency, part of every arrival's")
    ] = 0.0


class OnsetDetection(Table, frozen=True, kw_only=True):
    """When a sound counts as impulsive."""

    # Noise alone reaches 12 dB about 0.9 times a second in a street, 0.5 times in Pittsburgh's quiet parts; 16 dB 0.02
    # and 0.005 times. Of the arrivals stamped there 97.3 % and 96.4 % are picked, at 18 dB 92.4 % (bench/onsets.py).
    min_snr_db: Annotated[
        float, Meta(ge=3, le=60, description="peak over noise below which an impulse is not reported")
    ] = 16.0
    max_rate_per_s: Annotated[
        float, Meta(gt=0, le=20, description="impulses a second beyond which they are counted, not sent")
    ] = 20.0


class Classification(Table, frozen=True, kw_only=True):
    """The model that judges impulses."""

    model_file: Annotated[str, Meta(description="model to judge impulses with; empty for the one shipped")] = ""
    # Models are signed: `agls train --key FILE` tells the public key of the one who trained.
    model_key: Annotated[
        str,
        Meta(pattern=r"^([0-9a-f]{64})?\Z", description="public key that a model of your own is signed with, if any"),
    ] = ""
    # Found by `agls calibrate classifier`: calibrated = gunshot_slope * (the model's ratio) + gunshot_offset.
    gunshot_slope: Annotated[
        float, Meta(gt=0, le=10, description="what the model's log-likelihood ratio of gunshot is multiplied by here")
    ] = 1.0
    gunshot_offset: Annotated[
        float, Meta(ge=-20, le=20, description="what is then added to it, in natural logarithms")
    ] = 0.0


class Clips(Table, frozen=True, kw_only=True):
    """Whether the sound of gunshots is kept on the node; it is never sent."""

    folder: Annotated[
        str, Meta(description="where 0.27 s of sound are kept of each impulse judged a gunshot; empty to keep none")
    ] = ""
    keep_h: Annotated[float, Meta(gt=0, le=720, description="hours after which a clip is deleted")] = 72.0


class Survey(Table, frozen=True, kw_only=True):
    """Where the node was surveyed to stand; the hub takes places from the site file, this tells when they differ."""

    latitude_deg: Annotated[float, Meta(ge=-90, le=90, description="north positive, WGS 84")]
    longitude_deg: Annotated[float, Meta(ge=-180, le=180, description="east positive, WGS 84")]
    height_m: Annotated[float, Meta(ge=-500, le=9_000, description="of the microphone above the WGS 84 ellipsoid")] = (
        0.0
    )
    position_sigma_m: Annotated[
        float, Meta(ge=0.001, le=50, description="one standard deviation of the survey, each axis")
    ] = 0.5


class NodeConfig(Table, frozen=True, kw_only=True):
    """One node: a sensor on a pole."""

    sensor_id: Annotated[
        Identifier, Meta(description="name of this sensor, as in the site file; also its name at the broker")
    ]
    microphone: Microphone = Microphone()
    onset: OnsetDetection = OnsetDetection()
    classification: Classification = Classification()
    mqtt: Mqtt = Mqtt()
    preliminary: Annotated[
        bool,
        Meta(description="tell of each impulse as it is heard, too, 0.4 s before it is judged: shots are told sooner"),
    ] = True
    heartbeat_s: Annotated[float, Meta(ge=1, le=600, description="seconds between heartbeats")] = 15.0
    outbox_limit_count: Annotated[
        int, Meta(ge=100, le=1_000_000, description="detections kept until the hub has acknowledged them")
    ] = 20_000
    outbox_limit_bytes: Annotated[
        int, Meta(ge=100_000, le=10_000_000_000, description="how much they may amount to")
    ] = 50_000_000
    outbox_file: Annotated[
        str,
        Meta(description="SQLite file that keeps them through a loss of power; empty for memory alone (simulation)"),
    ] = ""
    gpsd: Annotated[
        str,
        Meta(
            title="an address like 127.0.0.1:2947, or nothing",
            pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?(?!\n)$",
            description="where gpsd tells of the GNSS receiver; empty for none",
        ),
    ] = ""
    survey: Survey | None = None
    clips: Clips = Clips()


# ------------------------------------------------------------------------------------------------------ a site


class Origin(Table, frozen=True, kw_only=True):
    """Where the local east-north-up frame of the site has its zero."""

    latitude_deg: Annotated[float, Meta(ge=-90, le=90, description="north positive, WGS 84")]
    longitude_deg: Annotated[float, Meta(ge=-180, le=180, description="east positive, WGS 84")]
    height_m: Annotated[float, Meta(ge=-500, le=9_000, description="above the WGS 84 ellipsoid")] = 0.0


class Sensor(Table, frozen=True, kw_only=True):
    """Where one sensor stands: either x_m, y_m, z_m or latitude_deg, longitude_deg, height_m."""

    sensor_id: Annotated[Identifier, Meta(description="name of the sensor")]
    x_m: Annotated[Metres | None, Meta(description="east of the origin; not together with latitude_deg")] = None
    y_m: Annotated[Metres | None, Meta(description="north of the origin")] = None
    z_m: Annotated[Metres | None, Meta(description="above the origin")] = None
    latitude_deg: Annotated[Latitude | None, Meta(description="north positive, WGS 84; not together with x_m")] = None
    longitude_deg: Annotated[Longitude | None, Meta(description="east positive, WGS 84")] = None
    height_m: Annotated[Height | None, Meta(description="of the microphone above the WGS 84 ellipsoid")] = None
    position_sigma_m: Annotated[
        float, Meta(ge=0.001, le=50, description="one standard deviation of the survey, each axis")
    ] = 0.5
    clock_offset_s: Annotated[
        float, Meta(ge=-1, le=1, description="how late this sensor's stamps are, taken off every arrival")
    ] = 0.0
    clock_offset_sigma_s: Annotated[float, Meta(ge=0, le=1, description="one standard deviation of that offset")] = 0.0


class Preset(Table, frozen=True, kw_only=True):
    """A position stored in a camera, for cameras that go nowhere else."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="as the camera has it")]
    pan_deg: Annotated[float, Meta(ge=-360, le=360, description="where it looks")] = 0.0
    tilt_deg: Annotated[float, Meta(ge=-90, le=90, description="likewise")] = 0.0
    hfov_deg: Annotated[float, Meta(gt=0, le=180, description="how wide it looks")] = 60.0
    token: Annotated[str, Meta(max_length=64, description="the camera's token of it; empty to look for the name")] = ""


class Onvif(Table, frozen=True, kw_only=True):
    """How the hub itself turns a camera; a camera without this table is turned by the RTCC."""

    url: Annotated[
        str,
        Meta(
            title="an address like http://10.0.0.7/onvif/device_service",
            max_length=300,
            pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?(?!\n)$",
            description="the camera's device service, without user name and password",
        ),
    ]
    username: Annotated[str, Meta(max_length=60, description="account at the camera; empty for none")] = ""
    password_file: Annotated[str, Meta(description="file (mode 0600) that holds its password; empty for none")] = ""
    ca_file: Annotated[str, Meta(description="certificate authority for https://; empty for the system's")] = ""
    plain_password: Annotated[
        bool, Meta(description="send the password readable where a camera takes nothing else, even without TLS")
    ] = False
    rate_per_s: Annotated[
        float, Meta(ge=1, le=50, description="questions a second it bears; some cameras restart when asked more")
    ] = 8.0


class Camera(Table, frozen=True, kw_only=True):
    """A camera that may be asked to look; one whose limits leave it nothing to turn is a fixed one."""

    camera_id: Annotated[Identifier, Meta(description="name of the camera")]
    latitude_deg: Annotated[float, Meta(ge=-90, le=90, description="north positive, WGS 84")]
    longitude_deg: Annotated[float, Meta(ge=-180, le=180, description="east positive, WGS 84")]
    height_m: Annotated[float, Meta(ge=-500, le=9_000, description="of the lens above the WGS 84 ellipsoid")]
    pan_zero_azimuth_deg: Annotated[
        float, Meta(ge=-360, le=360, description="azimuth from north at which the camera reads pan 0")
    ] = 0.0
    mount_pitch_deg: Annotated[
        float, Meta(ge=-90, le=90, description="how far the lens looks up at pan 0, tilt 0; `agls calibrate camera`")
    ] = 0.0
    mount_roll_deg: Annotated[
        float, Meta(ge=-180, le=180, description="how far the right side hangs down at pan 0; 180 upside down")
    ] = 0.0
    mount_sigma_deg: Annotated[
        float, Meta(ge=0, le=45, description="how far the mount may point wrong, one sigma; views are widened by it")
    ] = 0.0
    pan_min_deg: Annotated[float, Meta(ge=-360, le=360, description="lower limit of pan")] = -180.0
    pan_max_deg: Annotated[float, Meta(ge=-360, le=360, description="upper limit of pan")] = 180.0
    tilt_min_deg: Annotated[float, Meta(ge=-90, le=90, description="lower limit of tilt, negative is down")] = -90.0
    tilt_max_deg: Annotated[float, Meta(ge=-90, le=90, description="upper limit of tilt")] = 20.0
    hfov_min_deg: Annotated[float, Meta(gt=0, le=180, description="horizontal field of view zoomed in")] = 2.5
    hfov_max_deg: Annotated[float, Meta(gt=0, le=180, description="horizontal field of view zoomed out")] = 60.0
    range_m: Annotated[float, Meta(gt=0, le=10_000, description="distance up to which it is asked to look")] = 500.0
    lens_hfov_deg: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=180)], ...],
        Meta(
            description="fields of view at even steps of zoom, widest first; empty for a focal length that grows evenly"
        ),
    ] = ()
    recording: Annotated[bool, Meta(description="it records all the time, so a clip of before can be asked")] = False
    owner: Annotated[str, Meta(max_length=80, description="whose camera it is; told with each request")] = ""
    privacy: Annotated[
        Literal["street", "restricted", "never"],
        Meta(description="asked for every incident, for probable gunfire alone, or never"),
    ] = "street"
    preset: tuple[Preset, ...] = ()
    onvif: Onvif | None = None


class Weather(Table, frozen=True, kw_only=True):
    """The air over the site, and how well it is known."""

    temperature_c: Annotated[float, Meta(ge=-60, le=60, description="air temperature, degrees Celsius")] = 15.0
    humidity_percent: Annotated[float, Meta(ge=0, le=100, description="relative humidity")] = 60.0
    wind_speed_m_s: Annotated[float, Meta(ge=0, le=60, description="wind speed")] = 0.0
    wind_from_deg: Annotated[
        float, Meta(ge=0, le=360, description="where the wind comes from, clockwise from north")
    ] = 0.0
    temperature_sigma_c: Annotated[
        float, Meta(gt=0, le=50, description="how far the temperature may be wrong, one sigma")
    ] = 10.0
    wind_sigma_m_s: Annotated[
        float, Meta(gt=0, le=50, description="how far the wind may be wrong, each axis, one sigma")
    ] = 3.0


class Locating(Table, frozen=True, kw_only=True):
    """How detections become shots."""

    min_sensors_count: Annotated[
        int, Meta(ge=4, le=50, description="sensors that must agree before a shot is located")
    ] = 4
    path_sigma_s: Annotated[
        float,
        Meta(
            ge=0,
            le=0.2,
            description="scatter of arrivals caused by buildings and terrain, common to shots of one place",
        ),
    ] = 0.0055
    max_range_m: Annotated[
        float, Meta(gt=0, le=20_000, description="distance beyond which a sensor does not hear a shot")
    ] = 2_000.0
    settle_s: Annotated[
        float, Meta(ge=0, le=60, description="how long to wait for the last detection after it could have sounded")
    ] = 1.0
    max_pending_count: Annotated[
        int, Meta(ge=100, le=1_000_000, description="detections held for association; more are shed by name")
    ] = 20_000


class Gathering(Table, frozen=True, kw_only=True):
    """How shots become incidents, and which are told to dispatch."""

    prior_gunshot: Annotated[
        float, Meta(gt=0, lt=1, description="share of located impulses that are gunfire here, before listening")
    ] = 0.5
    probable_p: Annotated[
        float, Meta(gt=0, lt=1, description="probability from which an incident is called probable")
    ] = 0.9
    possible_p: Annotated[
        float, Meta(gt=0, lt=1, description="probability from which an incident is opened, as possible")
    ] = 0.3
    radius_m: Annotated[float, Meta(gt=0, le=5_000, description="shots this near each other may share an incident")] = (
        75.0
    )
    gap_s: Annotated[PositiveSeconds, Meta(description="shots this near in time may share an incident")] = 30.0
    late_s: Annotated[
        PositiveSeconds, Meta(description="a shot older than this when located is recorded as late and opens nothing")
    ] = 120.0


class Cad(Table, frozen=True, kw_only=True):
    """Where CAD events go."""

    incident_type: Annotated[
        str, Meta(min_length=1, max_length=80, description="the agency's incident type for unreviewed indications")
    ] = "WEAPON"
    webhook_url: Annotated[
        str,
        Meta(
            title="an address like https://cad.example/agls, or nothing",
            pattern=r"^(https?://\S+)?(?!\n)$",
            description="each event is POSTed here as JSON; empty for none",
        ),
    ] = ""


class Slewing(Table, frozen=True, kw_only=True):
    """How cameras are asked to look."""

    max_cameras_count: Annotated[int, Meta(ge=0, le=50, description="cameras asked per incident, best first")] = 4
    hold_s: Annotated[PositiveSeconds, Meta(description="how long a camera is asked to stay")] = 60.0
    drift_m_s: Annotated[
        float, Meta(ge=0, le=50, description="how fast people leave the place: views widen with the age of the shot")
    ] = 5.0
    least_p: Annotated[
        float, Meta(ge=0, le=1, description="least probability of the shooter being in view for which one is asked")
    ] = 0.05
    clip_before_s: Annotated[
        float,
        Meta(ge=0, le=3_600, description="from how long before the first shot a recording camera's clip is asked"),
    ] = 30.0
    buildings_file: Annotated[
        str, Meta(description="GeoJSON polygons with height_m, which hide what is behind them; empty for none")
    ] = ""
    execute: Annotated[bool, Meta(description="whether the hub itself turns the cameras that have an onvif table")] = (
        False
    )
    override_operator: Annotated[
        bool, Meta(description="whether probable gunfire takes a camera that an operator holds")
    ] = False
    operator_s: Annotated[
        PositiveSeconds, Meta(description="how long a camera is an operator's after the operator's last command")
    ] = 60.0
    better_p: Annotated[
        float,
        Meta(ge=0, le=1, description="how much more of another incident must be in view before a camera leaves one"),
    ] = 0.2
    least_hold_s: Annotated[
        PositiveSeconds, Meta(description="how long a camera stays before it leaves for an incident as probable")
    ] = 10.0


class SiteConfig(Table, frozen=True, kw_only=True):
    """One site: a city, its sensors, its cameras and its policy."""

    name: Annotated[str, Meta(min_length=1, max_length=80, description="name of the site")]
    origin: Origin | None = None
    sensor: tuple[Sensor, ...] = ()
    camera: tuple[Camera, ...] = ()
    weather: Weather = Weather()
    locating: Locating = Locating()
    gathering: Gathering = Gathering()
    cad: Cad = Cad()
    subscriber: tuple[Subscriber, ...] = ()
    policy: Policy = Policy()
    rule: tuple[Rule, ...] = ()
    store: Store = Store()
    budget: Budget = Budget()
    slewing: Slewing = Slewing()
    mqtt: Mqtt = Mqtt()


def load_node(path: Path) -> NodeConfig:
    """Read and check a node file.

    Parameters
    ----------
    path : pathlib.Path
        TOML file; `agls config example node` prints one.

    Returns
    -------
    NodeConfig
        The node's configuration.

    Raises
    ------
    InputError
        If the file cannot be read or holds anything that is not accepted.
    """
    return load_table(path, NodeConfig)


def load_site(path: Path) -> SiteConfig:
    """Read and check a site file.

    Parameters
    ----------
    path : pathlib.Path
        TOML file; `agls config example site` prints one.

    Returns
    -------
    SiteConfig
        The site's configuration.

    Raises
    ------
    InputError
        If the file cannot be read or holds anything that is not accepted.
    """
    return check_site(load_table(path, SiteConfig), str(path))


def load_any(path: Path) -> SiteConfig | NodeConfig:
    """Read and check a file that is a site or a node.

    Parameters
    ----------
    path : pathlib.Path
        TOML file; one with the key sensor_id is a node's.

    Returns
    -------
    SiteConfig or NodeConfig
        What the file holds.

    Raises
    ------
    InputError
        If the file cannot be read or holds anything that is not accepted.
    """
    return load_node(path) if "sensor_id" in read_toml(path)[1] else load_site(path)
