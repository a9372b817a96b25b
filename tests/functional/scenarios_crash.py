"""Kill -9 of either daemon and of both, under load: what was acknowledged is there once, and gaps are named."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

from harness import BIN, check, daemon, exact_arguments, wait_for


class Load:
    """Starts marked processes, one after the other, until stopped; knows when each ran."""

    def __init__(self, marker):
        self.marker = marker
        self.started = []  # (number, wall clock ns before, after)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            before = time.time_ns()
            subprocess.run(["true", f"{self.marker}-{number}-"], executable="/bin/true", check=False)
            self.started.append((number, before, time.time_ns()))
            number += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()


def committed(instance, marker):
    """Number -> how many exec rows, of those in the store now."""
    rows = instance.query(
        "SELECT command_line AS c, count(*) AS n FROM process_events WHERE kind = 'exec' AND name = 'true' "
        "AND command_line LIKE :m GROUP BY 1", "--param", f"m=true {marker}-%")
    return {int(row["c"].split("-")[-2]): row["n"] for row in rows}


def gaps(instance):
    rows = instance.query("SELECT detail FROM process_events WHERE kind = 'gap'")
    return [json.loads(row["detail"]) for row in rows]


def kill_rounds(rounds):
    randomness = random.Random(20261121)
    with daemon(rules={}, settings={"app.scan_interval_ms": 2000}) as instance:
        instance.start()
        marker = f"crash-{os.getpid()}"
        load = Load(marker)
        seen = {}
        try:
            for number in range(rounds):
                victim = ["procmond", "daemoneye-agent", "both"][number % 3]
                before = len(load.started)
                goal = before + randomness.randrange(5, 60)
                wait_for("the load to go on", lambda goal=goal: len(load.started) >= goal)
                for key, count in committed(instance, marker).items():
                    seen[key] = count
                children = instance.children()
                for name, pid in children.items():
                    if victim in (name, "both") or name.startswith(victim[:15]):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                wait_for(f"both daemons again after the kill of {victim}", lambda old=children, victim=victim: (
                    len(instance.children()) == 2
                    and (victim == "both" and not set(old.values()) & set(instance.children().values())
                         or victim != "both" and set(old.values()) != set(instance.children().values()))))
                instance.wait_ready()
        finally:
            load.stop()
        last = len(load.started) - 1
        pid = exact_arguments("true", f"{marker}-{last + 1}-")
        wait_for("the last process in the store", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exec' AND pid = {pid} AND command_line LIKE '%{marker}%'"))
        final = committed(instance, marker)
        lost = [number for number in seen if number not in final]
        check(not lost, f"rows that were committed are gone: {lost}")
        doubled = {number: count for number, count in final.items() if count != 1}
        check(not doubled, f"rows are there more than once: {doubled}")
        recorded = gaps(instance)
        check(recorded, "gaps are recorded")
        unexplained = []
        for number, begin, end in load.started:
            if number in final:
                continue
            if not any(gap["from"] <= end and gap["to"] >= begin for gap in recorded):
                unexplained.append((number, begin, end))
        check(not unexplained, f"missing processes outside every gap: {unexplained[:5]} gaps: {recorded}")
        missing = len(load.started) - len([n for n, _, _ in load.started if n in final])
        print(f"{rounds} kills, {len(load.started)} processes, {missing} inside {len(recorded)} recorded gaps, "
              f"0 lost after their commit, 0 twice")

        # The gap taints what overlaps it, and nothing else.
        newest = max(gap["to"] for gap in recorded)
        result = instance.cli("--format", "json", "query", "SELECT count(*) AS n FROM process_events")
        check(result.code == 3, f"a result over a gap is degraded: exit {result.code}")
        reasons = {reason["reason"] for reason in result.json()["completeness"]["reasons"]}
        check("collector_unavailable" in reasons, f"it names the reason: {reasons}")
        result = instance.cli("--format", "json", "query",
                              "SELECT count(*) AS n FROM process_events WHERE time > :t", "--param", f"t={newest + 1}")
        check(result.code == 0, f"after the last gap the result is complete: exit {result.code} {result.out} {result.err}")
        health = instance.cli("health")
        check("collector_unavailable" in health.out, f"the gap is visible in health: {health.out}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        verify = instance.cli("audit", "verify")
        check(verify.code == 0, f"the ledger verifies: {verify.code} {verify.out} {verify.err}")


def scenario_killed_daemons_lose_nothing_that_was_committed():
    kill_rounds(12)


scenario_killed_daemons_lose_nothing_that_was_committed.needs_root = True


def scenario_alerts_survive_a_killed_agent():
    """Each match is alerted exactly once, however often the agent dies."""
    rule = """id: marked
