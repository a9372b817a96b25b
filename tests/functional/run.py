#!/usr/bin/env python3
"""Runs one scenario (or lists them): tests/functional/run.py [NAME]. Scenarios are the functions of scenarios_*.py."""

import importlib
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
os.environ.setdefault("DE_TEST_SOURCE", os.path.dirname(os.path.dirname(HERE)))
os.environ.setdefault("DE_TEST_BIN", os.path.join(os.environ["DE_TEST_SOURCE"], "build/release/bin"))

import harness  # noqa: E402  (after the environment is set)


def scenarios():
    found = {}
    for file in sorted(os.listdir(HERE)):
        if file.startswith("scenarios_") and file.endswith(".py"):
            module = importlib.import_module(file[:-3])
            for name, function in vars(module).items():
                if name.startswith("scenario_"):
                    found[name[len("scenario_"):]] = function
    return found


def main():
    known = scenarios()
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        print("scenarios: " + " ".join(known))
        return 2 if len(sys.argv) > 1 else 0
    scenario = known[sys.argv[1]]
    if getattr(scenario, "needs_root", False) and not harness.ROOT:
        print(f"not run: {sys.argv[1]} needs root")
        return 77
    begin = time.monotonic()
    try:
        scenario()
    except harness.Skip as skip:
        print(f"not run: {skip}")
        return 77
    except harness.Failure as failure:
        print(f"FAILED after {time.monotonic() - begin:.1f} s: {failure}")
        return 1
    print(f"ok, {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
