#!/usr/bin/env python3
"""From the start of a process to its alert on stdout: spawns marked processes at a steady rate and reads the alerts.

Prints one JSON list of {name, value, unit}. The clock starts before fork and exec, so these are part of the figure.
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
        cpu_before = {name: cpu_seconds(pid) for name, pid in daemons.items()}
        begin = time.monotonic()
        for number in range(PROCESSES):
            due = begin + number / RATE
            if due > time.monotonic():
                time.sleep(due - time.monotonic())
            started[number] = time.monotonic()
            subprocess.run(["true", f"bench-marker-{number}"], executable="/bin/true", check=False)
        harness.wait_for("every alert", lambda: len(arrived) == PROCESSES, 30)
        elapsed = time.monotonic() - begin
        cpu = {name: cpu_seconds(pid) - cpu_before[name] for name, pid in daemons.items()}
        memory = {name: resident_mb(pid) for name, pid in daemons.items()}
        instance.stop()
    latency = [1000 * (arrived[number] - started[number]) for number in started]
    results = [
        {"name": "event_to_alert_p50", "value": quantile(latency, 0.50), "unit": "ms"},
        {"name": "event_to_alert_p99", "value": quantile(latency, 0.99), "unit": "ms"},
        {"name": "event_to_alert_max", "value": max(latency), "unit": "ms"},
    ]
    for name in sorted(cpu):
        results.append({"name": f"cpu_at_{RATE:g}_exec_s_{name}", "value": 100 * cpu[name] / elapsed, "unit": "% of one core"})
        results.append({"name": f"resident_{name}", "value": memory[name], "unit": "MB"})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
