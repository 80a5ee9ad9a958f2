"""Associate picks with PyOcto, once for each of some settings; runs in the peers' environment.

Given: ``positions_m`` (m, 3), ``sensor`` (n,), ``toa_s`` (n,), ``speed_m_s`` and ``settings`` (k, 6): tolerance [s],
least node [km], match tolerance [s], picks needed, time slice [s], time between shots [s]. Taken back: ``taken_s`` (k,)
and ``group`` (k, n), the group of each pick or -1. The time is that of `associate`, with its reading of the tables.
"""

import sys
import time

import numpy as np
import pandas as pd
import pyocto


def main() -> None:
    """Read, associate, write."""
    given = np.load(sys.argv[1], allow_pickle=False)
    places_km = given["positions_m"] / 1e3
    names = np.array([f"s{k:03d}" for k in range(len(places_km))])
    stations = pd.DataFrame({"id": names, "x": places_km[:, 0], "y": places_km[:, 1], "z": 0.0})
    picks = pd.DataFrame({"station": names[given["sensor"]], "time": given["toa_s"], "phase": "P"})
    speed = float(given["speed_m_s"]) / 1e3
    low, high = places_km[:, :2].min(axis=0) - 0.2, places_km[:, :2].max(axis=0) + 0.2
    taken, groups = [], []
    for tolerance, node, match, needed, time_slice, apart in given["settings"]:
        associator = pyocto.OctoAssociator(
            xlim=(low[0], high[0]),
            ylim=(low[1], high[1]),
            zlim=(-0.001, 0.001),
            velocity_model=pyocto.VelocityModel0D(speed, speed / 1.7, tolerance),
            time_before=float(np.hypot(*(high - low))) / speed,
            min_node_size=node,
            min_node_size_location=0.002,
            pick_match_tolerance=match,
            min_interevent_time=apart,
            n_picks=int(needed),
            n_p_picks=int(needed),
            n_s_picks=0,
            n_p_and_s_picks=0,
            time_slicing=time_slice,
            n_threads=1,
        )
        started = time.perf_counter()
        _, found = associator.associate(picks, stations)
        taken.append(time.perf_counter() - started)
        group = np.full(len(picks), -1)
        group[found["pick_idx"].to_numpy(dtype=int)] = found["event_idx"].to_numpy(dtype=int)
        groups.append(group)
    np.savez(sys.argv[2], taken_s=np.array(taken), group=np.array(groups))


if __name__ == "__main__":
    main()
