"""With which privileges it is started, which it keeps, what it sees then, and what happens when its source dies."""

import errno
import json
import os
import pwd
import re
import signal
import socket
import subprocess

import inject
import storm
from harness import BIN, ROOT, Daemon, Failure, check, daemon, exact_arguments, wait_for

OTHER = "nobody"


def capabilities_of(instance):
    return instance.health()["capabilities"]["details"]


def collector_of(instance):
    return instance.health()["collector"]["details"]


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def check_confined(pid, user):
    """What the kernel says of the process, from outside."""
    status = status_of(pid)
    uid = pwd.getpwnam(user).pw_uid
    check(status["Uid"].split() == [str(uid)] * 4, f"all its user ids are {user}'s: {status['Uid']}")
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        check(int(status[name], 16) == 0, f"{name} is empty: {status[name]}")
    check(status["NoNewPrivs"] == "1", f"no_new_privs: {status['NoNewPrivs']}")
    check(status["Seccomp"] == "2", f"a system call filter: {status['Seccomp']}")


def check_told(instance, own_network, landlock=True):
    """What it says of itself, in health and in the ledger, is the same and holds."""
    told = capabilities_of(instance)
    check(told["capabilities_effective"] == "none", f"no capability: {told}")
    check(told["no_new_privs"] == "yes" and told["seccomp"] == "yes", f"confined: {told}")
    check(told["own_network"] == ("yes" if own_network else "no"), f"network: {told}")
    check(told["system_calls"].startswith("collector, others "), f"its list is in force: {told}")
    check("socket AF_INET: Operation not permitted" in told["tried_in_vain"], f"tried from inside: {told}")
    check(told["landlock"].startswith("ABI") == landlock, f"Landlock: {told}")
    check(told["system_calls_refused"] == "none", f"nothing that it needs is refused: {told}")
    entries = instance.query("SELECT action, payload FROM audit_ledger WHERE action IN ('start', 'privileges') "
                             "ORDER BY seq DESC LIMIT 2")
    check([row["action"] for row in entries] == ["privileges", "start"], f"both are in the ledger: {entries}")
    recorded = json.loads(entries[0]["payload"])
    check(all(told[key] == value for key, value in recorded.items()), f"the ledger says the same: {recorded} {told}")
    return json.loads(entries[1]["payload"])


def check_sees(instance, source, marker):
    """A process that ends at once is seen, with its arguments where the source can."""
    pid = exact_arguments("true", marker)
    rows = wait_for("its exec event", lambda: instance.query(
        f"SELECT source, command_line FROM process_events WHERE kind = 'exec' AND pid = {pid}"))
    check(rows[0]["source"] == source, f"told by {source}: {rows}")
    if source == "ebpf":
        check(rows[0]["command_line"] == f"true {marker}", f"with its arguments: {rows}")
    sleeper = subprocess.Popen(["sleep", "300"])
    try:
        rows = wait_for("an event of a process that lives", lambda: instance.query(
            f"SELECT source, command_line FROM process_events WHERE pid = {sleeper.pid}"))
        check(rows[0]["command_line"] == "sleep 300", f"with its arguments: {rows}")
    finally:
        sleeper.kill()
        sleeper.wait()


