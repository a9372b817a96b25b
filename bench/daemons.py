#!/usr/bin/env python3
"""Both daemons as they come, with default settings and the bundled rules: what they cost, how late and how big they are.

Prints one JSON list of {name, value, unit}. Method, part by part (`python3 bench/daemons.py [PART…]` runs some alone):

- load: CPU of agent and procmond (all threads, with procmond's hashing helper), from /proc/PID/task/TID/schedstat, as a
  share of one core: for 30 s in which nothing of ours happens, beside 500 sleeping processes; at 100 and at 1,600
  processes a second (bench/storm.c), which no rule matches; at 100 /bin/true a second, each of which raises an alert.
  `events`: what was stored meanwhile, a start and an end a process; more than that is what else ran on the machine.
  `event_to_alert`: from before fork and exec to the alert's line on stdout.
- resident: all processes of both daemons, the supervisor left out, after a storm of 20,000 processes, with 500 and with
  10,000 processes asleep and, beside 500, with 1,000 rules more; and after 27,000 processes with command lines of 1 to
  3 KB, as compilers have them, at 100 a second. `sum` counts what they share as often as they do; `pss` once.
- first_event: from the start of `make run`, with everything built and set up, to the first event in the store; and what
  of that is the daemons' own, from the start of daemoneye-agent on. Needs the release build in the checkout itself, and
  no other instance that runs from it.
- verbs: each verb of daemoneye-cli that only looks, on an idle instance: median of seven runs, from fork to exit.
"""

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)

from collection import Daemons, quantile, resident_mb, with_descendants  # noqa: E402  (finds the harness, too)
import harness  # noqa: E402
import storm  # noqa: E402

PROCESSES = 500
RATE = 100.0  # a second, of alerts
LOAD_SECONDS, IDLE_SECONDS = 15, 30
SLEEPERS = 500
RUNS = 7

RULE = """id: bench-marker
title: Bench marker
description: A process of the latency benchmark.
severity: low
sql: |
  SELECT pid, command_line, process_key FROM process_events WHERE kind = 'exec' AND command_line LIKE 'true bench-marker-%'
"""

results = []


def report(name, value, unit):
    results.append({"name": name, "value": value, "unit": unit})
    print(f"{name:48} {value:12.4g} {unit}", file=sys.stderr, flush=True)


def measured(instance, phase, work):
    count = "SELECT count(*) AS n FROM process_events"
    events = instance.query(count)[0]["n"]
    daemons = Daemons(instance)
    begin = time.monotonic()
    work()
    elapsed = time.monotonic() - begin
    shares = {name: 100 * daemons.used(name) / elapsed for name in ("agent", "procmond")}
    for name, share in shares.items():
        report(f"cpu_{phase}_{name}", share, "% of one core")
    report(f"cpu_{phase}_both", sum(shares.values()), "% of one core")
    report(f"cpu_{phase}_events", (instance.query(count)[0]["n"] - events) / elapsed, "events/s")


def alerts_one_by_one(started, arrived):
    begin = time.monotonic()
    for number in range(PROCESSES):
        due = begin + number / RATE
        if due > time.monotonic():
            time.sleep(due - time.monotonic())
        started[number] = time.monotonic()
        subprocess.run(["true", f"bench-marker-{number}"], executable="/bin/true", check=False)
    harness.wait_for("every alert", lambda: len(arrived) == PROCESSES, 30)


def load():
    started, arrived = {}, {}
    with storm.Sleepers(SLEEPERS), harness.daemon() as instance:
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

        threading.Thread(target=read, daemon=True).start()
        storm.settle(instance)
        time.sleep(3)
        measured(instance, "idle", lambda: time.sleep(IDLE_SECONDS))
        for rate in (100, 1600):
            measured(instance, f"at_{rate}_exec_s", lambda r=rate: storm.Storm(r * LOAD_SECONDS, r).wait())
        storm.settle(instance)
        measured(instance, "at_100_exec_s_each_an_alert", lambda: alerts_one_by_one(started, arrived))
        instance.stop()
    latency = [1000 * (arrived[number] - started[number]) for number in started]
    for name, q in (("p50", 0.50), ("p99", 0.99), ("max", 1)):
        report(f"event_to_alert_{name}", quantile(latency, q), "ms")


def many_rules(count):
    """As rule collections have them: names, parts of command lines, paths, regular expressions."""
    conditions = ("name IN ('{0}', '{0}-ng')", "name IN ('sh', 'bash') AND command_line LIKE '%{0}%'",
                  "command_line REGEXP '(?i)(^|[\\s/]){0}\\s+(-[a-z]*d|--decode)'", "executable_path GLOB '/opt/{0}/*'",
                  "command_line LIKE '% --{0}=%' AND uid > 0")
    return {f"bench-{i}.yaml": f"id: bench-{i}\ntitle: Bench {i}\nseverity: medium\nsql: |\n  SELECT process_key, pid, name, "
                               "command_line FROM process_events WHERE kind = 'exec' AND "
                               f"({conditions[i % len(conditions)].format(f'tool{i}x')})\n" for i in range(count)}


def long_commands(count, rate):
    """`count` shells that run two programs each, as a build does."""
    options = " ".join(f"-I../../src/some/folder/number{i} -DVALUE_{i}=value" for i in range(20))
    begin = time.monotonic()
    for number in range(count):
        due = begin + number / rate
        if due > time.monotonic():
            time.sleep(due - time.monotonic())
        subprocess.run(["/bin/sh", "-c", f"/bin/true {options} -o /tmp/{number}.o; /bin/true {number}.cc {options}; exit 0"],
                       check=False)


