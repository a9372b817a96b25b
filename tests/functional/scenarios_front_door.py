"""`make run` as somebody's first command: here its script, with programs that are built already."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile

from harness import BIN, DE_SOURCE, check, exact_arguments, wait_for

PROGRAMS = ("procmond", "daemoneye-agent", "daemoneye-cli")


def run_script(checkout, expect_elsewhere):
    out_path, err_path = os.path.join(checkout, "out"), os.path.join(checkout, "err")
    with open(out_path, "wb") as out, open(err_path, "wb") as err:
        process = subprocess.Popen([os.path.join(checkout, "scripts/run")], stdout=out, stderr=err,
                                   stdin=subprocess.DEVNULL)

    def said():
        check(process.poll() is None, f"it ended with {process.returncode}: {read(err_path)}")
        return re.search(r"in another shell: (.*) ps$", read(err_path), re.MULTILINE)

    config = None
    try:
        command = shlex.split(wait_for("the line for another shell", said).group(1))
        config = command[command.index("--config") + 1]
        elsewhere = not config.startswith(checkout)
        check(elsewhere == expect_elsewhere, f"state is kept where it must be: {config}")
        if expect_elsewhere:
            check("cannot be reached" in read(err_path), f"it says why: {read(err_path)}")

        def healthy():
            done = subprocess.run([*command, "--format", "json", "health"], capture_output=True, text=True, check=False)
            return done.returncode in (0, 3) and "last_scan" in done.stdout

        wait_for("a healthy daemon", healthy)
        pid = exact_arguments("bash", "-c", ": daemoneye front door; true </dev/null # bash -i >& /dev/tcp/127.0.0.1/9",
                              executable="/bin/bash")

        def alert():
            for line in read(out_path).splitlines():
                if line.startswith("{") and json.loads(line)["pid"] == pid:
                    return line
            return None

        wait_for("the alert on stdout", alert)
        rows = subprocess.run([*command, "query", "SELECT name, count(*) FROM process_events GROUP BY 1 ORDER BY 2 DESC"],
                              capture_output=True, text=True, check=False)
        check(rows.returncode in (0, 3) and "bash" in rows.stdout, f"the README's query: {rows.stderr}")
        process.send_signal(signal.SIGINT)
        check(process.wait(20) == 0, f"Ctrl-C ends it with 0, not {process.returncode}: {read(err_path)}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if config and expect_elsewhere:
            shutil.rmtree(os.path.dirname(config), ignore_errors=True)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def make_checkout(folder):
    checkout = os.path.join(folder, "checkout")
    os.makedirs(os.path.join(checkout, "build/release/bin"))
    for name in ("scripts", "rules"):
        shutil.copytree(os.path.join(DE_SOURCE, name), os.path.join(checkout, name))
    for name in PROGRAMS:
        shutil.copy(os.path.join(BIN, name), os.path.join(checkout, "build/release/bin", name))
    return checkout


def in_a_folder(mode):
    folder = tempfile.mkdtemp(prefix="daemoneye-door-", dir="/var/tmp")
    try:
        checkout = make_checkout(folder)
        os.chmod(folder, mode)
        run_script(checkout, expect_elsewhere=mode == 0o700)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scenario_make_run_watches_this_machine():
    in_a_folder(0o755)


def scenario_make_run_works_below_a_closed_folder():
    in_a_folder(0o700)


scenario_make_run_watches_this_machine.needs_root = True
scenario_make_run_works_below_a_closed_folder.needs_root = True
