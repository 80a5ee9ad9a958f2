"""What several sensors' judgements of one sound say together."""

import math
from collections.abc import Sequence

# Sensors hear the same sound through the same air and judge it by the same model, so their errors are shared: n of them
# count as n ** 0.5 independent ones.
DEPENDENCE = 0.5
LIMIT = 30.0


def fuse(llrs: Sequence[float]) -> float:
    """Combine log-likelihood ratios of sensors that heard the same sound.

    Parameters
    ----------
    llrs : sequence of float
        Natural-log likelihood ratios for gunfire against all else, one for each sensor that gave one.

    Returns
    -------
    float
        Their joint log-likelihood ratio, discounted for dependence; 0 where there are none.
    """
    if not llrs:
        return 0.0
    joint: float = sum(llrs) * float(len(llrs)) ** (DEPENDENCE - 1.0)
    return max(-LIMIT, min(LIMIT, joint))


def probability(llr: float, prior: float) -> float:
    """Turn a log-likelihood ratio into a probability.

    Parameters
    ----------
    llr : float
        Natural-log likelihood ratio.
    prior : float
        Probability before listening, above 0 and below 1.

    Returns
    -------
    float
        Probability after.
    """
    return 1.0 / (1.0 + math.exp(-(llr + math.log(prior / (1.0 - prior)))))
