"""When a shot that was told is told again, and how it is taken back."""

import msgspec

from agls.messages import Shot

# A shot is told again when it moved by more than a metre and this share of its ellipse, or its ellipse shrank so far.
# Or when more was judged, and its probability is another by so much.
MOVED_M, MOVED_SHARE, SHRUNK_SHARE, P_CHANGED = 1.0, 0.25, 0.7, 0.1


def revised(shot: Shot, known: Shot, *, final: bool) -> Shot:
    """Make a shot the next revision of the one told, or give that one back where nothing worth telling changed.

    Parameters
    ----------
    shot : Shot
        As located now.
    known : Shot
        As told last.
    final : bool
        Whether this is its last revision.

    Returns
    -------
    Shot
        The next revision, or `known` itself.
    """
    moved_m = ((shot.x_m - known.x_m) ** 2 + (shot.y_m - known.y_m) ** 2) ** 0.5
    changed = (
        moved_m > max(MOVED_M, MOVED_SHARE * known.ellipse.major_m)
        or shot.ellipse.major_m < SHRUNK_SHARE * known.ellipse.major_m
        or abs(shot.p_gunshot - known.p_gunshot) > P_CHANGED
        or (final and (shot.ellipse, shot.p_gunshot, shot.reasons) != (known.ellipse, known.p_gunshot, known.reasons))
    )
    if not changed:
        return known
    return msgspec.structs.replace(shot, shot_id=known.shot_id, revision=known.revision + 1, late=known.late)


def withdrawn(shot: Shot) -> Shot:
    """Take a shot back.

    Parameters
    ----------
    shot : Shot
        As told last.

    Returns
    -------
    Shot
        Its last revision.
    """
    return msgspec.structs.replace(shot, state="withdrawn", revision=shot.revision + 1)
