"""The audit ledger as its users meet it: proofs that hold elsewhere, keys, crashes, and events held against it."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import tlog
from harness import Failure, check, daemon, exact_arguments, wait_for


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _checkpoint_of(instance, key):
    result = instance.cli("audit", "checkpoint")
    check(result.code == 0, f"a checkpoint: {result.code} {result.err}")
    return tlog.checkpoint(result.out, key)


def _refused(what, call):
    try:
        call()
    except ValueError:
        return
    raise Failure(f"it was taken: {what}")


def scenario_audit_proofs_hold_elsewhere():
    """Verified by another implementation and by verify-proof in an empty place; whatever is altered is refused."""
    with daemon({"audit.checkpoint_interval_s": 2}) as instance:
        instance.start()
        key_path = os.path.join(os.path.dirname(instance.audit), "checkpoint.key.pub")
        key = _read(key_path)
        old_file = os.path.join(instance.folder, "old.checkpoint")
        check(instance.cli("audit", "checkpoint", "--out", old_file).code == 0, "exported")
        origin, old_size, old_root = tlog.checkpoint(_read(old_file), key)
        check("/daemoneye/" in origin, f"the origin names the host: {origin}")
        subprocess.run(["/bin/true"], check=True)
        wait_for("a newer checkpoint", lambda: _checkpoint_of(instance, key)[1] > old_size)

        text = instance.cli("audit", "prove", "--seq", "1")
        check(text.code == 0, f"a proof: {text.err}")
        _, payload, _ = tlog.verify_inclusion_text(text.out, key)
        row = instance.query("SELECT payload FROM audit_ledger WHERE seq = 1")[0]
        check(payload.decode() == row["payload"], "the proof is of that entry")
        lines = text.out.splitlines()
        lines[2] = "index 2"
        _refused("another index", lambda: tlog.verify_inclusion_text("\n".join(lines) + "\n", key))

        as_json = instance.cli("--format", "json", "audit", "prove", "--from", str(old_size))
        proof = as_json.json()
        _, new_size, new_root = tlog.checkpoint(proof["checkpoint"], key)
        hashes = [bytes.fromhex(text) for text in proof["hashes"]]
        roots = tlog.consistency_roots(old_size, new_size, old_root, hashes)
        check(roots == (old_root, new_root), "the ledger goes on from the checkpoint that was kept")

        # With the public key alone: no configuration, no state, no right to read the host's.
        elsewhere = os.path.join(instance.folder, "elsewhere")
        os.mkdir(elsewhere)
        os.chmod(elsewhere, 0o755)
        files = {"inclusion": text.out, "consistency.json": as_json.out, "key": key, "old": _read(old_file),
                 "new": proof["checkpoint"]}
        for name, content in files.items():
            with open(os.path.join(elsewhere, name), "w", encoding="utf-8") as file:
                file.write(content)

        def offline(*arguments):
            arguments = [os.path.join(elsewhere, a) if a in files or a == "altered" else a for a in arguments]
            return instance.cli("audit", *arguments, "--key", os.path.join(elsewhere, "key"), config=False,
                                user="nobody" if os.geteuid() == 0 else None)

        check(offline("verify-proof", "inclusion").code == 0, "inclusion holds")
        check(offline("verify-proof", "consistency.json", "--against", "old").code == 0, "consistency holds")
        check(offline("verify-checkpoint", "new").code == 0, "the checkpoint is signed")
        check(offline("verify-checkpoint", "new", "--against", "old").code == 3, "two checkpoints alone show little")
        good = offline("verify-checkpoint", "new", "--against", "old", "--proof", "consistency.json")
        check(good.code == 0, f"with the proof they do: {good.err}")
        back = offline("verify-checkpoint", "old", "--against", "new")
        check(back.code == 5 and "put back" in back.err, f"a ledger that shrank is found: {back.code} {back.err}")
        for name, verb in (("inclusion", "verify-proof"), ("consistency.json", "verify-proof"),
                           ("new", "verify-checkpoint")):
            content = files[name]
            at = content.index("\n") + 1 if name == "new" else None
            if name == "inclusion":
                at = content.index("\n\n") - 9
            if name == "consistency.json":
                at = content.index('"from_root": "') + 20
            swapped = "1" if content[at] != "1" else "2"  # a size that begins with 0 is none at all
            with open(os.path.join(elsewhere, "altered"), "w", encoding="utf-8") as file:
                file.write(content[:at] + swapped + content[at + 1:])
            altered = offline(verb, "altered")
            check(altered.code == 5, f"an altered {name} is refused: {altered.code} {altered.err}")

        verify = instance.cli("--format", "json", "audit", "verify", "--key", key_path, "--against", old_file)
        check(verify.code == 0, f"the whole ledger holds: {verify.err}")
        check(verify.json()["rows"][0]["signed_until"] >= new_size, f"and is signed: {verify.out}")

        if os.geteuid() == 0:
            rotated = instance.cli("--format", "json", "audit", "rotate-key")
            check(rotated.code == 0, f"a new key: {rotated.code} {rotated.err}")
            new_key = _read(key_path)
            check(new_key != key and new_key.strip() == rotated.json()["rows"][0]["key"], "the public key is new")
            signed = instance.cli("audit", "checkpoint").out  # the first under the new one is signed by both
            check(tlog.checkpoint(signed, key) == tlog.checkpoint(signed, new_key), "and by the new one")
            entry = instance.query("SELECT actor FROM audit_ledger WHERE action = 'agent.rotate_key'")
            check(entry == [{"actor": "uid:0 (asserted by agent)"}], f"who asked is recorded: {entry}")
            verify = instance.cli("audit", "verify", "--key", os.path.join(elsewhere, "key"))
            check(verify.code == 0, f"the old key hands over to the new one: {verify.err}")
            handed_over = _checkpoint_of(instance, new_key)[1]
            wait_for("one that the new key signs alone",
                     lambda: _checkpoint_of(instance, new_key)[1] > handed_over)
            after = os.path.join(elsewhere, "after")
            check(instance.cli("audit", "checkpoint", "--out", after).code == 0, "exported")
            os.chmod(after, 0o644)
            verify = instance.cli("audit", "verify", "--key", os.path.join(elsewhere, "key"), "--against", after)
            check(verify.code == 0, f"what the new key signed counts for who trusts the old one: {verify.err}")
            check(offline("verify-checkpoint", after).code == 5, "but not where nobody shows the new key")
            new_file = os.path.join(elsewhere, "new_key")
            with open(new_file, "w", encoding="utf-8") as file:
                file.write(new_key)
            both = offline("verify-checkpoint", after, "--key", new_file)
            check(both.code == 0, f"with both keys it is good: {both.code} {both.err}")
        check(instance.stop() == 0, "stops")
        verify = instance.cli("--format", "json", "audit", "verify")
        rows = verify.json()["rows"]
        check(rows[0]["signed_until"] == rows[0]["entries"] - 1, f"signed to the end when stopped: {rows}")


def scenario_audit_survives_kills_and_explains_events():
    """kill -9 of the collector, again and again: the ledger holds, what happened is in it, and every batch is proven,
    pending or explained."""
    with daemon() as instance:
        instance.start()
        for _ in range(3):
            for _ in range(20):
                subprocess.run(["/bin/true"], check=True)
            pid = wait_for("the collector", lambda: instance.children().get("procmond"))
            os.kill(pid, signal.SIGKILL)
            wait_for("another collector", lambda: instance.children().get("procmond") not in (None, pid))
            wait_for("it is connected", lambda: instance.collector()["state"] != "failed")
        recoveries = instance.query("SELECT payload FROM audit_ledger WHERE action = 'crash_recovery'")
        check(len(recoveries) == 3, f"each crash is recorded: {recoveries}")
        check(all(json.loads(row["payload"])["machine"] == "went on" for row in recoveries), f"as one: {recoveries}")

        def verified():
            result = instance.cli("--format", "json", "audit", "verify", "--events")
            check(result.code == 0, f"events are what the ledger says: {result.code} {result.err}")
            row = result.json()["rows"][0]
            return row if row["proven"] >= 3 else None

        row = wait_for("batches proven", verified)
        check(row["wrong"] == 0, f"{row}")
        check(instance.stop() == 0, "stops")
        row = instance.cli("--format", "json", "audit", "verify", "--events").json()["rows"][0]
        check(row["pending"] == 0 and row["wrong"] == 0, f"nothing is left open after a stop: {row}")


# In a process that ends at once: what closes the file would copy its log back, without the pages' checksums.
_TAMPER = """
import os, sqlite3, sys
sys.path.insert(0, os.environ["HERE"])
import store_file
def another_argument(chunk, number):
    body = store_file.unpack(chunk, number)
    return store_file.pack(body.replace(b"honest", b"forged"), number)
