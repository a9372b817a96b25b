"""The bundled rules on real processes: every case of tests/data/rules is run, by programs that pose as those it names."""

import os
import subprocess

import yaml
from harness import BIN, DE_SOURCE, Skip, check, daemon, wait_for

# What no harmless process can be: these cases are run on made events only (src/detect/bundled_rules_test.cc).
NOT_RUN = {
    ("kernel-thread-masquerade", "a kernel thread"): "a kernel thread cannot be started",
    ("kernel-module-loaded-by-hand", "the kernel asks for a protocol"): "a kernel thread cannot start a program here",
    ("deleted-executable-running", "found by a scan"): "scenario alerts_on_real_processes deletes a running program",
    ("deleted-executable-running", "deleted while it was watched"): "the same",
    ("deleted-executable-running", "an upgrade put a new file there"): "scenarios_hashing replaces a running program",
    ("deleted-executable-running", "it ends; nothing runs any more"): "scenarios_hashing deletes one before it ends",
    ("memfd-execution", "known only by a later look"): "known at once where programs are seen as they start",
}


class World:
    """A file system in which the programs of cases lie where they say, and the plan of who starts whom."""

    def __init__(self, folder):
        self.root = os.path.join(folder, "world")
        self.numbers = 0
        self.wanted = []  # (number, rule, why, matches): of each case the last process; of the others before it, never
        for name in ("proc", "plans", "names"):
            os.makedirs(os.path.join(self.root, name))
        open(os.path.join(self.root, "pids"), "w", encoding="utf-8").close()
        self.program = os.path.join(self.root, "stand_in")
        subprocess.run(["cp", os.path.join(BIN, "stand_in"), self.program], check=True)

    def inside(self, path):
        return self.root + path

    def place(self, event):
        """The path to execute so that the process has the case's executable_path and name."""
        path = event["executable_path"]
        if path.startswith("/memfd:"):
            return "memfd:" + path[len("/memfd:"):].split(" (deleted)")[0]
        os.makedirs(os.path.dirname(self.inside(path)), exist_ok=True)
        if not os.path.lexists(self.inside(path)):
            os.link(self.program, self.inside(path))
        name = event.get("name", os.path.basename(path))
        if name == os.path.basename(path):
            return path
        folder = f"/names/{self.numbers}"
        os.makedirs(self.inside(folder))
        os.symlink(path, self.inside(f"{folder}/{name}"))
        return f"{folder}/{name}"

    def plan(self, children, code=0):
        """A file for what starts `children`: [(number, path, plan, arguments)]."""
        texts = [str(code)]
        for number, path, plan, arguments in children:
            texts += [str(number), path, plan, str(len(arguments)), *arguments]
        name = f"/plans/{len(os.listdir(self.inside('/plans')))}"
        with open(self.inside(name), "wb") as file:
            file.write(b"".join(text.encode() + b"\0" for text in texts))
        return name

    def add(self, rule, case, matches):
        """The case as a tree of programs: what its root has to start."""
        events = []
        for event in case["events"]:
            self.numbers += 1
            events.append({**event, "number": self.numbers, "children": [], "path": self.place(event)})
        names = {event["as"]: event for event in events if "as" in event}
        top = []
        for event in events:
            (names[event["parent"]]["children"] if "parent" in event else top).append(event)

        def started(event):
            below = [started(child) for child in event["children"]]
            code = event.get("exit_code", 0)
            plan = self.plan(below, code) if below or code else ""
            return event["number"], event["path"], plan, event.get("arguments", [event["path"]])

        for event in events:
            self.wanted.append((event["number"], rule, case["why"], matches and event is events[-1]))
        return [started(event) for event in top]

    def run(self, children, terminal):
        command = [self.program, "--root", self.root, self.plan(children)]
        if terminal:
            command = ["script", "-qec", " ".join(command), "/dev/null"]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if "a mount namespace of its own" in ended.stdout + ended.stderr:
            raise Skip("no mount namespace can be made here")
        check(ended.returncode == 0, f"the programs could be run: {ended.returncode} {ended.stdout} {ended.stderr}")

    def pids(self):
        with open(os.path.join(self.root, "pids"), encoding="utf-8") as file:
            return {int(number): int(pid) for number, pid in (line.split() for line in file)}


