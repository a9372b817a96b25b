#!/usr/bin/env python3
"""The whole collection path under storms of processes: what is lost, what it costs, how late it is, how big it gets.

Prints one JSON list of {name, value, unit}. Method, figure by figure:

- storm_*: 60,000 processes (bench/storm.c) as fast as two jobs can start them, and at 10,000 a second. Every row of the
  store is compared with what was started. `lost` is the sum of what gap events count.
- stopped_*: the agent is stopped (SIGSTOP) in the middle of a storm for 0.5 s and 10 s, then goes on.
- cpu_*: the same storm with and without daemons, alternating; medians of the pairs' ratios. The storm's CPU is that of
  the program and all its processes, with what the kernel and the eBPF programs did in their name (getrusage);
  procmond's and the agent's are from /proc/PID/task/TID/schedstat (ns), procmond's with its helpers'. `agent_stopped`:
  with the agent stopped meanwhile, so that what is left is the collector alone.
- latency_*: at 100 processes a second, from an exec (the kernel's stamp in the event) to the moment at which another
  process sees the batch committed. That process looks at PRAGMA data_version of the store every 0.2 ms, so its own
  reaction is part of the figure.
- resident_*, rescan_*: with 10,000 processes asleep; CPU of procmond and helpers a scan, one scan a second, less what
  the same time costs without scans.
- netlink_*: the proc connector by force; how many of 2,000 /bin/true, one after the other, have their arguments, and how
  many of 500 processes that live 50 ms.
- idle_*: with 500 processes asleep, default scan interval, 65 s. `events`: what else happened on this machine.
"""

import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
os.environ.setdefault("DE_TEST_BIN", os.path.join(ROOT, "build/release/bin"))
os.environ.setdefault("DE_TEST_SOURCE", ROOT)
sys.path.insert(0, os.path.join(ROOT, "tests/functional"))

import harness  # noqa: E402
import storm  # noqa: E402

STORM = int(os.environ.get("STORM_PROCESSES", "60000"))
PAIRS = int(os.environ.get("STORM_PAIRS", "5"))
results = []


def report(name, value, unit):
    results.append({"name": name, "value": value, "unit": unit})
    print(f"{name:48} {value:12.4g} {unit}", file=sys.stderr, flush=True)


def median(values):
    return statistics.median(values)


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def with_descendants(pid):
    found = [pid]
    for parent in found:
        for task in os.listdir(f"/proc/{parent}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    return found


def cpu_ns(pids):
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def resident_mb(pids, field):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(field + ":"))
    return total * 1024 / 1e6


class Daemons:
    """Both daemons, and what they have used since begin()."""

    def __init__(self, instance):
        children = instance.children()
        self.agent = [children["daemoneye-agent"]]
        self.procmond = with_descendants(children["procmond"])
        self.begin()

    def begin(self):
        self.before = {name: cpu_ns(getattr(self, name)) for name in ("agent", "procmond")}

    def used(self, name):
        return (cpu_ns(getattr(self, name)) - self.before[name]) / 1e9


def report_account(prefix, instance, load):
    account = storm.account(instance, load)
    report(f"{prefix}_exact_arguments", 100 * account["exact"] / load.count, "%")
    report(f"{prefix}_exits_matched", 100 * account["exits"] / load.count, "%")
    report(f"{prefix}_lost", storm.lost(instance), "events")
    report(f"{prefix}_wrong_or_doubled", sum(account[key] for key in ("wrong", "doubled", "keys_shared", "ends_twice")),
           "rows")
    report(f"{prefix}_left_living", account["living"], "rows")


def storms():
    for prefix, rate in (("storm_max", 0), ("storm_10000_s", 10000)):
        with harness.daemon() as instance:
            instance.start()
            load = storm.Storm(STORM, rate)
            done = load.wait()
            begin = time.monotonic()
            storm.settle(instance, 120)
            report(f"{prefix}_rate", STORM / done["wall_s"], "processes/s")
            report(f"{prefix}_committed_after", time.monotonic() - begin, "s")
            report_account(prefix, instance, load)


