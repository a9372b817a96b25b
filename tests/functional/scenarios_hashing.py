"""Hashes of executables: known at once or told by a change, of what runs and of nothing else."""

import hashlib
import json
import os
import shutil
import signal
import subprocess

from harness import ROOT, check, daemon, wait_for


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def make_program(path, mark):
    """A copy of sleep with a tail of its own, so that no other file has its hash."""
    shutil.copy("/bin/sleep", path + ".new")
    with open(path + ".new", "ab") as file:
        file.write(mark.encode())
    os.rename(path + ".new", path)
    return sha256(path)


def events(instance, pid):
    rows = instance.query("SELECT kind, executable_hash, executable_state, executable_path, detail, status "
                          f"FROM process_events WHERE pid = {pid} ORDER BY event_id")
    for row in rows:
        row["detail"] = json.loads(row["detail"]) if row["detail"] else {}
    return rows


def hash_change(instance, pid):
    """What a `change` says of the hash of this process, once it does."""
    return wait_for(f"a change with the hash of {pid}", lambda: next(
        (row for row in events(instance, pid) if row["kind"] == "change" and "executable_hash" in row["detail"]), None))


def scenario_executables_are_hashed():
    """The first run is completed by a change, the second carries the hash; a live process' row has it."""
    with daemon(rules={}) as instance:
        instance.start()
        report = instance.health()
        check(report["hashing"]["state"] == "ok", f"hashing is well: {report['hashing']}")
        check(report["hashing"]["details"]["capabilities_effective"] == "cap_dac_read_search,cap_sys_ptrace",
              f"the helper has its two capabilities: {report['hashing']}")
        program = os.path.join(instance.folder, "program")
        wanted = make_program(program, "first")
        first = subprocess.Popen([program, "300"])
        try:
            change = hash_change(instance, first.pid)
            check(change["detail"]["executable_hash"] == {"new": wanted}, f"sha256sum agrees: {change} {wanted}")
            check(change["executable_hash"] == wanted and change["executable_state"] == "ok", f"columns too: {change}")
            live = instance.query("SELECT executable_hash FROM processes "
                                  f"WHERE pid = {first.pid} AND status <> 'exited'")
            check(live and live[0]["executable_hash"] == wanted, f"the living process has it: {live}")
        finally:
            first.kill()
            first.wait()
        second = subprocess.Popen([program, "0"])
        second.wait()
        wait_for("the end of the second run", lambda: any(row["kind"] == "exit" for row in events(instance, second.pid)))
        rows = events(instance, second.pid)
        check([row["kind"] for row in rows] == ["exec", "exit"], f"nothing is left to complete: {rows}")
        check(all(row["executable_hash"] == wanted for row in rows), f"the second run carries it: {rows}")
        metrics = instance.cli("metrics").out
        check('daemoneye_hash_answers_total{outcome="hashed"}' in metrics, "metrics tell of it")
        ledger = instance.cli("--format", "json", "query",
                              "SELECT payload FROM audit_ledger WHERE action = 'hashing_helper'").json()["rows"]
        check(ledger and "cap_sys_ptrace" in ledger[0]["payload"], f"the ledger says what the helper may do: {ledger}")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_executables_are_hashed.needs_root = True


def scenario_short_lived_executables_are_hashed():
    """Files that run for a millisecond, once, and a script's interpreter."""
    with daemon(rules={}) as instance:
        instance.start()
        wanted = {}
        for number in range(20):
            path = os.path.join(instance.folder, f"short-{number}")
            shutil.copy("/bin/true", path)
            with open(path, "ab") as file:
                file.write(str(number).encode())
            process = subprocess.Popen([path])
            process.wait()
            wanted[process.pid] = sha256(path)
        for pid, digest in wanted.items():
            change = hash_change(instance, pid)
            check(change["executable_hash"] == digest, f"of the very file: {change} {digest}")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_short_lived_executables_are_hashed.needs_root = True


