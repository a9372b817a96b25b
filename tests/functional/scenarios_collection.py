"""What the collector sees and how it accounts for it: storms, each source by force, odd processes, a stopped agent."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import storm
from harness import check, daemon, exact_arguments, wait_for

PID_MAX = int(open("/proc/sys/kernel/pid_max", encoding="ascii").read())


def check_whole(instance, load):
    account = storm.account(instance, load)
    wanted = {**dict.fromkeys(account, 0), "started": load.count, "exact": load.count, "exits": load.count}
    check(account == wanted, f"every process once, with its arguments and its one end: {account} {storm.gaps(instance)}")


def row_of(instance, pid, kind="exec"):
    """The one event of this kind of this process, when it is committed."""
    return wait_for(f"the {kind} of {pid}", lambda: instance.query(
        f"SELECT * FROM process_events WHERE kind = '{kind}' AND pid = {pid}"))[0]


def living(instance, like, columns="*"):
    return instance.query(f"SELECT {columns} FROM processes WHERE status <> 'exited' AND command_line LIKE :l",
                          "--param", f"l={like}")


def began_within(count, mark):
    """Short processes; by pid the two times between which each began."""
    spans = {}
    for number in range(count):
        begin = time.time_ns()
        pid = exact_arguments("true", mark, str(number))
        spans[pid] = (begin, time.time_ns())
    return spans


def wait_for_scans(collector, count):
    """While the agent cannot be asked: a scan reads much, and nothing else does."""
    def bytes_read():
        with open(f"/proc/{collector}/io", encoding="ascii") as file:
            return int(file.readline().split()[1])
    for _ in range(count):
        before = bytes_read()
        wait_for("a scan", lambda: bytes_read() > before + 8192)


# --- Storms.

def scenario_a_storm_is_stored_whole():
    """3,000 processes as fast as they can be started: each with its exact arguments and one end, none left living."""
    with daemon(rules={}) as instance:
        instance.start()
        load = storm.Storm(3000)
        load.wait()
        storm.settle(instance)
        check(storm.lost(instance) == 0, f"nothing is lost: {storm.gaps(instance)}")
        check_whole(instance, load)
        like = f"command_line LIKE 'storm-child {load.run} %'"
        rows = instance.query(f"SELECT count(*) AS n, count(DISTINCT process_key) AS keys FROM processes WHERE {like}")
        check(rows[0] == {"n": 3000, "keys": 3000}, f"`processes` has each instance once: {rows}")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_a_storm_among_scans_is_told_once():
    """Scans every 100 ms meet processes that start, exec and end meanwhile: still one start and one end each."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 100}) as instance:
        instance.start()
        load = storm.Storm(2000, rate=1000, life_ms=20, jobs=40)
        load.wait()
        storm.settle(instance)
        check_whole(instance, load)
        seen = instance.query("SELECT count(*) AS n FROM process_events WHERE kind = 'seen' "
                              f"AND command_line LIKE 'storm-child {load.run} %'")
        check(seen[0]["n"] == 0, f"what an event told is not found anew by a scan: {seen}")


