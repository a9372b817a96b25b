"""The event store's file as an operator sees it: check, backup, compact, purge, damage, a stuck reader."""

import contextlib
import datetime
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from disk import small_disk
from harness import BIN, ROOT, check, daemon, exact_arguments, wait_for

EVENTS = "SELECT count(*) AS n FROM process_events"


def count(instance, *arguments):
    return instance.cli("--format", "json", *arguments, "query", EVENTS).json()["rows"][0]["n"]


@contextlib.contextmanager
def load(instance):
    """Processes come and go until the end of the block."""
    over = threading.Event()

    def run():
        number = 0
        while not over.is_set():
            exact_arguments("true", f"load-{number}", "x" * 500)
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def scenario_database_is_checked_copied_and_compacted_while_the_agent_runs():
    with daemon(rules={}) as instance:
        instance.start()
        copy = os.path.join(instance.folder, "copy.redb")
        with load(instance):
            wait_for("some history", lambda: count(instance) > 500)
            checked = instance.cli("--format", "json", "db", "check")
            check(checked.code == 0, f"a sound store beside its writer: {checked.code} {checked.out} {checked.err}")
            check(checked.json()["checked"]["damages"] == 0 and checked.json()["checked"]["events"] > 500, checked.out)
            before = count(instance)
            copied = instance.cli("--format", "json", "db", "backup", copy)
            check(copied.code == 0, f"backup: {copied.code} {copied.err}")
            check(copied.json()["rows"][0]["events"] >= before, f"all that was committed is in it: {copied.out}")
            check(not os.path.exists(copy + "-wal"), "the copy is one file")
            check(os.stat(copy).st_mode & 0o777 == 0o640, "and not for everybody")
            again = instance.cli("db", "backup", copy, stdin="")
            check(again.code == 2 and "--yes" in again.err, f"it is not replaced unasked: {again.code} {again.err}")
            check(instance.cli("db", "backup", copy, "--yes").code == 0, "with --yes it is")
            check(instance.cli("db", "backup", instance.database, "--yes").code == 2, "the running store never is")
            for verb in (["db", "analyze"], ["db", "compact"]):
                done = instance.cli(*verb)
                check(done.code == 0, f"{verb}: {done.code} {done.err}")
        check(instance.cli("--db", copy, "db", "check").code == 0, "the copy is sound")
        check(count(instance, "--db", copy) >= before, "and can be queried")
        check(instance.cli("--db", copy, "db", "compact").code == 0, "and compacted by itself")
        if ROOT:
            stranger = instance.cli("db", "compact", user="nobody", groups="daemoneye")
            check(stranger.code == 4 and "daemoneye-admin" in stranger.err, f"a reader changes nothing: {stranger.err}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        stopped = instance.cli("db", "compact")
        check(stopped.code == 4 and "--db" in stopped.err, f"without the agent: {stopped.code} {stopped.err}")


def scenario_database_purge_asks_is_recorded_and_answers_say_so():
    with daemon(rules={}) as instance:
        instance.start()
        with load(instance):
            wait_for("some history", lambda: count(instance) > 300)
        asked = instance.cli("db", "purge", "--all", stdin="n\n")
        check(asked.code == 1 and "y/N" in asked.err, f"it asks: {asked.code} {asked.err}")
        check(instance.cli("db", "purge").code == 2, "and must be told what")
        check(count(instance) > 300, "nothing is gone")
        purged = instance.cli("--format", "json", "db", "purge", "--all", "--yes")
        check(purged.code == 0 and purged.json()["rows"][0]["events_removed"] > 300, f"{purged.out} {purged.err}")
        # Whatever else the machine runs goes on being recorded.
        first = instance.query("SELECT min(event_id) AS id FROM process_events")[0]["id"]
        check(first is None or first > 300, f"it is gone: the first event is {first}")
        answer = instance.cli("query", EVENTS)
        check(answer.code == 3 and "purged" in answer.err, f"an answer over it is degraded: {answer.code} {answer.err}")
        wait_for("the audit entry", lambda: instance.query(
            "SELECT payload FROM audit_ledger WHERE action = 'agent.store_purge'"))
        check(instance.cli("db", "check").code == 0, "the store is sound")
        check(instance.stop() == 0, "a clean stop ends with 0")
        own = instance.cli("--db", instance.database, "db", "purge", "--all", "--yes")
        check(own.code == 4 and "ledger" in own.err, f"the agent's own store needs the agent: {own.code} {own.err}")


def scenario_database_damage_stops_the_agent_until_it_is_told_to_set_it_aside():
    with daemon(rules={}) as instance:
        instance.start()
        exact_arguments("true", "before")
        wait_for("the row", lambda: count(instance) > 0)
        check(instance.stop() == 0, "a clean stop ends with 0")
        # The catalogue's first pages: nothing can be opened without them.
        with open(instance.database, "r+b") as file:
            file.seek(60)
            file.write(b"\xff" * 3000)
        check(instance.cli("db", "check").code == 5, "db check finds it")
        instance.start(wait=False)
        check(instance.process.wait(30) == 5, f"ends with 5, not {instance.process.returncode}: {instance.errors()}")
        check("set_aside" in instance.errors(), "and says what can be done")
        instance.start(arguments=("--set", "database.on_damage=set_aside"))
        kept = [name for name in os.listdir(instance.state) if re.fullmatch(r"events\.damaged-\d+T\d+Z\.redb", name)]
        check(len(kept) == 1, f"the damaged file is kept: {os.listdir(instance.state)}")
        health = instance.health()["store"]
        check(health["state"] == "degraded" and kept[0] in health["reason"], f"health names it: {health}")
        check(instance.cli("db", "check").code == 0, "the new store is sound")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_database_flipped_bit_in_history_degrades_answers_and_is_named():
    with daemon(rules={}) as instance:
        instance.start()
        with load(instance):
            wait_for("two blocks", lambda: instance.cli("--format", "json", "db", "stats").json()["rows"][0]["blocks"] > 1,
                     120)
        check(instance.stop() == 0, "a clean stop ends with 0")
        whole = count(instance)
        # Somewhere in the bulk of the file, which is chunks.
        size = os.path.getsize(instance.database)
        generator = random.Random(1)

        def flip():
            with open(instance.database, "r+b") as file:
                at = generator.randrange(size // 4, size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << generator.randrange(8)]))
            result = instance.cli("--format", "json", "query",
                                  "SELECT command_line, cwd, cgroup, name, executable_path FROM process_events")
            if result.code == 5:
                return True
            check(result.code == 3, f"the answer is marked: {result.code} {result.err[:500]}")
            reasons = {reason["reason"] for reason in result.json()["completeness"]["reasons"]}
            return "corrupt_block" in reasons

        wait_for("a flipped bit to be met", flip, 60)
        found = instance.cli("--format", "json", "db", "check")
        check(found.code == 5, f"db check: {found.code}")
        check(any(row["part"] in ("block", "pages") for row in found.json()["rows"]), found.out[:1000])
        check(whole > 0, "there was something")


def scenario_database_stuck_reader_is_named_by_its_pid_in_health():
    """A query that is stopped in the middle holds its snapshot; the write-ahead log cannot shrink."""
    with daemon(rules={}) as instance:
        instance.start()
        with load(instance):
            wait_for("some history", lambda: count(instance) > 500)
            reader = subprocess.Popen(
                [os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "--timeout", "20m", "query",
                 "SELECT count(*) FROM process_events a JOIN process_events b ON a.time < b.time "
                 "JOIN process_events c ON b.time < c.time"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                inode = os.stat(instance.database + "-shm").st_ino

                def holds_a_snapshot():
                    with open("/proc/locks", encoding="ascii") as locks:
                        return any(f" {reader.pid} " in line and f":{inode} " in line
                                   and 123 <= int(line.split()[6]) <= 127 for line in locks)

                wait_for("the query's snapshot", holds_a_snapshot)
                reader.send_signal(signal.SIGSTOP)
                health = wait_for("health to name the reader", lambda: (
                    lambda store: store if f"pid {reader.pid} " in store["reason"] else None)(
                        instance.health()["store"]), 200)
                check(health["state"] != "ok" and "write-ahead log" in health["reason"], f"{health}")
            finally:
                reader.kill()
                reader.wait()
            wait_for("a healthy store when it is gone", lambda: "pid" not in instance.health()["store"]["reason"], 60)
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_database_past_is_reconstructed():
    """`ps --at`: who lived then and as what, whoever ended, started or became something else since."""
    with daemon(rules={}) as instance:
        instance.start()
        mark = f"past-{os.getpid()}"

        def at(moment):
            listed = instance.cli("--format", "json", "ps", "--at", moment)
            check(listed.code in (0, 3), f"ps --at: {listed.code} {listed.err}")
            return {row["pid"]: row["command_line"] for row in listed.json()["rows"] if mark in str(row["command_line"])}

        def told(command_line, kind):
            return wait_for(f"{kind} of {command_line}", lambda: instance.query(
                "SELECT time AS t FROM process_events WHERE kind = :k AND command_line = :c",
                "--param", f"k={kind}", "--param", f"c={command_line}"))[0]["t"]

        def begin(*words):
            return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

        ends = begin("sh", "-c", "read x; exit", f"{mark}-ends")
        becomes = begin("sh", "-c", "read x; exec cat /dev/stdin $0", f"{mark}-becomes")
        stays = begin("cat", "/dev/stdin", f"/dev/null/{mark}-stays")
        try:
            before = {}
            for process, line in ((ends, f"sh -c read x; exit {mark}-ends"),
                                  (becomes, f"sh -c read x; exec cat /dev/stdin $0 {mark}-becomes"),
                                  (stays, f"cat /dev/stdin /dev/null/{mark}-stays")):
                told(line, "exec")
                before[process.pid] = line
            moment = datetime.datetime.now(datetime.timezone.utc).isoformat()
            ends.communicate(b"\n")
            becomes.stdin.write(b"\n")
            becomes.stdin.flush()
            told(f"cat /dev/stdin {mark}-becomes", "exec")
            told(f"sh -c read x; exit {mark}-ends", "exit")
            late = begin("cat", "/dev/stdin", f"{mark}-late")
            try:
                told(f"cat /dev/stdin {mark}-late", "exec")
                check(at(moment) == before, f"then: {at(moment)}, not {before}")
                now = {becomes.pid: f"cat /dev/stdin {mark}-becomes", late.pid: f"cat /dev/stdin {mark}-late",
                       stays.pid: before[stays.pid]}
                check(at("0s") == now, f"now: {at('0s')}, not {now}")
            finally:
                late.kill()
                late.wait()
        finally:
            for process in (ends, becomes, stays):
                process.kill()
                process.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_database_that_may_not_be_written_pauses_and_resumes():
    """Writing is refused while it runs, as on a file system that has become read-only: nothing is lost by it."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 60000}) as instance:
        instance.start()
        log = instance.database + "-wal"

        def refuse(yes):
            return subprocess.run(["chattr", "+i" if yes else "-i", log], check=False, stderr=subprocess.DEVNULL)

        if refuse(True).returncode != 0:
            print("skipped: the file system has no immutable files")
            check(instance.stop() == 0, "a clean stop ends with 0")
            return
        mark = f"refused-{os.getpid()}"
        total = 0
        try:
            def push():
                nonlocal total
                for _ in range(20):
                    exact_arguments("true", f"{mark}-{total}")
                    total += 1
                return instance.health()["store"]["state"] == "failed"

            wait_for("health to say that the store is paused", push)
            reason = instance.health()["store"]["reason"]
            check("I/O error" in reason and "ingestion waits" in reason, f"with the reason: {reason}")
            read = instance.cli("query", EVENTS)
            check(read.code in (0, 3), f"what is there can be read: {read.code} {read.err}")
        finally:
            refuse(False)
        wait_for("every event when it may be written again", lambda: instance.query(
            "SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND command_line LIKE :m",
            "--param", f"m=true {mark}-%")[0]["n"] == total)
        wait_for("a healthy store", lambda: instance.health()["store"]["state"] == "ok")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_database_that_may_not_be_written_pauses_and_resumes.needs_root = True


def scenario_database_on_a_file_system_that_becomes_read_only():
    """As the kernel does it after an error of the disk: reading goes on, health says why nothing is written, and what
    was acknowledged is there after the repair; the rest is there too or inside a recorded gap."""
    with small_disk(64 << 20) as disk:
        if disk is None:
            print("skipped: no loop device can be mounted here")
            return
        settings = {"app.scan_interval_ms": 60000, "app.state_dir": os.path.join(disk.path, "state")}
        with daemon(rules={}, settings=settings) as instance:
            instance.settings["audit.path"] = instance.audit
            instance.write_config()
            instance.start()
            mark = f"read-only-{os.getpid()}"
            stored = "SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND command_line LIKE :m"

            def stored_of(which):
                return instance.query(stored, "--param", f"m=true {mark}-{which}-%")[0]["n"]

            for number in range(30):
                exact_arguments("true", f"{mark}-before-{number}")
            wait_for("what came before", lambda: stored_of("before") == 30)
            disk.abort()
            begin = time.time_ns()

            def push():
                exact_arguments("true", f"{mark}-during-0")
                return instance.health()["store"]["state"] == "failed"

            wait_for("health to say that the store is paused", push)
            reason = instance.health()["store"]["reason"]
            check("Read-only file system" in reason and "ingestion waits" in reason, f"with the reason: {reason}")
            check(stored_of("before") == 30, "what is there can be read")
            check(instance.stop(60) == 0, "a clean stop ends with 0")
            end = time.time_ns()
            disk.mend()
            instance.start()
            check(stored_of("before") == 30, "what was acknowledged is there")

            def told():
                gaps = [json.loads(row["detail"]) for row in instance.query(
                    "SELECT detail FROM process_events WHERE kind = 'gap'")]
                return stored_of("during") > 0 or any(gap["from"] <= end and gap["to"] >= begin for gap in gaps)

            wait_for("what was not written to be in a gap", told)
            check(instance.cli("db", "check").code == 0, "the file is whole")
            check(instance.stop() == 0, "a clean stop ends with 0")


scenario_database_on_a_file_system_that_becomes_read_only.needs_root = True


def scenario_database_health_measures_open_read_and_commit():
    with daemon(rules={}) as instance:
        instance.start()
        details = instance.health()["store"]["details"]
        for key in ("open_ms", "read_ms", "commit_ms"):
            check(float(details[key]) > 0, f"{key} is measured: {details}")
        check(instance.stop() == 0, "a clean stop ends with 0")
