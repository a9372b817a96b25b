"""A storm of processes (bench/storm.c), and what the store knows of it afterwards."""

import collections
import json
import os
import subprocess
import time

from harness import BIN, Failure, exact_arguments

# As in bench/storm.c, by the process's number modulo 8.
PAYLOADS = [
    [],
    [b"short"],
    [b"", b"trailing space ", b""],
    [b"line\nbreak\ttab", b"\x01\x7f"],
    [b"\xff\xfe not UTF-8", "grüß".encode()],
    [b"\"quoted\" 'text' \\back", b"[name] (with) brackets"],
    [b"x" * 3000, b"after"],
    [b"--option=value", b"-x", b"/usr/share/some/longer/path/of/a/file.txt"],
]


def arguments_of(run, number, life=0):
    """What the store should show: bytes that are not UTF-8 are replaced one by one."""
    texts = ["storm-child", run, str(number), str(life)]
    return texts + [part.decode("utf-8", errors="replace") for part in PAYLOADS[number % 8]]


class Storm:
    """Runs by itself until wait(); `run` marks its processes: their second argument."""

    def __init__(self, count, rate=0, life_ms=0, jobs=None, run=None):
        self.count, self.life = count, life_ms
        self.run = run or f"storm-{os.getpid()}-{time.monotonic_ns()}"
        command = [os.path.join(BIN, "storm"), self.run, str(count), str(rate), str(life_ms)]
        self.process = subprocess.Popen(command + ([str(jobs)] if jobs else []), stdout=subprocess.PIPE, text=True)

    def wait(self):
        out, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise Failure(f"storm ended with {self.process.returncode}")
        self.report = json.loads(out)
        self.report["cpu_s"] = self.report["user_s"] + self.report["system_s"]
        return self.report


class Sleepers:
    """COUNT processes that sleep while the context lasts."""

    def __init__(self, count):
        self.count = count
        self.run = f"sleepers-{os.getpid()}-{time.monotonic_ns()}"

    def __enter__(self):
        self.process = subprocess.Popen([os.path.join(BIN, "storm"), self.run, str(self.count), "hold"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise Failure("storm could not start its sleepers")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)


def settle(instance, seconds=60):
    """Waits until what happened before this call is committed: a later process is in the store. Several are tried,
    since any one of them may be lost."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        marker = f"settle-{time.monotonic_ns()}"
        exact_arguments("true", marker)
        patience = time.monotonic() + 2
        while time.monotonic() < patience:
            if instance.query("SELECT 1 FROM process_events WHERE kind = 'exit' AND command_line = :c",
                              "--param", f"c=true {marker}"):
                return
            time.sleep(0.05)
    raise Failure(f"no process of after the storm was in the store within {seconds:g} s")


def gaps(instance):
    return [json.loads(row["detail"]) for row in
            instance.query("SELECT detail FROM process_events WHERE kind = 'gap' ORDER BY time")]


def lost(instance):
    """Events that the gaps in the store count as missing."""
    return sum(gap.get("count", 0) for gap in gaps(instance))


def rows_of(instance, run, kind):
    result = instance.cli("--format", "jsonl", "query", "SELECT process_key, arguments, exit_code FROM process_events "
                          f"WHERE kind = '{kind}' AND command_line LIKE 'storm-child {run} %'", timeout=120)
    if result.code not in (0, 3):
        raise Failure(f"query failed with {result.code}: {result.err}")
    return [json.loads(line) for line in result.out.splitlines()]


def account(instance, storm):
    """Every process of the storm against every row: how many are there once and exact, and what is not."""
    numbers = collections.Counter()
    found = collections.Counter()
    keys = {}
    for row in rows_of(instance, storm.run, "exec"):
        arguments = json.loads(row["arguments"])
        number = int(arguments[2])
        numbers[number] += 1
        keys[row["process_key"]] = number
        if arguments == arguments_of(storm.run, number, storm.life):
            found["exact"] += 1
        else:
            found["wrong"] += 1
    ends = collections.Counter()
    for row in rows_of(instance, storm.run, "exit"):
        ends[row["process_key"]] += 1
        number = keys.get(row["process_key"])
        if number is not None and row["exit_code"] == number % 100:
            found["exits"] += 1
    like = f"command_line LIKE 'storm-child {storm.run} %'"
    living = instance.query(f"SELECT count(*) AS n FROM processes WHERE status <> 'exited' AND {like}")[0]["n"]
    return {
        "started": storm.count,
        "exact": found["exact"],  # exec rows with exactly the arguments that were passed
        "wrong": found["wrong"],
        "missing": storm.count - len(numbers),
        "doubled": sum(count - 1 for count in numbers.values()),
        "keys_shared": sum(numbers.values()) - len(keys),  # two processes under one key
        "exits": found["exits"],  # ends of those, with the right code
        "ends_twice": sum(count - 1 for count in ends.values()),
        "without_end": sum(1 for key in keys if key not in ends),
        "living": living,
    }