def scenario_a_stopped_agent_costs_nothing():
    """The agent does not run for a second of a storm: procmond holds what happens, and all of it arrives."""
    with daemon(rules={}) as instance:
        instance.start()
        agent = instance.children()["daemoneye-agent"]
        load = storm.Storm(2000, rate=1000)
        wait_for("the storm to be seen", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE command_line LIKE 'storm-child {load.run} %' LIMIT 1"))
        os.kill(agent, signal.SIGSTOP)
        load.wait()
        os.kill(agent, signal.SIGCONT)
        storm.settle(instance)
        check(storm.gaps(instance) == [], f"no gap: {storm.gaps(instance)}")
        check_whole(instance, load)


def scenario_what_cannot_be_held_is_counted_and_recovers():
    """The smallest memory budget and a stopped agent: what is shed is counted, named, and later results are complete."""
    with daemon(rules={}, settings={"app.memory_budget_mb": 32, "app.scan_interval_ms": 1000}) as instance:
        instance.start()
        agent = instance.children()["daemoneye-agent"]
        collector = instance.children()["procmond"]
        with storm.Sleepers(20) as sleepers:
            wait_for("what lives to be told", lambda: len(living(
                instance, f"storm-child {sleepers.run} %", "pid")) == 20)
            os.kill(agent, signal.SIGSTOP)
            for _ in range(400):  # 12 MB that cannot be compressed, where 4 may be held
                exact_arguments("true", os.urandom(7500).hex())
            load = storm.Storm(2000)
            load.wait()
        # There is no room for the ends of these either. Then time passes, more is missing, and the scans that follow
        # offer those ends again.
        tried = began_within(100, f"shed-{load.run}")
        wait_for_scans(collector, 2)
        os.kill(agent, signal.SIGCONT)
        storm.settle(instance)
        account = storm.account(instance, load)
        missing = storm.lost(instance)
        check(account["doubled"] == account["keys_shared"] == account["ends_twice"] == account["wrong"] == 0,
              f"nothing is there twice or wrong: {account}")
        check(missing >= account["missing"] > 0,
              f"what is not there is counted: {account}, {missing} counted, {storm.gaps(instance)}")
        told = {row["pid"] for row in instance.query("SELECT pid FROM process_events WHERE kind <> 'exit' AND "
                                                     f"command_line LIKE 'true shed-{load.run} %'")}
        gone = [span for pid, span in tried.items() if pid not in told]
        check(gone, "some of these find no room")
        outside = [(begin, end) for begin, end in gone
                   if not any(gap["from"] <= end and gap["to"] >= begin for gap in storm.gaps(instance))]
        check(not outside, f"what is missing began within a gap: {outside[:3]}, {storm.gaps(instance)}")
        wait_for("the ends that were owed", lambda: not living(instance, f"storm-child {sleepers.run} %"))
        whole = instance.cli("query", "SELECT count(*) FROM process_events")
        check(whole.code == 3, f"a result over the gap is degraded: {whole.code}")
        check("gap" in instance.collector()["reason"], f"health names it: {instance.collector()}")
        wait_for("those whose end was shed to be closed by a scan", lambda: not living(
            instance, f"storm-child {load.run} %"))
        begin = time.time_ns()
        exact_arguments("true", "afterwards")
        storm.settle(instance)
        later = f"SELECT count(*) AS n FROM process_events WHERE time > {begin} AND time <= {time.time_ns()}"
        wait_for("a complete answer for later", lambda: instance.cli("query", later).code == 0)


# --- Sources, each by force.

def scenario_ebpf_by_force():
    with daemon(rules={}, settings={"collection.realtime": "ebpf"}) as instance:
        instance.start()
        load = storm.Storm(200, life_ms=50, jobs=20)
        load.wait()
        storm.settle(instance)
        check_whole(instance, load)
        health = instance.collector()
        check(health["details"]["realtime"] == "ebpf", f"health names the source: {health}")
        check(health["state"] == "ok", f"and nothing is missing: {health}")
        sources = instance.query("SELECT DISTINCT source FROM process_events WHERE kind IN ('exec', 'exit') AND "
                                 f"command_line LIKE 'storm-child {load.run} %'")
        check(sources == [{"source": "ebpf"}], f"each event names it: {sources}")


def scenario_netlink_by_force():
    """The proc connector with /proc read at once: all arguments of what lives 50 ms. What ends sooner than that is told
    with what could be read (bench/collection.py measures how much)."""
    with daemon(rules={}, settings={"collection.realtime": "netlink"}) as instance:
        instance.start()
        load = storm.Storm(200, life_ms=50, jobs=20)
        load.wait()
        storm.settle(instance)
        check_whole(instance, load)
        pids = [exact_arguments("true", "short", str(number)) for number in range(200)]
        storm.settle(instance)
        for kind in ("exec", "exit"):
            rows = instance.query(f"SELECT count(DISTINCT pid) AS n FROM process_events WHERE kind = '{kind}' AND "
                                  f"pid IN ({','.join(map(str, pids))})")
            check(rows[0]["n"] == len(pids), f"every {kind} is there: {rows}")
        health = instance.collector()
        check(health["details"]["realtime"] == "netlink", f"health names the source: {health}")
        check(health["state"] == "degraded" and health["reason"], f"its limits are said: {health}")


def scenario_polling_by_force():
    """Without a real-time source scans see what lives at the time, and health says what that means."""
    with daemon(rules={}, settings={"collection.realtime": "off", "app.scan_interval_ms": 200}) as instance:
        instance.start()
        with storm.Sleepers(300) as sleepers:
            like = f"storm-child {sleepers.run} %"
            wait_for("all of them", lambda: len(living(instance, like, "pid")) == 300)
            rows = living(instance, like, "arguments")
            found = sorted(int(json.loads(row["arguments"])[2]) for row in rows)
            check(found == list(range(300)), f"each once: {found}")
            check(all(json.loads(row["arguments"]) == storm.arguments_of(
                sleepers.run, int(json.loads(row["arguments"])[2]), 2000000000) for row in rows), "with exact arguments")
        wait_for("their ends", lambda: not living(instance, like, "pid"))
        ends = instance.query("SELECT count(*) AS n, count(DISTINCT process_key) AS keys FROM process_events "
                              f"WHERE kind = 'exit' AND command_line LIKE '{like}'")
        check(ends == [{"n": 300, "keys": 300}], f"one end each: {ends}")
        health = instance.collector()
        check(health["details"]["realtime"] == "off" and health["state"] == "degraded" and "scan" in health["reason"],
              f"health says what is missing: {health}")


def scenario_excluded_processes_are_counted():
    run = f"excluded-{os.getpid()}"  # other tests have storms of their own
    marked = f"command_line LIKE 'storm-child {run} %'"
    with daemon(rules={}, settings={"collection.exclude": [f"name = 'storm-child' AND {marked}"]}) as instance:
        instance.start()
        load = storm.Storm(250, run=run)
        load.wait()
        storm.settle(instance)
        check(instance.query(f"SELECT count(*) AS n FROM process_events WHERE {marked}")[0]["n"] == 0,
              "none is stored")
        wait_for("their number in health",
                 lambda: int(instance.collector()["details"]["events_excluded"]) >= 2 * load.count)
        excluded = int(instance.collector()["details"]["events_excluded"])
        # And the hash of their executable where it came after the start.
        check(2 * load.count <= excluded <= 3 * load.count, f"a start and an end each: {excluded}")


# --- Odd processes, down to SQL.

def scenario_odd_arguments_and_names():
    folder = tempfile.mkdtemp(prefix="daemoneye odd [x] ", dir="/var/tmp")
    odd_name = os.path.join(folder, ") R 1 (a [b] \n c")
    shutil.copy("/bin/true", odd_name)
    piece = 120_000
    large = [b"true"] + [bytes([ord("a") + number]) * piece for number in range(16)]
    try:
        with daemon(rules={}) as instance:
            instance.start()

            def arguments_of(pid):
                return json.loads(row_of(instance, pid)["arguments"])

            odd = ["true", "a\nb", "tab\t", "\x01\x1b[31m", "", "", "ü€😀", "'\"\\"]
            check(arguments_of(exact_arguments(*odd)) == odd, "controls, empty ones and quotes are kept")
            pid = exact_arguments(b"true", b"\xff\xfea", b"\xc3(", b"\xed\xa0\x80")
            check(arguments_of(pid) == ["true", "��a", "�(", "���"], f"each bad byte is replaced: {arguments_of(pid)}")

            row = row_of(instance, exact_arguments("", executable="/bin/true"))
            check(row["arguments"] == '[""]' and row["name"] == "true" and row["command_line"] == "",
                  f"one empty argument, and the name is the file's: {row}")

            row = row_of(instance, exact_arguments("x", "y", executable=odd_name))
            check(row["name"] == os.path.basename(odd_name) and row["executable_path"] == odd_name,
                  f"brackets, blanks and line breaks in names: {row}")
            check(row["comm"] == os.path.basename(odd_name)[:15], f"comm: {row['comm']!r}")

            # The stack's limit decides how much may be passed.
            import resource
            process = subprocess.Popen(large, executable="/bin/true", preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_STACK, (64 << 20, 64 << 20)))
            process.wait()
            row = row_of(instance, process.pid)
            kept = json.loads(row["arguments"])
            check(kept[0] == "true" and len(row["command_line"]) >= 16000 and len(row["command_line"]) <= 17000 and
                  set(kept[1]) == {"a"}, f"the front is kept: {len(row['command_line'])}")
            detail = json.loads(row["detail"] or "{}")
            total = sum(len(part) + 1 for part in large)
            check(detail.get("arguments_truncated") is True and detail.get("arguments_bytes") == total,
                  f"that they were cut is told, with the true length {total}: {detail}")
            wait_for("that they were cut in health",
                     lambda: int(instance.collector()["details"]["arguments_truncated"]) >= 1)
            check(instance.stop() == 0, "a clean stop ends with 0")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scenario_zombies_have_their_end_and_stay_visible():
    """A process that ended and that its parent does not reap."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        instance.start()
        zombie = subprocess.Popen(["true", "zombie"])
        row = row_of(instance, zombie.pid, "exit")
        check(row["exit_code"] == 0, f"its end is told when it ends: {row}")
        scans = instance.query("SELECT count(*) AS n FROM scans")[0]["n"]
        wait_for("two more scans", lambda: instance.query("SELECT count(*) AS n FROM scans")[0]["n"] >= scans + 2)
        rows = instance.query(f"SELECT kind FROM process_events WHERE pid = {zombie.pid} AND process_key = :k "
                              "AND kind <> 'change' ORDER BY event_id", "--param", f"k={row['process_key']}")
        check([each["kind"] for each in rows] == ["exec", "exit"], f"scans that meet it tell nothing new: {rows}")
        zombie.wait()


def scenario_zombies_of_before_the_start():
    zombie = subprocess.Popen(["true", "zombie"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    with daemon(rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        instance.start()
        rows = wait_for("the zombie", lambda: instance.query(
            f"SELECT status, name FROM processes WHERE pid = {zombie.pid}"))
        check(rows == [{"status": "zombie", "name": "true"}], f"it is shown as one: {rows}")
        zombie.wait()
        wait_for("its end", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exit' AND pid = {zombie.pid}"))


def scenario_processes_of_a_container_like_namespace():
    """Own pid and mount namespace: pids, parents and paths are those of the host's view, each process once."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        instance.start()
        marker = f"inner-{os.getpid()}"
        container = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child", "bash", "-c",
             f"true {marker} $$; /bin/true {marker}; sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        try:
            inner = int(container.stdout.readline())
            check(inner < 100, f"a pid of its own in there: {inner}")
            rows = wait_for("the inner shell", lambda: instance.query(
                f"SELECT pid, process_key FROM process_events WHERE kind = 'exec' AND ppid = {container.pid} "
                "AND name = 'bash'"))
            init = rows[0]
            short = wait_for("its short-lived child", lambda: instance.query(
                "SELECT pid, ppid, arguments FROM process_events WHERE kind = 'exec' AND command_line LIKE :m",
                "--param", f"m=/bin/true {marker}"))[0]
            check(short["ppid"] == init["pid"] and short["pid"] > 1, f"the host's pids: {short} {init}")
            sleeper = wait_for("the sleeper", lambda: instance.query(
                f"SELECT pid, process_key, executable_path, parent_key FROM processes WHERE ppid = {init['pid']} "
                "AND name = 'sleep' AND status <> 'exited'"))[0]
            with open(f"/proc/{sleeper['pid']}/status", encoding="ascii") as file:
                inside = next(line for line in file if line.startswith("NSpid")).split()
            check(inside[1:] == [str(sleeper["pid"]), str(inner)], f"it is that one: {inside}")
            check(sleeper["executable_path"].endswith("/sleep") and sleeper["parent_key"] == init["process_key"],
                  f"path and parent: {sleeper}")
            detail = json.loads(row_of(instance, sleeper["pid"])["detail"] or "{}")
            check(detail.get("namespaces", {}).get("pid") == os.stat(f"/proc/{sleeper['pid']}/ns/pid").st_ino,
                  f"its namespaces are told: {detail}")
        finally:
            container.kill()
            container.wait()
        wait_for("all of it gone", lambda: not instance.query(
            f"SELECT 1 FROM processes WHERE status <> 'exited' AND ppid = {init['pid']}"))


