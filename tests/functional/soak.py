#!/usr/bin/env python3
"""`make soak`: both daemons under load for SOAK_SECONDS (default 600) while they are killed, a receiver of alerts goes
away and comes back, rules are changed and broken, and the disk fills up; then the account is made:

- processes made = stored once + inside a recorded gap;
- alerts expected of what is stored = raised = delivered, or lying in the dead letters;
- the ledger verifies, with the events;
- resident memory over the second half, in which nothing is killed, grows by at most 2 % (not judged below 300 s: caches
  fill first).

The machine's clock is stepped forth and back only where SOAK_CLOCK_STEPS=1 says so: all programs on it would see that.
SOAK_SEED repeats the order of the disturbances."""

import collections
import contextlib
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
os.environ.setdefault("DE_TEST_SOURCE", os.path.dirname(os.path.dirname(HERE)))
os.environ.setdefault("DE_TEST_BIN", os.path.join(os.environ["DE_TEST_SOURCE"], "build/release/bin"))

import harness  # noqa: E402  (after the environment is set)
from disk import small_disk  # noqa: E402
from harness import check, daemon, wait_for  # noqa: E402

RATE = 60  # processes a second, of which each 20th raises an alert
GROWTH = 0.02
JUDGED_FROM = 300  # seconds of soak
RULE = """
id: soak
title: A process of the soak test
description: Each process that says so in its arguments.
severity: low
{extra}
sql: |
  SELECT e.pid, e.command_line, e.process_key FROM process_events e
  WHERE e.kind = 'exec' AND e.command_line LIKE 'true {marker}-%-alert'
"""


class Load:
    """RATE marked processes a second until stopped; knows when each ran."""

    def __init__(self, marker):
        self.marker = marker
        self.started = []  # (number, wall clock ns before, after)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        begin = time.monotonic()
        number = 0
        while not self.stopping.wait(max(0.0, begin + number / RATE - time.monotonic())):
            before = time.time_ns()
            subprocess.run(["true", f"{self.marker}-{number}-{'alert' if number % 20 == 0 else 'quiet'}"],
                           executable="/bin/true", check=False)
            self.started.append((number, before, time.time_ns()))
            number += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()


