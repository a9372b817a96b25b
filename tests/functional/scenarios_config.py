"""The configuration changed while DaemonEye runs: by `config set`, by hand and a signal, with what is wrong or weaker."""

import contextlib
import http.server
import json
import os
import signal
import socket
import threading
import urllib.request

from harness import check, daemon, exact_arguments, wait_for

RULE = ("id: marked\ntitle: Marked\ndescription: A marked process.\nseverity: high\n"
        "dedup: {by: [process_key], for: 1s}\n"
        "sql: SELECT pid, command_line, process_key FROM process_events "
        "WHERE kind = 'exec' AND command_line LIKE '%config-marker%'\n")


@contextlib.contextmanager
def _site(sinks="    - {type: stdout, format: json}\n", more=""):
    """Its file, with comments, lies in a folder of its own, which procmond may read while it runs."""
    with daemon(rules={"marked.yaml": RULE}) as instance:
        os.mkdir(os.path.join(instance.folder, "etc"))
        instance.config = os.path.join(instance.folder, "etc", "config.yaml")
        instance.write_text = lambda text: _write(instance.config, text)
        instance.write_text(
            f"# This machine's.\napp:\n  state_dir: {instance.state}   # on the big disk\nipc:\n"
            f"  socket_path: {instance.socket}\nbundle:\n  path: {instance.folder}/bundle\n"
            f"detection:\n  rule_paths:\n    # ours\n    - {instance.rules}   # the first\n"
            f"logging:\n  format: json\nalerting:\n  sinks:\n{sinks}{more}")
        yield instance


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _text(instance):
    with open(instance.config, encoding="utf-8") as file:
        return file.read()


def _entries(instance, action):
    rows = instance.query(f"SELECT actor, payload FROM audit_ledger WHERE action = '{action}' ORDER BY seq")
    return [json.loads(row["payload"]) for row in rows]


def _changed(entries):
    return [change["key"] for entry in entries for change in entry.get("changes", [])]


def _set(instance, key, value, *arguments, **keywords):
    return instance.cli("config", "set", key, value, *arguments, **keywords)


