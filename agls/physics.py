"""The physics of air that more than one stage needs."""

import math

R_J_MOL_K = 8.31446
M_DRY_KG_MOL = 0.0289652
M_WATER_KG_MOL = 0.0180153
PRESSURE_PA = 101_325.0
ZERO_C_K = 273.15


def vapour_pressure_pa(temperature_c: float) -> float:
    """Compute the saturation vapour pressure over water.

    Parameters
    ----------
    temperature_c : float
        Air temperature [degrees Celsius].

    Returns
    -------
    float
        Pressure [Pa].

    References
    ----------
    O. A. Alduchov, R. E. Eskridge, "Improved Magnus form approximation of saturation vapor pressure", 1996.
    """
    return 610.94 * math.exp(17.625 * temperature_c / (temperature_c + 243.04))


def sound_speed_m_s(temperature_c: float, humidity_percent: float = 50.0) -> float:
    """Compute the speed of sound in still, humid air as an ideal mixture of gases.

    Parameters
    ----------
    temperature_c : float
        Air temperature [degrees Celsius], above -100.
    humidity_percent : float, optional
        Relative humidity [percent].

    Returns
    -------
    float
        Speed [m/s], good to about 0.1 % between -40 and 50 degrees at sea level.

    Raises
    ------
    ValueError
        If the temperature is below -100 degrees Celsius.
    """
    if temperature_c < -100:
        raise ValueError(f"temperature_c = {temperature_c}: a sound speed needs at least -100 degrees Celsius")
    water = humidity_percent / 100 * vapour_pressure_pa(temperature_c) / PRESSURE_PA
    molar_mass = M_DRY_KG_MOL * (1 - water) + M_WATER_KG_MOL * water
    heat_capacity = 3.5 * (1 - water) + 4.0 * water  # of a diatomic and a bent triatomic gas, in units of R
    gamma = heat_capacity / (heat_capacity - 1)
    return math.sqrt(gamma * R_J_MOL_K * (temperature_c + ZERO_C_K) / molar_mass)


def wind_vector_m_s(speed_m_s: float, from_deg: float) -> tuple[float, float]:
    """Turn a weather report's wind into the velocity of the air.

    Parameters
    ----------
    speed_m_s : float
        Wind speed [m/s].
    from_deg : float
        Where the wind comes from [degrees clockwise from north].

    Returns
    -------
    tuple of float
        East and north components of where the air goes [m/s].
    """
    azimuth = math.radians(from_deg)
    return -speed_m_s * math.sin(azimuth), -speed_m_s * math.cos(azimuth)
