"""Alerts on their way: sinks that are down, dead letters, sinks that are gone, what operators ask and change."""

import json
import os
import random
import signal
import subprocess
import threading

from harness import BIN, check, daemon, exact_arguments, wait_for

RULE = """
id: marked-process
title: A marked process
description: For tests of delivery.
severity: high
tags: [test.marked]
sql: |
  SELECT e.pid, e.name, e.command_line, e.process_key FROM process_events e
  WHERE e.kind = 'exec' AND e.command_line LIKE '%{marker}%'
"""

# Quick, so that a scenario sees all of it.
QUICK = {
    "app.scan_interval_ms": 1000,
    "alerting.retry.max_retries": 2,
    "alerting.retry.max_delay_ms": 200,
    "alerting.breaker.failures": 3,
    "alerting.breaker.open_ms": 300,
}


class Lines:
    """The alerts of a file sink."""

    def __init__(self, path):
        self.path = path

    def ids(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line)["alert_id"] for line in file if line.endswith("\n")]


def rules(marker):
    return {"marked.yaml": RULE.format(marker=marker)}


def raise_alert(instance, marker, number):
    pid = exact_arguments("true", f"{marker}-{number}", executable="/bin/true")
    return wait_for(f"the alert of process {pid}", lambda: instance.query(
        f"SELECT alert_id, time FROM alerts WHERE pid = {pid} AND rule_id = 'marked-process'"))[0]["alert_id"]


def sink_of(instance, name):
    rows = instance.cli("--format", "json", "sinks", "list").json()["rows"]
    return next(row for row in rows if row["name"] == name)


def letters(instance):
    return instance.cli("--format", "json", "deadletter", "list").json()["rows"]


def trail(instance, alert, sink):
    rows = instance.query(f"SELECT attempt, outcome FROM alert_deliveries WHERE alert_id = '{alert}' "
                          f"AND sink = '{sink}' ORDER BY delivery_id")
    return [(row["attempt"], row["outcome"]) for row in rows]


def actions(instance):
    rows = instance.query("SELECT action, payload FROM audit_ledger ORDER BY seq")
    return [(row["action"], row["payload"]) for row in rows]


class Follower:
    """`alerts follow`; its lines are taken while it runs."""

    def __init__(self, instance, *arguments):
        self.process = subprocess.Popen([os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "--format",
                                         "jsonl", "alerts", "follow", *arguments], stdout=subprocess.PIPE, text=True)
        self.seen = []
        self.reader = threading.Thread(target=lambda: [self.seen.append(json.loads(l)) for l in self.process.stdout])
        self.reader.start()

    def ids(self):
        return [alert["alert_id"] for alert in self.seen]

    def end(self):
        self.process.send_signal(signal.SIGINT)
        check(self.process.wait(20) in (0, 130, -signal.SIGINT), "it ends when interrupted")
        self.reader.join()


def broken_file_sink(instance):
    """A file sink whose folder can be taken away: appending fails, and works again when it is back."""
    folder = os.path.join(instance.folder, "alerts")
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    return {"type": "file", "name": "files", "path": os.path.join(folder, "alerts.jsonl")}, folder


def take_away(instance, folder):
    os.rename(folder, folder + ".away")
    instance.process.send_signal(signal.SIGHUP)  # the file is opened again, and cannot be


def give_back(folder):
    os.rename(folder + ".away", folder)


