#!/usr/bin/env python3
"""`make crash`: the store's power losses on a disk that keeps what it likes, DE_CRASH_ROUNDS times (default 1000), and
kill -9 of procmond, the agent and both, CRASH_ROUNDS times (default 60) under load; and of the agent while it delivers
alerts, ALERT_CRASH_ROUNDS times (default 100)."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
ROOT = os.path.dirname(os.path.dirname(HERE))
os.environ.setdefault("DE_TEST_SOURCE", ROOT)
os.environ.setdefault("DE_TEST_BIN", os.path.join(ROOT, "build/release/bin"))

import harness  # noqa: E402  (after the environment is set)
import scenarios_alerts  # noqa: E402
import scenarios_crash  # noqa: E402

store_test = os.path.join(os.environ["DE_TEST_BIN"], "store_test")
if os.path.exists(store_test):
    rounds = os.environ.get("DE_CRASH_ROUNDS", "1000")
    completed = subprocess.run([store_test, "--gtest_filter=PowerLoss.*:CheckTest.Flipped*"], check=False,
                               env={**os.environ, "DE_CRASH_ROUNDS": rounds}, stderr=subprocess.DEVNULL)
    if completed.returncode != 0:
        sys.exit("FAILED: the store's power losses")
else:
    print(f"not run: the store's power losses ({store_test} is not built)")
if not harness.ROOT:
    sys.exit("make crash needs root")
try:
    scenarios_crash.kill_rounds(int(os.environ.get("CRASH_ROUNDS", "60")))
    scenarios_alerts.kill_rounds(int(os.environ.get("ALERT_CRASH_ROUNDS", "100")))
except harness.Failure as failure:
    sys.exit(f"FAILED: {failure}")
