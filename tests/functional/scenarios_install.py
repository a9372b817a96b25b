"""What is installed beside the programs: units, completions, manual pages, and what a service manager is told."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from harness import BIN, DE_SOURCE, check, daemon, wait_for

BUILD = os.path.dirname(BIN)
UNITS = os.path.join(DE_SOURCE, "packaging/systemd")
CLI = os.path.join(BIN, "daemoneye-cli")
LIMITS = {"daemoneye-agent": 15, "procmond": 30}  # tenths of what `systemd-analyze security` counts


def run(*command, **keywords):
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **keywords)


def installed(folder, prefix="/usr"):
    done = run("cmake", "--install", BUILD, "--prefix", prefix, env={**os.environ, "DESTDIR": folder})
    check(done.returncode == 0, f"installing: {done.stderr[-2000:]}")
    return done.stdout


def scenario_units_are_hardened():
    """As systemd itself counts; and it understands them."""
    for unit, limit in LIMITS.items():
        path = os.path.join(UNITS, unit + ".service")
        done = run("systemd-analyze", "security", "--offline=true", f"--threshold={limit}", "--no-pager", path)
        check(done.returncode == 0, f"{unit} is at most {limit / 10}: {done.stdout.strip().splitlines()[-1:]}{done.stderr}")
    folder = tempfile.mkdtemp(prefix="daemoneye-units-", dir="/var/tmp")
    try:
        installed(folder)
        units = os.path.join(folder, "usr/lib/systemd/system")
        # What belongs to every system, and is not what is looked at.
        for name in ("sysinit.target", "basic.target", "shutdown.target", "multi-user.target", "local-fs.target",
                     "network.target", "system.slice", "-.mount", "-.slice", "tmp.mount", "var.mount"):
            source = os.path.join("/lib/systemd/system", name)
            if os.path.exists(source):
                shutil.copy(source, os.path.join(units, name))
        os.makedirs(folder + "/bin")
        shutil.copy("/bin/sh", folder + "/bin/sh")
        done = run("systemd-analyze", "verify", "--man=no", "--root", folder,
                   *(os.path.join(units, unit + ".service") for unit in LIMITS))
        said = [line for line in done.stderr.splitlines() if "daemoneye" in line or "procmond" in line]
        check(done.returncode == 0 and not said, f"systemd finds nothing wrong: {done.returncode} {done.stderr}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Manager:
    """What systemd is to a service of Type=notify: a socket, and who wrote to it."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        os.chmod(path, 0o777)
        self.heard = []  # (pid, line)

    def listen(self):
        while True:
            try:
                text, control, _, _ = self.socket.recvmsg(4096, 256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            pid = next(struct.unpack("3i", data)[0] for level, kind, data in control
                       if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS)
            self.heard += [(pid, line) for line in text.decode().splitlines()]

    def count(self, pid, start):
        self.listen()
        return sum(1 for sender, line in self.heard if sender == pid and line.startswith(start))

    def wait(self, pid, start, more_than=0):
        wait_for(f"{start} of {pid}", lambda: self.count(pid, start) > more_than)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def check_watchdog(manager, pid):
    """Fed while the process goes on, and not while it stands still."""
    manager.wait(pid, "WATCHDOG=1", more_than=1)
    os.kill(pid, signal.SIGSTOP)
    wait_for("it stands still", lambda: state_of(pid) == "T")
    before = manager.count(pid, "WATCHDOG=1")
    try:
        end = time.monotonic() + 1.0  # a silence can only be seen by listening for a while
        while time.monotonic() < end:
            manager.listen()
            time.sleep(0.02)
        check(manager.count(pid, "WATCHDOG=1") == before, "nothing is fed by what does not go on")
    finally:
        os.kill(pid, signal.SIGCONT)
    manager.wait(pid, "WATCHDOG=1", more_than=before)


def scenario_service_manager_is_told():
    """Two services as their units start them: readiness, watchdog, reload and end, each told by the main process."""
    with daemon(rules={}) as instance:
        manager = Manager(os.path.join(instance.folder, "notify"))
        told = [f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=400000"]
        with open(instance.err_path, "ab") as errors:
            collector = subprocess.Popen(["env", *told, os.path.join(BIN, "procmond"), "--config", instance.config],
                                         stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            manager.wait(collector.pid, "READY=1")  # it waits for nobody
            instance.start(wait=False, arguments=("--role", "alone"), within=("env", *told))
            agent = instance.process.pid
            manager.wait(agent, "READY=1")
            check(instance.health() is not None, "ready means that it answers")
            instance.wait_ready()
            for pid in (agent, collector.pid):
                check_watchdog(manager, pid)
            instance.process.send_signal(signal.SIGHUP)
            manager.wait(agent, "READY=1", more_than=1)
            check(manager.count(agent, "RELOADING=1") == 1, f"a reload is told: {manager.heard}")
            collector.send_signal(signal.SIGTERM)
            manager.wait(collector.pid, "STOPPING=1")
            check(collector.wait(20) == 0, "procmond ends well")
            check(instance.stop() == 0, "and so does the agent")
            manager.wait(agent, "STOPPING=1")
            strangers = {pid for pid, _ in manager.heard} - {agent, collector.pid}
            check(not strangers, f"only the main processes speak: {strangers}")
        finally:
            if collector.poll() is None:
                collector.kill()
                collector.wait()


def scenario_supervised_daemons_tell_no_manager():
    """Below our own supervisor its word counts: a manager of Type=notify would take a child's for the service's."""
    with daemon(rules={}) as instance:
        manager = Manager(os.path.join(instance.folder, "notify"))
        instance.start(within=("env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=400000"))
        manager.listen()
        check(not manager.heard, f"nobody spoke: {manager.heard}")
        check(instance.stop() == 0, "a clean stop ends with 0")


# Each prints, for every line of $LINES, what it offers for its words (split at blanks; the last one is being typed),
# and an empty line.
SHELLS = {
    "bash": r'''
source "$SCRIPT"
while IFS= read -r line; do
    IFS=' ' read -ra COMP_WORDS <<< "$line"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _daemoneye_cli </dev/null
    printf '%s ' "${COMPREPLY[@]}"
    echo
done <<< "$TYPED"
''',
    # The functions of zsh's completion system that the script calls, as far as it does.
    "zsh": r'''
compdef() { : }
_describe() { [[ $1 == -o ]] && shift; local -a all; all=("${(@P)2}"); print -rn -- "${all[@]%%:*} " }
_files() { print -rn -- "FILES $* " }
compadd() { shift; local -a all; all=("${(@P)1}"); print -rn -- "$all " }
compset() { PREFIX=${PREFIX#*=} }
source "$SCRIPT"
for line in "${(@f)TYPED}"; do
    words=("${(@s: :)line}")
    CURRENT=$#words
    PREFIX=${words[-1]}
    _daemoneye_cli </dev/null
    print
done
''',
    "fish": r'''
source $SCRIPT
for line in (string split \n -- $TYPED)
    echo (complete -C "$line" </dev/null | string replace -r '\t.*' '')
end
''',
}


def offered(shell, script, lines):
    """What the shell offers for each line."""
    flags = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[shell]
    surroundings = {**os.environ, "SCRIPT": script, "TYPED": "\n".join(lines), "TERM": "dumb",
                    "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = run(shell, *flags, SHELLS[shell], env=surroundings)
    check(done.stderr == "", f"{shell} has nothing to complain of: {done.stderr}")
    answers = done.stdout.split("\n")[:-1]
    check(len(answers) == len(lines), f"{shell} answered each of {len(lines)} lines: {done.stdout}")
    return answers


def check_offers(shell, script, wanted):
    """`wanted`: by line, words that must be among what is offered, and words that must not."""
    for (line, (present, absent)), answer in zip(wanted.items(), offered(shell, script, list(wanted))):
        typed = line.rsplit(" ", 1)[-1]
        words = {word.split("=")[-1] if "=" in typed else word for word in answer.split(" ")}
        found = {word for word in words if word.startswith(typed.split("=")[-1])}
        check(set(present) <= found, f"{shell}: {line!r} offers {sorted(present)}: {sorted(found)}")
        check(not found & set(absent), f"{shell}: {line!r} does not offer {sorted(absent)}: {sorted(found)}")


def scenario_completions_in_three_shells():
    """Verbs, options, values and ids, each where it belongs; made by the program from what it parses by."""
    rule = ("id: an-own-rule\ntitle: T\nseverity: low\n"
            "sql: SELECT pid FROM process_events WHERE name = 'no-such-program'\n")
    with daemon(rules={"an-own-rule.yaml": rule}) as instance:
        instance.start()
        wait_for("the rule in the store", lambda: instance.query("SELECT 1 FROM detection_rules"))
        for shell in SHELLS:
            check(shutil.which(shell), f"{shell} is there (scripts/setup)")
            done = run(CLI, "completion", shell)
            check(done.returncode == 0, f"{shell}: {done.stderr}")
            script = os.path.join(instance.folder, "completion." + shell)
            with open(script, "w", encoding="utf-8") as file:
                file.write(done.stdout)
            check_offers(shell, script, {
                "daemoneye-cli ": ({"query", "rules", "completion"}, {"enable"}),
                "daemoneye-cli ru": ({"rules"}, {"query"}),
                "daemoneye-cli rules ": ({"enable", "list"}, {"query", "rules"}),
                "daemoneye-cli --config rules ": ({"query"}, {"enable"}),  # a value is no verb
                "daemoneye-cli alerts list --": ({"--status", "--since", "--config", "--format"}, {"--note"}),
                "daemoneye-cli alerts list --status ": ({"open", "closed"}, {"low"}),
                "daemoneye-cli --format j": ({"json", "jsonl"}, {"table"}),
                "daemoneye-cli rules severity ": ({"low", "critical"}, {"query"}),
                "daemoneye-cli schema proc": ({"processes", "process_events"}, {"alerts"}),
                "daemoneye-cli config get app.b": ({"app.batch_size"}, set()),
                "daemoneye-cli completion ": (set(SHELLS), set()),
                "daemoneye-cli health ": ({"collector", "resources"}, {"query"}),
                f"daemoneye-cli --config {instance.config} tree ": ({"1"}, {"query"}),
                f"daemoneye-cli --config {instance.config} rules show an": ({"an-own-rule"}, set()),
                f"daemoneye-cli --config {instance.config} alerts list --rule ": ({"an-own-rule"}, {"open"}),
            })
        check_offers("zsh", os.path.join(instance.folder, "completion.zsh"), {
            "daemoneye-cli --format=js": ({"json", "jsonl"}, {"table"})})
        done = run(CLI, "completion", "tcsh")
        check(done.returncode == 2 and "tcsh" in done.stderr, f"another shell is refused: {done.stderr}")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_manual_pages_are_in_order():
    """mandoc finds nothing to warn of, and what a program's --help names its page explains."""
    pages = os.path.join(BUILD, "man")
    names = sorted(os.listdir(pages))
    check(names == ["daemoneye-agent.8", "daemoneye-cli.1", "daemoneye-config.5", "daemoneye-rules.5", "procmond.8"],
          f"the pages there are: {names}")
    for name in names:
        done = run("mandoc", "-Tlint", "-Wwarning", os.path.join(pages, name))
        # They are made from the sources and have no date of their own.
        said = [line for line in done.stdout.splitlines() if "missing date" not in line]
        check(not said, f"{name}: {said}")
    for program, page in (("procmond", "procmond.8"), ("daemoneye-agent", "daemoneye-agent.8"),
                          ("daemoneye-cli", "daemoneye-cli.1")):
        flags = set(re.findall(r"--[a-z-]+", run(os.path.join(BIN, program), "--help").stdout))
        text = run("mandoc", "-Tascii", os.path.join(pages, page)).stdout
        text = re.sub(".\b", "", text)
        missing = sorted(flag for flag in flags - {"--help"} if flag not in text)
        check(not missing, f"{page} does not explain {missing}")
        for section in ("SYNOPSIS", "DESCRIPTION", "EXIT"):
            check(re.search(rf"^{section}", text, re.M), f"{page} has no {section}")


def paths_of(folder):
    return {os.path.relpath(os.path.join(top, name), folder) for top, _, names in os.walk(folder) for name in names}


def scenario_install_below_a_prefix():
    """`make install`: programs, rules, units and configuration that fit together, whatever the prefix; and away again."""
    for prefix, etc, flag in (("/opt/daemoneye", "/etc", ""), ("/usr/local", "/etc", ""),
                              ("/srv/watch", "/srv/watch/etc", " --config /srv/watch/etc/daemoneye/config.yaml")):
        folder = tempfile.mkdtemp(prefix="daemoneye-prefix-", dir="/var/tmp")
        try:
            installed(folder, prefix)
            top = folder + prefix
            there = paths_of(folder)
            for path in ("bin/daemoneye-agent", "bin/daemoneye-cli", "lib/daemoneye/procmond", "share/man/man1/daemoneye-cli.1",
                         "share/bash-completion/completions/daemoneye-cli", "lib/sysusers.d/daemoneye.conf",
                         "share/doc/daemoneye/README.md", "share/doc/daemoneye/docs/health.md"):
                check(os.path.relpath(top, folder) + "/" + path in there, f"{path} is there")
            outside = sorted(path for path in there if not ("/" + path).startswith((prefix, etc)))
            check(not outside, f"nothing lies elsewhere: {outside}")
            for unit, command in (("procmond", "lib/daemoneye/procmond"), ("daemoneye-agent", "bin/daemoneye-agent --role alone")):
                with open(f"{top}/lib/systemd/system/{unit}.service", encoding="utf-8") as file:
                    check(f"ExecStart={prefix}/{command}{flag}\n" in file.read(), f"the unit names the program below {prefix}")
            config = folder + etc + "/daemoneye/config.yaml"
            done = run(CLI, "--config", config, "--format", "json", "config", "validate")
            check(done.returncode == 0, f"what is installed is valid: {done.stderr}")
            shown = json.loads(run(CLI, "--config", config, "--format", "json", "config", "get", "detection.rule_paths").stdout)
            check(f"{prefix}/share/daemoneye/rules" in json.dumps(shown), f"the rules are looked for where they are: {shown}")
            check(os.listdir(top + "/share/daemoneye/rules"), "where they are")
            with open(config, "a", encoding="utf-8") as file:
                file.write("# mine\n")
            installed(folder, prefix)
            with open(config, encoding="utf-8") as file:
                check(file.read().endswith("# mine\n"), "installing again keeps the configuration")
            done = run(os.path.join(DE_SOURCE, "scripts/uninstall"), BUILD, prefix, env={**os.environ, "DESTDIR": folder})
            left = paths_of(folder)
            check(done.returncode == 0 and left and all(("/" + path).startswith(etc + "/") for path in left),
                  f"what stays is configuration: {left} {done.stderr}")
            check(os.path.relpath(config, folder) in left, "and all of it")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


scenario_service_manager_is_told.needs_root = True
