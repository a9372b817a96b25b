"""The Debian package: what lintian says of it, and its life on a machine: installed, run, upgraded, removed, purged."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import tempfile

from debian_root import debian_root, output
from harness import BIN, DE_SOURCE, check, wait_for

BUILD = os.path.dirname(BIN)
OUT = os.path.join(BUILD, "package-test")
UNITS = ("daemoneye-agent", "procmond")
CONFFILES = {"/etc/daemoneye/config.yaml", "/etc/logrotate.d/daemoneye", "/etc/init.d/daemoneye-agent"}


def newest(*folders):
    return max(os.path.getmtime(os.path.join(where, name))
               for folder in folders for where, _, names in os.walk(folder) for name in names)


def package():
    """The package of this build, packed without compression; made anew when something of it is newer."""
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = [os.path.join(DE_SOURCE, name) for name in ("packaging", "rules", "scripts", "cmake")]
        built = [os.path.join(BUILD, name) for name in ("man", "completions")]
        programs = [os.path.join(BIN, name) for name in ("procmond", "daemoneye-agent", "daemoneye-cli")]
        changed = max([newest(*sources, *built), *(os.path.getmtime(program) for program in programs)])
        there = [os.path.join(OUT, name) for name in os.listdir(OUT) if name.endswith(".deb")]
        if len(there) == 1 and os.path.getmtime(there[0]) > changed:
            return there[0]
        for old in there:
            os.remove(old)
        said = output(os.path.join(DE_SOURCE, "scripts/package"), BUILD, OUT,
                      env={**os.environ, "COMPRESSION": "none", "NO_LINTIAN": "1"})
        return said.splitlines()[-1]


def next_version(first, folder):
    """The same package as its next version, whose default configuration says something more."""
    tree = os.path.join(folder, "next")
    output("dpkg-deb", "--raw-extract", first, tree)
    control = os.path.join(tree, "DEBIAN/control")
    with open(control, encoding="utf-8") as file:
        text = file.read()
    version = output("dpkg-deb", "--field", first, "Version").strip()
    with open(control, "w", encoding="utf-8") as file:
        file.write(text.replace(f"Version: {version}\n", f"Version: {version}+next\n"))
    with open(os.path.join(tree, "etc/daemoneye/config.yaml"), "a", encoding="utf-8") as file:
        file.write("# A default of the next version.\n")
    path = os.path.join(folder, "next.deb")
    output("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, path)
    return path


def scenario_package_is_lintian_clean():
    of_the_test = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball"
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", of_the_test,
                           package()], capture_output=True, text=True, check=False)
    check(done.returncode == 0 and done.stdout == "", f"lintian: {done.stdout}{done.stderr}")


def cli(root, *arguments, code=(0, 3)):
    done = root.run("daemoneye-cli", "--format", "json", *arguments, code=code)
    return json.loads(done.stdout)


def wait_until_it_watches(root):
    def watches():
        done = root.run("daemoneye-cli", "--format", "json", "health", code=(0, 1, 3, 4))
        if done.returncode not in (0, 3):
            return False
        parts = {part["component"]: part for part in json.loads(done.stdout)["components"]}
        return parts.get("collector", {}).get("details", {}).get("last_scan")

    wait_for("the installed daemon watches", watches)


def see(root, mark):
    """Runs a program inside and waits until it is stored."""
    root.run("true", "--mark", mark)
    wait_for(f"the event of {mark}", lambda: cli(root, "query", "--param", f"mark=%{mark}",
                                                 "SELECT 1 FROM process_events WHERE command_line LIKE :mark")["rows"])


def seen(root, mark):
    return cli(root, "query", "--param", f"mark=%{mark}",
               "SELECT 1 FROM process_events WHERE kind = 'exec' AND command_line LIKE :mark")["rows"]


def owner_and_mode(root, path):
    return root.run("stat", "-c", "%U:%G %a", path).stdout.strip()


def install(root, path, *options):
    inside = "/root/" + os.path.basename(path)
    shutil.copy(path, root.path(inside))
    root.run("dpkg", *options, "--install", inside)


def check_installed(root):
    told = root.run("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}|${Conffiles}", "daemoneye").stdout
    check(told.startswith("ii "), f"it is installed and configured: {told}")
    conffiles = {line.split()[0] for line in told.split("|", 1)[1].splitlines() if line.strip()}
    check(conffiles == CONFFILES, f"its configuration files: {conffiles}")
    for path, wanted in {"/etc/daemoneye/trusted-keys.d": "root:root 755", "/etc/daemoneye/rules.d": "root:root 755",
                         "/etc/daemoneye/config.d": "root:root 755", "/etc/daemoneye/config.yaml": "root:root 644",
                         "/var/lib/daemoneye": "daemoneye:daemoneye 750",
                         "/var/lib/daemoneye-audit": "daemoneye-procmond:daemoneye 750",
                         "/var/log/daemoneye": "daemoneye:daemoneye 750"}.items():
        check(owner_and_mode(root, path) == wanted, f"{path} is {wanted}: {owner_and_mode(root, path)}")
    for unit in UNITS:
        check(stat.S_ISREG(os.lstat(root.path(f"/lib/systemd/system/{unit}.service")).st_mode), f"{unit} has a unit")
    root.run("getent", "group", "daemoneye-admin")
    check(cli(root, "config", "show")["rows"], "the configuration is read")


def check_stopped(root):
    for program in UNITS:
        check(not root.running(program), f"{program} does not run any more")


def scenario_package_lives_in_a_debian_of_its_own():
    """Where systemd does not run, as in a container: the init script starts the agent, and that watches procmond."""
    first = package()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, debian_root(first) as root:
        following = next_version(first, folder)
        install(root, first)
        check_installed(root)
        wait_until_it_watches(root)
        for program in UNITS:
            check(root.running(program), f"{program} runs")
        see(root, "of-the-first-version")

        own_rule = root.path("/etc/daemoneye/rules.d/own.yaml")
        with open(own_rule, "w", encoding="utf-8") as file:
            file.write("id: own\ntitle: T\nseverity: low\nsql: SELECT pid FROM process_events WHERE name = 'own'\n")
        with open(root.path("/etc/daemoneye/config.yaml"), "a", encoding="utf-8") as file:
            file.write("app:\n  scan_interval_ms: 12345\n")
        install(root, following, "--force-confdef", "--force-confold")  # as unattended upgrades do
        wait_until_it_watches(root)
        told = cli(root, "config", "get", "app.scan_interval_ms")
        check("12345" in json.dumps(told), f"an upgrade keeps the configuration: {told}")
        check(os.path.exists(root.path("/etc/daemoneye/config.yaml.dpkg-dist")), "and puts the new default beside it")
        check(seen(root, "of-the-first-version"), "what was recorded is still there")
        see(root, "of-the-next-version")

        root.run("dpkg", "--remove", "daemoneye")
        check_stopped(root)
        for path in ("/var/lib/daemoneye/events.redb", "/var/lib/daemoneye-audit/audit.redb",
                     "/var/lib/daemoneye-audit/checkpoint.key", "/etc/daemoneye/config.yaml"):
            check(os.path.exists(root.path(path)), f"removing keeps {path}")

        root.run("dpkg", "--purge", "daemoneye")
        check(not os.path.exists(root.path("/etc/daemoneye/config.yaml")), "purging removes the configuration")
        check(os.path.exists(own_rule), "not a rule of this machine's own")
        check(os.path.exists(root.path("/var/lib/daemoneye/events.redb")), "nor data, unless that is asked for")

        install(root, first)
        wait_until_it_watches(root)
        check(seen(root, "of-the-first-version"), "installed again it goes on with the data")
        root.run("sh", "-c", "echo daemoneye daemoneye/purge-data boolean true | debconf-set-selections")
        root.run("dpkg", "--purge", "daemoneye")
        check_stopped(root)
        for path in ("/var/lib/daemoneye", "/var/lib/daemoneye-audit", "/var/log/daemoneye"):
            check(not os.path.exists(root.path(path)), f"purging with the answer yes removes {path}")


scenario_package_lives_in_a_debian_of_its_own.needs_root = True


def show(root, unit, name):
    return root.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()


def restarts(root, unit):
    return int(show(root, unit, "NRestarts"))


def check_watchdog_ends_what_hangs(root, unit):
    """A main process that stands still is ended by systemd, and started again."""
    root.run("sh", "-c", f"mkdir -p /run/systemd/system/{unit}.service.d; "
                         f"printf '[Service]\\nWatchdogSec=2\\nTimeoutAbortSec=1\\n' >/run/systemd/system/{unit}.service.d/watchdog.conf; "
                         f"systemctl daemon-reload; systemctl restart {unit}")
    before = restarts(root, unit)
    root.run("sh", "-c", "kill -STOP " + show(root, unit, "MainPID"))
    wait_for(f"{unit} is started again", lambda: restarts(root, unit) > before and
             show(root, unit, "ActiveState") == "active")


def scenario_package_runs_below_systemd():
    """A real systemd starts the units with all they forbid: what they do still works, and what fails is started again."""
    with debian_root(package(), systemd=True) as root:
        install(root, package())
        check_installed(root)
        for unit in UNITS:
            wait_for(f"{unit} is ready", lambda unit=unit: show(root, unit, "ActiveState") == "active")
            check(show(root, unit, "UnitFileState") == "enabled", f"{unit} starts with the machine")
        wait_until_it_watches(root)
        check("ebpf" in show(root, "procmond", "StatusText"), "the collector says by what it watches")
        parts = {part["component"]: part for part in cli(root, "health")["components"]}
        for name in ("capabilities", "collector", "hashing", "ledger", "store", "rules", "agent"):
            check(parts[name]["state"] == "ok", f"{name} is well: {parts[name]}")

        root.run("sh", "-c", "cp /bin/sleep /home/of-home; cp /bin/sleep /tmp/of-tmp; "
                             "/home/of-home 300 >/dev/null 2>&1 & /tmp/of-tmp 300 >/dev/null 2>&1 & true")
        for name in ("of-home", "of-tmp"):  # which the units see nothing of themselves
            wait_for(f"the digest of {name}", lambda name=name: cli(
                root, "query", "--param", f"name={name}",
                "SELECT 1 FROM processes WHERE name = :name AND executable_hash IS NOT NULL")["rows"])

        root.run("systemctl", "reload", "daemoneye-agent")
        root.run("sh", "-c", "kill -KILL " + show(root, "procmond", "MainPID"))
        wait_for("procmond is started again", lambda: restarts(root, "procmond") == 1)
        wait_until_it_watches(root)
        see(root, "after-a-kill")
        for unit in UNITS:
            check_watchdog_ends_what_hangs(root, unit)

        with open(root.path("/etc/daemoneye/config.d/wrong.yaml"), "w", encoding="utf-8") as file:
            file.write("app: {no_such_key: 1}\n")
        root.run("systemctl", "restart", "daemoneye-agent", code=(0, 1))
        check(show(root, "daemoneye-agent", "ActiveState") == "failed", "a wrong configuration is not tried again and again")
        check(show(root, "daemoneye-agent", "ExecMainStatus") == "2", "and systemd knows why")
        os.remove(root.path("/etc/daemoneye/config.d/wrong.yaml"))
        root.run("systemctl", "start", "daemoneye-agent")
        root.run("dpkg", "--remove", "daemoneye")
        check_stopped(root)


scenario_package_runs_below_systemd.needs_root = True
