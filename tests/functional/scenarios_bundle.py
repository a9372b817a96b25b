"""Signed bundles as their users meet them: made, verified, put in force, refused, cut off in the middle."""

import contextlib
import grp
import gzip
import hashlib
import json
import os
import pwd
import random
import signal
import struct
import subprocess
import time

from harness import BIN, ROOT, check, daemon, exact_arguments, wait_for
from scenarios_query import Terminal


def _rule(name, mark, severity="high"):
    return (f"id: {name}\ntitle: {name}\ndescription: {mark}\nseverity: {severity}\n"
            f"sql: SELECT pid, command_line, process_key FROM process_events "
            f"WHERE kind = 'exec' AND command_line LIKE '%{mark}%'\n")


class _Vendor:
    """Who makes bundles: a key, and a folder to work in."""

    def __init__(self, instance, name="vendor"):
        self.instance = instance
        self.folder = os.path.join(instance.folder, name)
        os.mkdir(self.folder)
        self.key = os.path.join(self.folder, "key")
        made = instance.cli("bundle", "key", name, "--out", self.key)
        check(made.code == 0, f"a key: {made.err}")
        check(os.stat(self.key).st_mode & 0o777 == 0o600, "the private key is its owner's alone")

    def trusted(self):
        os.makedirs(self.instance.settings["bundle.trusted_keys"], exist_ok=True)
        target = os.path.join(self.instance.settings["bundle.trusted_keys"], os.path.basename(self.folder) + ".pub")
        with open(self.key + ".pub", encoding="utf-8") as source, open(target, "w", encoding="utf-8") as out:
            out.write(source.read())
        return self

    def make(self, version, rules, configuration=None, exceptions=None, bundle_id="base", extra=()):
        work = os.path.join(self.folder, f"{bundle_id}-{version}-{random.getrandbits(32)}")
        os.mkdir(work)
        for name, text in {**rules, **(exceptions or {})}.items():
            with open(os.path.join(work, name), "w", encoding="utf-8") as file:
                file.write(text)
        arguments = ["--rules", work]
        if configuration is not None:
            with open(os.path.join(work, "fragment"), "w", encoding="utf-8") as file:
                file.write(configuration)
            arguments += ["--configuration", os.path.join(work, "fragment")]
        out = work + ".bundle"
        made = self.instance.cli("bundle", "create", out, "--id", bundle_id, "--version", version, "--key", self.key,
                                 *arguments, *extra)
        check(made.code == 0, f"made: {made.err}")
        return out


@contextlib.contextmanager
def _site(settings=None, rules=None):
    with daemon(settings, rules={} if rules is None else rules) as instance:
        instance.settings["bundle.path"] = os.path.join(instance.folder, "bundle")
        instance.settings["bundle.trusted_keys"] = os.path.join(instance.folder, "trusted-keys.d")
        instance.write_config()
        yield instance


def _changes(result):
    return {(row["kind"], row["name"]): row for row in result.json()["rows"]}


def _import(instance, *arguments, **keywords):
    return instance.cli("--format", "json", "bundle", "import", *arguments, **keywords)


def _entries(instance, action):
    rows = instance.query(f"SELECT actor, payload FROM audit_ledger WHERE action = '{action}' ORDER BY seq")
    return [(row["actor"], json.loads(row["payload"])) for row in rows]


def _rules_in_force(instance):
    return {row["rule_id"]: row for row in instance.query("SELECT rule_id, description, file FROM "
                                                          "(SELECT rule_id, title AS description, file FROM detection_rules)")}


