#!/usr/bin/env python3
"""`make soak`: both daemons under load for SOAK_SECONDS (default 600) while they are killed, a receiver of alerts goes
away and comes back, rules are changed and broken, the disk fills up and the clock is set; then the account is made:

- starts and ends of processes made = stored once + inside a recorded gap, whose losses are counted where they can be;
- alerts expected of what is stored = raised = delivered, or lying in the dead letters;
- the ledger verifies, with the events;
- resident memory over the second half, before which the last is killed, grows by at most 2 % (not judged below 300 s: caches
  fill first).

The clock is one of the daemons' own (own_clock.py): the machine's stays as it is. SOAK_SEED repeats the order of the
disturbances."""

import collections
import contextlib
import http.server
import json
import os
import random
import shutil
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
from own_clock import OwnClock  # noqa: E402

RATE = 60  # processes a second that are accounted for, of which each 20th raises an alert
DISK_BYTES, DISK_BYTES_A_SECOND = 256 << 20, 64 << 10  # of the state's own file system
CLOCK_SETTLES = 15  # seconds: a gap that was begun by another clock has ended by then
GROWTH = 0.02
KILLS_UNTIL = 0.4  # of the time: in the second half all is as it is in a daemon that runs for long
MEMORY_EVERY = 0.5  # seconds
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
        self.started = []  # (number, wall clock ns before, after, monotonic seconds before)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        begin = time.monotonic()
        number = 0
        while not self.stopping.wait(max(0.0, begin + number / RATE - time.monotonic())):
            before, moment = time.time_ns(), time.monotonic()
            subprocess.run(["true", f"{self.marker}-{number}-{'alert' if number % 20 == 0 else 'quiet'}"],
                           executable="/bin/true", check=False)
            self.started.append((number, before, time.time_ns(), moment))
            number += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()


