"""From covariances to what people read: the 95 % error ellipse."""

import math

import numpy as np

from agls.locate._kernels import Floats
from agls.messages import Ellipse

CHI2_95_2D = 5.991464547107979  # 95 % quantile of chi-squared with two degrees of freedom


def ellipse95(covariance: Floats) -> Ellipse:
    """Draw the 95 % error ellipse of a place.

    Parameters
    ----------
    covariance : numpy.ndarray, shape (2, 2)
        Of east and north [m2].

    Returns
    -------
    Ellipse
        Semi-axes [m], rounded to the millimetre, and azimuth of the major one [degrees].
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64)[:2, :2])
    minor, major = (math.sqrt(max(float(value), 0.0) * CHI2_95_2D) for value in values)
    azimuth = math.degrees(math.atan2(float(vectors[0, 1]), float(vectors[1, 1]))) % 180.0
    return Ellipse(
        major_m=round(min(major, 1e7), 3), minor_m=round(min(minor, 1e7), 3), azimuth_deg=round(azimuth, 3) % 180.0
    )


def within95(offset_m: Floats, covariance: Floats) -> bool:
    """Tell whether an offset lies inside the 95 % ellipse of a covariance.

    Parameters
    ----------
    offset_m : numpy.ndarray, shape (2,)
        East and north [m].
    covariance : numpy.ndarray, shape (2, 2)
        Of east and north [m2].

    Returns
    -------
    bool
        Whether it does.
    """
    offset = np.asarray(offset_m, dtype=np.float64)[:2]
    return bool(offset @ np.linalg.solve(np.asarray(covariance, dtype=np.float64)[:2, :2], offset) <= CHI2_95_2D)