def scenario_bundle_is_put_in_force_and_recorded():
    """Its rules raise alerts at once, its live keys count at once, the ledger knows who brought it."""
    with _site() as instance:
        vendor = _Vendor(instance).trusted()
        instance.start()
        first = vendor.make("1.0", {"one.yaml": _rule("one", "bundle-marker-one"), "two.yaml": _rule("two", "zwei")},
                            configuration="alerting: {dedup_window_ms: 123456}\n",
                            exceptions={"site.exceptions.yaml": "exceptions:\n  - rule: one\n"
                                        "    except: [\"command_line LIKE '%excused%'\"]\n"})
        verified = instance.cli("bundle", "verify", first)
        check(verified.code == 0 and "base" in verified.out and "rules/one.yaml" in verified.out, verified.err)

        tried = _import(instance, first, "--dry-run")
        check(tried.code == 0 and _changes(tried)["rule", "one"]["change"] == "added", f"shown: {tried.out} {tried.err}")
        check(not os.path.exists(instance.settings["bundle.path"]), "a dry run writes nothing")

        done = _import(instance, first)
        check(done.code == 0, f"imported: {done.code} {done.err}")
        check(_changes(done)["configuration", "alerting.dedup_window_ms"]["change"] == "added", done.out)
        wait_for("its rules in force", lambda: {"one", "two"} <= set(_rules_in_force(instance)))
        exact_arguments("true", "bundle-marker-one", "excused")
        exact_arguments("true", "bundle-marker-one")
        raised = wait_for("an alert of its rule", lambda: [a for a in instance.alerts() if a["rule_id"] == "one"])
        check(all("excused" not in str(a["row"]) for a in raised), f"its exception counts: {raised}")
        recorded = wait_for("the import in the ledger", lambda: _entries(instance, "agent.bundle_import"))
        actor, payload = recorded[0]
        check(actor == f"uid:{os.geteuid()} (asserted by agent)", f"the actor: {actor}")
        check(payload["id"] == "base" and payload["version"] == "1.0" and payload["files"] == 4, str(payload))
        check(payload["signer"].startswith("vendor+"), str(payload))
        check({c["what"] for c in payload["changes"]} >= {"rule one", "rule two"}, str(payload))
        reloads = _entries(instance, "agent.reload")
        changes = {change["key"]: change["after"] for change in reloads[-1][1].get("changes", [])} if reloads else {}
        check(changes == {"alerting.dedup_window_ms": "123456"}, f"its live keys are taken up: {reloads}")

        again = _import(instance, first)
        check(again.code == 0 and all(c["change"] == "same" for c in _changes(again).values()), again.out)

        second = vendor.make("1.1", {"one.yaml": _rule("one", "bundle-marker-new"), "three.yaml": _rule("three", "drei")})
        done = _import(instance, second)
        changes = {key: row["change"] for key, row in _changes(done).items()}
        check(changes == {("rule", "one"): "changed", ("rule", "two"): "removed", ("rule", "three"): "added",
                          ("exceptions", "site.exceptions.yaml"): "removed",
                          ("configuration", "alerting.dedup_window_ms"): "removed"}, f"what changes: {changes}")
        wait_for("the new rules", lambda: set(_rules_in_force(instance)) == {"one", "three"})

        older = _import(instance, first)
        check(older.code == 2 and "older" in older.err and "--yes" in older.err, f"asks: {older.code} {older.err}")
        check(set(_rules_in_force(instance)) == {"one", "three"}, "and nothing changed")
        check(_import(instance, first, stdin="n\n").code == 1, "no is no")
        check(_import(instance, first, "--yes").code == 0, "with --yes it is done")
        wait_for("the old rules", lambda: set(_rules_in_force(instance)) == {"one", "two"})
        other = vendor.make("9", {"x.yaml": _rule("x", "x")}, bundle_id="other")
        check(_import(instance, other).code == 2, "another bundle is not put in its place without asking")

        # With no agent: in force at the next start, and recorded then.
        check(instance.stop() == 0, "stopped")
        done = _import(instance, second)
        check(done.code == 0 and "it records the bundle" in done.err, f"without an agent: {done.code} {done.err}")
        instance.start()
        entries = wait_for("the start tells of it", lambda: [p for _, p in _entries(instance, "agent.bundle")
                                                           if p.get("version") == "1.1"])
        check(entries[-1]["in_force"] is True, str(entries))
        check(set(_rules_in_force(instance)) == {"one", "three"}, "in force")
        check(instance.cli("audit", "verify").code == 0, "the ledger is intact")