def scenario_config_set_writes_one_line_and_a_reload_takes_it_up():
    """Sinks, folders of rules, scans and exclusions change in the running daemons; the rest of the file stays."""
    with _site(more="  dedup_window_ms: 1000 # short\n") as instance:
        instance.start()
        before = _text(instance)
        done = _set(instance, "alerting.dedup_window_ms", "2000")
        check(done.code == 0 and "config reload" in done.out, f"set: {done.code} {done.out} {done.err}")
        check(_text(instance) == before.replace("1000 # short", "2000 # short"), f"one line: {_text(instance)}")
        reloaded = instance.cli("config", "reload")
        check(reloaded.code == 0 and "alerting.dedup_window_ms" in reloaded.out, f"{reloaded.out} {reloaded.err}")
        wait_for("the change in the ledger", lambda: _entries(instance, "agent.configuration_change"))
        wait_for("the reload in the ledger", lambda: "alerting.dedup_window_ms" in _changed(
            _entries(instance, "agent.reload")))

        # Another folder of rules, by hand and a signal.
        more = os.path.join(instance.folder, "more-rules")
        os.mkdir(more)
        _write(os.path.join(more, "second.yaml"), RULE.replace("id: marked", "id: second"))
        instance.write_text(_text(instance).replace("# the first\n", f"# the first\n    - {more}\n"))
        instance.process.send_signal(signal.SIGHUP)
        wait_for("the second rule", lambda: {"marked", "second"} == {
            row["rule_id"] for row in instance.query("SELECT rule_id FROM detection_rules")})

        # A second sink, and what it gets; the item that stays keeps its line.
        alerts = os.path.join(instance.state, "alerts.jsonl")
        done = _set(instance, "alerting.sinks", f"[{{type: stdout, format: json}}, {{type: file, path: {alerts}}}]",
                    "--reload")
        check(done.code == 0 and "in force now: alerting.sinks" in done.out, f"{done.code} {done.out} {done.err}")
        check("    - {type: stdout, format: json}\n" in _text(instance), _text(instance))
        exact_arguments("true", "config-marker-one")
        wait_for("the alert in the new sink", lambda: os.path.exists(alerts) and "config-marker-one" in open(
            alerts, encoding="utf-8").read())

        # What procmond does: how often it scans, and what it leaves out.
        def scans():
            return instance.query("SELECT count(*) AS n FROM scans")[0]["n"]
        check(_set(instance, "app.scan_interval_ms", "200", "--reload").code == 0, "scans")
        seen = scans()
        wait_for("more scans, long before the default interval", lambda: scans() >= seen + 3, 25)
        done = _set(instance, "collection.exclude", "[\"command_line = 'true left-out'\"]", "--reload", "--yes")
        check(done.code == 0, f"{done.out} {done.err}")
        wait_for("procmond recorded it", lambda: "collection.exclude" in _changed(_entries(instance, "reload")))
        exact_arguments("true", "left-out")
        exact_arguments("true", "config-marker-two")
        wait_for("what came after it", lambda: instance.query(
            "SELECT 1 FROM process_events WHERE command_line = 'true config-marker-two'"))
        check(not instance.query("SELECT 1 FROM process_events WHERE command_line = 'true left-out'"), "left out")

        # A key that waits for a start says so, here and in health, and changes nothing now.
        done = _set(instance, "app.batch_size", "77", "--reload")
        check(done.code == 0 and "from the next start on: app.batch_size" in done.out, f"{done.out} {done.err}")
        shown = instance.health()
        check(any("app.batch_size" in str(component["details"]) for component in shown.values()), str(shown))

        # Taken out again: the default counts, and its comment-less line is gone.
        check(instance.cli("config", "unset", "app.batch_size").code == 0, "unset")
        check("batch_size" not in _text(instance), _text(instance))
        for comment in ("# This machine's.", "# on the big disk", "# ours", "# the first"):
            check(comment in _text(instance), f"{comment} stays: {_text(instance)}")
        check(instance.cli("audit", "verify").code == 0, "the ledger is intact")


def scenario_config_reload_of_a_wrong_file_changes_nothing():
    """Health, log and ledger of both daemons tell why; the next good file is taken up."""
    with _site() as instance:
        instance.start()
        good = _text(instance)
        instance.write_text(good + "  dedup_window_ms: soon\nlogging2: {}\ncollection:\n  exclude: [\"name ==== 3\"]\n")
        listed = instance.cli("--format", "json", "config", "validate")
        rows = listed.json()["rows"]
        check(listed.code == 2 and len(rows) == 3, f"all of them at once: {rows}")
        for row in rows:
            check(row["file"] == instance.config and row["line"] > 10 and row["key"] and row["problem"], str(row))
        # A wrong key can be mended by line, but only when the whole is right then.
        still = _set(instance, "alerting.dedup_window_ms", "5")
        check(still.code == 2 and "would not be valid" in still.err, f"{still.code} {still.err}")

        instance.process.send_signal(signal.SIGHUP)

        def refusals():
            lines = [line for line in instance.errors().splitlines() if '"reload refused' in line]
            return {name for name in ("procmond", "daemoneye-agent") if any(f'"program":"{name}"' in line for line in lines)}
        wait_for("both refuse it in the log", lambda: len(refusals()) == 2)
        instance.write_text(good)  # so that the CLI can read it; not loaded yet
        told = wait_for("the agent's refusal in the ledger", lambda: _entries(instance, "agent.reload_refused"))
        check(told[0]["count"] == 3 and any("dedup_window_ms" in p for p in told[0]["problems"]), str(told))
        wait_for("procmond's refusal in the ledger", lambda: _entries(instance, "reload_refused"))

        def degraded():
            report = instance.health()
            return {name for name, one in report.items() if "last reload was refused" in one["reason"]}
        wait_for("both say so in health", lambda: len(degraded()) >= 2)
        exact_arguments("true", "config-marker-still")
        wait_for("alerts go on", lambda: any("config-marker-still" in str(a["row"]) for a in instance.alerts()))

        instance.write_text(good + "  dedup_window_ms: 5\n")
        instance.process.send_signal(signal.SIGHUP)
        wait_for("health is well again", lambda: not degraded())
        check("alerting.dedup_window_ms" in _changed(_entries(instance, "agent.reload")), "taken up")


