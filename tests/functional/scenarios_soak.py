"""One minute of `make soak`."""

import soak


def scenario_soak_for_a_minute():
    soak.soak(60, 20261122)


scenario_soak_for_a_minute.needs_root = True