def scenario_alerts_wait_for_a_sink_that_is_down():
    """Down: the breaker opens and alerts wait. The agent restarts meanwhile: it is open still. Up: all arrive once."""
    marker = f"waits-{os.getpid()}"
    with daemon(rules=rules(marker), settings={**QUICK, "alerting.breaker.open_ms": 2000}) as instance:
        sink, folder = broken_file_sink(instance)
        instance.settings["alerting.sinks"] = [sink, {"type": "stdout", "format": "json"}]
        instance.write_config()
        instance.start()
        lines = Lines(sink["path"])
        first = raise_alert(instance, marker, 0)
        wait_for("the first alert in the file", lambda: lines.ids() == [first])
        take_away(instance, folder)
        wanted = [raise_alert(instance, marker, number) for number in range(1, 6)]
        wait_for("an open breaker", lambda: sink_of(instance, "files")["breaker"] == "open")
        state = sink_of(instance, "files")
        check(state["waiting"] == 5 and state["oldest_undelivered"], f"five wait, and since when: {state}")
        check("alerts" in state["last_error"], f"the error names the file: {state}")
        health = instance.health()["sinks"]
        check(health["state"] == "degraded" and "files" in health["reason"], f"health says so: {health}")
        wait_for("the other sink has all of them", lambda: {first, *wanted} <= {a["alert_id"] for a in instance.alerts()})
        metrics = instance.cli("metrics").out
        check('daemoneye_alert_queue_depth{name="files",sink="file"} 5' in metrics, metrics[:3000])
        check('daemoneye_alert_deliveries_total{sink="stdout"} 6' in metrics, "the delivered ones are counted")

        check(instance.stop() == 0, "a clean stop ends with 0")
        stored = sink_of(instance, "files")
        check(stored["breaker"] != "closed" and stored["waiting"] == 5, f"the stopped agent's store tells: {stored}")
        # A file that cannot be opened ends the start: it is there, but closed to the sink's user.
        give_back(folder)
        os.rename(sink["path"], sink["path"] + ".before")
        os.mkdir(sink["path"])
        failed = subprocess.run([os.path.join(BIN, "daemoneye-agent"), "--config", instance.config],
                                capture_output=True, text=True, timeout=60, check=False)
        check(failed.returncode != 0 and "alerts.jsonl" in failed.stderr, f"said at the start: {failed.stderr[-500:]}")
        os.rmdir(sink["path"])
        os.rename(sink["path"] + ".before", sink["path"])
        instance.start()
        wait_for("all in the file", lambda: len(set(lines.ids())) == 6)
        check(sorted(lines.ids()) == sorted([first, *wanted]), f"each once: {lines.ids()}")
        wait_for("the breaker closed", lambda: sink_of(instance, "files")["breaker"] == "closed")
        check(letters(instance) == [], "nothing was given up")
        state = sink_of(instance, "files")
        check(state["waiting"] == 0 and state["last_success"] and state["p99_ms"] is not None, f"and health: {state}")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_alerts_wait_for_a_sink_that_is_down.needs_root = True


def scenario_dead_letters_are_retried_and_purged():
    """Given up after the last retry; retried by an operator and delivered; purged by one who said so."""
    marker = f"dead-{os.getpid()}"
    # A breaker that never opens: every failure uses up a retry.
    with daemon(rules=rules(marker), settings={**QUICK, "alerting.breaker.failures": 1000}) as instance:
        sink, folder = broken_file_sink(instance)
        instance.settings["alerting.sinks"] = [sink]
        instance.write_config()
        instance.start()
        lines = Lines(sink["path"])
        take_away(instance, folder)
        dead = [raise_alert(instance, marker, number) for number in range(3)]
        wait_for("three dead letters", lambda: len(letters(instance)) == 3, 30)
        check(trail(instance, dead[0], "files") == [(1, "failed"), (2, "failed"), (3, "dead_letter")],
              f"every attempt is in the trail: {trail(instance, dead[0], 'files')}")
        letter = letters(instance)[0]
        check(letter["sink"] == "files" and letter["rule_id"] == "marked-process" and "alerts" in letter["reason"],
              f"it tells what and why: {letter}")
        check("3 dead letters" in instance.health()["sinks"]["reason"], "health says so")

        refused = instance.cli("deadletter", "retry", "--all", user="nobody")
        check(refused.code == 4, f"not for everyone: {refused.code} {refused.err}")
        give_back(folder)
        result = instance.cli("--format", "json", "deadletter", "retry", dead[0][:8], dead[1])
        check(result.code == 0 and result.json()["rows"] == [{"retried": 2}], f"two: {result.out} {result.err}")
        wait_for("they arrive", lambda: sorted(lines.ids()) == sorted(dead[:2]))
        check(trail(instance, dead[0], "files")[-1] == (1, "delivered"), "delivered in the trail")
        result = instance.cli("deadletter", "purge", "--all", stdin="n\n")
        check(result.code == 1 and len(letters(instance)) == 1, f"it asks first: {result.code} {result.err}")
        check(instance.cli("deadletter", "purge", "--all").code == 2, "nobody there to ask is an error")
        check(instance.cli("deadletter", "purge", "--yes").code == 2, "which must be said")
        result = instance.cli("--format", "json", "deadletter", "purge", "--sink", "files", "--yes")
        check(result.code == 0 and result.json()["rows"] == [{"purged": 1}], f"one: {result.out} {result.err}")
        check(letters(instance) == [], "gone")
        wait_for("both in the ledger", lambda: {"agent.dead_letter_retry", "agent.dead_letter_purge"} <=
                 {action for action, _ in actions(instance)})
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_dead_letters_are_retried_and_purged.needs_root = True


