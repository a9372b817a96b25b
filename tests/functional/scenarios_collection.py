"""What the collector sees and how it accounts for it: storms, each source by force, odd processes, a stopped agent."""

import storm
from harness import check, daemon


def check_whole(instance, load):
    account = storm.account(instance, load)
    wanted = {**dict.fromkeys(account, 0), "started": load.count, "exact": load.count, "exits": load.count}
    check(account == wanted, f"every process once, with its arguments and its one end: {account}")


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


scenario_a_storm_is_stored_whole.needs_root = True