def scenario_bundle_conflicts_are_kept_or_taken():
    """A rule and a key that the machine has too: refused when nobody decides, then as decided, and so ever after."""
    rules = {"one.yaml": _rule("one", "mine", "low"), "fine.yaml": _rule("fine", "fine")}
    with _site({"logging.level": "warn"}, rules) as instance:
        vendor = _Vendor(instance).trusted()
        bundle = vendor.make("1", {"one.yaml": _rule("one", "theirs"), "new.yaml": _rule("new", "new")},
                             configuration="logging: {level: error}\nalerting: {dedup_window_ms: 5000}\n")

        def in_force():
            rows = instance.cli("--format", "json", "rules", "show", "one").json()["rows"]
            settings = instance.cli("--format", "json", "config", "show").json()["rows"]
            return "theirs" in rows[0]["sql"], next(r["value"] for r in settings if r["key"] == "logging.level")

        nobody = _import(instance, bundle)
        check(nobody.code == 2, f"nobody decides: {nobody.code}")
        for word in ("rule one", "configuration logging.level", "--on-conflict"):
            check(word in nobody.err, f"told: {word}: {nobody.err}")
        check(in_force() == (False, "warn"), "nothing changed")

        check(_import(instance, bundle, "--on-conflict", "keep").code == 0, "kept")
        check(in_force() == (False, "warn"), f"this machine's own: {in_force()}")
        shown = instance.cli("--format", "json", "config", "get", "alerting.dedup_window_ms")
        check("5000" in shown.out, f"the rest is in force: {shown.out} {shown.err}")
        again = _import(instance, bundle)
        check(again.code == 0 and _changes(again)["rule", "one"]["choice"] == "keep", f"as decided: {again.err}")
        instance.write_rule("one.yaml", _rule("one", "mine again", "low"))
        check(_import(instance, bundle).code == 2, "what the machine has is another: decided anew")
        check(_import(instance, bundle, "--on-conflict", "take").code == 0, "taken")
        check(in_force() == (True, "error"), f"the bundle's: {in_force()}")


