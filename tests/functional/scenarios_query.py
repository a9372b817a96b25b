"""`query` and `shell` as a person meets them: at a terminal (a pseudo terminal here), and in pipes."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import termios
import time

from harness import BIN, Failure, check, daemon, wait_for

CLI = os.path.join(BIN, "daemoneye-cli")
FOR_EVER = ("SELECT count(*) FROM process_events a, process_events b, process_events c, process_events d, "
            "process_events e, process_events f")


@contextlib.contextmanager
def imported(events=300):
    """A folder with a database file of some history, and the environment of a user who has nothing else."""
    folder = tempfile.mkdtemp(prefix="daemoneye-query-", dir="/var/tmp")
    try:
        lines = []
        for i in range(events):
            lines.append(json.dumps({"time": 1795294103000000000 + i * 10**9, "kind": "exec", "source": "import",
                                     "pid": 1000 + i, "name": "bash" if i % 3 else "nginx",
                                     "executable_path": "/usr/bin/bash", "uid": i % 5}))
        path = os.path.join(folder, "history.redb")
        subprocess.run([CLI, "import", "-", "--into", path], input="\n".join(lines) + "\n", text=True, check=True,
                       capture_output=True, env=environment(folder))
        yield folder, path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(folder, **more):
    return {"PATH": os.environ["PATH"], "HOME": folder, "XDG_STATE_HOME": os.path.join(folder, "state"), "TERM": "xterm",
            **more}


class Terminal:
    """A program at a pseudo terminal of 80 x 24."""

    def __init__(self, command, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = ""
        self.at = 0

    def send(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds=0.05):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return
        with contextlib.suppress(OSError):
            self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")

    def expect(self, pattern, seconds=30):
        """Waits for it in what came since the last match; returns the match."""
        end = time.monotonic() + seconds
        while True:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
            found = re.compile(pattern, re.DOTALL).search(plain, self.at)
            if found:
                self.at = found.end()
                return found
            if time.monotonic() > end:
                raise Failure(f"waited in vain for {pattern!r}; since then: {plain[self.at:][-1500:]!r}")
            self.read()

    def prompt(self):
        """Waits until a line is edited: what is typed before is the terminal's to echo."""
        self.expect("daemoneye> ")
        wait_for("the line editor", lambda: not termios.tcgetattr(self.fd)[3] & termios.ICANON)

    def wait(self, seconds=30):
        """The exit code."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise Failure(f"it did not end: {self.seen[-1500:]!r}")
            self.read()


def scenario_the_shell_at_a_terminal():
    with imported() as (folder, path):
        env = environment(folder, PAGER="cat")
        shell = Terminal([CLI, "--db", path, "shell"], env)
        shell.prompt()
        shell.send("SELECT count(*) AS found\n")
        shell.expect(r"\.\.\.> ")  # more is expected until the ;
        shell.send("FROM process_events\nWHERE name = 'bash';\n")
        shell.expect(r"found\s.*\n\D*200\s")
        shell.prompt()

        # Tables after FROM, columns of what an alias stands for, functions, keywords.
        shell.send("SELECT e.executable_p\x01\x0b")  # nothing is known of e yet: taken back
        shell.send("SELECT 1 FROM process_e\t")
        shell.expect("vents ")
        shell.send("\x01\x0bSELECT count(*) AS n, substri\t")
        shell.expect(r"ng\(")
        shell.send("name, 1, 2) AS s FR\t")
        shell.expect("OM ")
        shell.send("process_events e WHERE e.exec\t")
        shell.expect("utable_")
        shell.send("p\t")
        shell.expect("ath ")
        shell.send("LIKE '/usr%';\n")
        shell.expect(r"300\s+\w\w")
        shell.prompt()

        shell.send("SELECT 'forgotten'\x03")
        shell.expect(r"\^C")
        shell.prompt()
        shell.send(".tables\n")
        shell.expect(r"process_events\s")
        shell.prompt()
        shell.send(".schema scans\n")
        shell.expect(r"duration_ms\s+INTEGER\s+milliseconds\s")
        shell.prompt()
        shell.send(".timing on\n.mode jsonl\nSELECT 1 AS x;\n")
        shell.expect(r'\{"x":1\}\s+1 row in [0-9.]+ ms')
        shell.prompt()
        shell.send(".tabels\n")
        shell.expect(r"no command \.tabels; did you mean \.tables\?")
        shell.send("SELECT nme FROM processes;\n")
        shell.expect(r"error: line 1, column 8: unknown column nme; did you mean name\?.*\^")
        shell.prompt()

        # What runs is cancelled, and the shell goes on.
        shell.send(FOR_EVER + ";\n")
        running = Terminal.read  # until it says how far it is, or at least is at work
        wait_for("the statement at work", lambda: running(shell) or busy(shell.pid))
        shell.send("\x03")
        shell.expect("error: cancelled")
        shell.prompt()
        shell.send(".param who=nginx\nSELECT count(*) AS n FROM process_events WHERE name = :who;\n")
        shell.expect(r'\{"n":100\}')
        shell.prompt()
        shell.send(".quit\n")
        check(shell.wait() == 0, "it ends with 0")

        history = os.path.join(folder, "state", "daemoneye", "shell_history")
        check(stat.S_IMODE(os.stat(history).st_mode) == 0o600, "the history is its owner's alone")
        again = Terminal([CLI, "--db", path, "shell"], env)
        again.prompt()
        again.send("\x10\x10")  # .quit, and what was before
        again.expect(r"name = :who;")
        again.send("\x03")
        again.prompt()
        again.send("\x04")
        check(again.wait() == 0, "Ctrl-D ends it with 0")


def busy(pid):
    """Whether it has used a tick of processor time since it was asked first."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    first = busy.first.setdefault(pid, ticks)
    return ticks > first + 2


