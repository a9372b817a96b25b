"""Broken input and broken surroundings: a clear error each, nothing half done."""

import errno
import json
import os
import shutil
import signal
import subprocess

from harness import ROOT, check, daemon, exact_arguments, wait_for


def start_and_expect(instance, code, *texts):
    instance.start(wait=False)
    check(instance.process.wait(30) == code, f"ends with {code}, not {instance.process.returncode}: {instance.errors()}")
    for text in texts:
        check(text in instance.errors(), f"'{text}' is in the error:\n{instance.errors()}")


def scenario_broken_configuration_names_every_error():
    with daemon(rules={}) as instance:
        with open(instance.config, "w", encoding="utf-8") as file:
            file.write("app:\n  scan_intervall_ms: 1000\n  batch_size: lots\ndatabase:\n  retention_days: -3\n")
        start_and_expect(instance, 2, "scan_intervall_ms", "scan_interval_ms", "batch_size", "retention_days",
                         f"{instance.config}:2", f"{instance.config}:3", f"{instance.config}:5")
        check(not os.path.exists(instance.state), "nothing was created")
        validate = instance.cli("config", "validate")
        check(validate.code == 2 and "retention_days" in validate.err + validate.out, f"config validate: {validate.err}")


def scenario_paths_that_cannot_be_used_are_named():
    with daemon(rules={}, settings={"ipc.socket_path": "/proc/daemoneye/x.sock"}) as instance:
        start_and_expect(instance, 4, "/proc/daemoneye")
    with daemon(rules={}, settings={"database.path": "/var/tmp/wrong.sqlite"}) as instance:
        start_and_expect(instance, 2, "database.path", ".redb")
    with daemon(rules={}) as instance:
        os.makedirs(instance.state)
        with open(instance.database, "wb") as file:
            file.write(b"this is not a database" * 1000)
        if ROOT:
            for path in (instance.state, instance.database):
                shutil.chown(path, "daemoneye", "daemoneye")
        start_and_expect(instance, 5, "events.redb")
        with open(instance.database, "rb") as file:
            check(file.read(22) == b"this is not a database", "the foreign file is untouched")


def scenario_unreachable_folder_is_found_before_anything_starts():
    """State below a 0700 folder: exit 4 naming the folder, before privileges are dropped."""
    with daemon(rules={}) as instance:
        closed = os.path.join(instance.folder, "closed")
        os.makedirs(os.path.join(closed, "state"))
        os.chmod(closed, 0o700)
        instance.settings["app.state_dir"] = os.path.join(closed, "state")
        instance.write_config()
        start_and_expect(instance, 4, closed)


scenario_unreachable_folder_is_found_before_anything_starts.needs_root = True


