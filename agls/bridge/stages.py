"""How long an incident took from stage to stage, and which stage took longer than the site allows."""

from agls.bridge.record import Overrun, Stage, StageTimes
from agls.config import Budget
from agls.messages import NS_PER_S

# Stage: the moments it lies between. The camera is awaited beside dispatch, both from when the shot was located.
BETWEEN: dict[Stage, tuple[str, str]] = {
    "flight": ("fired", "heard"),
    "node": ("heard", "received"),
    "settle": ("received", "due"),
    "compute": ("due", "located"),
    "bridge": ("located", "sent"),
    "answer": ("sent", "acknowledged"),
    "camera": ("located", "on_target"),
}


def taken_s(times: StageTimes) -> dict[Stage, float]:
    """Measure the stages that an incident has passed.

    Parameters
    ----------
    times : StageTimes
        When it passed them.

    Returns
    -------
    dict of str to float
        Stage to seconds; one whose beginning or end is not known is left out.
    """
    taken: dict[Stage, float] = {}
    for stage, (begin, end) in BETWEEN.items():
        begin_ns, end_ns = getattr(times, f"{begin}_ns"), getattr(times, f"{end}_ns")
        if begin_ns is not None and end_ns is not None:
            taken[stage] = (end_ns - begin_ns) / NS_PER_S
    return taken


def overruns(times: StageTimes, budget: Budget) -> tuple[Overrun, ...]:
    """Say which stages took too long.

    Parameters
    ----------
    times : StageTimes
        When an incident passed them.
    budget : Budget
        How long each may take.

    Returns
    -------
    tuple of Overrun
        In the order of the stages.
    """
    return tuple(
        Overrun(stage=stage, taken_s=round(seconds, 3), budget_s=allowed_s)
        for stage, seconds in taken_s(times).items()
        if seconds > (allowed_s := getattr(budget, f"{stage}_s"))
    )