busy.first = {}


def scenario_the_shell_without_a_terminal():
    with imported() as (folder, path):
        def shell(text):
            return subprocess.run([CLI, "--db", path, "--format", "csv", "shell"], input=text, capture_output=True, text=True,
                                  env=environment(folder), check=False, timeout=60)

        done = shell("SELECT 1 AS a; SELECT ';' AS b -- ;\n;\n.mode jsonl\nSELECT count(*) AS c\nFROM process_events")
        check(done.returncode == 0, f"all statements ran: {done.stderr}")
        check(done.stdout.replace("\r", "") == 'a\n1\nb\n;\n{"c":300}\n', f"their results: {done.stdout!r}")
        failed = shell("SELECT 1 AS a;\nDROP TABLE alerts;\nSELECT 2 AS b;")
        check(failed.returncode == 2 and "only SELECT is accepted" in failed.stderr, f"refused: {failed}")
        check("b" not in failed.stdout, "nothing runs after what failed")


def scenario_a_long_result_is_paged_with_nothing_held():
    with imported() as (folder, path):
        pager = os.path.join(folder, "pager")
        with open(pager, "w", encoding="utf-8") as file:
            # Says how much it got, and waits to be told that all was looked at.
            file.write('#!/bin/sh\necho "PAGER got $(wc -l) lines"\nread answer < /dev/tty\necho "told $answer"\n')
        os.chmod(pager, 0o755)
        query = Terminal([CLI, "--db", path, "query", "SELECT pid, name FROM process_events"], environment(folder, PAGER=pager))
        query.expect("PAGER got 302 lines")
        held = [os.readlink(f"/proc/{query.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{query.pid}/fd")]
        check(not [name for name in held if "history.redb" in name], f"the store is closed while somebody reads: {held}")
        query.send("enough\n")
        query.expect("told enough")
        check(query.wait() == 0, "it ends with 0")

        short = Terminal([CLI, "--db", path, "query", "SELECT 7 AS seven"], environment(folder, PAGER=pager))
        short.expect(r"seven\s.*\n\D*7\s")
        check(short.wait() == 0 and "PAGER" not in short.seen, "what fits is not paged")