def scenario_an_executable_that_is_replaced_while_it_runs():
    """Unlinked and made anew under the same name: what runs is told apart from what lies there."""
    with daemon(rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        instance.start()
        path = os.path.join(instance.folder, "self-replacing")
        shutil.copy("/bin/sleep", path)
        old = subprocess.Popen([path, "300"])
        try:
            first = row_of(instance, old.pid)
            os.unlink(path)
            shutil.copy("/bin/true", path)
            new = exact_arguments(path, "new", executable=path)
            second = row_of(instance, new)
            check(first["executable_path"] == second["executable_path"] == path, f"one path: {first} {second}")
            states = {"deleted", "replaced"}
            changed = wait_for("a change of the running one", lambda: [
                row for row in instance.query(
                    f"SELECT executable_state, detail FROM process_events WHERE kind = 'change' AND pid = {old.pid}")
                if row["executable_state"] in states])
            print(f"the running one: {changed[0]['executable_state']}")
            check(second["executable_state"] in (None, "ok"), f"the new file is what runs there: {second}")
        finally:
            old.kill()
            old.wait()


def scenario_as_many_processes_as_there_are_pids():
    """Up to 32,768 sleeping processes at the first scan, as far as pid_max leaves room for others."""
    count = min(32768, PID_MAX - 12000)
    with storm.Sleepers(count) as sleepers, daemon(rules={}) as instance:
        instance.start(wait=False)
        instance.wait_ready(60)
        print(f"{count} processes (pid_max {PID_MAX})")
        like = f"storm-child {sleepers.run} %"
        number = "SELECT count(*) AS n, count(DISTINCT pid) AS pids FROM processes WHERE status <> 'exited' AND " \
                 f"command_line LIKE '{like}'"
        wait_for("all of them", lambda: instance.query(number) == [{"n": count, "pids": count}], 60)
        details = instance.collector()["details"]
        print(f"in the table: {details['processes']}, without room there: {details['processes_untracked']}")
        check(int(details["processes"]) + int(details["processes_untracked"]) >= count, f"each is accounted for: {details}")
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_hidden_proc_is_no_hindrance_to_root():
    """hidepid=2 on /proc: the collector's user sees only itself there, the kernel's iterator all."""
    hidden = ["unshare", "--mount", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"", "sh"]
    with daemon(rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        sleeper = subprocess.Popen(["sleep", "301"])
        try:
            instance.start(within=hidden)
            rows = wait_for("a process of before", lambda: instance.query(
                f"SELECT command_line, status FROM processes WHERE pid = {sleeper.pid}"))
            check(rows[0]["command_line"] == "sleep 301" and rows[0]["status"] == "sleeping", f"whole: {rows}")
            row_of(instance, exact_arguments("true", "hidden"))
        finally:
            sleeper.kill()
            sleeper.wait()
        wait_for("its end", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exit' AND pid = {sleeper.pid}"))
        check(instance.stop() == 0, "a clean stop ends with 0")


def scenario_hidden_proc_without_root_is_partial():
    """The same without privileges: only its own user's processes, and a degraded collector."""
    hidden = ["unshare", "--mount", "sh", "-c",
              "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid nobody --regid nogroup --clear-groups "
              "\"$@\"", "sh"]
    with daemon(user="nobody", rules={}, settings={"app.scan_interval_ms": 200}) as instance:
        others = subprocess.Popen(["sleep", "302"])
        own = subprocess.Popen(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sleep", "303"])
        instance.user = None  # `hidden` changes it after the mount
        try:
            instance.start(wait=False, within=hidden)
            instance.user = "nobody"
            instance.wait_ready()
            wait_for("its user's process", lambda: instance.query(
                f"SELECT 1 FROM processes WHERE pid = {own.pid} AND command_line = 'sleep 303'"))
            check(not instance.query(f"SELECT 1 FROM processes WHERE pid = {others.pid}"), "root's is hidden")
            health = instance.collector()
            check(health["state"] == "degraded" and "hidepid" in health["reason"],
                  f"that processes are hidden is said: {health}")
        finally:
            for process in (own, others):
                process.kill()
                process.wait()


for _name, _scenario in list(globals().items()):
    if _name.startswith("scenario_"):
        _scenario.needs_root = True