def scenario_config_that_weakens_is_asked_for_and_recorded():
    """Nobody to ask: refused. Said no: not done. With --yes: done, and the ledger knows of both daemons."""
    with _site() as instance:
        instance.start()
        before = _text(instance)
        nobody = _set(instance, "collection.mask_arguments", "false")
        check(nobody.code == 2 and "--yes" in nobody.err and "passwords and tokens" in nobody.err, nobody.err)
        check(_set(instance, "collection.mask_arguments", "false", stdin="n\n").code == 1, "no is no")
        tried = _set(instance, "metrics.listen", "0.0.0.0:9100", "--dry-run")
        check(tried.code == 0 and "warning: metrics.listen" in tried.err, f"{tried.code} {tried.err}")
        insecure = _set(instance, "alerting.sinks", "[{type: stdout, format: json}, "
                        "{type: webhook, url: 'http://siem.example/hook'}]")
        check(insecure.code == 2 and "unencrypted" in insecure.err, f"{insecure.code} {insecure.err}")
        check(_text(instance) == before, "nothing was written")
        check(_set(instance, "metrics.listen", "127.0.0.1:9100", "--dry-run").err == "", "loopback asks nothing")

        done = _set(instance, "collection.mask_arguments", "false", "--yes", "--reload")
        check(done.code == 0, f"{done.code} {done.err}")
        for action in ("agent.configuration_change", "agent.reload", "reload"):
            entries = wait_for(f"{action} tells of it",
                               lambda a=action: [e for e in _entries(instance, a) if e.get("weakens")])
            check(entries[-1]["weakens"][0]["key"] == "collection.mask_arguments", str(entries))
        exact_arguments("true", "--password=hunter2")
        wait_for("it counts", lambda: instance.query(
            "SELECT 1 FROM process_events WHERE command_line = 'true --password=hunter2'"))
        # The way back asks nothing.
        check(_set(instance, "collection.mask_arguments", "true", "--reload").code == 0, "back")
        wait_for("procmond recorded it", lambda: _changed(_entries(instance, "reload")).count(
            "collection.mask_arguments") == 2)
        exact_arguments("true", "--password=hunter3", "shown")
        wait_for("what came after", lambda: instance.query(
            "SELECT 1 FROM process_events WHERE command_line LIKE 'true %shown'"))
        check(not instance.query("SELECT 1 FROM process_events WHERE command_line LIKE 'true %hunter3%'"), "masked again")


