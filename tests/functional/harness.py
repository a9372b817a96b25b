"""Runs the three programs as a user would, in a folder of their own, and looks at what they print.

A scenario is a function taking a Daemon factory; tests/functional/run.py runs one by name. Waiting is always for a
condition, with a deadline that names what was waited for.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

BIN = os.environ.get("DE_TEST_BIN", "build/release/bin")
DE_SOURCE = os.environ.get("DE_TEST_SOURCE", os.getcwd())
ROOT = os.geteuid() == 0


class Failure(Exception):
    pass


class Skip(Exception):
    """What is needed is not here; says in one line what."""


def check(condition, what):
    if not condition:
        raise Failure(what)


def wait_for(what, condition, seconds=60.0):
    """Polls until `condition` gives something true, and returns that."""
    end = time.monotonic() + seconds
    pause = 0.005
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failure(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Result:
    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise Failure(f"not JSON ({error}); exit {self.code}\n{self.out[:2000]}\n{self.err[:2000]}") from error


class Daemon:
    """One instance: its own state, socket, rules and alert sink."""

    def __init__(self, settings=None, rules=None, sinks=None, user=None, folder=None):
        self.owns_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="daemoneye-test-", dir="/var/tmp")
        os.chmod(self.folder, 0o755)
        self.user = user
        self.state = os.path.join(self.folder, "state")
        self.database = os.path.join(self.state, "events.redb")
        self.audit = os.path.join(self.folder, "state-audit", "audit.redb")
        self.socket = os.path.join(self.folder, "run", "DaemonEye.sock")
        self.rules = os.path.join(self.folder, "rules")
        if rules is None:
            rules = os.path.join(DE_SOURCE, "rules")
        if not os.path.isdir(self.rules):
            os.mkdir(self.rules)
            if isinstance(rules, str):
                shutil.copytree(rules, self.rules, dirs_exist_ok=True)
            else:
                for name, text in rules.items():
                    self.write_rule(name, text)
        self.settings = {
            "app.state_dir": self.state,
            "ipc.socket_path": self.socket,
            "detection.rule_paths": [self.rules],
            "logging.format": "json",
            "alerting.sinks": sinks or [{"type": "stdout", "format": "json"}],
        }
        self.settings.update(settings or {})
        self.config = os.path.join(self.folder, "config.yaml")
        self.write_config()
        self.process = None
        self.expects_refusals = False
        self.out_path = os.path.join(self.folder, "stdout")
        self.err_path = os.path.join(self.folder, "stderr")
        if user:
            for path, _, _ in os.walk(self.folder):
                shutil.chown(path, user)

    def write_rule(self, name, text):
        path = os.path.join(self.rules, name)
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".tmp", path)

    def write_config(self):
        tree = {}
        for key, value in self.settings.items():
            at = tree
            *parents, leaf = key.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[leaf] = value
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(tree, file)  # JSON is YAML

    def _as_user(self, command, user):
        if user is None:
            return command
        return ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", *command]

    def start(self, wait=True, arguments=(), within=()):
        """`within`: a command that runs the agent, with it as its last arguments, in the same process."""
        command = [*within, os.path.join(BIN, "daemoneye-agent"), "--config", self.config, *arguments]
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.process = subprocess.Popen(
                self._as_user(command, self.user), stdout=out, stderr=err, stdin=subprocess.DEVNULL
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=60.0):
        def ready():
            if self.process.poll() is not None:
                raise Failure(f"the daemon ended with {self.process.returncode}\n{self.errors()[-3000:]}")
            health = self.health()
            return health and health.get("collector", {}).get("details", {}).get("last_scan")

        wait_for("collector connected and its first scan reported", ready, seconds)

    def stop(self, seconds=20.0):
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"the daemon did not stop within {seconds:g} s of SIGTERM\n{self.errors()[-3000:]}") from error
        self.check_refusals()
        return code

    def check_refusals(self):
        """In builds where a call that is refused ends nobody, its line in the log is all there is."""
        if self.expects_refusals or self.process is None:  # one that was never started has no log
            return
        refused = [line for line in self.errors().splitlines()
                   if '"system call refused"' in line or "call that is not in the list" in line]
        check(not refused, f"the sandbox refuses nothing that procmond needs: {refused[:3]}")

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def cli(self, *arguments, user=None, stdin=None, config=True, groups=None, timeout=60):
        command = [os.path.join(BIN, "daemoneye-cli")]
        if config:
            command += ["--config", self.config]
        command += arguments
        user = user or self.user
        if user is not None:
            switch = ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid)]
            switch += ["--groups", groups] if groups else ["--clear-groups"]
            command = switch + command
        return Result(
            subprocess.run(command, capture_output=True, text=True, errors="replace", input=stdin, timeout=timeout,
                           stdin=None if stdin is not None else subprocess.DEVNULL, check=False)
        )

    def query(self, sql, *arguments):
        """The rows; a degraded result is a result."""
        result = self.cli("--format", "json", "query", sql, *arguments)
        if result.code not in (0, 3):
            raise Failure(f"query failed with {result.code}: {result.err}\n{sql}")
        return result.json()["rows"]

    def health(self):
        result = self.cli("--format", "json", "health")
        try:
            report = json.loads(result.out)
        except ValueError:
            return None
        components = report.get("components", report) if isinstance(report, dict) else report
        return {item["component"]: item for item in components}

    def collector(self):
        """Health of the collector: its state, reason and details."""
        return self.health()["collector"]

    def alerts(self):
        """Alerts on stdout so far, as objects."""
        found = []
        with open(self.out_path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("{") and line.endswith("\n"):
                    found.append(json.loads(line))
        return found

    def errors(self):
        if not os.path.exists(self.err_path):
            return ""  # nothing was started, or a scenario has taken the folder away
        with open(self.err_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def children(self):
        """Pids of the two daemons below the supervisor, by name."""
        found = {}
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    stat = file.read()
                fields = stat[stat.rindex(")") + 2:].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found[stat[stat.index("(") + 1:stat.rindex(")")]] = int(pid)
        return found


@contextlib.contextmanager
def daemon(*arguments, **keywords):
    instance = Daemon(*arguments, **keywords)
    try:
        yield instance
        instance.check_refusals()  # also of those that are not stopped in order
    except Exception:
        print(f"--- stderr of the daemon ({instance.err_path})")
        with contextlib.suppress(OSError):
            print(instance.errors()[-6000:])
        raise
    finally:
        instance.close()


def exact_arguments(*arguments, executable="/bin/true"):
    """Runs a process with exactly these arguments and waits for its end; returns its pid."""
    process = subprocess.Popen(arguments, executable=executable)
    process.wait()
    return process.pid