class Work:
    """What else goes on at a machine that is used: shells and pipelines, bursts, programs that are new, long command
    lines, processes that stay. Nothing of it is accounted for by itself."""

    def __init__(self, folder, randomness):
        self.folder = folder
        self.random = randomness
        self.staying = collections.deque()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        kinds = (self._pipeline, self._burst, self._new_program, self._long_line, self._stay)
        while not self.stopping.wait(self.random.uniform(0.05, 0.6)):
            self.random.choice(kinds)()

    def _shell(self, script, *arguments):
        subprocess.run(["sh", "-c", script, "sh", *arguments], check=False, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def _pipeline(self):
        self._shell("ls /usr/bin | sort -r | head -n 20 | wc -l")

    def _burst(self):
        self._shell("i=0; while [ $i -lt 60 ]; do /bin/true $i; i=$((i + 1)); done")

    def _new_program(self):
        path = os.path.join(self.folder, f"program-{self.random.randrange(1000)}")
        shutil.copy("/bin/true", path)
        self._shell('echo >> "$1"; "$1"', path)
        os.unlink(path)

    def _long_line(self):
        self._shell('/bin/true "$@"', *["x" * self.random.randrange(2000) for _ in range(self.random.randrange(30))])

    def _stay(self):
        self.staying.append(subprocess.Popen(["sleep", "600"]))
        if len(self.staying) > 30:
            self._end(self.staying.popleft())

    @staticmethod
    def _end(process):
        process.kill()
        process.wait()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        for process in self.staying:
            self._end(process)


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

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """An agent that is killed resets its connections."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self):
        self.server.shutdown()
        self.server.server_close()


class Memory:
    """Resident size of the agent and the collector with its helper, in KiB, sampled until stopped."""

    def __init__(self, instance):
        self.instance = instance
        self.samples = []  # (monotonic seconds, part of a daemon -> KiB)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(MEMORY_EVERY):
            self.sample()

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def sample(self):
        daemons = self.instance.children()
        parts = collections.Counter()
        for name, pid in daemons.items():
            for member in (pid, *children_of(pid)):
                with contextlib.suppress(OSError), open(f"/proc/{member}/status", encoding="utf-8") as file:
                    for line in file:
                        if line.startswith("Rss"):  # RssAnon, RssFile, RssShmem
                            parts[f"{name} {line[3:line.index(':')].lower()}"] += int(line.split()[1])
        if len(daemons) == 2:
            self.samples.append((time.monotonic(), parts))

    def growth(self, since):
        """Of all, and in words, from the mean of the first third to that of the last: it goes up and down with each block
        of events that is sealed, about once a minute."""
        samples = [parts for moment, parts in self.samples if moment >= since]
        part = max(1, len(samples) // 3)

        def both(size):
            return [sum(map(size, of)) / len(of) / 1024 for of in (samples[:part], samples[-part:])]
        first, last = both(lambda one: one.total())
        told = []
        for name in sorted(samples[-1]):
            was, now = both(lambda one, name=name: one[name])
            told.append(f"{name} {was:.1f} -> {now:.1f}")
        return last / first - 1, f"{first:.1f} -> {last:.1f} MiB ({', '.join(told)})"


def children_of(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    return []


class Disturbances:
    """What happens to the daemons. Each ends what it began."""

    def __init__(self, instance, receiver, marker, disk, clock, randomness):
        self.instance, self.receiver, self.marker, self.disk, self.clock = instance, receiver, marker, disk, clock
        self.random = randomness
        self.done = collections.Counter()

    def kinds(self, kills):
        yield from (self.sink_outage, self.reload, self.broken_rule)
        if self.disk is not None:
            yield self.full_disk
        if self.clock is not None:
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
        with open(filler, "wb", buffering=0) as file:
            for size in (16 << 20, 1 << 20, 4 << 10):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        self._pause(1, 4)
        os.unlink(filler)

    def clock_step(self):
        """Some seconds, as a service that keeps time does, or an hour, as a person does; either way, and back."""
        self.clock.set(self.random.choice((1, -1)) * self.random.choice((self.random.uniform(1, 5), 3600)))
        self._pause(2.5, 4)  # procmond looks every two seconds
        self.clock.set(0)

    def _pause(self, low, high):
        time.sleep(self.random.uniform(low, high))  # how long the disturbance lasts


def rule(marker, extra=""):
    return RULE.format(marker=marker, extra=extra)


def stored(instance, marker, kind):
    """Number of a process -> how many rows of this kind it has."""
    rows = ask(instance, "SELECT command_line AS c, count(*) AS n FROM process_events WHERE kind = :k AND "
               "command_line LIKE :m GROUP BY 1", "--param", f"k={kind}", "--param", f"m=true {marker}-%")
    return {int(row["c"].split("-")[-2]): row["n"] for row in rows}


def ask(instance, sql, *parameters):
    """As harness.Daemon.query, with patience for hours of history."""
    result = instance.cli("--format", "json", "--timeout", "300s", "query", sql, *parameters, timeout=310)
    check(result.code in (0, 3), f"query: {result.code} {result.err}")
    return result.json()["rows"]


class Gaps:
    def __init__(self, instance, clock):
        self.clock = clock
        self.all = [json.loads(row["detail"]) for row in
                    ask(instance, "SELECT detail FROM process_events WHERE kind = 'gap'")]
        self.counted = sum(gap.get("count") or 0 for gap in self.all)
        self.widest = max(((gap["to"] - gap["from"]) / 1e9 for gap in self.all), default=0)

    def hold(self, begin, end, moment):
        """A process between these true times: by any clock that the daemons may have had about then."""
        offsets = {0}
        if self.clock is not None:
            offsets = self.clock.offsets_between(moment - CLOCK_SETTLES, moment + CLOCK_SETTLES)
        return any(gap["from"] <= end + offset and gap["to"] >= begin + offset for gap in self.all for offset in offsets)


def account(load, rows, gaps, what):
    """How many of these events are not stored, but inside a gap. A failure: more than once, or nowhere."""
    doubled = {number: count for number, count in rows.items() if count != 1}
    check(not doubled, f"{what} stored more than once: {doubled}")
    missing = [one for one in load.started if one[0] not in rows]
    unexplained = [one for one in missing if not gaps.hold(*one[1:])]
    check(not unexplained, f"{len(unexplained)} {what} neither stored nor in a gap: {unexplained[:5]} of "
          f"{len(load.started)}; gaps {gaps.all}")
    return len(missing)


def reconcile(instance, load, marker, receiver, clock):
    last = f"true {marker}-{load.started[-1][0]}-%"
    wait_for("the end of the last process in the store", lambda: ask(
        instance, "SELECT 1 FROM process_events WHERE kind = 'exit' AND command_line LIKE :m", "--param", f"m={last}"), 120)
    gaps = Gaps(instance, clock)
    rows = stored(instance, marker, "exec")
    inside = account(load, rows, gaps, "starts")
    ends_inside = account(load, stored(instance, marker, "exit"), gaps, "ends")

    expected = sum(1 for number in rows if number % 20 == 0)

    def raised():
        return ask(instance, "SELECT count(*) AS n FROM alerts WHERE rule_id = 'soak'")[0]["n"]

    wait_for(f"{expected} alerts raised", lambda: raised() == expected, 120)
    identities = {row["alert_id"] for row in ask(instance, "SELECT alert_id FROM alerts WHERE rule_id = 'soak'")}

    def letters():
        rows = instance.cli("--format", "json", "deadletter", "list", "--limit", "100000").json()["rows"]
        return {row["alert_id"] for row in rows}

    wait_for("each alert delivered or in the dead letters", lambda: identities <= set(receiver.bodies) | letters(), 180)
    check(set(receiver.bodies) <= identities, "nothing is delivered that was not raised")
    verified = instance.cli("--timeout", "600s", "audit", "verify", "--events", timeout=610)
    check(verified.code == 0, f"the ledger and the events verify: {verified.code} {verified.out} {verified.err}")
    twice = sum(1 for count in receiver.bodies.values() if count > 1)
    made = len(load.started)
    print(f"{made} starts = {made - inside} stored once + {inside} inside {len(gaps.all)} recorded gaps (the "
          f"widest {gaps.widest:.1f} s); {made} ends = {made - ends_inside} + {ends_inside}; the gaps count {gaps.counted} events of whatever process as lost; "
          f"{expected} alerts = {len(identities & set(receiver.bodies))} delivered ({twice} more than once, with the same "
          f"id) + {len(identities - set(receiver.bodies))} dead letters; ledger and events verify")


def soak(seconds, seed):
    randomness = random.Random(seed)
    marker = f"soak-{os.getpid()}"
    receiver = Receiver()
    with small_disk(DISK_BYTES + seconds * DISK_BYTES_A_SECOND) as disk:
        if disk is None:
            print("not done: full disks (no loop device can be mounted here)")
        folder = tempfile.mkdtemp(prefix="daemoneye-soak-", dir=disk.path if disk else "/var/tmp")
        settings = {
            "app.scan_interval_ms": 5000,
            "alerting.breaker.open_ms": 1000,
            "alerting.sinks": [{"type": "webhook", "name": "receiver", "url": f"http://127.0.0.1:{receiver.port}/alerts"}],
        }
        # Not on the disk that fills up.
        with (tempfile.TemporaryDirectory(prefix="daemoneye-soak-", dir="/var/tmp") as beside,
              daemon(rules={"soak.yaml": rule(marker)}, settings=settings, folder=folder) as instance):
            os.chmod(beside, 0o755)
            clock = OwnClock.make(beside)
            if clock is None:
                print("not done: steps of the clock (there is no C compiler)")
            instance.start(within=clock.within if clock else ())
            happens = Disturbances(instance, receiver, marker, disk.path if disk else None, clock, randomness)
            memory = Memory(instance)
            load, work = Load(marker), Work(beside, random.Random(seed))
            try:
                begin = time.monotonic()
                while (passed := time.monotonic() - begin) < seconds:
                    happens.one(kills=passed < seconds * KILLS_UNTIL)
                    time.sleep(randomness.uniform(0.2, 2))  # the calm between two disturbances
            finally:
                memory.stop()
                work.stop()
                load.stop()
            print(f"{seconds} s, seed {seed}: {dict(happens.done)}")
            reconcile(instance, load, marker, receiver, clock)
            if happens.done["clock_step"]:
                check(ask(instance, "SELECT 1 FROM audit_ledger WHERE action = 'clock_step'"), "the ledger has the clock")
            grown, told = memory.growth(begin + seconds / 2)
            print(f"resident memory of both over the second half {grown:+.1%}: {told}")
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