title: Marked
description: A marked process.
severity: low
sql: |
  SELECT pid, command_line, process_key FROM process_events WHERE kind = 'exec' AND command_line LIKE 'true MARKER-%'
"""
    marker = f"alerts-{os.getpid()}"
    with daemon(rules={"marked.yaml": rule.replace("MARKER", marker)}) as instance:
        instance.start()
        total = 0
        for _ in range(4):
            for _ in range(20):
                exact_arguments("true", f"{marker}-{total}")
                total += 1
            pid = instance.children().get("daemoneye-agent")
            os.kill(pid, signal.SIGKILL)
            wait_for("a new agent", lambda pid=pid: instance.children().get("daemoneye-agent", pid) != pid)
            instance.wait_ready()
        wait_for("every process in the store", lambda: instance.query(
            "SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND command_line LIKE :m",
            "--param", f"m=true {marker}-%")[0]["n"] == total)
        wait_for("every alert", lambda: instance.query("SELECT count(*) AS n FROM alerts")[0]["n"] >= total)
        check(instance.stop() == 0, "a clean stop ends with 0")
        rows = instance.query("SELECT command_line AS c, count FROM alerts")
        check(len(rows) == total and {row["c"] for row in rows} == {f"true {marker}-{n}" for n in range(total)},
              f"each match is one alert: {len(rows)} of {total}")
        check(all(row["count"] == 1 for row in rows), "none was counted twice")
        delivered = {}
        for alert in instance.alerts():
            delivered.setdefault(alert["alert_id"], []).append(alert["command_line"])
        check({line for lines in delivered.values() for line in lines} == {f"true {marker}-{n}" for n in range(total)},
              "each alert was delivered; a repetition has the same id")


scenario_alerts_survive_a_killed_agent.needs_root = True


def scenario_an_older_store_is_recorded_as_a_gap():
    """The agent comes back with yesterday's file: what it lacks is named, and the rest goes on exactly once."""
    marker = f"rollback-{os.getpid()}"
    with daemon(rules={}) as instance:
        agent = ("--role", "alone")
        numbers = iter(range(1000))

        def run_some(count):
            ran = [next(numbers) for _ in range(count)]
            for number in ran:
                exact_arguments("true", f"{marker}-{number}-")
            wait_for("them in the store", lambda: set(ran) <= set(committed(instance, marker)))
            return ran

        instance.start(wait=False, arguments=agent)
        collector = subprocess.Popen([os.path.join(BIN, "procmond"), "--config", instance.config],
                                     stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            instance.wait_ready()
            kept = run_some(20)
            check(instance.stop() == 0, "a clean stop ends with 0")
            saved = os.path.join(instance.folder, "saved")
            shutil.copytree(instance.state, saved)
            instance.start(arguments=agent)
            forgotten = run_some(30)
            check(instance.stop() == 0, "a clean stop ends with 0")
            for name in os.listdir(instance.state):
                if name.startswith("events.redb") and not name.endswith((".lock", ".writer")):
                    path = os.path.join(instance.state, name)
                    owner = os.stat(path)
                    shutil.copyfile(os.path.join(saved, name), path)
                    os.chown(path, owner.st_uid, owner.st_gid)
            instance.start(arguments=agent)
            after = run_some(20)
            final = committed(instance, marker)
            check(all(final.get(number) == 1 for number in kept + after), f"before and after: once each: {final}")
            check(not set(forgotten) & set(final), "what was only in the newer file is gone")
            wait_for("the gap", lambda: any(gap["reason"] == "store_rolled_back" for gap in gaps(instance)))
            result = instance.cli("--format", "json", "query", "SELECT count(*) AS n FROM process_events")
            reasons = [reason for reason in result.json()["completeness"]["reasons"]
                       if reason["reason"] == "store_rolled_back"]
            check(result.code == 3 and len(reasons) == 1, f"the answer names it once: {result.out}")
        finally:
            collector.terminate()
            collector.wait(20)


scenario_an_older_store_is_recorded_as_a_gap.needs_root = True
