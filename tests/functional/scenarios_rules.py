"""Rules: changed by operators without their files, excused by exceptions, imported, tried on history."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

from harness import BIN, check, daemon, exact_arguments, wait_for
from scenarios_query import Terminal, environment

RULE = """
id: {id}
title: {title}
description: For tests of rules.
severity: low
sql: |
  SELECT e.pid, e.name, e.command_line, e.process_key FROM process_events e
  WHERE e.kind = 'exec' AND e.command_line LIKE '%{marker}%'
"""


def rule_row(instance, rule):
    rows = instance.query(f"SELECT severity, status, state, reason, title FROM detection_rules WHERE rule_id = '{rule}'")
    return rows[0] if rows else None


def alert_of(instance, pid, rule):
    return instance.query(f"SELECT severity, title FROM alerts WHERE pid = {pid} AND rule_id = '{rule}'")


def changes(instance):
    rows = instance.query("SELECT actor, payload FROM audit_ledger WHERE action = 'agent.rule_override' ORDER BY seq")
    return [(row["actor"], json.loads(row["payload"])) for row in rows]


def scenario_rules_are_changed_without_their_files():
    """disable, severity and reset: in force without a restart, kept over one and over an update of the file, in the
    ledger; who may not is refused."""
    marker = f"override-{os.getpid()}"
    watcher = RULE.format(id="watcher", title="W", marker=marker)
    rules = {"marked.yaml": RULE.format(id="marked", title="A", marker=marker), "watcher.yaml": watcher}
    with daemon(rules=rules, settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        answer = instance.cli("--format", "json", "rules", "severity", "critical", "marked", "--note", "ours").json()
        check(answer["rows"] == [{"rule_id": "marked", "from": "as its file says", "to": "critical"}], answer)
        wait_for("another severity", lambda: rule_row(instance, "marked")["severity"] == "critical")
        pid = exact_arguments("true", f"{marker}-0", executable="/bin/true")
        alert = wait_for("its alert", lambda: alert_of(instance, pid, "marked"))
        check(alert[0]["severity"] == "critical", alert)

        asked = instance.cli("rules", "disable", "marked", stdin="n\n")
        check(asked.code == 1 and "[y/N]" in asked.err, f"disabling asks first: {asked.err}")
        instance.cli("rules", "disable", "marked", "--yes")
        wait_for("a disabled rule", lambda: rule_row(instance, "marked")["status"] == "disabled")
        # The package brings a new version.
        instance.write_rule("marked.yaml", RULE.format(id="marked", title="B", marker=marker))
        wait_for("the new version", lambda: rule_row(instance, "marked")["title"] == "B")
        check(rule_row(instance, "marked")["status"] == "disabled", "the update does not enable it")
        check(instance.stop() == 0, "a clean stop")
        instance.start()
        row = wait_for("the rules after a restart", lambda: rule_row(instance, "marked"))
        check(row["status"] == "disabled" and row["severity"] == "critical", f"kept over a restart: {row}")
        pid = exact_arguments("true", f"{marker}-1", executable="/bin/true")
        wait_for("the other rule's alert", lambda: alert_of(instance, pid, "watcher"))
        check(not alert_of(instance, pid, "marked"), "a disabled rule raises nothing")

        instance.cli("rules", "reset", "marked")
        wait_for("as its file says", lambda: rule_row(instance, "marked")["status"] == "active"
                 and rule_row(instance, "marked")["severity"] == "low")
        unknown = instance.cli("rules", "enable", "nobody")
        check(unknown.code == 2 and "there is no such rule" in unknown.err, unknown.err)
        kept = wait_for("three changes in the ledger", lambda: len(changes(instance)) >= 3 and changes(instance))
        check([one["changed"][0]["to"] for _, one in kept] ==
              ["critical", "disabled, critical", "as its file says"], f"{kept}")
        check(kept[0][1]["note"] == "ours", f"the note is kept: {kept}")


def scenario_rules_are_excused_by_a_file_of_their_own():
    """An exceptions file: what it names raises nothing; one that does not fit is told by health; removed, all is back."""
    marker = f"excused-{os.getpid()}"
    with daemon(rules={"marked.yaml": RULE.format(id="marked", title="A", marker=marker)},
                settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        version = lambda: instance.query(  # noqa: E731
            "SELECT version FROM detection_rules WHERE rule_id = 'marked'")[0]["version"]
        before = version()
        instance.write_rule("local.exceptions.yaml",
                            "exceptions:\n  - rule: marked\n    except: [\"e.command_line LIKE '%quiet%'\"]\n")
        wait_for("the exception in force", lambda: version() != before)
        shown = instance.cli("--format", "json", "rules", "show", "marked").json()["rows"][0]
        check(shown["version"] == version() and "quiet" in shown["local_except"], f"shown as it runs: {shown}")
        quiet = exact_arguments("true", f"{marker}-quiet", executable="/bin/true")
        loud = exact_arguments("true", f"{marker}-loud", executable="/bin/true")
        wait_for("the alert", lambda: alert_of(instance, loud, "marked"))
        check(not alert_of(instance, quiet, "marked"), "the exception excuses")
        instance.write_rule("local.exceptions.yaml", "exceptions:\n  - rule: marked\n    except: [nosuch = 1]\n")
        health = wait_for("health that says so", lambda: (
            lambda h: h if "local.exceptions" in h["reason"] else None)(instance.health()["rules"]))
        check(health["state"] == "degraded" and "exceptions[0].except[0]" in health["reason"], f"{health}")
        pid = exact_arguments("true", f"{marker}-quiet-again", executable="/bin/true")
        wait_for("an alert again", lambda: alert_of(instance, pid, "marked"))


def scenario_rules_that_come_change_break_and_go_are_in_the_ledger():
    """The first rule of an empty folder, a change of its file, a broken one, its end: each named in the audit ledger."""
    marker = f"audited-{os.getpid()}"
    with daemon(rules={}) as instance:
        instance.start()

        def told(change, **wanted):
            rows = instance.query("SELECT payload FROM audit_ledger WHERE action = 'agent.rules' ORDER BY seq")
            for payload in (json.loads(row["payload"]) for row in rows):
                for one in payload.get("changes", []):
                    if one["change"] == change and all(one.get(key) == value for key, value in wanted.items()):
                        return payload, one
            return None

        rows = wait_for("what is in force at the start", lambda: instance.query(
            "SELECT payload FROM audit_ledger WHERE action = 'agent.rules'"))
        check(json.loads(rows[0]["payload"])["rules"] == 0, f"none at the start: {rows}")
        instance.write_rule("marked.yaml", RULE.format(id="marked", title="A", marker=marker))
        payload, added = wait_for("the first rule by name", lambda: told("added", id="marked"))
        check(payload["rules"] == 1 and payload["active"] == 1 and added["file"].endswith("/marked.yaml"), f"{payload}")
        instance.write_rule("marked.yaml", RULE.format(id="marked", title="B", marker=marker))
        _, changed = wait_for("its change", lambda: told("changed", id="marked"))
        check(changed["version"] != added["version"], f"{added} {changed}")
        instance.write_rule("marked.yaml", "id: marked\ntitle: [\n")
        payload, broken = wait_for("that it is broken", lambda: told("broken", id="marked"))
        check(broken["last_good_kept"] is True and payload["rules"] == 1, f"its last good version runs: {payload}")
        pid = exact_arguments("true", marker, executable="/bin/true")
        alert = wait_for("an alert of the last good version", lambda: alert_of(instance, pid, "marked"))
        check(alert[0]["title"] == "B", f"{alert}")
        os.unlink(os.path.join(instance.rules, "marked.yaml"))
        payload, _ = wait_for("its end", lambda: told("removed", id="marked"))
        check(payload["rules"] == 0, f"{payload}")
        check(instance.cli("audit", "verify").code == 0, "the ledger holds")


GROWS = """import sys
sys.stdin.readline()
held = bytearray(80_000_000)
held[::4096] = b'x' * len(held[::4096])
sys.stdin.readline()
"""


def scenario_rules_over_memory_fire_when_a_process_grows():
    """A stream rule over `processes` whose condition asks for memory_usage: no event tells of it, the next scan does."""
    marker = f"grows-{os.getpid()}"
    rule = (f"id: grown\ntitle: \"{{{{name}}}} has grown\"\nseverity: low\nsql: |\n  SELECT p.process_key, p.pid, p.name, "
            f"p.memory_usage FROM processes p WHERE p.memory_usage > 60000000 AND p.command_line LIKE '%{marker}%'\n")
    with daemon(rules={"grown.yaml": rule}, settings={"app.scan_interval_ms": 300}) as instance:
        instance.start()
        process = subprocess.Popen([sys.executable, "-c", GROWS, marker], stdin=subprocess.PIPE)
        try:
            wait_for("a scan that knows it", lambda: instance.query(
                f"SELECT 1 FROM processes WHERE pid = {process.pid} AND memory_usage > 0"))
            check(not alert_of(instance, process.pid, "grown"), "it is small yet")
            process.stdin.write(b"grow\n")
            process.stdin.flush()
            wait_for("its alert", lambda: alert_of(instance, process.pid, "grown"))
            alert = instance.query(f"SELECT evidence, count FROM alerts WHERE pid = {process.pid}")[0]
            (event,) = json.loads(alert["evidence"])
            row = instance.query(f"SELECT pid, kind FROM process_events WHERE event_id = {event}")[0]
            check(row["pid"] == process.pid and row["kind"] in ("exec", "seen", "change"), f"evidence tells of it: {row}")
        finally:
            process.kill()
            process.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


SIGMA = """title: Marked by Sigma
id: 5F0E1C1A-0000-4000-8000-000000000001
status: test
author: Somebody
logsource:
    product: linux
    category: process_creation
