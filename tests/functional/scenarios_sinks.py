"""Alerts on their way out: real receivers, the secrets that lead there, and what a start needs."""

import contextlib
import email
import email.policy
import json
import os
import shutil

import peers
from harness import ROOT, check, daemon, exact_arguments, wait_for

RULE = """
id: sink-mark
title: A marked process ran
description: A test runs a process with a mark among its arguments.
severity: high
status: active
tags: [test.sinks]
sql: |
  SELECT e.pid, e.name, e.executable_path, e.command_line, e.process_key
  FROM process_events e WHERE e.kind = 'exec' AND e.command_line LIKE '%sink-mark-{pid}%'
"""


def rule():
    return {"sink-mark.yaml": RULE.replace("{pid}", str(os.getpid()))}


def run_marked(number):
    return exact_arguments("true", f"sink-mark-{os.getpid()}-{number}")


def write_secret(path, text, group="daemoneye"):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.chmod(path, 0o640)
    if ROOT:
        shutil.chown(path, "root", group)


def for_the_agent(certificates):
    """Our own key belongs to root and is readable by the agent's group, as an administrator would have it."""
    if ROOT:
        shutil.chown(certificates.client_key, "root", "daemoneye")


def tls_keys(certificates):
    return {"ca_file": certificates.ca, "client_certificate": certificates.client,
            "client_key": certificates.client_key}