class _Receiver(http.server.BaseHTTPRequestHandler):
    received = []

    def do_POST(self):  # noqa: N802  (the library's name)
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def scenario_config_reload_of_sinks_loses_no_alert():
    """Alerts wait for a sink that is down; a reload points it elsewhere, and each arrives there."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Receiver.received.clear()
    more = ("  retry: {max_retries: 3, max_delay_ms: 300}\n  breaker: {failures: 2, open_ms: 300}\n"
            "  max_parallel_deliveries: 2\n")
    try:
        with _site("    - {type: webhook, name: hook, url: 'http://127.0.0.1:9/none'}\n", more) as instance:
            instance.start()
            count = 30
            for number in range(count):
                exact_arguments("true", f"config-marker-{number:03}")
            wait_for("all raised", lambda: instance.query("SELECT count(*) AS n FROM alerts")[0]["n"] == count)
            wait_for("the sink is tried in vain", lambda: instance.query(
                "SELECT 1 FROM alert_deliveries WHERE outcome = 'failed' LIMIT 1"))
            url = f"http://127.0.0.1:{server.server_address[1]}/hook"
            instance.write_text(_text(instance).replace("http://127.0.0.1:9/none", url))
            for _ in range(3):  # one reload after the other, while the first is under way
                instance.process.send_signal(signal.SIGHUP)
            for number in range(count, count + 10):
                exact_arguments("true", f"config-marker-{number:03}")

            def undelivered():
                dead = {row["alert_id"] for row in instance.query(
                    "SELECT alert_id FROM alert_deliveries WHERE outcome = 'dead_letter'")}
                done = {row["alert_id"] for row in instance.query(
                    "SELECT alert_id FROM alert_deliveries WHERE outcome = 'delivered'")}
                rows = instance.query("SELECT alert_id FROM alerts")
                return len(rows) == count + 10 and not [r for r in rows if r["alert_id"] not in dead | done]
            wait_for("each was delivered, or gave up on the sink that was down", undelivered)
            arrived = "\n".join(_Receiver.received)
            dead = instance.query("SELECT count(*) AS n FROM alert_deliveries WHERE outcome = 'dead_letter'")[0]["n"]
            here = sum(f"config-marker-{number:03}" in arrived for number in range(count + 10))
            check(here + dead == count + 10 and here >= 10, f"{here} arrived, {dead} gave up before")
            check(instance.stop() == 0, "stops in order")
    finally:
        server.shutdown()
        server.server_close()


def scenario_config_set_refuses_clearly():
    """What is no key, no value, no file of the configuration, or not to be changed by line: exit 2, nothing written."""
    with _site() as instance:
        before = _text(instance)
        for key, value, words in (("app.batchsize", "5", "did you mean app.batch_size"),
                                  ("app", "5", "holds keys"),
                                  ("app.batch_size", "many", "an integer from 1"),
                                  ("app.batch_size", "[", "allowed: an integer"),
                                  ("alerting.sinks[0].format", "json", "set as a whole"),
                                  ("database.path", instance.audit, "must differ"),
                                  ("collection.exclude", "[\"name ==== 3\"]", "would not be valid")):
            refused = _set(instance, key, value)
            check(refused.code == 2 and words in refused.err, f"{key}={value}: {refused.code} {refused.err}")
        elsewhere = _set(instance, "app.batch_size", "5", "--file", "/etc/passwd")
        check(elsewhere.code == 2 and "no file of this configuration" in elsewhere.err, elsewhere.err)
        check(_text(instance) == before, "nothing was written")
        missing = instance.cli("config", "unset", "app.batch_size")
        check(missing.code == 2 and "not set there" in missing.err, missing.err)
        alone = _set(instance, "app.batch_size", "5")
        check(alone.code == 0 and "records it" in alone.err, f"without an agent: {alone.code} {alone.err}")
        shown = instance.cli("--format", "json", "config", "get", "app.batch_size").json()["rows"][0]
        check(shown["value"] == "5" and shown["origin"].startswith(instance.config + ":"), str(shown))
        check(shown["a_change_counts"] == "restart", str(shown))


def scenario_config_bounds_and_measures_change_while_it_runs():
    """Retention, checkpoints, hashing's share, the text file and the pages of metrics: no restart for any of them."""
    with _site(more="  dedup_window_ms: 1000\n") as instance:
        instance.start()

        def take(key, value, *arguments):
            done = _set(instance, key, value, "--reload", *arguments)
            check(done.code == 0 and f"in force now: {key}" in done.out, f"{key}: {done.code} {done.out} {done.err}")

        take("database.retention_days", "7", "--yes")
        check(instance.health()["store"]["details"]["retention_days"] == "7", "retention")

        signed = int(instance.health()["ledger"]["details"]["signed_until"])
        take("audit.checkpoint_interval_s", "1")
        wait_for("a checkpoint long before the five minutes", lambda: int(
            instance.health()["ledger"]["details"]["signed_until"]) > signed, 30)
        take("collection.hash_cpu_percent", "20")
        wait_for("procmond recorded both", lambda: {"audit.checkpoint_interval_s", "collection.hash_cpu_percent"} <= set(
            _changed(_entries(instance, "reload"))))

        first, second = (os.path.join(instance.state, name) for name in ("first.prom", "second.prom"))
        take("metrics.textfile", first)
        wait_for("the text file", lambda: os.path.exists(first))
        take("metrics.textfile", second)
        wait_for("the text file at its new place", lambda: os.path.exists(second))
        check(not os.path.exists(first), "nothing old is left to be read as if it were new")
        refused = _set(instance, "metrics.textfile", "/no-such-folder/daemoneye.prom", "--reload")
        check(refused.code != 0 and "nothing changed" in refused.err and "/no-such-folder" in refused.err, refused.err)
        _set(instance, "metrics.textfile", second)

        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        take("metrics.listen", address)

        def page():
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                    return answer.read().decode()
            return ""
        wait_for("the page", lambda: "daemoneye_build_info" in page())
        take("metrics.listen", "off")
        wait_for("no page any more", lambda: not page())
        check("at_next_start" not in instance.health()["config"]["details"], str(instance.health()["config"]))