def cases_of(rule):
    with open(os.path.join(DE_SOURCE, "tests/data/rules", rule + ".yaml"), encoding="utf-8") as file:
        cases = yaml.safe_load(file)
    for matches, word in ((False, "ignore"), (True, "match")):  # those that match last: then the others were evaluated
        for case in cases[word]:
            if (rule, case["why"]) not in NOT_RUN:
                yield case, matches


def scenario_every_bundled_rule_on_real_processes():
    """Programs that pose as those of each rule's cases: what has to raise an alert does, and what has not does not."""
    rules = sorted(name[:-len(".yaml")] for name in os.listdir(os.path.join(DE_SOURCE, "rules")))
    scheduled = []
    with daemon() as instance:
        instance.start()
        if instance.collector()["details"].get("realtime") != "ebpf":
            raise Skip("needs eBPF: processes that live for a millisecond are not seen whole otherwise")
        world = World(instance.folder)
        in_terminal, others = [], []
        for rule in rules:
            with open(os.path.join(DE_SOURCE, "rules", rule + ".yaml"), encoding="utf-8") as file:
                if "evaluate" in yaml.safe_load(file):
                    scheduled.append(rule)
            for case, matches in cases_of(rule):
                terminal = any("tty" in event for event in case["events"])
                (in_terminal if terminal else others).extend(
                    (matches, child) for child in world.add(rule, case, matches))
        for group in (others, in_terminal):
            world.run([child for _, child in sorted(group, key=lambda one: one[0])], group is in_terminal)
        pids = world.pids()
        check(len(pids) == world.numbers, f"all programs ran: {len(pids)} of {world.numbers}")

        expected = {(rule, pids[number]) for number, rule, _, matches in world.wanted
                    if matches and rule not in scheduled}

        def raised():
            found = {(alert["rule_id"], alert["pid"]) for alert in instance.alerts()}
            return expected <= found and found

        try:
            found = wait_for("an alert for each case that is one", raised)
        except Exception:
            found = {(alert["rule_id"], alert["pid"]) for alert in instance.alerts()}
            for number, rule, why, matches in world.wanted:
                if matches and rule not in scheduled and (rule, pids[number]) not in found:
                    rows = instance.query(f"SELECT name, executable_path, executable_state, command_line, tty, parent_name "
                                          f"FROM process_events WHERE pid = {pids[number]} AND kind = 'exec'")
                    print(f"no alert of {rule}: {why}: {rows}")
            raise
        for number, rule, why, matches in world.wanted:
            check(matches or (rule, pids[number]) not in found, f"no alert of {rule} for: {why}")

        # A scheduled rule over what was recorded: its rows name who started the programs.
        for rule in scheduled:
            result = instance.cli("--format", "json", "rules", "test", rule, "--since", "10m")
            check(result.code in (0, 3), f"{rule} can be tested: {result.err}")
            rows = {row["process_key"] for row in result.json()["rows"]}
            for number, of_rule, why, matches in world.wanted:
                if of_rule != rule or not matches:
                    continue
                keys = {row["parent_key"] for row in instance.query(
                    f"SELECT parent_key FROM process_events WHERE pid = {pids[number]} AND kind = 'exec'")}
                check(keys & rows, f"{rule} finds: {why}")
            for number, of_rule, why, matches in world.wanted:
                last = max(n for n, r, w, _ in world.wanted if (r, w) == (of_rule, why))
                if of_rule != rule or number != last or matches:
                    continue
                keys = {row["parent_key"] for row in instance.query(
                    f"SELECT parent_key FROM process_events WHERE pid = {pids[number]} AND kind = 'exec'")}
                check(not keys & rows, f"{rule} does not find: {why}")
        cases = {(rule, why) for _, rule, why, _ in world.wanted}
        for rule in rules:
            both = {matches for _, of_rule, _, matches in world.wanted if of_rule == rule}
            reasons = [why for (of_rule, _), why in NOT_RUN.items() if of_rule == rule]
            check(both == {True, False} or reasons, f"{rule} has cases of both kinds, or a reason why not: {both}")
        print(f"{len(cases)} cases of {len(rules)} rules by {len(pids)} processes")
        check(instance.stop() == 0, "a clean stop ends with 0")


scenario_every_bundled_rule_on_real_processes.needs_root = True