def scenario_a_replaced_executable_is_told():
    """Another file at the same path is a change with old and new; what still runs is `replaced`, not hashed anew."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        program = os.path.join(instance.folder, "program")
        old = make_program(program, "old")
        before = subprocess.Popen([program, "300"])
        after = None
        try:
            check(hash_change(instance, before.pid)["executable_hash"] == old, "the first file's hash")
            new = make_program(program, "new")
            after = subprocess.Popen([program, "300"])
            change = hash_change(instance, after.pid)
            check(change["detail"]["executable_hash"] == {"old": old, "new": new}, f"old and new: {change}")
            wait_for("the running one to be `replaced`", lambda: any(
                row["executable_state"] == "replaced" for row in events(instance, before.pid)))
            check(events(instance, before.pid)[-1]["executable_hash"] == old, "it keeps the hash of what runs")
            scan = instance.health()["collector"]["details"]["last_scan"]
            wait_for("two scans more", lambda: instance.health()["collector"]["details"]["last_scan"] > scan)
            rows = [row for row in events(instance, before.pid) if "executable_state" in row["detail"]]
            check(len(rows) <= 2, f"scans do not change it back and forth: {rows}")

            # Written in place with its times put back: another file for us, by its change time.
            status = os.stat(program)
            after.kill()
            after.wait()
            with open(program, "r+b") as file:
                file.seek(status.st_size - 3)
                file.write(b"NEW")
            os.utime(program, ns=(status.st_atime_ns, status.st_mtime_ns))
            check(os.stat(program).st_mtime_ns == status.st_mtime_ns, "the modification time is the old one")
            third = sha256(program)
            after = subprocess.Popen([program, "300"])
            change = hash_change(instance, after.pid)
            check(change["detail"]["executable_hash"] == {"old": new, "new": third}, f"seen all the same: {change}")
        finally:
            for process in (before, after):
                if process is not None:
                    process.kill()
                    process.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_a_replaced_executable_is_told.needs_root = True


def scenario_deleted_and_memory_executables_are_hashed():
    with daemon(rules={}, settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        program = os.path.join(instance.folder, "deleted")
        wanted = make_program(program, "deleted")
        deleted = subprocess.Popen([program, "300"])
        os.unlink(program)
        memory = os.memfd_create("payload", 0)
        with open("/bin/sleep", "rb") as file:
            os.write(memory, file.read() + b"memory")
        os.lseek(memory, 0, os.SEEK_SET)
        with os.fdopen(os.dup(memory), "rb") as file:
            in_memory = hashlib.sha256(file.read()).hexdigest()
        running = subprocess.Popen(["payload", "300"], executable=f"/proc/self/fd/{memory}", pass_fds=[memory])
        try:
            hash_change(instance, deleted.pid)
            row = wait_for("the deleted one's state", lambda: next(
                (row for row in events(instance, deleted.pid) if row["executable_state"] == "deleted"), None))
            last = events(instance, deleted.pid)[-1]
            check(last["executable_hash"] == wanted, f"hashed through the process: {row} {last}")
            change = hash_change(instance, running.pid)
            check(change["executable_state"] == "memfd", f"the state is memfd: {change}")
            check(change["executable_hash"] == in_memory, f"and it is hashed: {change}")
            kernel = instance.query("SELECT executable_state, executable_hash FROM processes WHERE pid = 2")
            check(kernel[0] == {"executable_state": "kernel", "executable_hash": None}, f"a kernel thread: {kernel}")
        finally:
            for process in (deleted, running):
                process.kill()
                process.wait()
            os.close(memory)
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_deleted_and_memory_executables_are_hashed.needs_root = True


def hashing_health(instance):
    """Health of the hashing helper, once it is told."""
    return wait_for("health of hashing", lambda: (instance.health() or {}).get("hashing"))


def helper_of(instance):
    return int(wait_for("the helper's pid", lambda: hashing_health(instance)["details"].get("pid")))


def worker_of(keeper):
    def children():
        with open(f"/proc/{keeper}/task/{keeper}/children", encoding="ascii") as file:
            return file.read().split()
    return int(wait_for("the keeper's worker", children)[0])


def scenario_a_dead_hashing_helper_is_told():
    """A killed worker is replaced. Without the helper the rest goes on, and health says what is missing."""
    # All of its processor: what other programs of the machine execute meanwhile is hashed before ours, too.
    with daemon({"collection.hash_cpu_percent": 100}, rules={}) as instance:
        instance.start()
        keeper = helper_of(instance)
        procmond = instance.children()["procmond"]
        os.kill(worker_of(keeper), signal.SIGKILL)
        wait_for("a new worker", lambda: int(hashing_health(instance)["details"].get("workers_replaced", 0)) >= 1)
        program = os.path.join(instance.folder, "program")
        wanted = make_program(program, "after")
        first = subprocess.Popen([program, "300"])
        try:
            check(hash_change(instance, first.pid)["executable_hash"] == wanted, "the new worker hashes")
            os.kill(keeper, signal.SIGKILL)
            health = wait_for("health to say it", lambda: next(
                (h for h in [hashing_health(instance)] if "no longer hashed" in h["reason"]), None))
            check(health["state"] == "degraded", f"degraded: {health}")
        finally:
            first.kill()
            first.wait()
        check(instance.children()["procmond"] == procmond, "procmond goes on")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_a_dead_hashing_helper_is_told.needs_root = True


def scenario_the_hashing_helper_dies_with_procmond():
    with daemon(rules={}) as instance:
        instance.start()
        keeper = helper_of(instance)
        os.kill(instance.children()["procmond"], signal.SIGKILL)
        wait_for("the helper's end", lambda: not os.path.exists(f"/proc/{keeper}"))
        wait_for("a new one, of the new procmond", lambda: helper_of(instance) != keeper)
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_the_hashing_helper_dies_with_procmond.needs_root = True


def scenario_without_root_ones_own_executables_are_hashed():
    """Other users' are `unreadable`, and health says so."""
    with daemon(rules={}, user="nobody" if ROOT else None, settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        health = instance.health()["hashing"]
        check(health["state"] == "degraded" and "other users" in health["reason"], f"health says what is missing: {health}")
        own = ["setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups"] if ROOT else []
        process = subprocess.Popen([*own, "/bin/sleep", "300"])
        try:
            rows = wait_for("the hash of a process of one's own", lambda: instance.query(
                f"SELECT executable_hash FROM processes WHERE pid = {process.pid} AND name = 'sleep' "
                "AND executable_hash IS NOT NULL"))
            check(rows[0]["executable_hash"] == sha256("/bin/sleep"), f"it is right: {rows}")
            rows = instance.query("SELECT executable_state, executable_hash FROM processes WHERE pid = 1")
            check(rows[0] == {"executable_state": "unreadable", "executable_hash": None}, f"another user's: {rows}")
        finally:
            process.kill()
            process.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")