def scenario_bundle_refusals_change_nothing():
    """Each wrong bundle is refused with its reason and exit code; what is in force stays, the ledger has no import."""
    with _site() as instance:
        vendor = _Vendor(instance).trusted()
        stranger = _Vendor(instance, "stranger")
        instance.start()
        good = vendor.make("1", {"one.yaml": _rule("one", "eins")})
        check(_import(instance, good).code == 0, "one is in force")
        with open(good, "rb") as file:
            bytes_of_good = file.read()
        note, manifest = struct.unpack_from("<II", bytes_of_good, 8)
        begin = 16 + note

        def written(name, content):
            path = os.path.join(instance.folder, name)
            with open(path, "wb") as file:
                file.write(content)
            return path

        unsigned = bytes_of_good[:8] + struct.pack("<II", 0, manifest) + bytes_of_good[begin:]
        altered_manifest = bytearray(bytes_of_good)
        at = bytes_of_good.index(b'"version":"1"')
        altered_manifest[at + 11:at + 12] = b"9"
        altered_rule = bytes_of_good.replace(b"eins", b"EINS")
        signature = bytes_of_good.index(b" ", bytes_of_good.index("\u2014 vendor".encode()) + 4) + 20
        wrongly = bytearray(bytes_of_good)
        wrongly[signature] = ord("A") if wrongly[signature] != ord("A") else ord("B")
        expired = vendor.make("2", {"one.yaml": _rule("one", "zwei")}, extra=("--expires", "1ms"))
        time.sleep(0.002)  # what expires has expired
        cases = [
            ("unsigned", written("unsigned", unsigned), 5, "is not signed"),
            ("wrongly signed", written("wrongly", bytes(wrongly)), 5, "is wrong"),
            ("an untrusted key", stranger.make("2", {"one.yaml": _rule("one", "x")}), 5, "not trusted"),
            ("expired", expired, 5, "expired at"),
            ("an altered manifest", written("manifest", bytes(altered_manifest)), 5, "not the one that was signed"),
            ("an altered rule", written("rule", altered_rule), 5, "rules/one.yaml was altered"),
            ("cut off", written("cut", bytes_of_good[:-10]), 5, "cut off"),
            ("more behind", written("more", bytes_of_good + b"more"), 5, "does not know"),
            ("a zip bomb", written("bomb.gz", gzip.compress(b"\0" * 50_000_000)), 2, "none is unpacked"),
            ("a claim", written("claim", b"DEBUNDL1" + b"\xff" * 8), 2, "claims a signature of 4294967295"),
            ("something else", written("else", b"id: one\n"), 2, "not a bundle"),
            ("nothing", os.path.join(instance.folder, "no-such-file"), 2, "no-such-file"),
            ("oversized", written("large", b"DEBUNDL1" + b"\0" * (64 * 1024 * 1024)), 2, "larger than"),
            ("a key of its own", vendor.make("3", {"one.yaml": _rule("one", "x")},
                                             configuration="bundle: {trusted_keys: /tmp}\n"), 2, "no bundle may set it"),
            ("a wrong key", vendor.make("3", {"one.yaml": _rule("one", "x")},
                                        configuration="app: {batch_size: many}\n"), 2, "app.batch_size"),
        ]
        for what, path, code, reason in cases:
            for verb in ("import", "verify"):
                if verb == "verify" and "key" in what and code == 2:
                    continue  # the form is good; what it sets is looked at by import
                result = instance.cli("bundle", verb, path)
                check(result.code == code and reason in result.err,
                      f"{verb} of {what}: {result.code} (wanted {code}) {result.err[:300]} (wanted {reason})")
        bad = instance.cli("bundle", "create", os.path.join(instance.folder, "x"), "--id", "x", "--version", "1", "--key",
                           vendor.key, "--rules", written("bad.yaml", b"id: bad\nsql: DROP TABLE alerts\n"))
        check(bad.code == 2 and not os.path.exists(os.path.join(instance.folder, "x")), "no rule that is not one")

        current = os.path.join(instance.settings["bundle.path"], "current")
        check(sorted(os.listdir(current)) == ["bundle.json", "one.yaml"], f"as it was: {os.listdir(current)}")
        with open(os.path.join(current, "one.yaml"), encoding="utf-8") as file:
            check("eins" in file.read(), "the rule as it was")
        check(len(_entries(instance, "agent.bundle_import")) == 1, "one import is in the ledger")
        if ROOT:
            allowed = instance.cli("bundle", "import", good, user="nobody")
            check(allowed.code == 4, f"not everybody may: {allowed.code} {allowed.err}")
            # A trusted key that others can write is none.
            trusted = os.path.join(instance.settings["bundle.trusted_keys"], "vendor.pub")
            os.chmod(trusted, 0o666)
            refused = instance.cli("bundle", "verify", good)
            check(refused.code == 5 and "is not believed" in refused.err, f"{refused.code} {refused.err}")
            os.chmod(trusted, 0o644)
            # Nothing in it needs a network.
            offline = subprocess.run(["unshare", "--net", os.path.join(BIN, "daemoneye-cli"), "--config", instance.config,
                                      "bundle", "import", good], capture_output=True, text=True, check=False)
            check(offline.returncode == 0, f"without a network: {offline.stderr}")