database = sqlite3.connect(sys.argv[1])
database.create_function("another_argument", 2, another_argument)
database.execute("PRAGMA wal_autocheckpoint = 0")
for statement in sys.argv[2:]:
    database.execute(statement)
database.commit()
os._exit(0)
"""


def tamper(store, statement):
    """Alters the event store as one may who can write it; in statements `another_argument` makes honest ones forged."""
    subprocess.run([sys.executable, "-c", _TAMPER, store, statement], check=True,
                   env={**os.environ, "HERE": os.path.dirname(os.path.abspath(__file__))})


def scenario_audit_events_that_are_tampered_with_are_named():
    """By one who may write the event store: a batch altered, taken away, cut off at the end, or put in."""
    with daemon() as instance:
        instance.start()
        for _ in range(3):
            exact_arguments("true", "honest")
            count = "SELECT count(*) AS n FROM process_events"
            before = instance.query(count)[0]["n"]
            exact_arguments("true", "honest")
            wait_for("it is stored", lambda n=before: instance.query(count)[0]["n"] > n)
        check(instance.stop() == 0, "stops")
        intact = instance.cli("--format", "json", "audit", "verify", "--events")
        row = intact.json()["rows"][0]
        check(intact.code == 0 and row["proven"] >= 3 and row["claimed"] == 0, f"proven: {intact.code} {row}")
        store = os.path.join(instance.state, "events.redb")
        kept = os.path.join(instance.folder, "kept")
        os.mkdir(kept)
        files = [store + suffix for suffix in ("", "-wal", "-shm") if os.path.exists(store + suffix)]
        for file in files:
            shutil.copy2(file, kept)
        last = "batch_no = (SELECT max(batch_no) FROM tail)"
        middle = "batch_no = (SELECT batch_no FROM tail WHERE events > 0 ORDER BY batch_no LIMIT 1 OFFSET 1)"
        content = f"UPDATE tail SET canonical = another_argument(canonical, batch_no)"
        for what, statement in (("altered", content),
                                ("altered", f"UPDATE tail SET digest = zeroblob(32) WHERE {middle}"),
                                ("missing", f"DELETE FROM tail WHERE {middle}"),
                                ("missing", f"DELETE FROM tail WHERE {last}"),
                                ("added", f"UPDATE tail SET sequence = sequence + 1000 WHERE {last}")):
            tamper(store, statement)
            if statement == content:  # digest and checksum say that all is well
                forged = instance.query("SELECT count(*) AS n FROM process_events WHERE command_line = 'true forged'")
                check(forged[0]["n"] > 0, "an event says now what never happened")
            found = instance.cli("audit", "verify", "--events")
            check(found.code == 5 and what in found.err, f"{what} by {statement}: {found.code} {found.err}")
            for file in files:
                with open(file, "r+b") as target, open(os.path.join(kept, os.path.basename(file)), "rb") as source:
                    target.truncate()
                    shutil.copyfileobj(source, target)
        check(instance.cli("audit", "verify", "--events").code == 0, "as it was, it is proven")


def scenario_audit_a_ledger_that_is_taken_away_or_put_back_is_told():
    """An empty folder or an older copy is neither verified as whole nor signed again as if nothing were."""
    with daemon() as instance:
        folder = os.path.dirname(instance.audit)
        key = os.path.join(instance.folder, "key")
        instance.start()
        check(instance.stop() == 0, "stops")
        shutil.copy(os.path.join(folder, "checkpoint.key.pub"), key)
        older = os.path.join(instance.folder, "older")
        shutil.copytree(folder, older)
        instance.start()
        check(instance.stop() == 0, "stops again")
        check(instance.cli("audit", "verify", "--key", key).code == 0, "whole, and signed")
        for name in os.listdir(folder):
            if name.startswith("audit.redb") and not name.endswith(".lock"):
                os.remove(os.path.join(folder, name))
        taken = instance.cli("audit", "verify")
        check(taken.code == 5, f"a ledger that is gone is no ledger that never was: {taken.code} {taken.err}")
        for name in os.listdir(older):
            if name.startswith("audit.redb"):
                shutil.copy2(os.path.join(older, name), os.path.join(folder, name))
                if os.geteuid() == 0:
                    shutil.chown(os.path.join(folder, name), *_owner(folder))
        instance.start()
        check(instance.stop() == 0, "it goes on")
        told = instance.cli("audit", "verify", "--key", key)
        check(told.code == 5 and "put_back" in told.err, f"and says so: {told.code} {told.err}")


def scenario_audit_requests_outlive_both_daemons():
    """What the agent asked to have recorded while the collector did not answer is recorded after both were killed."""
    with daemon() as instance:
        instance.start()
        first = {row["action"]: row for row in instance.query("SELECT action, payload FROM audit_ledger")}
        check("agent.rules" in first, f"the rules in force are recorded: {sorted(first)}")
        check(json.loads(first["agent.rules"]["payload"])["rules"] > 0, "and how many")
        children = instance.children()
        collector = children.pop("procmond")
        (agent,) = children.values()
        os.kill(collector, signal.SIGSTOP)
        refused = instance.cli("query", "DELETE FROM alerts")
        check(refused.code == 2, f"refused: {refused.code}")
        queue = os.path.join(instance.state, "audit-requests")
        wait_for("it is in the queue's file", lambda: "sql_refused" in _read(queue))
        os.kill(agent, signal.SIGKILL)
        os.kill(collector, signal.SIGKILL)
        instance.wait_ready()
        entries = wait_for("it is in the ledger", lambda: instance.query(
            "SELECT actor, payload FROM audit_ledger WHERE action = 'agent.sql_refused'"))
        check(entries[0]["actor"] == f"uid:{os.geteuid()} (asserted by agent)", f"in the operator's name: {entries}")
        wait_for("the queue is empty", lambda: _read(queue) == "")
        check(instance.cli("audit", "verify").code == 0, "the ledger holds")


def scenario_audit_segments_begin_within_the_sandbox():
    """A file that is full is followed by another, made when nothing but the ledger's folder can be written any more."""
    with daemon({"audit.segment_mb": 1}) as instance:
        instance.start()
        check(instance.stop() == 0, "stops")
        # Nearly full: what is not the ledger's own in its file counts for its size.
        database = sqlite3.connect(instance.audit)
        database.execute("CREATE TABLE padding (bytes BLOB)")
        while database.execute("PRAGMA page_count").fetchone()[0] < 255:
            database.execute("INSERT INTO padding VALUES (zeroblob(4000))")
        database.commit()
        database.close()
        shutil.chown(instance.audit, *_owner(instance.audit + ".lock"))
        instance.start()
        following = instance.audit.replace(".redb", ".000001.redb")

        def begun():
            instance.cli("query", "DELETE FROM alerts")
            return os.path.exists(following)

        wait_for("another segment", begun)
        before = instance.query("SELECT count(*) AS n FROM audit_ledger")[0]["n"]
        subprocess.run(["/bin/true"], check=True)
        wait_for("it is written", lambda: instance.query("SELECT count(*) AS n FROM audit_ledger")[0]["n"] > before)
        wait_for("health says how many there are", lambda: instance.health()["ledger"]["details"]["segments"] == "2")
        check(instance.stop() == 0, "stops, with no system call refused")
        verify = instance.cli("audit", "verify", "--events", "--key",
                              os.path.join(os.path.dirname(instance.audit), "checkpoint.key.pub"))
        check(verify.code == 0, f"both hold: {verify.code} {verify.err}")


