"""What SECURITY.md says of hostile peers, tried against the real programs by one who speaks their wire."""

import hashlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess

import wire
from harness import BIN, check, daemon, exact_arguments, wait_for

KINDS_OF_PROCMOND = range(1, 7)  # docs/formats/ipc.md


def as_reader(group, work):
    """Runs `work` in a process of user nobody that is in this group; what it returns as text."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([group])
            os.setgid(pwd.getpwnam("nobody").pw_gid)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            os.write(theirs, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def scenario_hostile_greeting_as_the_collector_is_sent_away():
    """A reader of the record says that it is the collector: it gets no welcome, and the collector stays."""
    with daemon(rules={}) as instance:
        instance.start()

        def greet():
            peer = wire.connect(instance.socket)
            peer.send(wire.HELLO, wire.hello())
            return peer.receive()

        answered = as_reader(os.stat(instance.socket).st_gid, greet)
        check(answered == "None", f"hung up on, without an answer: {answered}")
        wait_for("it is in the log", lambda: "a peer that is not the collector greeted as one" in instance.errors())
        exact_arguments("true", "after-the-greeting")
        wait_for("the collector goes on", lambda: instance.query(
            "SELECT 1 FROM process_events WHERE command_line = 'true after-the-greeting'"))
        check("procmond" in instance.children(), "it was not even restarted")


def scenario_hostile_bytes_on_the_socket_change_nothing():
    """Lengths beyond every bound, wrong checksums, wrong sequence, unknown bodies: each ends that connection alone."""
    with daemon(rules={}) as instance:
        instance.start()
        request = wire.message({wire.REQUEST: wire.message({1: 1, 2: 16, 3: b"{}", 4: 1000})})
        whole = wire.frame(1, request)
        for what, data in (("a length beyond the bound", (wire.MAX_FRAME + 1).to_bytes(4, "little")),
                           ("a wrong checksum", whole[:12] + b"\0\0\0\0" + whole[16:]),
                           ("a sequence that does not begin with 1", wire.frame(2, request)),
                           ("an unknown body", wire.frame(1, wire.message({77: b""}))),
                           ("no protobuf", wire.frame(1, b"\xff" * 64)),
                           ("a body that only the collector may send", wire.frame(1, wire.message({wire.BATCH: b""})))):
            peer = wire.connect(instance.socket)
            peer.socket.sendall(data)
            check(peer.receive() is None, f"{what} ends the connection")
            peer.close()
        peer = wire.connect(instance.socket)
        peer.socket.sendall(whole)
        check(peer.receive()[0] == wire.REPLY, "and a request that is one is answered")
        peer.close()
        check("procmond" in instance.children(), "the collector is where it was")


class FakeAgent:
    """What took over the agent: its socket, and procmond at the other end."""

    def __init__(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(4)
        self.listener.settimeout(60)
        self.peer, self.number = None, 0

    def accept(self):
        self.peer = wire.Peer(self.listener.accept()[0])
        greeted = self.peer.receive()
        check(greeted[0] == wire.HELLO, f"procmond greets: {greeted}")
        self.peer.send(wire.WELCOME, {1: 1, 2: b"hostile", 3: 0, 4: 1000})

    def ask(self, kind, payload):
        """(JSON text, None) or (None, message)."""
        self.number += 1
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.peer.send(wire.REQUEST, {1: self.number, 2: kind, 3: data, 4: 20_000})
        while True:
            answer = self.peer.receive_a(wire.REPLY)
            if answer is None:
                return None, "hung up"
            if answer[1].get(1) == self.number:
                failed = answer[1].get(3)
                return (None, wire.parse(failed)[2].decode()) if failed is not None else (answer[1][2].decode(), None)


def scenario_hostile_agent_gets_nothing_from_procmond():
    """Other requests than those of the table, files that are no executables, entries in another's name, broken frames."""
    with daemon(rules={}) as instance:
        secret = os.path.join(instance.folder, "secret")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("only root reads this\n")
        os.chmod(secret, 0o600)
        program = os.path.join(instance.folder, "program")
        shutil.copy("/bin/true", program)
        agent = FakeAgent(instance.socket)
        with open(instance.err_path, "ab") as errors:
            procmond = subprocess.Popen([os.path.join(BIN, "procmond"), "--config", instance.config],
                                        stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            agent.accept()
            for kind in [*range(0, 64), 1000, 2**32 - 1]:
                if kind not in KINDS_OF_PROCMOND:
                    for payload in ({}, {"sql": "SELECT 1", "path": "/etc/passwd", "do": "may", "command": "id"}):
                        answer, refused = agent.ask(kind, payload)
                        if refused == "hung up":  # a kind that no table has
                            agent.accept()
                        check(answer is None, f"request {kind} is none of procmond's: {answer}")
            with open(program, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            answer, refused = agent.ask(3, {"path": program})
            check(answer and digest in answer, f"an executable has a digest: {answer} {refused}")
            for path in (secret, "/etc/shadow", os.path.join(os.path.dirname(instance.audit), "audit.redb"), "/proc/self/environ",
                         "/dev/zero", instance.folder, "bin/true", "../bin/true", ""):
                answer, refused = agent.ask(3, {"path": path})
                check(answer is None and refused, f"{path} is not digested: {answer}")
            for filter_text in ("1=1; DROP TABLE x", "pid = (SELECT 1)", "load_extension('x')"):
                answer, refused = agent.ask(2, {"filter": filter_text})
                check(answer is None and refused, f"{filter_text} is no predicate: {answer}")
            for actor in ("procmond", "uid:0", "uid:0 (asserted by agent) ", "root", "", "ledger"):
                answer, refused = agent.ask(1, {"actor": actor, "action": "start", "payload": {"forged": True}})
                check(answer is None and refused, f"it does not speak as '{actor}': {answer}")
            answer, refused = agent.ask(1, {"actor": "agent", "action": "procmond.start", "payload": {"asserted": True}})
            check(answer, f"it speaks for itself: {refused}")
            agent.peer.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while agent.peer.receive() is not None:
                pass
            agent.accept()  # it hangs up, and comes again
            procmond.send_signal(signal.SIGTERM)
            check(procmond.wait(30) == 0, "it ends in order, as if nothing had been")
        finally:
            if procmond.poll() is None:
                procmond.kill()
                procmond.wait()
            agent.listener.close()
        verified = instance.cli("audit", "verify")
        check(verified.code == 0, f"the ledger is whole: {verified.code} {verified.err}")
        entries = instance.cli("--format", "json", "audit", "show", "--limit", "1000").json()["rows"]
        check(not [row for row in entries if "forged" in str(row["payload"])], "nothing was entered in another's name")
        own = [row for row in entries if "asserted" in str(row["payload"])]
        check(len(own) == 1 and own[0]["actor"] == "agent" and own[0]["action"] == "agent.procmond.start", f"its own is marked: {own}")


def scenario_hostile_network_finds_nothing_that_listens():
    """As it comes, no process of either daemon has a socket of the network at all, but a receiver's while it delivers."""
    with daemon(rules={}) as instance:
        instance.start()
        wait_for("the helper is there", lambda: len(family(instance.process.pid)) >= 4)
        for pid in family(instance.process.pid):
            inodes = set()
            for number in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
            for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
                with open(f"/proc/{pid}/net/{table}", encoding="utf-8") as file:
                    held = [line for line in file.readlines()[1:] if inodes & set(line.split())]
                check(not held, f"process {pid} has {table}: {held}")


def family(pid):
    """A process and all below it."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [pid, *(each for child in file.read().split() for each in family(int(child)))]


for scenario in (scenario_hostile_greeting_as_the_collector_is_sent_away, scenario_hostile_network_finds_nothing_that_listens,
                 scenario_hostile_agent_gets_nothing_from_procmond):
    scenario.needs_root = True