def scenario_a_removed_sink_leaves_dead_letters():
    """What waits for a sink that is taken out of the configuration is visible, and delivered when it is back."""
    marker = f"removed-{os.getpid()}"
    with daemon(rules=rules(marker), settings={**QUICK, "alerting.breaker.open_ms": 60000}) as instance:
        sink, folder = broken_file_sink(instance)
        instance.settings["alerting.sinks"] = [sink, {"type": "stdout", "format": "json"}]
        instance.write_config()
        instance.start()
        take_away(instance, folder)
        waiting = [raise_alert(instance, marker, number) for number in range(4)]
        wait_for("an open breaker", lambda: sink_of(instance, "files")["breaker"] == "open")
        check(instance.stop() == 0, "a clean stop ends with 0")
        give_back(folder)
        instance.settings["alerting.sinks"] = [{"type": "stdout", "format": "json"}]
        instance.write_config()
        instance.start()
        found = wait_for("four dead letters", lambda: len(letters(instance)) == 4 and letters(instance))
        check({row["reason"] for row in found} == {"sink no longer configured"}, f"with the reason: {found}")
        check("not configured" in instance.health()["sinks"]["reason"], "health says so")
        result = instance.cli("deadletter", "retry", "--sink", "files")
        check(result.code == 2 and "not configured" in result.err, f"not while it is away: {result.code} {result.err}")
        result = instance.cli("deadletter", "retry", "--all")
        check(result.code == 0 and "4 stay" in result.err, f"they stay: {result.out} {result.err}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        instance.settings["alerting.sinks"] = [sink, {"type": "stdout", "format": "json"}]
        instance.write_config()
        instance.start()
        check(instance.cli("deadletter", "retry", "--sink", "files").code == 0, "retried")
        # Its breaker was open when it was removed.
        lines = Lines(sink["path"])
        wait_for("its breaker and what waits", lambda: sink_of(instance, "files")["waiting"] == 4)
        check(sink_of(instance, "files")["breaker"] == "open", "still open: nothing has shown that it works again")
        check(instance.stop() == 0, "a clean stop ends with 0")
        instance.settings["alerting.breaker.open_ms"] = 100
        instance.write_config()
        instance.start()
        wait_for("all of them", lambda: sorted(lines.ids()) == sorted(waiting))
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_a_removed_sink_leaves_dead_letters.needs_root = True


def scenario_alerts_are_followed_and_changed():
    """follow shows alerts as they are raised; ack, close and reopen keep who and why, here and in the ledger."""
    marker = f"follow-{os.getpid()}"
    with daemon(rules=rules(marker), settings=QUICK) as instance:
        instance.start()
        before = raise_alert(instance, marker, 0)
        follower = Follower(instance, "--since", "1h", "--severity", "high,critical")
        # What was raised before comes first; then each as it comes.
        wait_for("the alert from before", lambda: follower.ids() == [before])
        after = raise_alert(instance, marker, 1)
        wait_for("the new alert", lambda: follower.ids() == [before, after])
        check(follower.seen[1]["tags"] == ["test.marked"], f"with its tags: {follower.seen[1]}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        instance.start()
        again = raise_alert(instance, marker, 2)
        wait_for("the alert after a restart of the agent", lambda: follower.ids() == [before, after, again])
        follower.end()

        check(instance.cli("alerts", "ack", before, user="nobody").code == 4, "not for everyone")
        result = instance.cli("--format", "json", "alerts", "ack", before[:8], "--note", "known job")
        check(result.code == 0 and result.json()["rows"] == [{"alert_id": before, "from": "open", "to": "acknowledged"}],
              f"acknowledged: {result.out} {result.err}")
        result = instance.cli("alerts", "close", before, "no-such-alert")
        check(result.code == 1 and "no-such-alert" in result.err, f"all or nothing: {result.code} {result.err}")
        check(instance.query(f"SELECT status FROM alerts WHERE alert_id = '{before}'")[0]["status"] == "acknowledged",
              "nothing was changed")
        check(instance.cli("alerts", "close", before, after).code == 0, "closed")
        result = instance.cli("alerts", "ack", before)
        check(result.code == 1 and "reopen" in result.err, f"a closed alert is not acknowledged: {result.err}")
        check(instance.cli("alerts", "reopen", before[:8], "--note", "not so fast").code == 0, "reopened")
        shown = instance.cli("alerts", "show", before[:8]).out
        for text in ("open -> acknowledged  (known job)", "acknowledged -> closed", "closed -> open  (not so fast)", "root: "):
            check(text in shown, f"{text} in {shown}")
        rows = instance.cli("--format", "json", "alerts", "list", "--status", "closed").json()["rows"]
        check([row["alert_id"] for row in rows] == [after], f"filtered by status: {rows}")
        found = wait_for("the changes in the ledger", lambda: (lambda all_: all_ if {
            "agent.alert_ack", "agent.alert_close", "agent.alert_reopen"} <= {action for action, _ in all_} else None)(actions(instance)))
        payload = json.loads(next(payload for action, payload in found if action == "agent.alert_ack"))
        check(payload["by_uid"] == os.getuid() and payload["note"] == "known job" and payload["alerts"] == [before],
              f"with who and why: {payload}")
        check(instance.stop() == 0, "a clean stop ends with 0")
        check(instance.cli("alerts", "ack", before).code == 4, "without the agent nothing is changed")
        check(instance.cli("alerts", "follow").code == 4, "nor followed")


scenario_alerts_are_followed_and_changed.needs_root = True


def scenario_following_goes_on_after_a_purge():
    """The rows of alerts are given anew after a purge: an alert in a row that was followed already is seen all the same."""
    marker = f"purged-{os.getpid()}"
    with daemon(rules=rules(marker), settings=QUICK) as instance:
        instance.start()
        first = raise_alert(instance, marker, 0)
        follower = Follower(instance, "--since", "1h")
        wait_for("the first alert", lambda: follower.ids() == [first])
        wait_for("it is delivered", lambda: trail(instance, first, "stdout") == [(1, "delivered")])
        follower.process.send_signal(signal.SIGSTOP)  # it looks away
        check(instance.cli("db", "purge", "--all", "--yes").code == 0, "purged")
        check(instance.query("SELECT count(*) AS n FROM alerts")[0]["n"] == 0, "the alert as well")
        second = raise_alert(instance, marker, 1)
        follower.process.send_signal(signal.SIGCONT)
        wait_for("the second alert", lambda: follower.ids() == [first, second])
        follower.end()


scenario_following_goes_on_after_a_purge.needs_root = True


def scenario_what_cannot_be_recorded_is_not_changed():
    """Where the queue of audit entries cannot be written, no operator's change is made, and health says why."""
    marker = f"unrecorded-{os.getpid()}"
    with daemon(rules=rules(marker), settings=QUICK) as instance:
        instance.start()
        alert = raise_alert(instance, marker, 0)
        check(instance.stop() == 0, "a clean stop ends with 0")
        queue = os.path.join(instance.state, "audit-requests")
        if os.path.exists(queue):
            os.remove(queue)
        os.mkdir(queue)  # a folder is no file
        instance.start()
        for verb in (["alerts", "ack", alert], ["deadletter", "retry", "--all"], ["deadletter", "purge", "--all", "--yes"]):
            result = instance.cli(*verb)
            check(result.code == 4 and "audit" in result.err, f"{verb}: {result.code} {result.err}")
        check(instance.query(f"SELECT status FROM alerts WHERE alert_id = '{alert}'")[0]["status"] == "open", "unchanged")
        health = instance.health()["audit_requests"]
        check(health["state"] == "degraded" and "memory" in health["reason"], f"health says so: {health}")


scenario_what_cannot_be_recorded_is_not_changed.needs_root = True


def scenario_sinks_are_tested():
    """sinks test sends a marked alert to each and tells of each; nothing else of delivery is touched."""
    marker = f"test-{os.getpid()}"
    with daemon(rules=rules(marker), settings=QUICK) as instance:
        sink, folder = broken_file_sink(instance)
        instance.settings["alerting.sinks"] = [sink, {"type": "stdout", "format": "json"}]
        instance.write_config()
        instance.start()
        result = instance.cli("--format", "json", "sinks", "test")
        rows = result.json()["rows"]
        check(result.code == 0 and [row["result"] for row in rows] == ["delivered", "delivered"], f"{rows} {result.err}")
        check(all(row["latency_ms"] >= 0 for row in rows), f"with the latency: {rows}")
        marked = wait_for("the marked alert", instance.alerts)[0]
        check(marked["rule_id"] == "daemoneye.sink-test" and marked["alert_id"].startswith("sink-test-"), f"{marked}")
        take_away(instance, folder)
        result = instance.cli("--format", "json", "sinks", "test", "files")
        rows = result.json()["rows"]
        check(result.code == 1 and len(rows) == 1 and "alerts.jsonl" in rows[0]["error"],
              f"what to do something about: {result.code} {rows}")
        result = instance.cli("sinks", "test", "nowhere")
        check(result.code == 2 and "files, stdout" in result.err, f"names what there is: {result.code} {result.err}")
        check(instance.cli("sinks", "test", user="nobody").code == 4, "not for everyone")
        rows = wait_for("three tests in the trail", lambda: (lambda found: found if len(found) == 3 else None)(
            instance.query("SELECT alert_id, sink, attempt, outcome FROM alert_deliveries ORDER BY delivery_id")))
        check({row["attempt"] for row in rows} == {0} and rows[-1]["outcome"] == "failed", f"to be told apart: {rows}")
        check(sink_of(instance, "files")["breaker"] == "closed", "a test moves no breaker")
        check(instance.query("SELECT count(*) AS n FROM alerts")[0]["n"] == 0, "and is no alert")
        give_back(folder)
        check(instance.stop() == 0, "a clean stop ends with 0")
        check(instance.cli("sinks", "test").code == 4, "without the agent there is no test")


scenario_sinks_are_tested.needs_root = True


def scenario_a_rate_limit_ends_in_a_summary():
    """Of six alerts two are sent; then one that stands for four."""
    marker = f"limited-{os.getpid()}"
    settings = {**QUICK, "alerting.dedup_window_ms": 0}
    sinks = [{"type": "stdout", "format": "json", "rules": {"include": ["marked-*"]}, "tags": {"exclude": ["noise"]},
              "rate_limit": {"alerts": 2, "per_ms": 1500}}]
    with daemon(rules=rules(marker), settings=settings, sinks=sinks) as instance:
        instance.start()
        raised = 0
        # A window that ends in between lets more pass: what counts is that each is told of once.
        for number in range(6):
            raise_alert(instance, marker, number)
            raised += 1

        def told():
            one_by_one = [a for a in instance.alerts() if a["rule_id"] == "marked-process"]
            summaries = [a for a in instance.alerts() if a["rule_id"] == "daemoneye.rate-limit"]
            return len(one_by_one) + sum(a["row"]["held_back"] for a in summaries) == raised and summaries

        summaries = wait_for("each is told of", told)
        check(summaries[0]["row"]["counts"][0]["rule_id"] == "marked-process", f"by rule: {summaries}")
        check(summaries[0]["severity"] == "high", f"as severe as the worst of them: {summaries}")
        held = sum(summary["row"]["held_back"] for summary in summaries)
        trail_of_held = instance.query("SELECT a.tags, d.sink, d.attempt, d.error FROM alert_deliveries d "
                                       "JOIN alerts a ON a.alert_id = d.alert_id WHERE d.outcome = 'held'")
        check(len(trail_of_held) == held, f"each is in the trail: {held} {trail_of_held}")
        check(all(row["sink"] == "stdout" and row["attempt"] == 0 and "rate limit of 2 alerts" in row["error"] and
                  json.loads(row["tags"]) == ["test.marked"] for row in trail_of_held), f"and says why: {trail_of_held}")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_a_rate_limit_ends_in_a_summary.needs_root = True


def kill_rounds(rounds):
    """Kill -9 of the agent in the middle of deliveries: what is committed arrives, and arrives again with its own id only."""
    randomness = random.Random(20261122)
    marker = f"killed-{os.getpid()}"
    with daemon(rules=rules(marker), settings={**QUICK, "alerting.dedup_window_ms": 0}) as instance:
        path = os.path.join(instance.folder, "alerts")
        os.mkdir(path)
        os.chmod(path, 0o777)
        path = os.path.join(path, "alerts.jsonl")
        instance.settings["alerting.sinks"] = [{"type": "file", "name": "files", "path": path}]
        instance.write_config()
        instance.start()
        lines = Lines(path)
        number = 0
        for _ in range(rounds):
            before = len(lines.ids())
            burst = [subprocess.Popen(["true", f"{marker}-{number + i}"], executable="/bin/true") for i in range(30)]
            number += len(burst)
            goal = before + randomness.randrange(1, 30)
            agent = instance.children()["daemoneye-agent"]
            wait_for("deliveries to begin", lambda goal=goal: len(lines.ids()) >= goal)
            os.kill(agent, signal.SIGKILL)
            for process in burst:
                process.wait()
            wait_for("the agent again", lambda agent=agent: instance.children().get("daemoneye-agent", agent) != agent)
        instance.wait_ready()
        wait_for("all events evaluated and nothing waiting", lambda: (
            len(instance.query("SELECT alert_id FROM alerts")) >= number and sink_of(instance, "files")["waiting"] == 0), 60)
        raised = {row["alert_id"] for row in instance.query("SELECT alert_id FROM alerts WHERE rule_id = 'marked-process'")}
        arrived = lines.ids()
        check(raised <= set(arrived), f"alerts that were committed and never arrived: {sorted(raised - set(arrived))[:5]}")
        check(set(arrived) <= raised, f"what arrived was committed: {sorted(set(arrived) - raised)[:5]}")
        check(letters(instance) == [], "nothing was given up")
        print(f"{rounds} kills, {len(raised)} alerts, 0 lost, {len(arrived) - len(raised)} delivered again with the same id")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_alerts_survive_kills_of_the_agent():
    kill_rounds(4)


scenario_alerts_survive_kills_of_the_agent.needs_root = True