def _owner(path):
    status = os.stat(path)
    return status.st_uid, status.st_gid


def scenario_audit_full_disk_stops_what_cannot_be_recorded():
    """A ledger without room: nothing is sent, it is said, and it goes on when there is room."""
    with daemon({"audit.path": "/nonexistent/audit.redb"}) as instance:
        folder = os.path.join(instance.folder, "small")
        os.mkdir(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0755", "tmpfs", folder], check=True)
        try:
            instance.audit = os.path.join(folder, "audit", "audit.redb")
            instance.settings["audit.path"] = instance.audit
            instance.write_config()
            instance.start()
            filler = os.path.join(folder, "filler")
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            # The log of the database has room of its own until it grows.
            def failed():
                for _ in range(20):
                    subprocess.run(["/bin/true"], check=True)
                health = instance.health()
                return health and health["ledger"]["state"] == "failed" and health["ledger"]

            ledger = wait_for("the ledger fails", failed, seconds=120)
            check("nothing is sent" in ledger["reason"], f"it says what that means: {ledger}")
            os.remove(filler)
            wait_for("it goes on", lambda: instance.health()["ledger"]["state"] != "failed")
            check(instance.stop() == 0, "stops")
            verify = instance.cli("audit", "verify", "--events")
            check(verify.code == 0, f"and the ledger holds: {verify.err}")
        finally:
            instance.close()
            subprocess.run(["umount", folder], check=False)


scenario_audit_segments_begin_within_the_sandbox.needs_root = True
scenario_audit_full_disk_stops_what_cannot_be_recorded.needs_root = True