def scenario_bundle_killed_in_the_middle_is_old_or_new():
    """kill -9 at any moment of an import: all of one version is in force, and the next import goes through."""
    with _site() as instance:
        vendor = _Vendor(instance).trusted()
        made = {}
        for version in ("1", "2"):
            made[version] = vendor.make(version, {f"r{i}-{version}.yaml": _rule(f"r{i}-{version}", f"m{version}")
                                                  for i in range(30)})
        current = os.path.join(instance.settings["bundle.path"], "current")

        def in_force():
            """The one version of which everything is there."""
            if not os.path.isdir(current):
                return None
            with open(os.path.join(current, "bundle.json"), encoding="utf-8") as file:
                version = json.load(file)["version"]
            names = sorted(name for name in os.listdir(current) if name != "bundle.json")
            check(names == sorted(f"r{i}-{version}.yaml" for i in range(30)), f"all of {version}: {names}")
            for name in names:
                with open(os.path.join(current, name), encoding="utf-8") as file:
                    check(f"m{version}" in file.read(), f"{name} is whole")
            return version

        began = time.monotonic()
        check(_import(instance, made["1"]).code == 0 and in_force() == "1", "one is in force")
        span = time.monotonic() - began
        outcomes = set()
        generator = random.Random(8)
        for attempt in range(16):
            before = in_force()
            wanted = "1" if before == "2" else "2"
            process = subprocess.Popen([os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "bundle",
                                        "import", "--yes", made[wanted]], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(span * generator.uniform(0.3, 1.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            after = in_force()
            check(after in (before, wanted), f"attempt {attempt}: {before} or {wanted}, not {after}")
            outcomes.add("new" if after == wanted else "old")
        print("  outcomes:", ", ".join(sorted(outcomes)))
        check(_import(instance, made["2"], "--yes").code == 0 and in_force() == "2", "the next import goes through")
        check(sorted(os.listdir(instance.settings["bundle.path"])) == ["current", "lock"], "nothing is left aside")


def scenario_bundle_refused_imports_are_recorded():
    """Who wanted to put what in force, and why it was not: in the ledger. Nothing of a dry run; not without end."""
    with _site() as instance:
        vendor = _Vendor(instance).trusted()
        stranger = _Vendor(instance, "stranger")
        instance.start()
        good = vendor.make("2", {"one.yaml": _rule("one", "eins")})
        older = vendor.make("1", {"one.yaml": _rule("one", "zero")})
        unknown = stranger.make("7", {"one.yaml": _rule("one", "x")})
        check(_import(instance, good).code == 0, "in force")
        check(_import(instance, unknown, "--dry-run").code == 5, "a dry run is no import")
        check(_import(instance, os.path.join(instance.folder, "no-such-file")).code == 2, "nor is a slip")
        for path, code in ((unknown, 5), (older, 2)):
            refused = _import(instance, path)
            check(refused.code == code and "the ledger has nothing" not in refused.err, f"{refused.code} {refused.err}")
        check(_import(instance, older, stdin="n\n").code == 1, "said no")
        entries = wait_for("the refusals in the ledger", lambda: _entries(instance, "agent.bundle_refused")[2:] and
                           _entries(instance, "agent.bundle_refused"))
        check(len(entries) == 3, f"neither more: {entries}")
        for (actor, payload), path, reason in zip(entries, (unknown, older, older), ("not trusted", "nobody", "not done")):
            check(actor == f"uid:{os.geteuid()} (asserted by agent)" and payload["file"] == path, f"{actor} {payload}")
            with open(path, "rb") as file:
                check(payload["file_digest"] == hashlib.sha256(file.read()).hexdigest(), str(payload))
            check(reason in payload["reason"], f"{reason}: {payload}")
        check("id" not in entries[0][1] and entries[1][1]["version"] == "1", "what is signed is believed, else nothing")
        if ROOT:
            denied = instance.cli("bundle", "import", good, user="nobody", groups=str(grp.getgrnam("daemoneye").gr_gid))
            check(denied.code == 4, f"readers may not: {denied.code} {denied.err}")
            nobody = pwd.getpwnam("nobody").pw_uid
            wait_for("the attempt of one who may not", lambda: [p for _, p in _entries(instance, "agent.bundle_refused")
                                                              if p["by_uid"] == nobody])
        # Nobody fills the ledger with it.
        for _ in range(60):
            _import(instance, unknown)
        check(len(_entries(instance, "agent.bundle_refused")) <= 60, "bounded")
        check(instance.cli("audit", "verify").code == 0, "the ledger is intact")


def scenario_bundle_question_waits_for_the_answer():
    """On a terminal conflicts are asked for; who thinks longer than the verb's time limit is not cut off."""
    with _site(rules={"one.yaml": _rule("one", "mine", "low")}) as instance:
        vendor = _Vendor(instance).trusted()
        bundle = vendor.make("1", {"one.yaml": _rule("one", "theirs"), "new.yaml": _rule("new", "new")},
                             configuration="logging: {level: error}\n")
        instance.settings["logging.level"] = "warn"
        instance.write_config()
        instance.start()
        command = [os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "--timeout", "5s", "bundle", "import",
                   bundle]
        terminal = Terminal(command, dict(os.environ))
        first = terminal.expect(r"(rule one|configuration logging.level): .*\[keep/take\] ").group(1)
        time.sleep(6.5)  # the answer comes after the limit, and after what ends a verb that does not keep to it
        terminal.send("what?\n")
        terminal.expect(r"keep or take\? ")
        answers = {"rule one": "take\n", "configuration logging.level": "keep\n"}
        terminal.send(answers.pop(first))
        terminal.expect(r"\[keep/take\] ")
        terminal.send(*answers.values())
        terminal.expect("is in force")
        check(terminal.wait() == 0, f"done: {terminal.seen}")
        shown = instance.cli("--format", "json", "rules", "show", "one").json()["rows"][0]["sql"]
        check("theirs" in shown, f"the rule was taken: {shown}")
        check("warn" in instance.cli("config", "get", "logging.level").out, "the key was kept")
        imported = wait_for("the import in the ledger", lambda: _entries(instance, "agent.bundle_import"))
        choices = {c["what"]: c.get("on_conflict") for c in imported[0][1]["changes"]}
        check(choices["rule one"] == "take" and choices["configuration logging.level"] == "keep", str(choices))

        # The end of what is typed is no answer.
        instance.write_rule("one.yaml", _rule("one", "mine again", "low"))
        again = Terminal(command, dict(os.environ))
        again.expect(r"\[keep/take\] ")
        again.send("\x04")
        again.expect("nothing was changed: no decision")
        check(again.wait() == 1, f"failed: {again.seen}")


def scenario_bundle_that_an_agent_does_not_answer_for_is_taken_back():
    """The agent hangs while an import waits for it: what was in force stays, and the ledger tells of no other."""
    with _site() as instance:
        vendor = _Vendor(instance).trusted()
        first = vendor.make("1", {"one.yaml": _rule("one", "eins")})
        second = vendor.make("2", {"two.yaml": _rule("two", "zwei")}, bundle_id="other")
        instance.start()
        check(_import(instance, first).code == 0, "one is in force")
        wait_for("the import in the ledger", lambda: _entries(instance, "agent.bundle_import"))
        record = os.path.join(instance.settings["bundle.path"], "current", "bundle.json")

        def in_force():
            with contextlib.suppress(OSError):
                with open(record, encoding="utf-8") as file:
                    return json.load(file)["version"]
            return None
        # What is under way has ten seconds for the agent's answer, whatever the limit: this test lasts as long.
        terminal = Terminal([os.path.join(BIN, "daemoneye-cli"), "--config", instance.config, "--timeout", "5s", "bundle",
                             "import", second], dict(os.environ))
        terminal.expect(r"\[y/N\] ")  # the agent has said that this user may
        agent = instance.children()["daemoneye-agent"]
        os.kill(agent, signal.SIGSTOP)
        try:
            terminal.send("y\n")
            wait_for("it is put in its place", lambda: in_force() == "2")
            wait_for("it is taken back, when the agent does not answer", lambda: in_force() == "1")
        finally:
            os.kill(agent, signal.SIGCONT)
        terminal.expect("nothing was changed")
        check(terminal.wait() == 4, f"the agent did not answer: {terminal.seen}")
        check(instance.cli("config", "reload").code == 0, "the agent is there again")
        told = [payload["version"] for action in ("agent.bundle_import", "agent.bundle", "agent.bundle_taken_back")
                for _, payload in _entries(instance, action)]
        check(told == ["1"], f"one import is on record: {told}")
        check(_import(instance, second, "--yes").code == 0, "the next import goes through")
