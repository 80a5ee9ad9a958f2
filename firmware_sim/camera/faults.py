"""What a simulated camera may do wrong: every switch is something that cameras in the field have been seen to do."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from agls.config import Table


class Faults(Table, frozen=True, kw_only=True):
    """Switches, all off by default."""

    # What it says of itself.
    config_on_sub_only: Annotated[bool, Meta(description="the second media profile alone has a PTZ configuration")] = (
        False
    )
    unadvertised: Annotated[bool, Meta(description="PTZ works, but neither services nor capabilities tell")] = False
    spaces: Annotated[
        Literal["full", "empty", "default_only", "pan_only"],
        Meta(description="node and options list all spaces, none, none but defaults in the configuration, or no zoom"),
    ] = "full"
    flat_ranges: Annotated[bool, Meta(description="every range has Min equal to Max")] = False
    odd_address: Annotated[bool, Meta(description="services are said to be at a host and port nobody can reach")] = (
        False
    )
    no_get_services: Annotated[bool, Meta(description="GetServices is not known; GetCapabilities is")] = False

    # Presets.
    many_presets: Annotated[bool, Meta(description="300 presets are stored")] = False
    percent_names: Annotated[bool, Meta(description="names of presets are percent-encoded")] = False
    no_get_presets: Annotated[bool, Meta(description="GetPresets is not known; GotoPreset is")] = False
    set_preset_answer: Annotated[
        Literal["full", "bare", "empty"],
        Meta(description="SetPreset answers with the token, with a bare string, or with nothing"),
    ] = "full"
    goto_preset_s: Annotated[float, Meta(ge=0, le=60, description="GotoPreset answers only after so long")] = 0.0

    # Moving.
    ignores_moves: Annotated[bool, Meta(description="moves are answered as done, and nothing moves")] = False
    frozen_status: Annotated[bool, Meta(description="the head moves, and GetStatus keeps saying where it was")] = False
    malformed_zoom: Annotated[bool, Meta(description="a move with zoom is answered by XML that breaks off")] = False

    # Who may ask.
    clock_skew_s: Annotated[float, Meta(ge=-1e8, le=1e8, description="by how much its clock is ahead")] = 0.0
    time_window_s: Annotated[float, Meta(gt=0, le=86_400, description="how far from its clock a token may be")] = 300.0
    text_password_only: Annotated[bool, Meta(description="only a PasswordText token is taken")] = False
    strict_nonce: Annotated[bool, Meta(description="a nonce seen before is refused")] = False
    answers_401: Annotated[bool, Meta(description="refuses with HTTP 401 and asks for HTTP Digest")] = False

    # HTTP.
    fault_status: Annotated[
        Literal[0, 200, 400, 500],
        Meta(description="HTTP status of every SOAP fault; 0 for 400 or 500 by its kind, as SOAP 1.2 has it"),
    ] = 0
    jitter_s: Annotated[float, Meta(ge=0, le=10, description="each answer waits up to so long, at least an eighth")] = (
        0.0
    )
    malformed_http: Annotated[bool, Meta(description="the status line is none")] = False
    drop_share: Annotated[float, Meta(ge=0, le=1, description="share of requests whose connection just ends")] = 0.0
    slow_bytes_s: Annotated[float, Meta(ge=0, le=10, description="time between one byte of an answer and the next")] = (
        0.0
    )
    huge_answer: Annotated[bool, Meta(description="every answer has 64 MiB of blanks at its end")] = False
    reboot_rate_per_s: Annotated[
        float, Meta(ge=0, le=1_000, description="asked more often than this it restarts, turns home; 0 for never")
    ] = 0.0
    reboot_s: Annotated[float, Meta(gt=0, le=600, description="how long it is gone then")] = 20.0
