#!/usr/bin/env python3
"""`make crash`: kill -9 of procmond, the agent and both, CRASH_ROUNDS times (default 60) under load."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
ROOT = os.path.dirname(os.path.dirname(HERE))
os.environ.setdefault("DE_TEST_SOURCE", ROOT)
os.environ.setdefault("DE_TEST_BIN", os.path.join(ROOT, "build/release/bin"))

import harness  # noqa: E402  (after the environment is set)
import scenarios_crash  # noqa: E402

if not harness.ROOT:
    sys.exit("make crash needs root")
try:
    scenarios_crash.kill_rounds(int(os.environ.get("CRASH_ROUNDS", "60")))
except harness.Failure as failure:
    sys.exit(f"FAILED: {failure}")