def scenario_read_only_state():
    with daemon(rules={}) as instance:
        os.makedirs(instance.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", instance.state], check=True)
        try:
            start_and_expect(instance, 4, instance.state)
        finally:
            subprocess.run(["umount", instance.state], check=True)


scenario_read_only_state.needs_root = True


def scenario_full_disk_pauses_and_resumes_without_loss():
    """The store's file system is full: ingestion waits, health says so, and goes on by itself when there is room. Also
    when more batches come than the agent may queue, because the collector is another one again and again."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 60000, "queues.events.capacity": 2,
                                    "ipc.max_pending_records": 8}) as instance:
        os.makedirs(instance.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0750", "none", instance.state], check=True)
        try:
            instance.start()
            filler = os.path.join(instance.state, "filler")
            # tmpfs knows no reserve for root: this takes every page.
            handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
            try:
                while True:
                    os.write(handle, bytes(4096))
            except OSError as error:
                check(error.errno == errno.ENOSPC, f"filled: {error}")
            finally:
                os.close(handle)
            marker = f"full-{os.getpid()}"
            total = 0

            def push():
                nonlocal total
                for _ in range(20):
                    exact_arguments("true", f"{marker}-{total}", "x" * 2000)
                    total += 1
                return instance.health()["store"]["state"] == "failed"

            wait_for("health to say that the store is paused", push, 60)
            health = instance.cli("health", "store")
            check(health.code == 1, f"a failed component: exit {health.code}")
            check("full" in health.out, f"with the reason: {health.out}")
            for _ in range(5):
                pid = instance.children()["procmond"]
                os.kill(pid, signal.SIGKILL)
                wait_for("another collector", lambda pid=pid: instance.children().get("procmond", pid) != pid and
                         instance.health()["collector"]["state"] != "failed")
                for _ in range(8):
                    subprocess.run(["sleep", "0.04"], check=True)  # longer than events wait for others: a batch each
                wait_for("health that answers", lambda: instance.health()["store"]["state"] == "failed", 60)
            # What the last collector holds comes when there is room; what died with those before it is a gap.
            marker, total = f"after-{os.getpid()}", 0
            push()
            os.unlink(filler)
            wait_for("every event after there is room again", lambda: instance.query(
                "SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND command_line LIKE :m",
                "--param", f"m=true {marker}-%")[0]["n"] == total, 60)
            wait_for("a healthy store", lambda: instance.health()["store"]["state"] == "ok")
            check(instance.stop() == 0, "a clean stop ends with 0")
        finally:
            if instance.process and instance.process.poll() is None:
                instance.process.kill()
                instance.process.wait()
                # The daemons die with their supervisor; the mount is free when they are gone.
                wait_for("the daemons to be gone", lambda: subprocess.run(
                    ["fuser", "-sm", instance.state], check=False).returncode != 0)
            subprocess.run(["umount", "-l", instance.state], check=True)


scenario_full_disk_pauses_and_resumes_without_loss.needs_root = True


def scenario_queries_formats_and_exit_codes():
    """The command line while the agent runs, when it is stopped, as root, as a group member, as a stranger."""
    with daemon(rules={}) as instance:
        instance.start()
        pid = exact_arguments("true", "quote\"d", "a,b")
        wait_for("the row", lambda: instance.query(f"SELECT 1 FROM process_events WHERE pid = {pid} AND kind = 'exit'"))
        sql = f"SELECT name, arguments, time FROM process_events WHERE pid = {pid} AND kind = 'exec'"

        def look():
            result = instance.cli("query", sql)
            check(result.code in (0, 3) and "true" in result.out, f"table: {result.code} {result.out} {result.err}")
            report = instance.cli("--format", "json", "query", sql).json()
            check(report["columns"] == ["name", "arguments", "time"], f"columns: {report['columns']}")
            check(report["rows"][0]["time"].endswith("Z"), f"ISO time: {report['rows']}")
            check(report["completeness"]["status"] in ("complete", "degraded"), "completeness")
            line = json.loads(instance.cli("--format", "jsonl", "--raw", "query", sql).out.splitlines()[0])
            check(isinstance(line["time"], int), f"raw time: {line}")
            csv = instance.cli("--format", "csv", "query", sql).out
            check('"[""true"",""quote\\""d"",""a,b""]"' in csv, f"csv quotes: {csv}")
            refused = instance.cli("query", "DROP TABLE processes")
            check(refused.code == 2, f"refused: {refused.code}")
            check("line 1" in refused.err and "column 1" in refused.err and "SELECT" in refused.err, refused.err)
            refused = instance.cli("query", "SELECT comand_line FROM process_events")
            check(refused.code == 2 and "command_line" in refused.err, f"the nearest name: {refused.err}")
            check(instance.cli("--no-such-flag").code == 2, "a wrong flag is 2")
            check(instance.cli("query", "SELECT name, count(*) FROM process_events GROUP BY 1 ORDER BY 2 DESC").code
                  in (0, 3), "the first query of the README")
            for verb in (["tables"], ["schema", "processes"], ["ps"], ["rules", "list"], ["alerts", "list"],
                         ["config", "show", "--origin"], ["config", "validate"], ["db", "stats"], ["audit", "verify"]):
                result = instance.cli(*verb)
                check(result.code in (0, 3), f"{verb}: exit {result.code} {result.err}")
                check(result.out, f"{verb} prints something")

        look()
        if ROOT:
            member = instance.cli("--format", "json", "query", sql, user="nobody", groups="daemoneye")
            check(member.code in (0, 3) and member.json()["rows"], f"a group member reads: {member.err}")
            check(instance.cli("health", user="nobody", groups="daemoneye").code in (0, 3), "and sees health")
            stranger = instance.cli("query", sql, user="nobody")
            check(stranger.code == 4, f"a stranger does not: {stranger.code} {stranger.out}")
        check(instance.cli("health").code in (0, 3), "health while it runs")
        check(instance.stop() == 0, "a clean stop ends with 0")
        look()
        if ROOT:
            member = instance.cli("--format", "json", "query", sql, user="nobody", groups="daemoneye")
            check(member.code in (0, 3) and member.json()["rows"], f"a group member reads a stopped store: {member.err}")
        stopped = instance.cli("health")
        check(stopped.code == 4 and "not running" in stopped.out + stopped.err, f"health when stopped: {stopped.code}")
        late = instance.cli("query", "SELECT 1 FROM process_events WHERE time > ago('1s')")
        check(late.code == 3, f"what the stopped agent cannot know is degraded: {late.code} {late.err}")


scenario_queries_formats_and_exit_codes.needs_root = True


def scenario_altered_ledger_is_found():
    import sqlite3
    with daemon(rules={}) as instance:
        instance.start()
        check(instance.stop() == 0, "a clean stop ends with 0")
        check(instance.cli("audit", "verify").code == 0, "verifies untouched")
        database = sqlite3.connect(instance.audit)
        triggers = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for trigger in triggers:
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE entries SET actor = 'nobody' WHERE rowid = (SELECT min(rowid) + 1 FROM entries)")
        database.commit()
        database.close()
        verify = instance.cli("audit", "verify")
        check(verify.code == 5, f"an altered entry is an integrity violation: {verify.code}")
        check("1" in verify.out + verify.err, f"it names the entry: {verify.out} {verify.err}")


scenario_altered_ledger_is_found.needs_root = True
