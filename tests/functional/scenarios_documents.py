"""What the documents tell people to type works: every command of every ```sh block of them, and what follows a prompt in
samples of output, is run against daemons that watch this machine, in a folder that holds the files which they speak of.

`$cli` and `daemoneye-cli` are the command line of these daemons, `/etc/daemoneye` is a folder of theirs, `$alert` is the id
of an alert, `$pid` a process. What a document shows of other programs (apt, systemctl, make …) is not run here."""

import os
import re
import shutil
import stat
import subprocess
import tempfile

from harness import BIN, DE_SOURCE, check, daemon, exact_arguments, wait_for

ELSEWHERE = re.compile(r"(sudo|apt|apt-get|dpkg|make|git|systemctl|systemd-\w+|journalctl|promtool|curl|cd|gzip|man|adduser|daemoneye-agent|procmond)\b")
ACCEPTED = (0, 3)  # 3: an answer that says that it is not complete, or health that is degraded

SIGMA = """title: Use of nmap
id: 11111111-2222-4333-8444-555555555555
status: test
description: A network scan.
author: somebody
level: medium
logsource: {category: process_creation, product: linux}
detection:
  selection: {Image|endswith: /nmap}
  condition: selection
"""


def _commands(text):
    """The commands of the ```sh blocks, each with its line number; a line that ends with a backslash goes on."""
    for block in re.finditer(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        number = text.count("\n", 0, block.start()) + 2
        command, first = "", number
        for line in block.group(1).splitlines():
            command += line
            if command.endswith("\\"):
                command = command[:-1] + " "
            else:
                if command.strip() and not command.strip().startswith("#"):
                    yield first, command.strip()
                command, first = "", number + 1
            number += 1


def _prompted(text):
    """`$ daemoneye-cli …` in blocks that show what it prints; those who run them here are root already."""
    for line, content in enumerate(text.splitlines(), 1):
        if found := re.fullmatch(r"\$ (?:sudo )?(daemoneye-cli .*)", content):
            yield line, found[1]


def _rules_of(text):
    """The rules that a document shows, by the name that its commands call them."""
    for block in re.finditer(r"^```yaml\n(id:.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield block.group(1)


def _fixtures(folder, etc, text):
    for rule in _rules_of(text):
        with open(os.path.join(folder, "my-rule.yaml"), "w", encoding="utf-8") as file:
            file.write(rule)
        break
    else:
        shutil.copy(os.path.join(DE_SOURCE, "rules", sorted(os.listdir(os.path.join(DE_SOURCE, "rules")))[0]),
                    os.path.join(folder, "my-rule.yaml"))
    shutil.copytree(os.path.join(DE_SOURCE, "rules"), os.path.join(folder, "rules"))
    sigma = os.path.join(folder, "sigma/rules/linux/process_creation")
    os.makedirs(sigma)
    for path in (os.path.join(sigma, "nmap.yml"), os.path.join(folder, "rule.yml")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(SIGMA)
    with open(os.path.join(folder, "site.exceptions.yaml"), "w", encoding="utf-8") as file:
        file.write("exceptions:\n  - rule: web-server-spawned-shell\n    except: [\"e.user = 'backup'\"]\n    reason: backups\n")
    with open(os.path.join(folder, "fragment.yaml"), "w", encoding="utf-8") as file:
        file.write("alerting:\n  dedup_window_ms: 60000\n")
    for name in ("rules.d", "trusted-keys.d"):
        os.makedirs(os.path.join(etc, name), exist_ok=True)


def _program(folder, instance):
    """daemoneye-cli on the PATH, with the configuration of these daemons."""
    path = os.path.join(folder, "bin")
    os.mkdir(path)
    program = os.path.join(path, "daemoneye-cli")
    with open(program, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{BIN}/daemoneye-cli" --config "{instance.config}" "$@"\n')
    os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


def _run_document(instance, document, text, alert, process):
    etc = os.path.join(instance.folder, "etc")
    folder = tempfile.mkdtemp(prefix="documents-", dir=instance.folder)
    _fixtures(folder, etc, text)
    environment = {**os.environ, "PATH": _program(folder, instance) + ":" + os.environ["PATH"], "NO_COLOR": "1",
                   "cli": "daemoneye-cli", "alert": alert, "pid": str(process), "PAGER": "cat"}
    failed, ran = [], 0
    for line, command in [*_commands(text), *_prompted(text)]:
        if ELSEWHERE.match(command) or command.startswith("cli="):
            continue
        done = subprocess.run(["bash", "-c", command.replace("/etc/daemoneye", etc)], cwd=folder, env=environment,
                              capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60,
                              check=False)
        ran += 1
        if done.returncode not in ACCEPTED:
            failed.append(f"{document}:{line}: exit {done.returncode}: {command}\n{done.stdout[-300:]}{done.stderr[-500:]}")
    return ran, failed


def scenario_every_command_of_the_documents_works():
    documents = ["README.md", "SECURITY.md", "ARCHITECTURE.md"]
    for top, _, names in os.walk(os.path.join(DE_SOURCE, "docs")):
        documents += sorted(os.path.relpath(os.path.join(top, name), DE_SOURCE) for name in names if name.endswith(".md"))
    rule = ("id: documented\ntitle: '{{name}} ran'\ndescription: x\nseverity: low\n"
            "sql: SELECT pid, name, command_line, process_key FROM process_events "
            "WHERE kind = 'exec' AND command_line LIKE 'true documented-%'\n")
    with daemon(rules=os.path.join(DE_SOURCE, "rules")) as instance:
        instance.write_rule("documented.yaml", rule)
        etc = os.path.join(instance.folder, "etc")
        os.mkdir(etc)
        instance.settings["bundle.path"] = os.path.join(etc, "bundle")
        instance.settings["bundle.trusted_keys"] = os.path.join(etc, "trusted-keys.d")
        instance.settings["detection.rule_paths"] = [instance.rules, os.path.join(etc, "rules.d")]
        os.makedirs(os.path.join(etc, "rules.d"))
        instance.write_config()
        instance.start()
        exact_arguments("true", "documented-1")
        alert = wait_for("an alert to speak of", lambda: [
            row["alert_id"] for row in instance.query("SELECT alert_id FROM alerts WHERE rule_id = 'documented'")])[0]
        total, failures = 0, []
        for document in documents:
            with open(os.path.join(DE_SOURCE, document), encoding="utf-8") as file:
                text = file.read()
            ran, failed = _run_document(instance, document, text, alert, instance.process.pid)
            total += ran
            failures += failed
        check(not failures, f"{len(failures)} of {total} commands of the documents fail:\n" + "\n".join(failures))
        check(total >= 60, f"the documents show commands: {total}")
        print(f"{total} commands of {len(documents)} documents")
        instance.expects_refusals = False
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_every_command_of_the_documents_works.needs_root = True