def files_below(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(path, name)


def scenario_alerts_reach_real_receivers():
    """A rule fires on a real process: the alert is in rsyslog (TCP, TLS), behind Apache's HTTPS with client
    certificate, in a mail box by STARTTLS with login. And no secret is anywhere but where it was put."""
    with daemon(rules=rule(), settings={"alerting.retry.max_retries": 0}) as instance, contextlib.ExitStack() as stack:
        folder = os.path.join(instance.folder, "peers")
        os.mkdir(folder, 0o755)
        certificates = peers.Certificates(folder)
        for_the_agent(certificates)
        plain = stack.enter_context(peers.Rsyslog(os.path.join(folder, "syslog")))
        secure = stack.enter_context(peers.Rsyslog(os.path.join(folder, "syslog-tls"), certificates))
        https = stack.enter_context(peers.Https(os.path.join(folder, "https"), certificates))
        smtp = stack.enter_context(peers.Smtp(os.path.join(folder, "smtp"), certificates))

        secrets = {"bearer": "b34rer-of-the-scenario", "signing": "s1gning-of-the-scenario",
                   "password": peers.PASSWORD, "wrong": "wr0ng-of-the-scenario",
                   "url": "http://127.0.0.1:1/services/T0KEN-of-the-scenario?x=1"}
        vault = os.path.join(instance.folder, "secrets")
        os.mkdir(vault, 0o755)
        for name, text in secrets.items():
            write_secret(os.path.join(vault, name), text)

        def secret(name):
            return {"file": os.path.join(vault, name)}

        mail = {"type": "email", "host": "localhost", "port": smtp.port, "username": peers.USER,
                "from": "daemoneye@host.example", "to": ["ops@daemoneye.example"], "ca_file": certificates.ca}
        instance.settings["alerting.sinks"] = [
            {"type": "stdout", "format": "json"},
            {"type": "syslog", "name": "tcp", "transport": "tcp", "host": "127.0.0.1", "port": plain.port,
             "facility": "authpriv"},
            {"type": "syslog", "name": "tls", "transport": "tls", "host": "localhost", "port": secure.port,
             "format": "cef", **tls_keys(certificates)},
            {"type": "webhook", "url": f"https://localhost:{https.port}/alerts", "format": "ocsf",
             "headers": {"X-Team": "blue"}, "bearer_token": secret("bearer"), "signing_key": secret("signing"),
             **tls_keys(certificates)},
            {**mail, "password": secret("password")},
            # Two that fail, each with a secret that an error message could hold.
            {"type": "webhook", "name": "nobody", "url": secret("url"), "bearer_token": {"env": "SCENARIO_TOKEN"}},
            {**mail, "name": "wrong-login", "password": secret("wrong")},
        ]
        os.environ["SCENARIO_TOKEN"] = secrets["environment"] = "env1ronment-of-the-scenario"
        instance.write_config()
        instance.start()
        pid = run_marked(1)
        alert = wait_for("the alert on stdout", lambda: next(
            (a for a in instance.alerts() if a["rule_id"] == "sink-mark" and a["pid"] == pid), None))
        ident = alert["alert_id"]

        got = wait_for("the alert in rsyslog by TCP", lambda: next(
            (m for m in plain.received() if f'alertId="{ident}"' in m["data"]), None))
        check(got["facility"] == "authpriv" and got["severity"] == "err", f"facility and severity: {got}")
        check(json.loads(got["msg"].removeprefix("\ufeff"))["command_line"] == alert["command_line"],
              f"the message is the alert's JSON: {got['msg'][:200]}")
        got = wait_for("the alert in rsyslog by TLS", lambda: next(
            (m for m in secure.received() if f'alertId="{ident}"' in m["data"]), None))
        check(got["msg"].removeprefix("\ufeff").startswith("CEF:0|DaemonEye|DaemonEye|"), f"CEF: {got['msg'][:200]}")

        request = wait_for("the alert behind Apache", lambda: next(
            (r for r in https.received() if r["headers"].get("idempotency-key") == ident), None))
        check(request["client"] == "daemoneye-client", f"our certificate was seen: {request}")
        check(request["headers"]["authorization"] == "Bearer " + secrets["bearer"], "the bearer token was sent")
        check(request["headers"]["x-daemoneye-signature"].startswith("t="), "the request is signed")
        finding = json.loads(request["body"])
        check(finding["class_uid"] == 2004 and finding["finding_info"]["uid"] == ident, f"OCSF: {finding}")

        message = wait_for("the alert's mail", lambda: next(
            (m for m in smtp.received() if ident.encode() in m["content"]), None))
        check(message["tls"] and message["login"], f"encrypted and logged in: {message}")
        parsed = email.message_from_bytes(message["content"], policy=email.policy.default)
        check(parsed["message-id"] == f"<{ident}@host.example>", f"the id is the alert's: {parsed['message-id']}")
        check("HIGH: A marked process ran" in parsed["subject"], f"subject: {parsed['subject']}")
        body = parsed.get_body(("plain",)).get_content()
        check(f"sink-mark-{os.getpid()}-1" in body, f"the command line is in the mail: {body}")
        check(parsed.get_body(("html",)).get_content().startswith("<div"), "there is an HTML part")

        failed = wait_for("both wrong sinks to have failed", lambda: (lambda rows: rows if {
            row["sink"] for row in rows} == {"nobody", "wrong-login"} else None)(instance.query(
                "SELECT DISTINCT sink, error FROM alert_deliveries WHERE outcome <> 'delivered'")))
        check(all(row["error"] for row in failed), f"each says why: {failed}")
        health = instance.cli("--format", "json", "health").out
        check("unencrypted" in health, f"http:// is warned of: {health[-1500:]}")

        shown = {"health": health,
                 "config show": instance.cli("config", "show", "--origin").out,
                 "deliveries": instance.cli("query", "SELECT * FROM alert_deliveries").out,
                 "alerts": instance.cli("alerts", "list", "--format", "json").out}
        check("SCENARIO_TOKEN" in shown["config show"], "the reference is shown")
        check(instance.stop() == 0, "it stops")
        for where, text in shown.items():
            for name, text_of_secret in secrets.items():
                check(text_of_secret not in text, f"the secret {name} is in {where}")
        tokens = [text.encode() for text in secrets.values()] + [b"T0KEN-of-the-scenario"]
        for path in files_below(instance.folder):
            if path.startswith((vault, folder)):
                continue  # where it was put, and the receivers
            with open(path, "rb") as file:
                content = file.read()
            for token in tokens:
                check(token not in content, f"a secret is in {path}")


def scenario_sinks_files_are_checked_before_anything_starts():
    """A key that the agent's user cannot read, a secret that everybody can: exit 4, and the file is named."""
    with daemon(rules={}) as instance:
        folder = os.path.join(instance.folder, "peers")
        os.mkdir(folder, 0o755)
        certificates = peers.Certificates(folder)
        token = os.path.join(folder, "token")
        write_secret(token, "t0ken")

        def start_with(sink):
            instance.settings["alerting.sinks"] = [sink]
            instance.write_config()
            before = len(instance.errors()) if os.path.exists(instance.err_path) else 0
            instance.start(wait=False)
            code = instance.process.wait(30)
            return code, instance.errors()[before:]

        syslog = {"type": "syslog", "transport": "tls", "host": "localhost", **tls_keys(certificates)}
        if ROOT:
            os.chmod(certificates.client_key, 0o600)  # root's alone
            code, said = start_with(syslog)
            check(code == 4 and certificates.client_key in said, f"{code}: {said}")
            for_the_agent(certificates)
            os.chmod(certificates.client_key, 0o640)
        code, said = start_with({**syslog, "ca_file": folder + "/none.pem"})
        check(code == 4 and "none.pem" in said, f"{code}: {said}")
        os.chmod(token, 0o644)
        code, said = start_with({"type": "webhook", "url": "https://localhost/", "bearer_token": {"file": token}})
        check(code == 4 and token in said and "every user" in said and "t0ken" not in said.replace(token, ""),
              f"{code}: {said}")
        code, said = start_with({"type": "webhook", "url": "https://localhost/", "bearer_token": {"env": "NOT_THERE"}})
        check(code == 4 and "NOT_THERE" in said, f"{code}: {said}")
        # What is wrong in the configuration itself ends with 2, file and line.
        code, said = start_with({"type": "webhook", "url": "https://localhost/", "format": "template",
                                 "template": "{{nothing}}"})
        check(code == 2 and "unknown field 'nothing'" in said and instance.config in said, f"{code}: {said}")
        code, said = start_with({"type": "webhook", "url": "https://localhost/", "bearer_token": "t0ken"})
        check(code == 2 and "never inline" in said and "t0ken" not in said, f"{code}: {said}")


def scenario_a_receiver_that_comes_back_gets_what_waited():
    """rsyslog is down when the rule fires; what waited arrives once it is back."""
    settings = {"alerting.retry.max_delay_ms": 200, "alerting.breaker.failures": 2, "alerting.breaker.open_ms": 200}
    with daemon(rules=rule(), settings=settings) as instance:
        with peers.Rsyslog(os.path.join(instance.folder, "syslog")) as syslog:
            instance.settings["alerting.sinks"] = [
                {"type": "stdout", "format": "json"},
                {"type": "syslog", "transport": "tcp", "host": "127.0.0.1", "port": syslog.port}]
            instance.write_config()
            instance.start()

            def received():
                return [json.loads(m["msg"].removeprefix("\ufeff"))["pid"] for m in syslog.received()]

            first = run_marked(1)
            wait_for("the first alert", lambda: received() == [first])
            syslog.close()
            later = [run_marked(number) for number in range(2, 5)]
            wait_for("the others on stdout", lambda: len(instance.alerts()) == 4)
            wait_for("a failed attempt", lambda: instance.query(
                "SELECT 1 AS found FROM alert_deliveries WHERE sink = 'syslog' AND outcome = 'failed'"))
            syslog.start()
            wait_for("the others in rsyslog", lambda: set(received()) == {first, *later})


def scenario_a_secret_comes_from_systemd_credentials():
    """What LoadCredential= would put into $CREDENTIALS_DIRECTORY is the key that signs."""
    with daemon(rules=rule()) as instance:
        folder = os.path.join(instance.folder, "peers")
        os.mkdir(folder, 0o755)
        certificates = peers.Certificates(folder)
        for_the_agent(certificates)
        credentials = os.path.join(instance.folder, "credentials")
        os.mkdir(credentials, 0o755)
        write_secret(os.path.join(credentials, "hook"), "cr3dential-of-the-scenario")
        with peers.Https(os.path.join(folder, "https"), certificates) as https:
            instance.settings["alerting.sinks"] = [
                {"type": "webhook", "url": f"https://localhost:{https.port}/alerts", **tls_keys(certificates),
                 "bearer_token": {"credential": "hook"}}]
            instance.write_config()
            instance.start(within=["env", f"CREDENTIALS_DIRECTORY={credentials}"])
            run_marked(1)
            request = wait_for("the alert", lambda: https.received())[0]
            check(request["headers"]["authorization"] == "Bearer cr3dential-of-the-scenario", f"{request}")
