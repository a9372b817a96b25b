"""Recordings: export from a running agent, import into another file, and everything that reads it there."""

import json
import os
import signal
import subprocess
import time

from harness import BIN, check, daemon, exact_arguments, wait_for

RULE = """id: recorded-marker
title: A program with the marker
severity: low
sql: |
  SELECT e.pid, e.command_line, e.process_key FROM process_events e
  WHERE e.kind = 'exec' AND e.command_line LIKE '%marker-for-import%'
"""


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def scenario_export_of_a_running_agent_is_imported_and_hunted_through():
    with daemon(rules={}) as instance:
        instance.start()
        before = time.time()
        exact_arguments("true", "marker-for-import", b"odd \xff\xfe byte", "two words")
        wait_for("the row", lambda: instance.query(
            "SELECT pid FROM process_events WHERE kind = 'exit' AND name = 'true' AND command_line LIKE '%marker-for-import%'"))
        # Degraded as long as the collector has not yet said that it saw all until now.
        exported = wait_for("a complete export", lambda: (lambda done: done if done.code == 0 else None)(
            instance.cli("export")))
        rows = lines_of(exported.out)
        marked = [row for row in rows  # the questions about it are not it
                  if row.get("name") == "true" and "marker-for-import" in row.get("command_line", "")]
        check({"exec", "exit"} <= {row["kind"] for row in marked}, f"both of its rows: {marked}")
        check(json.loads(marked[0]["arguments"])[2] == "odd \ufffd\ufffd byte", f"bytes that are no text: {marked[0]}")
        check("exit_code" not in marked[0] and marked[0]["time"].endswith("Z"), f"no NULLs, ISO times: {marked[0]}")
        raw = lines_of(instance.cli("--raw", "export", "--since", "10m").out)
        check(all(isinstance(row["time"], int) and row["time"] > (before - 700) * 1e9 for row in raw), "--raw, --since")
        check(not instance.cli("export", "--until", "1d").out, "--until")

        recording = os.path.join(instance.folder, "recording.jsonl")
        with open(recording, "w", encoding="utf-8") as file:
            file.write(exported.out)
        imported = os.path.join(instance.folder, "imported.redb")
        done = instance.cli("--format", "json", "import", recording, "--into", imported)
        check(done.code == 0 and done.json()["rows"][0]["imported"] == len(rows), f"import: {done.code} {done.err}")
        check(not [name for name in os.listdir(instance.folder) if name.startswith(".imported")], "nothing is left over")
        check(instance.cli("--db", imported, "db", "check").code == 0, "its batches prove themselves")

        again = instance.cli("--db", imported, "export")
        check(again.code == 0, f"an import is complete: {again.code} {again.err}")
        without_id = [{key: row[key] for key in row if key != "event_id"} for row in rows]
        check([{key: row[key] for key in row if key != "event_id"} for row in lines_of(again.out)] == without_id,
              "the same rows again")
        counted = instance.cli("--db", imported, "--format", "json", "query",
                               "SELECT count(*) AS n FROM process_events WHERE name = 'true' AND command_line LIKE '%marker-for-import%'")
        check(counted.code == 0 and counted.json()["rows"][0]["n"] == len(marked), f"a query: {counted.out}")
        ended = instance.cli("--db", imported, "--format", "json", "query",
                             "SELECT status FROM processes WHERE name = 'true' AND command_line LIKE '%marker-for-import%'")
        check([row["status"] for row in ended.json()["rows"]] == ["exited"], f"processes follow: {ended.out}")
        rule = os.path.join(instance.folder, "rule.yaml")
        with open(rule, "w", encoding="utf-8") as file:
            file.write(RULE)
        tested = instance.cli("--db", imported, "--format", "json", "rules", "test", rule)
        check(tested.code == 0 and "marker-for-import" in tested.out, f"rules test: {tested.code} {tested.out} {tested.err}")
        check(instance.cli("--db", imported, "ps").code == 0, "ps")

        # From one end of a pipe to the other, appended, all or nothing.
        piped = instance.cli("--format", "json", "import", "-", "--into", imported, "--strict", stdin=exported.out)
        check(piped.code == 0 and piped.json()["rows"][0]["imported"] == len(rows), f"{piped.code} {piped.err}")
        refused = instance.cli("import", "-", "--into", imported, "--strict", stdin=exported.out + "{\"time\":1}\n")
        check(refused.code == 2 and f"-:{len(rows) + 1}: kind: missing" in refused.err, f"{refused.code} {refused.err}")
        skipped = instance.cli("import", "-", "--into", imported, stdin=exported.out + "{\"tme\":1}\n")
        check(skipped.code == 3 and f"-:{len(rows) + 1}: unknown key 'tme'" in skipped.err, f"{skipped.code} {skipped.err}")
        total = instance.cli("--db", imported, "--format", "json", "db", "stats").json()["rows"][0]["events"]
        check(total == 3 * len(rows), f"three of the four imports: {total} of {len(rows)} each")

        own = instance.cli("import", recording, "--into", instance.database)
        check(own.code == 4 and "agent's own" in own.err, f"not into the running agent's: {own.code} {own.err}")
        check(instance.cli("import", recording, "--into", imported + ".db").code == 2, "only into NAME.redb")
        check(instance.cli("import", recording + ".no", "--into", imported).code == 4, "a recording that is not there")
        check(instance.stop() == 0, "a clean stop ends with 0")
        check(instance.cli("import", recording, "--into", instance.database).code == 2, "nor when it is stopped")