def scenario_ctrl_c_cancels_a_query():
    with imported() as (folder, path):
        query = subprocess.Popen([CLI, "--db", path, "query", FOR_EVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True, env=environment(folder))
        wait_for("the statement at work", lambda: busy(query.pid))
        query.send_signal(signal.SIGINT)
        out, err = query.communicate(timeout=30)
        check(query.returncode == 1, f"exit 1, not {query.returncode}")
        check(err.startswith("error: cancelled") and not out, f"it says so in a word: {err!r} {out!r}")

        # Nor does it go on when nobody reads its answer any more.
        query = subprocess.Popen([CLI, "--timeout", "10m", "--db", path, "query", FOR_EVER], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=environment(folder))
        wait_for("the statement at work", lambda: busy(query.pid))
        query.stdout.close()
        check("cancelled: nobody reads the answer" in query.stderr.read(), "it says why it ended")
        check(query.wait(timeout=30) == 1, "exit 1")

        # A person is told how far it is, in a line that is gone afterwards.
        query = Terminal([CLI, "--db", path, "query", FOR_EVER], environment(folder))
        query.expect(r"\rreading[^\r]*\b0 rows so far; Ctrl-C cancels")
        query.send("\x03")
        query.expect("error: cancelled")
        check(query.wait() == 1, "exit 1")
        check("\r\x1b[K" in query.seen[query.seen.rfind("so far"):], f"the line is taken away: {query.seen!r}")


def scenario_large_results_take_little_memory():
    with imported(10) as (folder, path):
        rows = 20_000
        sql = (f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
               "SELECT i, printf('%0999d', i) || printf('%0999d', i) AS filler FROM n")
        for form in ("table", "json", "jsonl", "csv"):
            query = subprocess.Popen([CLI, "--db", path, "--format", form, "query", sql], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, env=environment(folder))
            size = lines = 0
            while chunk := query.stdout.read(1 << 20):
                size += len(chunk)
                lines += chunk.count(b"\n")
            _, status, usage = os.wait4(query.pid, 0)
            query.returncode = os.waitstatus_to_exitcode(status)
            check(query.returncode == 0 and lines >= rows and size > rows * 1998, f"{form}: all of it came, {lines} lines")
            check(usage.ru_maxrss < 40 * 1024, f"{form}: {size >> 20} MiB of output in {usage.ru_maxrss} KiB")


def scenario_time_before_the_record_is_no_answer():
    """"Nothing found" and "could not look" differ, also of the time before anything was recorded."""
    count = "SELECT count(*) AS n FROM process_events"
    with daemon(rules={}) as instance:
        instance.start()
        wait_for("a record of which nothing is missing", lambda: instance.query(count)[0]["n"] > 0 and
                 instance.cli("query", count).code == 0)
        begin = instance.cli("--format", "json", "query", "SELECT min(time) AS t FROM process_events").json()["rows"][0]["t"]
        for asked in ("time < ago('1h')", "time > ago('1h')", "time BETWEEN ago('2h') AND ago('1h')"):
            answer = instance.cli("--format", "json", "query", f"{count} WHERE {asked}")
            reasons = answer.json()["completeness"].get("reasons", [])
            told = [reason for reason in reasons if reason["reason"] == "before_record"]
            check(answer.code == 3 and [reason["to"] for reason in told] == [begin], f"{asked}: {answer.code} {reasons}")
        plain = instance.cli("query", f"{count} WHERE time < ago('1h')")
        check(plain.code == 3 and plain.err.count("before_record") == 1, f"for people: {plain.code} {plain.err}")
        for asked in ("1", "pid > 0", f"time >= '{begin}'"):
            answer = instance.cli("--format", "json", "query", f"{count} WHERE {asked}")
            check("before_record" not in answer.out, f"{asked}: {answer.out}")
        health = instance.health()["detection"]
        check(health["details"]["recorded_since"] == begin and "before_record" not in json.dumps(health), f"{health}")


def scenario_refusals_are_in_the_ledger():
    with daemon() as agent:
        agent.start()
        secret = "SELECT nme FROM processes WHERE command_line = 'hunter2'"
        refused = agent.cli("query", secret)
        check(refused.code == 2, "a refused statement is a usage error")
        agent.write_rule("bad.yaml", "id: bad\ntitle: Bad\ndescription: Bad\nseverity: low\nsql: SELECT hunter2 FROM processes\n")

        def entries():
            rows = agent.query("SELECT actor, payload FROM audit_ledger WHERE action = 'agent.sql_refused'")
            return rows if len(rows) >= 2 else None

        rows = wait_for("both refusals in the ledger", entries)
        by_user = [json.loads(row["payload"]) for row in rows if "by_uid" in json.loads(row["payload"])]
        by_rule = [json.loads(row["payload"]) for row in rows if "rule_id" in json.loads(row["payload"])]
        check(len(by_user) == 1 and len(by_user[0]["digest"]) == 64 and by_user[0]["by_uid"] == os.geteuid(),
              f"who asked, and a digest: {by_user}")
        check(len(by_rule) == 1 and by_rule[0]["rule_id"] == "bad" and len(by_rule[0]["digest"]) == 64,
              f"which rule, and a digest: {by_rule}")
        check("hunter2" not in json.dumps(by_user), f"not the text: {by_user}")

        # What is accepted, and then takes more than it may.
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        greedy = ("SELECT group_concat(a.filler) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                  "WHERE i < 100000) SELECT printf('%999d', i) AS filler FROM n) a")
        for statement in (endless, greedy):
            ended = agent.cli("--timeout", "5m", "query", statement, timeout=330)
            check(ended.code == 1, f"it is ended by its own bound: {ended}")

        def recorded():
            rows = agent.query("SELECT actor, payload FROM audit_ledger WHERE action = 'agent.sql_refused'")
            found = [json.loads(row["payload"]) for row in rows]
            found = [one for one in found if one.get("when") == "run"]
            return found if len(found) >= 2 else None

        at_run = wait_for("what was ended is in the ledger", recorded)
        check({one["by_uid"] for one in at_run} == {os.geteuid()} and all(len(one["digest"]) == 64 for one in at_run),
              f"who asked, and a digest: {at_run}")
        check(any("recursive" in one["reason"] for one in at_run) and any("memory limit" in one["reason"] for one in at_run),
              f"and which bound it was: {at_run}")

        # Few of many: the ledger is not anybody's to fill.
        for i in range(45):
            agent.cli("query", f"SELECT wrong{i}")
        rows = agent.query("SELECT count(*) AS n FROM audit_ledger WHERE action = 'agent.sql_refused'")
        check(2 <= rows[0]["n"] <= 40, f"refusals are recorded at a bounded rate: {rows}")


scenario_time_before_the_record_is_no_answer.needs_root = True
scenario_refusals_are_in_the_ledger.needs_root = True
