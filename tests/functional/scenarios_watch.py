"""What a first user does: start it, let things happen, look at alerts and rows."""

import os
import shutil
import signal
import socket
import subprocess
import time

from harness import ROOT, check, daemon, exact_arguments, wait_for


def alert_of(instance, rule, pid):
    for alert in instance.alerts():
        if alert["rule_id"] == rule and alert["pid"] == pid:
            return alert
    return None


def rules_of(instance, pid):
    return [alert["rule_id"] for alert in instance.alerts() if alert["pid"] == pid]


def scenario_alerts_on_real_processes():
    """A reverse-shell look-alike, an execution from /dev/shm, a deleted running executable: each an alert."""
    with daemon(settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        running = []
        copies = []
        try:
            # Harmless: nothing listens on the port, and the text is only an argument.
            begin = time.monotonic()
            shell = subprocess.Popen(
                ["bash", "-c", "bash -i >& /dev/tcp/127.0.0.1/9 0>&1 # daemoneye functional test"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            running.append(shell)
            found = wait_for("a reverse shell alert", lambda: next(
                (a for a in instance.alerts() if a["pid"] == shell.pid and "reverse" in a["rule_id"]), None))
            print(f"reverse shell: alert {time.monotonic() - begin:.3f} s after the start")
            check("/dev/tcp/127.0.0.1/9" in found["command_line"], f"arguments are in the alert: {found}")
            check(found["host"] == socket.gethostname(), f"host is in the alert: {found['host']}")
            check(found["evidence"], "evidence ids are in the alert")
            check(found["executable_path"].endswith("/bash"), f"the path is in the alert: {found['executable_path']}")
            ancestors = found["ancestors"]
            check(any(str(os.getpid()) == str(a.get("pid")) for a in ancestors),
                  f"the parent (this test, {os.getpid()}) is among the ancestors: {ancestors}")
            rows = instance.query(
                f"SELECT pid, kind, parent_name FROM process_events WHERE event_id = {found['evidence'][0]}")
            check(rows and rows[0]["pid"] == shell.pid, f"the evidence id leads to the event: {rows}")

            begin = time.monotonic()
            copy = f"/dev/shm/daemoneye-test-sleep-{os.getpid()}"
            copies.append(copy)
            shutil.copy("/bin/sleep", copy)
            sleeper = subprocess.Popen([copy, "300"])
            running.append(sleeper)
            found = wait_for("an alert for the execution from /dev/shm",
                             lambda: next((a for a in instance.alerts() if a["pid"] == sleeper.pid), None))
            print(f"/dev/shm: alert {time.monotonic() - begin:.3f} s after the start")
            check(found["executable_path"] == copy, f"the path is in the alert: {found['executable_path']}")

            deleted = os.path.join(instance.folder, "deleted-sleep")
            shutil.copy("/bin/sleep", deleted)
            victim = subprocess.Popen([deleted, "300"])
            running.append(victim)
            wait_for("the victim's exec event", lambda: instance.query(
                f"SELECT 1 FROM process_events WHERE kind = 'exec' AND pid = {victim.pid}"))
            os.unlink(deleted)
            begin = time.monotonic()
            wait_for("an alert for the deleted executable",
                     lambda: any("deleted" in rule for rule in rules_of(instance, victim.pid)))
            print(f"deleted executable: alert {time.monotonic() - begin:.3f} s after the deletion (scan every 1 s)")
        finally:
            for process in running:
                process.kill()
                process.wait()
            for copy in copies:
                os.unlink(copy)
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_alerts_on_real_processes.needs_root = True


def scenario_short_lived_process_has_full_arguments():
    """Processes that live 2 ms and less are rows with their exact arguments."""
    with daemon(rules={}) as instance:
        instance.start()
        marker = f"short-{os.getpid()}"
        for number in range(50):
            exact_arguments("true", marker, str(number), "line\nbreak", "", "trailing space ")
        script = os.path.join(instance.folder, "named-script")
        with open(script, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 7\n")
        os.chmod(script, 0o755)
        pid = exact_arguments(script, marker, executable=script)
        rows = wait_for("the script's exit", lambda: instance.query(
            f"SELECT name, exit_code, arguments FROM process_events WHERE kind = 'exit' AND pid = {pid}"))
        check(rows[0]["name"] == "named-script", f"a script's name is its own: {rows}")
        check(rows[0]["exit_code"] == 7, f"the exit code is kept: {rows}")
        rows = instance.query(
            "SELECT arguments, parent_name, executable_path FROM process_events WHERE kind = 'exec' AND name = 'true' "
            "AND command_line LIKE :marker", "--param", f"marker=%{marker}%")
        wanted = {f'["true","{marker}","{number}","line\\nbreak","","trailing space "]' for number in range(50)}
        check({row["arguments"] for row in rows} == wanted and len(rows) == 50,
              f"every process once, with exact arguments: {len(rows)} rows, first {rows[:2]}")
        check(all(row["executable_path"] for row in rows), "each has its executable's path")
        check(all(row["parent_name"] for row in rows), f"each has its parent: {rows[0]}")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_short_lived_process_has_full_arguments.needs_root = True


def scenario_live_processes_and_lineage():
    """`processes` shows who lives, `ps` and `tree` too; the ended keep a row."""
    with daemon(settings={"app.scan_interval_ms": 1000}, rules={}) as instance:
        instance.start()
        shell = subprocess.Popen(["sh", "-c", "sleep 300 & wait"])
        try:
            child = wait_for("the shell's child", lambda: instance.query(
                f"SELECT pid, name, parent_key FROM processes WHERE ppid = {shell.pid} AND status <> 'exited'"))[0]
            check(child["name"] == "sleep", f"the child is sleep: {child}")
            rows = instance.query(f"SELECT a.pid, a.depth FROM processes p, ancestors(p.process_key) a "
                                  f"WHERE p.pid = {child['pid']} AND p.status <> 'exited' ORDER BY a.depth")
            check([row["pid"] for row in rows][:2] == [shell.pid, os.getpid()], f"ancestors, nearest first: {rows}")
            rows = instance.query(f"SELECT 1 AS found FROM processes WHERE pid = {child['pid']} "
                                  "AND has_ancestor(process_key, 'sh')")
            check(rows, "has_ancestor finds the shell")
            listing = instance.cli("ps")
            check(listing.code in (0, 3) and f"{child['pid']}" in listing.out, f"ps shows it: {listing.err}")
            tree = instance.cli("tree", str(shell.pid))
            check(tree.code in (0, 3) and "sleep" in tree.out, f"tree shows the child: {tree.out} {tree.err}")
            os.kill(child["pid"], signal.SIGTERM)
            ended = wait_for("the ended child", lambda: instance.query(
                f"SELECT status, exit_signal FROM processes WHERE pid = {child['pid']} AND status = 'exited'"))
            check(ended[0]["exit_signal"] == 15, f"the signal is kept: {ended}")
        finally:
            shell.kill()
            shell.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_live_processes_and_lineage.needs_root = True


def scenario_secrets_are_masked_before_they_are_stored():
    with daemon(rules={}) as instance:
        instance.start()
        secret = f"hunter2-{os.getpid()}"
        pid = exact_arguments("true", "--password", secret, f"--token={secret}", f"https://u:{secret}@example.org/",
                              f"API_TOKEN={secret}", "-H", f"Authorization: Bearer {secret}")
        rows = wait_for("the exec event", lambda: instance.query(
            f"SELECT command_line FROM process_events WHERE kind = 'exec' AND pid = {pid}"))
        check("***" in rows[0]["command_line"], f"masked: {rows}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        for folder, _, files in os.walk(instance.folder):
            for file in files:
                with open(os.path.join(folder, file), "rb") as handle:
                    check(secret.encode() not in handle.read(), f"the secret is nowhere on disk, but in {file}")


scenario_secrets_are_masked_before_they_are_stored.needs_root = True


def scenario_rules_reload_while_it_runs():
    """A new rule works, a broken one is named and keeps its last good version, a removed one stops."""
    rule = """id: marker
title: "Marker {{pid}}"
description: A process with the marker.
severity: low
sql: |
  SELECT pid, name, process_key FROM process_events WHERE kind = 'exec' AND command_line LIKE '%MARKER%'
"""
    marker = f"reload-{os.getpid()}"
    with daemon(rules={}) as instance:
        instance.start()
        exact_arguments("true", marker + "-a")
        instance.write_rule("marker.yaml", rule.replace("MARKER", marker))
        wait_for("the rule in the list", lambda: instance.query(
            "SELECT 1 FROM detection_rules WHERE rule_id = 'marker' AND state = 'healthy'"))
        pid = exact_arguments("true", marker + "-b")
        wait_for("its alert", lambda: alert_of(instance, "marker", pid))
        instance.write_rule("marker.yaml", rule.replace("MARKER", marker).replace("severity: low", "severity: loud"))
        row = wait_for("the broken rule in the list", lambda: instance.query(
            "SELECT reason FROM detection_rules WHERE rule_id = 'marker' AND state = 'unhealthy'"))
        check("severity" in row[0]["reason"], f"the reason names the key: {row}")
        pid = exact_arguments("true", marker + "-c")
        wait_for("an alert of its last good version", lambda: alert_of(instance, "marker", pid))
        os.unlink(os.path.join(instance.rules, "marker.yaml"))
        wait_for("the rule gone from the list", lambda: not instance.query(
            "SELECT 1 FROM detection_rules WHERE rule_id = 'marker'"))
        pid = exact_arguments("true", marker + "-d")
        wait_for("the event of the last process", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exit' AND pid = {pid}"))
        check(instance.stop() == 0, "a clean stop ends with 0")
        check(alert_of(instance, "marker", pid) is None, "a removed rule raises nothing")


scenario_rules_reload_while_it_runs.needs_root = True


def scenario_unprivileged():
    """Without root and by scans alone it runs, sees what it can, and says what is missing."""
    user = "nobody" if ROOT else None
    with daemon(user=user, settings={"app.scan_interval_ms": 500, "collection.realtime": "off"}, rules={}) as instance:
        instance.start()
        sleeper = subprocess.Popen(["sleep", "300"])
        try:
            rows = wait_for("a process found by a scan", lambda: instance.query(
                f"SELECT kind, source, command_line FROM process_events WHERE pid = {sleeper.pid}"))
            check(rows[0]["source"] == "scan", f"it was found by a scan: {rows}")
            check(rows[0]["command_line"] == "sleep 300", f"with its arguments: {rows}")
        finally:
            sleeper.kill()
            sleeper.wait()
        wait_for("its end found by a scan", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exit' AND pid = {sleeper.pid}"))
        health = instance.cli("health")
        check(health.code == 3, f"health is degraded: {health.code} {health.out}")
        check("scan" in health.out, f"health says that only scans see processes: {health.out}")
        components = instance.health()
        check(components["collector"]["state"] == "degraded", f"the collector is degraded: {components['collector']}")
        check(components["collector"]["reason"], "with a reason")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_runs_alone_with_two_services():
    """procmond and the agent as two services: procmond connects to the agent's socket."""
    from harness import BIN
    with daemon(rules={}) as instance:
        agent_process = None
        instance.start(wait=False, arguments=("--role", "alone"))
        agent_process = instance.process
        collector = subprocess.Popen([os.path.join(BIN, "procmond"), "--config", instance.config],
                                     stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            instance.wait_ready()
            pid = exact_arguments("true", "alone")
            wait_for("its row", lambda: instance.query(f"SELECT 1 FROM process_events WHERE pid = {pid}"))
            collector.send_signal(signal.SIGTERM)
            check(collector.wait(20) == 0, "procmond stops cleanly")
        finally:
            if collector.poll() is None:
                collector.kill()
                collector.wait()
        check(agent_process.poll() is None, "the agent stays")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_runs_alone_with_two_services.needs_root = True