def scenario_export_follows_until_interrupted():
    with daemon(rules={}) as instance:
        instance.start()
        follower = subprocess.Popen(
            [os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "--timeout", "1s", "export", "--follow"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        try:
            follower.stdout.readline()  # it is there, and what happened before comes first
            begin = time.monotonic()
            exact_arguments("true", "followed-by-export")
            while "followed-by-export" not in follower.stdout.readline():
                check(time.monotonic() - begin < 20, "a new event comes")
            begin = time.monotonic()
            with open(f"/proc/{follower.pid}/stat", encoding="utf-8") as stat:
                spent = sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:13])
            wait_for("longer than --timeout", lambda: time.monotonic() - begin > 2.5)
            with open(f"/proc/{follower.pid}/stat", encoding="utf-8") as stat:
                later = sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:13])
            check(follower.poll() is None, "--timeout does not end it")
            check(later - spent < 50, f"it does not spin: {later - spent} ticks")
            exact_arguments("true", "followed-later")
            begin = time.monotonic()
            while "followed-later" not in follower.stdout.readline():
                check(time.monotonic() - begin < 20, "and later ones")
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=20)
            check(follower.returncode == 0, f"an interrupt ends it with 0, not {follower.returncode}")
        finally:
            follower.kill()
            follower.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_import_that_is_interrupted_leaves_nothing():
    with daemon(rules={}) as instance:
        target = os.path.join(instance.folder, "imported.redb")
        line = '{"time":1,"kind":"exec","pid":1}\n'
        for end in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            importing = subprocess.Popen(
                [os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "import", "-", "--into", target],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            importing.stdin.write(line * 100_000)
            importing.stdin.flush()
            wait_for("some of it to be committed", lambda: any(
                name.endswith(".importing-wal") and os.path.getsize(os.path.join(instance.folder, name)) > 0
                for name in os.listdir(instance.folder)))
            importing.send_signal(end)
            importing.wait(20)
            check(importing.returncode != 0, f"{end.name} ends it")
            importing.stdin.detach()
            importing.stderr.close()
            check(not os.path.exists(target), f"{end.name}: nothing is there by that name")
            if end != signal.SIGKILL:
                left = [name for name in os.listdir(instance.folder) if "imported" in name]
                check(not left, f"{end.name}: nothing is left over: {left}")
        whole = instance.cli("import", "-", "--into", target, stdin=line * 10)
        check(whole.code == 0, f"what a killed import left is in nobody's way: {whole.code} {whole.err}")
        left = sorted(name for name in os.listdir(instance.folder) if "imported" in name)
        check(left == ["imported.redb", "imported.redb.lock", "imported.redb.writer"], f"and is gone: {left}")
