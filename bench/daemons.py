#!/usr/bin/env python3
"""Both daemons under 100 processes a second: latency from the start of a process to its alert on stdout, CPU, memory.

Prints one JSON list of {name, value, unit}. Three phases: nothing happens; processes that no rule matches; processes
that each raise an alert. The latency clock starts before fork and exec, so these are part of the figure. CPU is of the
daemons alone, as a share of one core.
"""

import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
os.environ.setdefault("DE_TEST_BIN", os.path.join(ROOT, "build/release/bin"))
os.environ.setdefault("DE_TEST_SOURCE", ROOT)
sys.path.insert(0, os.path.join(ROOT, "tests/functional"))

import harness  # noqa: E402

PROCESSES = 500
RATE = 100.0  # a second
IDLE_SECONDS = 5.0

RULE = """id: bench-marker
title: Bench marker
description: A process of the latency benchmark.
severity: low
sql: |
  SELECT pid, command_line, process_key FROM process_events WHERE kind = 'exec' AND command_line LIKE 'true bench-marker-%'
"""


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid):
    with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def main():
    started, arrived = {}, {}
    with harness.daemon() as instance:
        instance.write_rule("bench-marker.yaml", RULE)
        pipe_read, pipe_write = os.pipe()
        os.set_inheritable(pipe_write, True)
        instance.out_path = f"/proc/self/fd/{pipe_write}"
        instance.start()

        def read():
            with os.fdopen(pipe_read, "r", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    now = time.monotonic()
                    try:
                        alert = json.loads(line)
                    except ValueError:
                        continue
                    if alert.get("rule_id") == "bench-marker":
                        arrived.setdefault(int(alert["command_line"].rsplit("-", 1)[1]), now)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        daemons = instance.children()
        results = []

        def measured(phase, work):
            before = {name: cpu_seconds(pid) for name, pid in daemons.items()}
            begin = time.monotonic()
            work()
            elapsed = time.monotonic() - begin
            for name, pid in sorted(daemons.items()):
                share = 100 * (cpu_seconds(pid) - before[name]) / elapsed
                results.append({"name": f"cpu_{phase}_{name}", "value": share, "unit": "% of one core"})

        def spawn(argument):
            begin = time.monotonic()
            for number in range(PROCESSES):
                due = begin + number / RATE
                if due > time.monotonic():
                    time.sleep(due - time.monotonic())
                started[number] = time.monotonic()
                subprocess.run(["true", f"{argument}-{number}"], executable="/bin/true", check=False)

        def alerting():
            spawn("bench-marker")
            harness.wait_for("every alert", lambda: len(arrived) == PROCESSES, 30)

        measured("idle", lambda: time.sleep(IDLE_SECONDS))
        measured("at_100_exec_s", lambda: spawn("bench-other"))
        measured("at_100_exec_s_each_an_alert", alerting)
        for name, pid in sorted(daemons.items()):
            results.append({"name": f"resident_{name}", "value": resident_mb(pid), "unit": "MB"})
        instance.stop()
    latency = [1000 * (arrived[number] - started[number]) for number in started]
    results = [
        {"name": "event_to_alert_p50", "value": quantile(latency, 0.50), "unit": "ms"},
        {"name": "event_to_alert_p99", "value": quantile(latency, 0.99), "unit": "ms"},
        {"name": "event_to_alert_max", "value": max(latency), "unit": "ms"},
    ] + results
    print(json.dumps(results))


if __name__ == "__main__":
    main()