def scenario_privileges_started_as_root():
    """Root is given up wholly: seen from inside, from outside, and in the ledger."""
    with daemon(rules={}) as instance:
        instance.start()
        pid = instance.children()["procmond"]
        check_confined(pid, "daemoneye-procmond")
        check(int(status_of(pid)["CapBnd"], 16) == 0, "the bounding set is empty")
        check(os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"), "it has a network of its own")
        start = check_told(instance, own_network=True)
        check(start["source"] == "ebpf" and start["reason"] == "the best there is", f"the best source: {start}")
        check(collector_of(instance)["realtime"] == "ebpf", "health says so, too")
        check_sees(instance, "ebpf", "as-root")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_privileges_started_as_root.needs_root = True


class WithCapabilities(Daemon):
    """Started as another user who has just these capabilities."""

    def __init__(self, capabilities, *arguments, **keywords):
        super().__init__(*arguments, user=OTHER, **keywords)
        self.capabilities = capabilities

    def _as_user(self, command, user):
        switched = super()._as_user(command, user)
        sets = ",".join("+" + name for name in self.capabilities)
        return [switched[0], "--inh-caps", sets, "--ambient-caps", sets, *switched[1:]]


def scenario_privileges_bpf_and_perfmon_alone():
    """Another user with CAP_BPF and CAP_PERFMON: eBPF, and nothing of them kept."""
    instance = WithCapabilities(["bpf", "perfmon"], rules={})
    try:
        instance.start()
        check(int(status_of(instance.process.pid)["CapEff"], 16) == (1 << 38) | (1 << 39), "started with these two")
        check_confined(instance.children()["procmond"], OTHER)
        start = check_told(instance, own_network=False)
        check(start["source"] == "ebpf" and start["snapshot"] == "bpf_iter", f"eBPF works: {start}")
        check_sees(instance, "ebpf", "two-capabilities")
        check("bounding" in instance.health()["capabilities"]["reason"], "health says what could not be given up")
        check(instance.stop() == 0, "a clean stop ends with 0")
    except Exception:
        print(instance.errors()[-6000:])
        raise
    finally:
        instance.close()


scenario_privileges_bpf_and_perfmon_alone.needs_root = True


def scenario_privileges_none_at_all():
    """Without any: the best of what is left, named with its reason and its limits; as little can be done as before."""
    with daemon(user=OTHER if ROOT else None, settings={"app.scan_interval_ms": 500}, rules={}) as instance:
        instance.start()
        user = OTHER if ROOT else pwd.getpwuid(os.geteuid()).pw_name
        check_confined(instance.children()["procmond"], user)
        start = check_told(instance, own_network=False, landlock=False)
        check(start["snapshot"] == "procfs", f"scans read /proc: {start}")
        check("CAP_BPF" in start["reason"], f"why not eBPF: {start}")
        told = instance.health()
        check("Landlock" in told["capabilities"]["reason"], f"why no Landlock: {told['capabilities']}")
        check(told["collector"]["state"] == "degraded" and "CAP_BPF" in told["collector"]["reason"],
              f"health says what is missing: {told['collector']}")
        # From Linux 6.7 anybody may listen to the proc connector; before, scans are what is left.
        source = start["source"]
        check(source in ("netlink", "none"), f"one of these: {start}")
        if source == "netlink":
            check_sees(instance, "netlink", "no-privilege")
        same_user = {"user": OTHER, "group": pwd.getpwnam(OTHER).pw_gid, "extra_groups": []} if ROOT else {}
        sleeper = subprocess.Popen(["sleep", "300"], **same_user)
        try:
            rows = wait_for("the executable of a process of its own user", lambda: instance.query(
                f"SELECT executable_path FROM process_events WHERE pid = {sleeper.pid} AND executable_path <> ''"))
            check(rows[0]["executable_path"].endswith("/sleep"), f"{rows}")
        finally:
            sleeper.kill()
            sleeper.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_privileges_alone_without_supervisor():
    """procmond as a service of its own, as systemd would start it: the same confinement, and it finds the agent."""
    with daemon(rules={}) as instance:
        instance.start(wait=False, arguments=("--role", "alone"))
        with open(instance.err_path, "ab") as errors:
            collector = subprocess.Popen([os.path.join(BIN, "procmond"), "--config", instance.config],
                                         stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            instance.wait_ready()
            check_confined(collector.pid, "daemoneye-procmond")
            check_told(instance, own_network=True)
            check_sees(instance, "ebpf", "a-service")
            collector.send_signal(signal.SIGHUP)
            # Its file lies above the store, which it is kept from: a signal is heard, and why it changes nothing is told.
            wait_for("the answer to SIGHUP", lambda: "read again" in instance.errors())
            collector.send_signal(signal.SIGTERM)
            check(collector.wait(20) == 0, "procmond stops cleanly")
        finally:
            if collector.poll() is None:
                collector.kill()
                collector.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_privileges_alone_without_supervisor.needs_root = True


def scenario_privileges_refused_call_is_seen():
    """A system call out of the list is not carried out, and who watches the watcher is told its name."""
    if not inject.possible:
        raise Failure("needs root and x86-64")
    with daemon(rules={}) as instance:
        instance.expects_refusals = True
        instance.start()
        pid = instance.children()["procmond"]
        strict = "end the process" in capabilities_of(instance)["system_calls"]
        answer = inject.system_call(pid, inject.SYS_SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0)
        if strict:
            check(answer is None, f"a debug build ends: {answer}")
            wait_for("its last words", lambda: "not in the list: socket" in instance.errors())
            wait_for("a new procmond", lambda: instance.children().get("procmond", pid) != pid)
            instance.wait_ready()
        else:
            check(answer == -errno.EPERM, f"refused: {answer}")
            refused = wait_for("health to say so", lambda: next(
                (text for text in [capabilities_of(instance)["system_calls_refused"]] if text != "none"), None))
            check(refused == "socket 1", f"by name and count: {refused}")
            check(instance.health()["capabilities"]["state"] == "degraded", "and to be degraded")
            wait_for("its line in the log", lambda: '"system call refused"' in instance.errors())
            metrics = wait_for("its metric", lambda: next(iter(re.findall(
                r'daemoneye_seccomp_denied_total\{.*syscall="socket".*\} (\d+)', instance.cli("metrics").out)), None))
            check(metrics == "1", f"counted: {metrics}")
            check(instance.children()["procmond"] == pid, "and it lives on")
        check_sees(instance, "ebpf", "afterwards")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_privileges_refused_call_is_seen.needs_root = True


def netlink_queue():
    """Bytes that wait in proc connector sockets."""
    with open("/proc/net/netlink", encoding="utf-8") as file:
        return sum(int(line.split()[4]) for line in file.readlines()[1:] if line.split()[1] == "11")


def netlink_socket_of(pid):
    """The number of its proc connector socket (protocol 11), in the network it was opened in: ours."""
    with open("/proc/net/netlink", encoding="utf-8") as file:
        inodes = {line.split()[9] for line in file.readlines()[1:] if line.split()[1] == "11"}
    for number in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{number}")
        if target.startswith("socket:[") and target[8:-1] in inodes:
            return int(number)
    raise Failure(f"process {pid} has no proc connector socket")


def memory_of(instance):
    return os.path.join(os.path.dirname(instance.audit), "source-failures.json")


def forget_nothing_but(instance, *sources):
    """Writes the memory of failed sources as procmond would have."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip().replace("-", "")
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = int(float(file.read().split()[0]))
    failures = [{"source": name, "uptime_s": uptime, "reason": "planted by a test"} for name in sources]
    with open(memory_of(instance), "w", encoding="utf-8") as file:
        json.dump({"format": 1, "boot_id": boot, "failures": failures}, file)


def scenario_source_that_died_is_left_out():
    """auto takes the next source after one that failed in this boot, says why, and ends with scans alone."""
    with daemon(settings={"app.scan_interval_ms": 500}, rules={}) as instance:
        instance.start()
        check(collector_of(instance)["realtime"] == "ebpf", "first the best one")
        check(instance.stop() == 0, "a clean stop ends with 0")

        forget_nothing_but(instance, "ebpf")
        instance.start()
        told = instance.health()["collector"]
        check(told["details"]["realtime"] == "netlink", f"then the next: {told}")
        check("ebpf: failed" in told["reason"] and "planted by a test" in told["reason"], f"with the reason: {told}")
        check("left out until 20" in told["reason"], f"and the time: {told}")
        check_sees(instance, "netlink", "next-source")
        check(instance.stop() == 0, "a clean stop ends with 0")

        forget_nothing_but(instance, "ebpf", "netlink")
        instance.start()
        told = instance.health()["collector"]
        check(told["details"]["realtime"] == "off" and "only scans" in told["reason"], f"at last scans alone: {told}")
        check(instance.stop() == 0, "a clean stop ends with 0")

        with open(memory_of(instance), "w", encoding="utf-8") as file:
            file.write('{"format": 1, "boot_id"')
        instance.start()
        check(collector_of(instance)["realtime"] == "ebpf", "a memory that cannot be read leaves nothing out")
        check("earlier failures of sources are not known" in instance.errors(), "and that is told")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_source_that_died_is_left_out.needs_root = True


def scenario_source_dies_while_it_runs():
    """Its socket is taken from under it: recorded, exit code 10, at once a new procmond on the next source."""
    if not inject.possible:
        raise Failure("needs root and x86-64")
    with daemon(settings={"app.scan_interval_ms": 500}, rules={}) as instance:
        instance.start()
        check(instance.stop() == 0, "a clean stop ends with 0")
        forget_nothing_but(instance, "ebpf")
        instance.start()
        pid = instance.children()["procmond"]
        check(collector_of(instance)["realtime"] == "netlink", "it runs on the proc connector")
        # More than an agent that does not answer is sent.
        agent = instance.children()["daemoneye-agent"]
        os.kill(agent, signal.SIGSTOP)
        load = storm.Storm(800, life_ms=50, jobs=40)
        load.wait()
        wait_for("all of it to be heard", lambda: netlink_queue() == 0)
        check(inject.system_call(pid, inject.SYS_CLOSE, netlink_socket_of(pid)) == 0, "the socket is closed")
        os.kill(agent, signal.SIGCONT)
        wait_for("a new procmond", lambda: instance.children().get("procmond", pid) != pid)
        like = f"command_line LIKE 'storm-child {load.run} %'"
        handed_over = "SELECT count(*) AS n FROM process_events WHERE kind = 'exec' AND source = 'netlink' AND " + like
        check(instance.query(handed_over) == [{"n": 800}], f"what it held is there: {instance.query(handed_over)}")
        ends = instance.query("SELECT action FROM audit_ledger WHERE action IN ('source_failed', 'stop') ORDER BY seq")
        check([row["action"] for row in ends] == ["stop", "source_failed", "stop"], f"its ledger is closed: {ends}")
        told = wait_for("it to run by scans", lambda: next(
            (told for told in [instance.health()["collector"]] if told["details"].get("realtime") == "off"), None))
        check("netlink: failed" in told["reason"] and "ebpf: failed" in told["reason"], f"health says why: {told}")
        ended = [json.loads(line) for line in instance.errors().splitlines() if '"exit_code":10' in line]
        check(ended and ended[-1]["fields"]["program"] == "procmond", f"it ended with 10: {ended}")
        lines = instance.errors().splitlines()
        after = next(line for line in lines[lines.index(next(l for l in lines if '"exit_code":10' in l)) + 1:]
                     if '"supervise"' in line)
        check('"started"' in after, f"and was started again without a pause: {after}")
        failed = instance.query("SELECT payload FROM audit_ledger WHERE action = 'source_failed'")
        check(len(failed) == 1 and json.loads(failed[0]["payload"])["source"] == "netlink", f"in the ledger: {failed}")
        gaps = wait_for("the interruption as a gap", lambda: instance.query(
            "SELECT detail FROM process_events WHERE kind = 'gap'"))
        check(gaps, "the gap is visible")
        with open(memory_of(instance), encoding="utf-8") as file:
            remembered = json.load(file)
        check([entry["source"] for entry in remembered["failures"]] == ["ebpf", "netlink"], f"{remembered}")
        sleeper = subprocess.Popen(["sleep", "300"])
        try:
            wait_for("a process seen by a scan", lambda: instance.query(
                f"SELECT 1 FROM process_events WHERE pid = {sleeper.pid} AND source = 'scan'"))
        finally:
            sleeper.kill()
            sleeper.wait()
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_source_dies_while_it_runs.needs_root = True
