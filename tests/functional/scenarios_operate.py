"""What an administrator and a monitoring system ask: health, doctor, metrics, /healthz."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import yaml
from disk import small_disk
from harness import BIN, DE_SOURCE, ROOT, check, daemon, exact_arguments, wait_for

COMPONENTS = ("config", "collector", "store", "ledger", "rules", "sinks", "capabilities")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path):
    """Status and text; None while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return None


def series(text):
    """Name -> label sets, of an exposition."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", line).groups()
            found.setdefault(name, []).append(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))
    return found


def doctor(instance, **keywords):
    result = instance.cli("--format", "json", "doctor", **keywords)
    findings = {}
    for row in result.json()["rows"]:
        findings.setdefault(row["check"], []).append(row)
    return result, findings


def scenario_health_tells_of_every_component():
    with daemon() as instance:
        instance.start()
        exact_arguments("true", "operate")
        wait_for("latency of ingest", lambda: "ingest_p99_ms" in instance.collector()["details"])
        whole = instance.cli("health")
        check(re.match(r"DaemonEye  (ok|degraded)  \S", whole.out), f"the overall state first: {whole.out[:200]}")
        check("\x1b[" not in whole.out, "no colours where nobody looks")
        for name in COMPONENTS:
            one = instance.cli("--format", "json", "health", name)
            check(one.code in (0, 3), f"{name}: {one.code} {one.err}")
            check([item["component"] for item in one.json()["components"]] == [name], one.out)
        check(instance.cli("health", "nonsense").code == 2, "an unknown component is a usage error")
        report = instance.health()
        expected = {
            "collector": ("realtime", "events_emitted", "events_per_second", "ingest_p50_ms", "ingest_p99_ms"),
            "store": ("commit_p50_ms", "commit_p99_ms", "queue", "file_bytes", "max_size_bytes", "retention_days"),
            "rules": ("active", "queue", "commit_to_evaluated_p50_ms", "commit_to_evaluated_p99_ms"),
            "ledger": ("entries", "last_checkpoint"),
            "resources": ("memory", "memory_bytes", "memory_budget_bytes", "agent_memory_bytes", "cpu"),
            "detection": ("last_10_minutes", "last_hour", "last_day", "events_to_evaluate"),
            "config": ("files", "digest"),
        }

        def missing():
            nonlocal report
            report = instance.health()
            return {name: [key for key in keys if key not in report[name]["details"]]
                    for name, keys in expected.items() if not set(keys) <= set(report[name]["details"])}

        wait_for("every detail that is promised", lambda: not missing())
        check(instance.config in report["config"]["details"]["files"], f"{report['config']}")
        check(0 < int(report["resources"]["details"]["agent_memory_bytes"]) < 1 << 30, f"{report['resources']}")
        check("breaker closed" in report["sinks"]["details"]["stdout"], f"{report['sinks']}")
        instance.settings["app.batch_size"] = 77
        instance.write_config()
        changed = instance.health()["config"]
        check(changed["state"] == "degraded" and "on disk" in changed["reason"], f"a changed file is said: {changed}")


def scenario_health_says_what_is_not_known_while_the_collector_hangs():
    with daemon(rules={}) as instance:
        instance.start()
        collector = instance.children()["procmond"]
        os.kill(collector, signal.SIGSTOP)
        try:
            silent = wait_for("health to say that it is silent", lambda: next(
                (h for h in [instance.collector()] if "has not spoken" in h["reason"]), None))
            check(silent["state"] in ("degraded", "failed"), f"{silent}")
        finally:
            os.kill(collector, signal.SIGCONT)
        wait_for("it to be heard again", lambda: "has not spoken" not in instance.collector()["reason"])


def scenario_metrics_are_served_over_http():
    port = free_port()
    with daemon({"metrics.listen": f"127.0.0.1:{port}"}) as instance:
        instance.start()
        status, text = fetch(port, "/metrics")
        check(status == 200, f"/metrics: {status}")
        names = series(text)
        for fixed in ("daemoneye_collection_duration_seconds_bucket", "daemoneye_processes_collected_total",
                      "daemoneye_alerts_generated_total", "daemoneye_alert_deliveries_total"):
            check(fixed in names, f"{fixed} is there")
        check({labels["severity"] for labels in names["daemoneye_alerts_generated_total"]} ==
              {"low", "medium", "high", "critical"}, "a series for each severity from the start")
        by_cli = instance.cli("metrics")
        check(by_cli.code == 0 and set(series(by_cli.out)) >= set(names), "the CLI has the same ones")
        as_json = instance.cli("--format", "json", "metrics").json()["rows"]
        check(any(row["name"] == "daemoneye_store_events" and row["value"] > 0 for row in as_json), "and as JSON")
        check(fetch(port, "/")[0] == 404 and fetch(port, "/metrics/x")[0] == 404, "nothing else is there")
        status, text = fetch(port, "/healthz")
        check(status == 200 and json.loads(text)["components"]["collector"] in ("ok", "degraded"), f"{status} {text}")
        # Killed until the answer says so: the supervisor starts it again, with a longer pause each time.

        def unavailable():
            if (pid := instance.children().get("procmond")) is not None:
                os.kill(pid, signal.SIGKILL)
            answer = fetch(port, "/healthz")
            return answer if answer and answer[0] == 503 else None

        failed = json.loads(wait_for("/healthz to answer 503", unavailable)[1])
        check(failed["state"] == "failed" and failed["components"]["collector"] == "failed", f"{failed}")
        check("procmond" in failed["reason"], f"with a reason: {failed}")
        wait_for("200 when it is back", lambda: fetch(port, "/healthz")[0] == 200)


def scenario_metrics_listener_that_cannot_be_had_is_said_and_tried_again():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with daemon({"metrics.listen": f"127.0.0.1:{port}"}, rules={}) as instance:
            instance.start()
            agent = instance.health()["agent"]
            check(agent["state"] == "degraded" and "metrics.listen" in agent["reason"], f"{agent}")
            taken.close()
            wait_for("it is served", lambda: fetch(port, "/metrics"))
            check("metrics.listen" not in instance.health()["agent"]["reason"], "and health is quiet again")


def scenario_metrics_go_into_a_text_file():
    with daemon(rules={}) as instance:
        instance.stop()
        folder = os.path.join(instance.folder, "textfile")
        os.mkdir(folder)
        if ROOT:
            shutil.chown(folder, "daemoneye", "daemoneye")
        path = os.path.join(folder, "daemoneye.prom")
        instance.settings["metrics.textfile"] = path
        instance.write_config()
        instance.start()
        wait_for("the file", lambda: os.path.exists(path))
        with open(path, encoding="utf-8") as file:
            text = file.read()
        check("daemoneye_build_info" in series(text) and text.endswith("\n"), "it holds the metrics, whole")
        check(os.stat(path).st_mode & 0o777 == 0o644, "node_exporter can read it")
        check(os.listdir(folder) == ["daemoneye.prom"], f"nothing is left beside it: {os.listdir(folder)}")


def shipped_expressions():
    with open(os.path.join(DE_SOURCE, "packaging/prometheus/daemoneye.rules.yml"), encoding="utf-8") as file:
        for rule in (rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"]):
            check(rule["labels"]["severity"] and rule["annotations"]["summary"], f"{rule}")
            yield "alert " + rule["alert"], rule["expr"]
    with open(os.path.join(DE_SOURCE, "packaging/grafana/daemoneye.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    check(len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]), "panels have their own ids")
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield "panel " + panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if isinstance(variable["query"], dict):
            yield "variable " + variable["name"], variable["query"]["query"]


def scenario_metrics_of_the_shipped_alerts_and_dashboard_exist():
    """Each name in them, and each label by which they choose or group, is told by a running agent."""
    given_by_prometheus = {"instance", "job", "le"}
    port = free_port()
    with daemon({"metrics.listen": f"127.0.0.1:{port}"}) as instance:
        instance.start()
        expressions = list(shipped_expressions())
        check(len(expressions) > 40, f"alerts and panels are there: {len(expressions)}")

        def unresolved():
            known = series(fetch(port, "/metrics")[1])
            for where, expression in expressions:
                for name, braces in re.findall(r"(daemoneye_\w+)(?:\{([^}]*)\})?", expression):
                    if name not in known:
                        return f"{where}: {name} is no metric"
                    labels = set(re.findall(r"(\w+)\s*=", braces))
                    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression)
                               for label in group.split(",")}
                    for label in (labels | grouped) - given_by_prometheus:
                        if not any(label in found for found in known[name]):
                            return f"{where}: {name} has no label {label}"
            return None

        wait_for(f"every name to be told ({unresolved()})", lambda: unresolved() is None, 30)
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "rules",
                                  os.path.join(DE_SOURCE, "packaging/prometheus/daemoneye.rules.yml")],
                                 capture_output=True, text=True, check=False)
        check(checked.returncode == 0, f"promtool: {checked.stdout}{checked.stderr}")


def scenario_doctor_with_the_daemons_running_and_stopped():
    with daemon() as instance:
        stopped, findings = doctor(instance)
        check(stopped.code in (1, 3), f"nothing runs: {stopped.code}")
        check(findings["agent"][0]["state"] == "warn" and findings["agent"][0]["fix"], f"{findings['agent']}")
        check(findings["database"][0]["state"] == "ok" and "first start" in findings["database"][0]["found"],
              f"what is not there yet is no fault: {findings['database']}")
        for name in ("kernel", "btf", "bpf", "audit", "landlock", "seccomp", "disk", "clock", "rules", "config", "sqlite"):
            check(name in findings, f"{name} is looked at")
        for rows in findings.values():
            for row in rows:
                check(row["state"] in ("ok", "unknown", "warn", "fail"), f"{row}")
                check(row["state"] == "ok" or (row["meaning"] and row["fix"]), f"what it means, how to mend it: {row}")
        if ROOT:
            check(findings["bpf"][0]["state"] == "ok", f"procmond tried: {findings['bpf']}")
        instance.start()
        running, findings = doctor(instance)
        check(findings["agent"][0]["state"] == "ok", f"{findings['agent']}")
        check("running collector" in findings["bpf"][0]["found"], f"{findings['bpf']}")
        check(findings["database_opens"][0]["state"] == "ok", f"{findings['database_opens']}")
        check(findings["ledger_opens"][0]["state"] == "ok", f"{findings['ledger_opens']}")
        own = [row for rows in findings.values() for row in rows if row["group"] != "host" and row["state"] == "fail"]
        check(not own, f"a fresh installation has no fault: {own}")
        text = instance.cli("doctor")
        check("fix:" in text.out or text.code == 0, "people are told as well")
        if ROOT:
            stranger = instance.cli("--format", "json", "doctor", user="nobody")
            check(stranger.code in (1, 3), f"without rights: {stranger.code} {stranger.err}")
            states = {row["check"]: row["state"] for row in stranger.json()["rows"]}
            check(states["database"] == "unknown", f"it says what it could not look at: {states}")


def scenario_doctor_finds_what_is_broken():
    with daemon(rules={"broken.yaml": "id: broken\ntitle: x\nseverity: high\nsql: SELECT nothing FROM nowhere\n"}) as instance:
        instance.start()
        _, findings = doctor(instance)
        check(findings["rules"][0]["state"] == "warn" and "none is active" in findings["rules"][0]["found"],
              f"nothing is detected: {findings['rules']}")
        instance.stop()
        os.chmod(instance.state, 0o777)
        os.chmod(instance.database, 0o666)
        key = os.path.join(os.path.dirname(instance.audit), "checkpoint.key")
        os.chmod(key, 0o644)
        result, findings = doctor(instance)
        check(result.code == 1, f"exit code {result.code}")
        for name, path in (("state_folder", instance.state), ("database", instance.database), ("ledger_key", key)):
            found = findings[name][0]
            check(found["state"] == "fail" and path in found["fix"] and "chmod" in found["fix"], f"{name}: {found}")
            subprocess.run(["/bin/sh", "-c", found["fix"]], check=True)  # what it advises mends it
        check("broken.yaml" in findings["rules"][0]["found"] and findings["rules"][0]["state"] == "warn",
              f"{findings['rules']}")
        _, findings = doctor(instance)
        for name in ("state_folder", "database", "ledger_key"):
            check(findings[name][0]["state"] == "ok", f"mended: {findings[name]}")
        if ROOT:
            shutil.chown(instance.state, "nobody")
            _, findings = doctor(instance)
            check("chown daemoneye" in findings["state_folder"][0]["fix"], f"{findings['state_folder']}")
        with open(instance.config, "a", encoding="utf-8") as file:
            file.write("\nnonsense: [\n")
        result, findings = doctor(instance)
        check(result.code == 1 and findings["config"][0]["state"] == "fail", f"{result.code} {findings['config']}")
        check("kernel" in findings, "and the rest is looked at all the same")


def scenario_doctor_finds_a_full_disk():
    with small_disk(24 * 1024 * 1024) as disk:
        if disk is None:
            print("not run: no file system can be mounted here")
            return
        with daemon({"app.state_dir": os.path.join(disk.path, "state")}, rules={}) as instance:
            _, findings = doctor(instance)
            check(findings["disk"][0]["state"] == "fail" and "MiB are free" in findings["disk"][0]["found"],
                  f"{findings['disk']}")


scenario_doctor_finds_a_full_disk.needs_root = True