detection:
    selection:
        Image|endswith: '/TRUE'
        CommandLine|contains: '{marker}'
    filter_main:
        CommandLine|endswith: '-quiet'
    condition: selection and not 1 of filter_*
level: high
"""

LOOKS_AHEAD = """title: Looks ahead
id: 5f0e1c1a-0000-4000-8000-000000000002
logsource: {product: linux, category: process_creation}
detection: {s: {CommandLine|re: 'a(?=b)'}, condition: s}
"""


def digests(folder):
    """Of every file below, so that a change of any is seen."""
    found = {}
    for base, _, files in os.walk(folder):
        for name in (one for one in files if os.path.isfile(os.path.join(base, one))):
            with open(os.path.join(base, name), "rb") as file:
                found[os.path.join(base, name)] = hashlib.sha256(file.read()).hexdigest()
    return found


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def scenario_rules_sigma_rules_are_imported_and_fire():
    """A dry run writes nothing; what is refused is told with its reason; what comes over raises alerts at once."""
    marker = f"sigma-{os.getpid()}"
    with daemon(rules={}, settings={"app.scan_interval_ms": 1000}) as instance:
        folder = os.path.join(instance.folder, "sigma", "deep")
        os.makedirs(folder)
        write(os.path.join(folder, "a.yml"), SIGMA.format(marker=marker))
        write(os.path.join(folder, "b.yml"), LOOKS_AHEAD)
        write(os.path.join(folder, "notes.txt"), "not a rule")
        instance.start()
        source = os.path.dirname(folder)
        before = digests(instance.rules)
        dry = instance.cli("--format", "json", "rules", "import", "--sigma", source, "--dry-run")
        summary = dry.json()
        check(dry.code == 3 and summary["dry_run"], f"some are refused: {dry.code} {dry.err}")
        check([one["id"] for one in summary["imported"]] == ["5f0e1c1a-0000-4000-8000-000000000001"], f"{summary}")
        refused = summary["refused"][0]
        check(refused["file"].endswith("b.yml") and refused["id"].endswith("2") and "look-around" in refused["reason"],
              f"{refused}")
        check(digests(instance.rules) == before, "a dry run writes nothing")

        instance.cli("rules", "import", "--sigma", source)
        rule = "5f0e1c1a-0000-4000-8000-000000000001"
        wait_for("the rule", lambda: rule_row(instance, rule))
        quiet = exact_arguments("true", f"{marker}-quiet", executable="/bin/true")
        loud = exact_arguments("true", f"{marker}-loud", executable="/bin/true")
        alert = wait_for("its alert", lambda: alert_of(instance, loud, rule))
        check(alert == [{"severity": "high", "title": "Marked by Sigma"}], f"{alert}")
        check(not alert_of(instance, quiet, rule), "the filter holds")
        again = instance.cli("rules", "import", "--sigma", os.path.join(folder, "a.yml"))
        check(again.code == 0, f"the same again changes nothing: {again.err}")
        write(os.path.join(folder, "a.yml"), SIGMA.format(marker=marker).replace("level: high", "level: low"))
        other = instance.cli("rules", "import", "--sigma", os.path.join(folder, "a.yml"))
        check(other.code == 2 and "--replace" in other.out, f"another one is not written over it: {other.out}")
        check(instance.cli("rules", "import", "--sigma", "--replace", os.path.join(folder, "a.yml")).code == 0, "asked to")
        wait_for("the other severity", lambda: rule_row(instance, rule)["severity"] == "low")


def scenario_rules_are_created_moved_and_tried_on_history():
    """create from flags and from answers, export and import, show, and test over the store and over a recording,
    which writes nothing."""
    marker = f"made-{os.getpid()}"
    sql = (f"SELECT e.process_key, e.pid, e.name, e.command_line FROM process_events e WHERE e.kind = 'exec' "
           f"AND e.name = 'true' AND e.command_line LIKE '%{marker}%'")
    with daemon(rules={}, settings={"app.scan_interval_ms": 1000}) as instance:
        instance.start()
        pids = [exact_arguments("true", f"{marker}-{number}", executable="/bin/true") for number in range(3)]
        wait_for("the events", lambda: len(instance.query(
            f"SELECT pid FROM process_events WHERE kind = 'exec' AND name = 'true' AND command_line LIKE '%{marker}%'")) == 3)

        flags = ["rules", "create", "--id", "made", "--title", "{{name}} was marked", "--tag", "test.made", "--sql", sql,
                 "--dedup-by", "process_key", "--dedup-for", "10m", "--status", "draft"]
        dry = instance.cli(*flags, "--dry-run")
        check(dry.code == 0 and "id: made" in dry.out and not os.listdir(instance.rules), f"{dry.out}{dry.err}")
        check(instance.cli(*flags).code == 0, "written")
        check(instance.cli(*flags).code == 2, "not written over")
        wrong = instance.cli("rules", "create", "--id", "wrong", "--title", "x", "--sql", "SELECT nam FROM processes")
        check(wrong.code == 2 and "did you mean name?" in wrong.err, wrong.err)
        lacking = instance.cli("rules", "create", "--id", "wrong")
        check(lacking.code == 2 and "--interactive" in lacking.err, lacking.err)
        answers = f"Bad Id\nAsked for\nhigh\n\nSELECT nam FROM processes;\nasked\n{sql};\ny\n"
        asked = instance.cli("rules", "create", "--interactive", stdin=answers)
        check(asked.code == 0 and "did you mean name?" in asked.err, f"{asked.code} {asked.err}")
        with open(os.path.join(instance.rules, "asked.yaml"), encoding="utf-8") as file:
            check("severity: high" in file.read(), "as it was answered")

        shown = instance.cli("--format", "json", "rules", "show", "made").json()["rows"][0]
        check(shown["kind"] == "stream" and "true" in shown["literals"] and "kind" in shown["push_down"]
              and "SELECT" in shown["derived_sql"], f"{shown}")
        wait_for("its statistics", lambda: "evaluation_seconds_count" in (instance.cli(
            "--format", "json", "rules", "show", "asked").json()["rows"][0]["statistics"] or ""))

        tested = instance.cli("rules", "test", "made")
        check(tested.code in (0, 3) and all(str(pid) in tested.out for pid in pids), f"{tested.out}{tested.err}")
        # As incomplete as the history it was run over, on a busy machine: else not at all.
        asked = instance.cli("--format", "json", "query", "SELECT count(*) FROM process_events").json()["completeness"]
        found = instance.cli("--format", "json", "rules", "test", "made")
        check(found.code == (0 if asked["status"] == "complete" else 3) and
              {reason["reason"] for reason in found.json()["completeness"].get("reasons", [])} ==
              {reason["reason"] for reason in asked.get("reasons", [])}, f"{found.code} {found.out} {asked}")
        check("3 rows would have matched" in tested.err and "estimated cost" in tested.err, tested.err)
        summary = instance.cli("--format", "json", "rules", "test", "made", "--summary").json()["rows"][0]
        check(summary["matches"] == 3 and sum(json.loads(summary["days"]).values()) == 3 and summary["events"] >= 3,
              f"{summary}")
        check(instance.cli("--format", "json", "rules", "test", "made", "--since", "2020-01-01T00:00:00Z", "--until",
                           "2020-01-02T00:00:00Z").json()["rows"] == [], "nothing in another window")
        check(not instance.query("SELECT alert_id FROM alerts WHERE rule_id = 'made'"), "a draft and a test raise nothing")

        out = os.path.join(instance.folder, "exported.yaml")
        exported = instance.cli("rules", "export", "made", "asked")
        check(exported.code == 0 and exported.out.count("\n---\n") == 1, exported.out)
        write(out, exported.out)
        elsewhere = os.path.join(instance.folder, "elsewhere")
        check(instance.cli("rules", "import", out, "--into", elsewhere).code == 0, "both come back")
        for name in ("made.yaml", "asked.yaml"):
            with open(os.path.join(elsewhere, name), encoding="utf-8") as new, \
                    open(os.path.join(instance.rules, name), encoding="utf-8") as old:
                check(new.read() == old.read(), f"{name} is as it was")
        check(instance.cli("rules", "delete", "made", "--yes").code == 0, "deleted")
        check(not os.path.exists(os.path.join(instance.rules, "made.yaml")), "its file is gone")

        exact_arguments("true", f"{marker}-seen", executable="/bin/true")
        statistics = wait_for("its quantiles", lambda: (lambda of: "p99_ms" in of and of)(json.loads(instance.cli(
            "--format", "json", "rules", "show", "asked").json()["rows"][0]["statistics"])))
        check(statistics["matches_total"] >= 1 and statistics["state"] == 0
              and 0 < statistics["p50_ms"] <= statistics["p99_ms"], f"{statistics}")

        recording = write(os.path.join(instance.folder, "events.jsonl"), "".join(
            json.dumps({"time": f"2026-01-0{day}T12:00:00Z", "kind": "exec", "pid": 100 + day, "name": "true",
                        "arguments": ["true", marker]}) + "\n" for day in (1, 1, 2)))
        database = os.path.join(instance.folder, "import", "imported.redb")
        os.mkdir(os.path.dirname(database))
        imported = instance.cli("import", recording, "--into", database)
        check(imported.code == 0, imported.err)
        content = lambda: {name: digest for name, digest in digests(os.path.dirname(database)).items()  # noqa: E731
                           if not name.endswith("-shm")}
        before = content()
        file = os.path.join(elsewhere, "made.yaml")
        summary = instance.cli("--format", "json", "--db", database, "rules", "test", file, "--summary").json()["rows"][0]
        check(json.loads(summary["days"]) == {"2026-01-01": 2, "2026-01-02": 1}, f"{summary}")
        check(before and content() == before, f"a test writes nothing: {before} {content()}")


def scenario_a_rule_is_created_at_a_terminal():
    """`rules create` without flags asks, says what is wrong with an answer, asks that again, and writes when it may."""
    folder = tempfile.mkdtemp(prefix="daemoneye-test-", dir="/var/tmp")
    try:
        create = Terminal([os.path.join(BIN, "daemoneye-cli"), "rules", "create", "--into", folder], environment(folder))
        for question, answer in ((r"id \(", "Bad Id"), (r"title", "{{name}} ran"), (r"severity", "loud"),
                                 (r"description", ""), (r"SQL", "SELECT e.nam FROM process_events e;")):
            create.expect(question + r".*:")
            create.send(answer + "\n")
        create.expect(r"'Bad Id'.*'loud'.*did you mean name\?")
        for question, answer in ((r"id \(", "made-here"), (r"severity", ""),
                                 (r"SQL", "SELECT e.pid, e.name\nFROM process_events e\nWHERE e.name = 'zzz'\n")):
            create.expect(question + r".*:")
            create.send(answer + "\n")
        create.expect(r"Write this to .*made-here\.yaml\?")
        create.send("y\n")
        check(create.wait() == 0, f"written: {create.seen}")
        with open(os.path.join(folder, "made-here.yaml"), encoding="utf-8") as file:
            text = file.read()
        check("severity: medium" in text and "WHERE e.name = 'zzz'" in text, text)
        declined = Terminal([os.path.join(BIN, "daemoneye-cli"), "rules", "create", "--into", folder, "--interactive",
                             "--id", "declined", "--title", "x", "--severity", "low", "--description", "x", "--sql",
                             "SELECT e.pid FROM process_events e"], environment(folder))
        declined.expect(r"Write this to .*declined\.yaml\?")
        declined.send("n\n")
        check(declined.wait() == 1 and os.listdir(folder) == ["made-here.yaml"], f"not written: {declined.seen}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