def stopped_agent():
    for prefix, rate, seconds in (("stopped_500ms_10000_s", 10000, 0.5), ("stopped_10s_2000_s", 2000, 10),
                                  ("stopped_10s_10000_s", 10000, 10)):
        with harness.daemon() as instance:
            instance.start()
            agent = instance.children()["daemoneye-agent"]
            load = storm.Storm(int(rate * (seconds + 2)), rate)
            time.sleep(1)
            os.kill(agent, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(agent, signal.SIGCONT)
            load.wait()
            storm.settle(instance, 120)
            report_account(prefix, instance, load)
            recorded = storm.gaps(instance)
            report(f"{prefix}_gaps", len(recorded), "gaps")
            # Of what happens from here on nothing is missing.
            after = time.time_ns()
            storm.settle(instance, 60)
            later = f"SELECT count(*) AS n FROM process_events WHERE time > {after} AND time <= {time.time_ns()}"
            harness.wait_for("a complete answer for later", lambda i=instance, q=later: i.cli("query", q).code == 0)


def cpu():
    for prefix, count, rate, stop_agent, pairs in (("max", 20000, 0, False, PAIRS),
                                                   ("max_agent_stopped", 10000, 0, True, PAIRS),
                                                   ("5000_s", 15000, 5000, False, (PAIRS + 1) // 2)):
        ratios, procmond, agent = [], [], []
        for _ in range(pairs):
            alone = storm.Storm(count, rate).wait()["cpu_s"]
            with harness.daemon() as instance:
                instance.start()
                daemons = Daemons(instance)
                if stop_agent:
                    os.kill(daemons.agent[0], signal.SIGSTOP)
                with_collector = storm.Storm(count, rate).wait()["cpu_s"]
                if stop_agent:
                    time.sleep(0.5)  # what is still in the ring is procmond's work as well
                    procmond.append(daemons.used("procmond") / with_collector)
                    os.kill(daemons.agent[0], signal.SIGCONT)
                else:
                    storm.settle(instance)
                    procmond.append(daemons.used("procmond") / with_collector)
                    agent.append(daemons.used("agent") / with_collector)
                ratios.append(with_collector / alone)
                instance.stop()
        report(f"cpu_{prefix}_storm_with_by_without", median(ratios), "ratio")
        report(f"cpu_{prefix}_procmond_by_storm", 100 * median(procmond), "%")
        if agent:
            report(f"cpu_{prefix}_agent_by_storm", 100 * median(agent), "%")


def latency():
    """Commit times against the kernel's stamps of the events in the batch."""
    with harness.daemon() as instance:
        instance.start()
        database = sqlite3.connect(f"file:{instance.database}?mode=ro", uri=True, isolation_level=None)
        load = storm.Storm(1000, 100)
        commits = []  # (when seen, highest event id then)
        version = None
        end = time.monotonic() + 13
        while time.monotonic() < end and (load.process.poll() is None or time.monotonic() < end - 2):
            now = database.execute("PRAGMA data_version").fetchone()[0]
            if now != version:
                seen = time.time_ns()
                version = now
                highest = database.execute("SELECT max(first_event + events) - 1 FROM tail").fetchone()[0]
                if highest and (not commits or highest > commits[-1][1]):
                    commits.append((seen, highest))
            time.sleep(0.0002)
        database.close()
        load.wait()
        storm.settle(instance)
        result = instance.cli("--format", "jsonl", "--raw", "query", "SELECT event_id, time FROM process_events WHERE "
                              f"kind = 'exec' AND command_line LIKE 'storm-child {load.run} %' ORDER BY event_id")
        waits = []
        rows = [json.loads(line) for line in result.out.splitlines()]
        at = 0
        for row in rows:
            while at < len(commits) and commits[at][1] < row["event_id"]:
                at += 1
            if at < len(commits):
                waits.append((commits[at][0] - row["time"]) / 1e6)
        if len(waits) < 900:
            raise harness.Failure(f"only {len(waits)} of 1000 processes were seen committed")
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1)):
            report(f"latency_100_s_{name}", quantile(waits, q), "ms")


def size_and_rescan():
    scans = "SELECT count(*) AS n FROM scans"
    with storm.Sleepers(10000):
        costs = {}
        for interval in (1000, 3600000):
            with harness.daemon(settings={"app.scan_interval_ms": interval}) as instance:
                instance.start()
                storm.settle(instance)
                harness.wait_for("10,000 processes in the table", lambda i=instance: int(
                    i.health()["collector"]["details"]["processes"]) >= 10000)
                if interval == 1000:
                    before = instance.query(scans)[0]["n"]
                    harness.wait_for("two scans", lambda i=instance, b=before: i.query(scans)[0]["n"] >= b + 2)
                daemons = Daemons(instance)
                before = instance.query(scans)[0]["n"]
                time.sleep(15)
                used = daemons.used("procmond")
                costs[interval] = (used, instance.query(scans)[0]["n"] - before)
                if interval == 1000:
                    pids = with_descendants(instance.children()["procmond"])
                    report("resident_10000_procmond_and_helper", resident_mb(pids, "Rss"), "MB")
                    report("resident_10000_procmond_and_helper_pss", resident_mb(pids, "Pss"), "MB")
                    report("resident_10000_agent", resident_mb(daemons.agent, "Rss"), "MB")
                instance.stop()
        (used, count), (quiet, _) = costs[1000], costs[3600000]
        report("rescan_10000_cpu", 1000 * (used - quiet) / max(count, 1), "ms")


def netlink():
    with harness.daemon(settings={"collection.realtime": "netlink"}) as instance:
        instance.start()
        marker = f"short-{os.getpid()}"
        for number in range(2000):
            harness.exact_arguments("true", marker, str(number))
        load = storm.Storm(500, life_ms=50, jobs=20)
        load.wait()
        storm.settle(instance)
        rows = instance.query("SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND command_line LIKE :m",
                              "--param", f"m=true {marker} %")
        report("netlink_true_with_arguments", rows[0]["n"] / 20, "%")
        report("netlink_50_ms_with_arguments", 100 * storm.account(instance, load)["exact"] / load.count, "%")


def idle():
    with storm.Sleepers(500), harness.daemon() as instance:
        instance.start()
        storm.settle(instance)
        time.sleep(3)
        count = "SELECT count(*) AS n FROM process_events"
        events = instance.query(count)[0]["n"]
        daemons = Daemons(instance)
        begin = time.monotonic()
        time.sleep(65)
        elapsed = time.monotonic() - begin
        report("idle_500_procmond", 100 * daemons.used("procmond") / elapsed, "% of one core")
        report("idle_500_agent", 100 * daemons.used("agent") / elapsed, "% of one core")
        report("idle_500_events", instance.query(count)[0]["n"] - events, "events")
        instance.stop()


PARTS = {"storms": storms, "stopped": stopped_agent, "cpu": cpu, "latency": latency, "size": size_and_rescan,
         "netlink": netlink, "idle": idle}


def main():
    if not harness.ROOT:
        print("collection: needs root for the eBPF source", file=sys.stderr)
        return 1
    subprocess.run(["sync"], check=False)
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