def scenario_config_that_changed_while_nothing_ran_is_recorded():
    """A file edited by hand between two runs: both daemons' starts tell the keys, and what got weaker."""
    with _site(more="  dedup_window_ms: 1000\n") as instance:
        instance.start()
        for action in ("start", "agent.start"):
            first = wait_for(f"the first {action}", lambda a=action: _entries(instance, a))
            check("changes" not in first[0], f"there was nothing before: {first[0]}")
        check(instance.stop() == 0, "stopped")
        instance.write_text(_text(instance) + "collection: {mask_arguments: false}\napp2: {}\n")
        check(instance.cli("config", "validate").code == 2, "wrong as it is")
        instance.write_text(_text(instance).replace("app2: {}\n", "").replace("dedup_window_ms: 1000", "dedup_window_ms: 7"))
        instance.start()
        for action in ("start", "agent.start"):
            entries = wait_for(f"the second {action}", lambda a=action: _entries(instance, a)[1:])
            changes = {one["key"]: (one["before"], one["after"]) for one in entries[0]["changes"]}
            check(changes == {"collection.mask_arguments": ("true", "false"),
                              "alerting.dedup_window_ms": ("1000", "7")}, f"{action}: {changes}")
            check([one["key"] for one in entries[0]["weakens"]] == ["collection.mask_arguments"], str(entries[0]))
        # What a reload took up is nothing new to the next start.
        check(_set(instance, "alerting.dedup_window_ms", "8", "--reload").code == 0, "a reload")
        check(instance.stop() == 0, "stopped again")
        instance.start()
        entries = wait_for("the third start", lambda: _entries(instance, "agent.start")[2:])
        check(entries[0]["changes"] == [] and "weakens" not in entries[0], str(entries[0]))


def scenario_config_beside_the_state_says_what_procmond_cannot_take_up():
    """procmond is kept from folders with state: a file there counts for it at the next start, and that is said."""
    with daemon(rules={"marked.yaml": RULE}) as instance:
        instance.start()
        done = _set(instance, "app.scan_interval_ms", "15000", "--reload")
        check(done.code == 0 and "procmond takes app.scan_interval_ms up at its next start" in done.err,
              f"{done.code} {done.out} {done.err}")
        check("lies in a folder that holds state" in done.err and "folder of its own" in done.err, done.err)
        check("procmond takes" not in _set(instance, "alerting.dedup_window_ms", "5", "--reload").err, "the agent's own")
        told = wait_for("health has it", lambda: instance.health().get("collector_config"))
        check("folder that holds state" in told["details"].get("reload", ""), str(told))