def report_resident(prefix, instance):
    children = instance.children()
    pids = [children["daemoneye-agent"], *with_descendants(children["procmond"])]
    report(f"resident_{prefix}_sum", resident_mb(pids, "Rss"), "MB")
    report(f"resident_{prefix}_pss", resident_mb(pids, "Pss"), "MB")
    report(f"resident_{prefix}_agent", resident_mb(pids[:1], "Rss"), "MB")
    report(f"resident_{prefix}_procmond", resident_mb(pids[1:2], "Rss"), "MB")


def resident():
    for prefix, sleepers, rules in (("500_processes", 500, 0), ("10000_processes", 10000, 0), ("1000_rules", 500, 1000)):
        with storm.Sleepers(sleepers), harness.daemon() as instance:
            for name, text in many_rules(rules).items():
                instance.write_rule(name, text)
            instance.start()
            storm.Storm(20000, 1600).wait()
            storm.settle(instance)
            harness.wait_for("all processes in the table", lambda i=instance, n=sleepers: int(
                i.health()["collector"]["details"]["processes"]) >= n)
            report_resident(prefix, instance)
            instance.stop()
    with storm.Sleepers(SLEEPERS), harness.daemon() as instance:
        instance.start()
        long_commands(9000, 33.3)
        storm.settle(instance)
        report_resident("long_commands", instance)
        instance.stop()


def last_event(database):
    """The number of the newest event in the store; 0: there is none, or no store yet."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return 0
    try:
        row = connection.execute("SELECT max((SELECT coalesce(max(first_event + events) - 1, 0) FROM tail), "
                                 "(SELECT coalesce(max(last_event), 0) FROM blocks))").fetchone()
        return row[0]
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def time_to_first_event(process, begin, database):
    before = last_event(database)
    while last_event(database) <= before:
        harness.check(process.poll() is None, "the daemons ended before there was an event")
        harness.check(time.monotonic() < begin + 60, "no event was stored within 60 s")
        time.sleep(0.002)
    return 1000 * (time.monotonic() - begin)


def first_event():
    times = []
    for _ in range(RUNS):
        with harness.daemon() as instance:
            begin = time.monotonic()
            instance.start(wait=False)
            times.append(time_to_first_event(instance.process, begin, instance.database))
            instance.stop()
    report("first_event_after_start_of_agent", statistics.median(times), "ms")
    agent = os.path.join(ROOT, "build/release/bin/daemoneye-agent")
    database = os.path.join(ROOT, "var/state/events.redb")
    if os.path.realpath(harness.BIN) != os.path.dirname(os.path.realpath(agent)):
        print("not run: first_event_after_make_run: these are not the programs that make run starts", file=sys.stderr)
        return
    times = []
    for _ in range(3):
        begin = time.monotonic()
        process = subprocess.Popen(["make", "run"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            times.append(time_to_first_event(process, begin, database))
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
    report("first_event_after_make_run", statistics.median(times), "ms")


def verbs():
    """Whatever only looks; what changes something waits for commits, and is not the CLI's time."""
    with harness.daemon() as instance:
        instance.start()
        harness.exact_arguments("true", "bench-verbs")
        storm.settle(instance)
        pid, rule = str(os.getpid()), os.path.join(instance.rules, "crypto-miner.yaml")
        commands = {
            "help": ["--help"], "version": ["--version"],
            "query": ["query", "SELECT name, count(*) FROM process_events GROUP BY name"],
            "query_validate": ["query", "--validate", "SELECT pid FROM processes"],
            "tables": ["tables"], "schema": ["schema"], "ps": ["ps"], "ps_tree": ["ps", "--tree"], "tree": ["tree", pid],
            "rules_list": ["rules", "list"], "rules_show": ["rules", "show", "crypto-miner"],
            "rules_validate": ["rules", "validate", rule], "alerts_list": ["alerts", "list"], "sinks_list": ["sinks", "list"],
            "deliveries_list": ["deliveries", "list"], "deadletter_list": ["deadletter", "list"],
            "audit_verify": ["audit", "verify"], "audit_show": ["audit", "show"], "health": ["health"],
            "doctor": ["doctor"], "metrics": ["metrics"], "config_show": ["config", "show"],
            "config_validate": ["config", "validate"], "config_get": ["config", "get", "app.batch_size"],
            "db_stats": ["db", "stats"], "db_check": ["db", "check"], "export": ["export"],
            "completion": ["completion", "bash"],
        }
        slowest = ("", 0)
        for name, arguments in commands.items():
            times, code = [], 0
            for _ in range(RUNS):
                begin = time.monotonic()
                code = subprocess.run([os.path.join(harness.BIN, "daemoneye-cli"), "--config", instance.config, *arguments],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      check=False).returncode
                times.append(1000 * (time.monotonic() - begin))
            # 3: degraded, and told all the same.
            if code not in (0, 3):
                print(f"not run: verb {name}: exit {code}", file=sys.stderr)
                continue
            report(f"verb_{name}", statistics.median(times), "ms")
            slowest = max(slowest, (name, statistics.median(times)), key=lambda entry: entry[1])
        report("verb_slowest", slowest[1], "ms")


PARTS = {"load": load, "resident": resident, "first_event": first_event, "verbs": verbs}


def main():
    if not harness.ROOT:
        print("daemons: needs root for the eBPF source", file=sys.stderr)
        return 1
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
