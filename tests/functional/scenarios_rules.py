"""Rules: changed by operators without their files, excused by exceptions, imported, tried on history."""

import json
import os

from harness import check, daemon, exact_arguments, wait_for

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