class Receiver:
    """A webhook that can be away: then its port refuses."""

    def __init__(self):
        self.bodies = collections.Counter()  # alert id -> how often
        self.server = None
        self.port = 0
        self.come()

    def come(self):
        received = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802  (the library's name)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received[json.loads(body)["alert_id"]] += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        http.server.ThreadingHTTPServer.daemon_threads = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self):
        self.server.shutdown()
        self.server.server_close()


class Memory:
    """Resident size of the agent and the collector with its helper, in KiB, sampled while it is wanted."""

    def __init__(self, instance):
        self.instance = instance
        self.samples = []

    def sample(self):
        pids = list(self.instance.children().values())
        total = 0
        for pid in pids:
            for member in (pid, *children_of(pid)):
                with contextlib.suppress(OSError, StopIteration):
                    with open(f"/proc/{member}/status", encoding="utf-8") as file:
                        total += int(next(line for line in file if line.startswith("VmRSS")).split()[1])
        if len(pids) == 2:
            self.samples.append(total)

    def growth(self):
        part = max(1, len(self.samples) // 5)
        first, last = (sorted(of)[len(of) // 2] for of in (self.samples[:part], self.samples[-part:]))
        return last / first - 1, last


def children_of(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    return []


class Disturbances:
    """What happens to the daemons. Each ends what it began."""

    def __init__(self, instance, receiver, marker, disk, randomness):
        self.instance, self.receiver, self.marker, self.disk = instance, receiver, marker, disk
        self.random = randomness
        self.done = collections.Counter()

    def kinds(self, kills):
        yield from (self.sink_outage, self.reload, self.broken_rule)
        if self.disk is not None:
            yield self.full_disk
        if os.environ.get("SOAK_CLOCK_STEPS") == "1":
            yield self.clock_step
        if kills:
            yield from (self.kill_collector, self.kill_agent, self.kill_both)

    def one(self, kills):
        kind = self.random.choice(list(self.kinds(kills)))
        kind()
        self.done[kind.__name__] += 1

    def _kill(self, *names):
        before = self.instance.children()
        victims = {pid for name, pid in before.items() if name.startswith(names)}
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def again():
            now = self.instance.children()
            return len(now) == 2 and not victims & set(now.values())

        wait_for(f"{' and '.join(names)} again after the kill", again)
        self.instance.wait_ready()

    def kill_collector(self):
        self._kill("procmond")

    def kill_agent(self):
        self._kill("daemoneye")

    def kill_both(self):
        self._kill("procmond", "daemoneye")

    def sink_outage(self):
        self.receiver.go()
        self._pause(1, 6)
        self.receiver.come()

    def reload(self):
        self.instance.write_rule("soak.yaml", rule(self.marker, f"tags: [soak.{self.random.randrange(1000)}]"))

    def broken_rule(self):
        self.instance.write_rule("soak.yaml", "id: soak\nsql: SELECT of nothing\n")
        self._pause(0.5, 2)
        self.instance.write_rule("soak.yaml", rule(self.marker))

    def full_disk(self):
        filler = os.path.join(self.disk, "filler")
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        self._pause(1, 4)
        os.unlink(filler)

    def clock_step(self):
        for step in (-3.0, 3.0):
            time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
            self._pause(1, 2)

    def _pause(self, low, high):
        time.sleep(self.random.uniform(low, high))  # how long the disturbance lasts


def rule(marker, extra=""):
    return RULE.format(marker=marker, extra=extra)


def stored(instance, marker):
    """Number of a process -> how many exec rows it has."""
    rows = instance.query("SELECT command_line AS c, count(*) AS n FROM process_events WHERE kind = 'exec' AND "
                          "command_line LIKE :m GROUP BY 1", "--param", f"m=true {marker}-%")
    return {int(row["c"].split("-")[-2]): row["n"] for row in rows}


def reconcile(instance, load, marker, receiver):
    last = load.started[-1][0]
    wait_for("the last process in the store", lambda: stored(instance, marker).get(last), 120)
    rows = stored(instance, marker)
    doubled = {number: count for number, count in rows.items() if count != 1}
    check(not doubled, f"processes stored more than once: {doubled}")
    gaps = [json.loads(row["detail"]) for row in
            instance.query("SELECT detail FROM process_events WHERE kind = 'gap'")]
    inside = 0
    unexplained = []
    for number, begin, end in load.started:
        if number in rows:
            continue
        if any(gap["from"] <= end and gap["to"] >= begin for gap in gaps):
            inside += 1
        else:
            unexplained.append((number, begin, end))
    check(not unexplained, f"{len(unexplained)} processes neither stored nor in a gap: {unexplained[:5]} gaps {gaps}")

    expected = sum(1 for number in rows if number % 20 == 0)

    def raised():
        return instance.query("SELECT count(*) AS n FROM alerts WHERE rule_id = 'soak'")[0]["n"]

    wait_for(f"{expected} alerts raised", lambda: raised() == expected, 120)
    identities = {row["alert_id"] for row in instance.query("SELECT alert_id FROM alerts WHERE rule_id = 'soak'")}

    def letters():
        rows = instance.cli("--format", "json", "deadletter", "list", "--limit", "100000").json()["rows"]
        return {row["alert_id"] for row in rows}

    wait_for("each alert delivered or in the dead letters", lambda: identities <= set(receiver.bodies) | letters(), 180)
    check(set(receiver.bodies) <= identities, "nothing is delivered that was not raised")
    verified = instance.cli("audit", "verify", "--events", timeout=300)
    check(verified.code == 0, f"the ledger and the events verify: {verified.code} {verified.out} {verified.err}")
    twice = sum(1 for count in receiver.bodies.values() if count > 1)
    print(f"{len(load.started)} processes: {len(rows)} stored once, {inside} inside {len(gaps)} recorded gaps, 0 lost, "
          f"0 twice; {expected} alerts: {len(identities & set(receiver.bodies))} delivered ({twice} more than once, with "
          f"the same id), {len(identities - set(receiver.bodies))} dead letters; ledger and events verify")


def soak(seconds, seed):
    randomness = random.Random(seed)
    marker = f"soak-{os.getpid()}"
    receiver = Receiver()
    with small_disk(256 << 20) as disk:
        if disk is None:
            print("not done: full disks (no loop device can be mounted here)")
        folder = tempfile.mkdtemp(prefix="daemoneye-soak-", dir=disk.path if disk else "/var/tmp")
        settings = {
            "app.scan_interval_ms": 5000,
            "alerting.breaker.open_ms": 1000,
            "alerting.sinks": [{"type": "webhook", "name": "receiver", "url": f"http://127.0.0.1:{receiver.port}/alerts"}],
        }
        with daemon(rules={"soak.yaml": rule(marker)}, settings=settings, folder=folder) as instance:
            instance.start()
            happens = Disturbances(instance, receiver, marker, disk.path if disk else None, randomness)
            memory = Memory(instance)
            load = Load(marker)
            try:
                begin = time.monotonic()
                while (passed := time.monotonic() - begin) < seconds:
                    happens.one(kills=passed < seconds / 2)
                    if passed > seconds / 2:
                        memory.sample()
                    time.sleep(randomness.uniform(0.2, 2))  # the calm between two disturbances
            finally:
                load.stop()
            print(f"{seconds} s, seed {seed}: {dict(happens.done)}")
            reconcile(instance, load, marker, receiver)
            grown, size = memory.growth()
            print(f"resident memory of both at the end {size / 1024:.0f} MiB, {grown:+.1%} over the second half")
            if seconds >= JUDGED_FROM:
                check(grown <= GROWTH, f"resident memory grew by {grown:.1%}, allowed are {GROWTH:.0%}")
            check(instance.stop(60) == 0, "a clean stop ends with 0")
    receiver.go()


def main():
    if not harness.ROOT:
        sys.exit("make soak needs root")
    try:
        soak(int(os.environ.get("SOAK_SECONDS", "600")), int(os.environ.get("SOAK_SEED", str(os.getpid()))))
    except harness.Failure as failure:
        sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
