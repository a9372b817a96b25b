"""Looking at processes and alerts: trees with times, `alerts show`, and the page of `report` as a browser shows it."""

import contextlib
import hashlib
import html.parser
import json
import os
import shutil
import stat
import subprocess

import browser
import tlog
from harness import Skip, check, daemon, exact_arguments, wait_for
from scenarios_audit import tamper

RULE = """
id: marked-process
title: "Marked: {{{{command_line}}}}"
description: For tests of reports; it says <b>nothing</b>.
severity: critical
tags: [test.marked]
references: [https://attack.mitre.org/techniques/T1059/004/, "javascript:alert(1)"]
falsepositives: ["<i>None</i>"]
sql: |
  SELECT e.pid, e.name, e.command_line, e.process_key
  FROM process_events e
  WHERE e.kind = 'exec' AND e.name = 'sleep' AND e.command_line LIKE '%{marker}%' AND 1 < 2
"""

LONG = "A" * (16 * 1024)
HOSTILE = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "' onmouseover='document.title=1",
    "</pre></code></td></table><style>body{display:none}</style>",
    "--><!--",
    "&lt;b&gt;",
    "javascript:document.title='owned'",
    "\u202egnp.exe\u2066",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    b"\xff\xfe\xc3<b>",
    "line\nbreak\ttab",
    LONG,
    "end",
]

# Quick: the roots are signed at once.
QUICK = {"app.scan_interval_ms": 1000, "audit.checkpoint_interval_s": 1}


class Marked:
    """A shell that started a process with hostile arguments, for which an alert was raised."""

    def __init__(self, instance, marker):
        arguments = ["sleep", "300", marker, *HOSTILE]
        # A shell whose child is not the shell itself; the shell ends with it.
        script = 'python3 -c "import os,sys; os.execv(\'/bin/sleep\', sys.argv[1:])" "$@" & echo $!; wait'
        self.shell = subprocess.Popen(["sh", "-c", script, "sh", *arguments], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
        self.instance = instance
        self.alert = wait_for("the alert", self.find)

    def find(self):
        rows = self.instance.query("SELECT alert_id, pid FROM alerts WHERE rule_id = 'marked-process'")
        return rows[0] if rows else None


@contextlib.contextmanager
def hostile_alert(instance, marker):
    """`sleep` refuses its arguments and ends with 1: the alert is of an ended process."""
    marked = Marked(instance, marker)
    try:
        yield marked
    finally:
        marked.shell.wait(60)


def rules(marker):
    return {"marked.yaml": RULE.format(marker=marker)}


def make_report(instance, alert, path):
    """The page, once its batches are under a signed checkpoint."""
    def proven():
        result = instance.cli("--format", "json", "report", alert, "--html", path, "--yes")
        check(result.code in (0, 3), f"a report: {result.code} {result.err}")
        row = result.json()["rows"][0]
        return row if row["batches"] > 0 and row["batches"] == row["proven"] else None
    return wait_for("a page whose batches are proven", proven)


class Text(html.parser.HTMLParser):
    """Text of the elements with an id or a class; and which elements and attributes there are."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.stack, self.texts, self.tags, self.attributes = [], {}, set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag in ("meta", "br", "rect", "circle", "line", "path"):
            return
        names = dict(attrs)
        self.stack.append((tag, names.get("id") or names.get("class")))

    def handle_endtag(self, tag):
        if self.stack and self.stack[-1][0] == tag:
            self.stack.pop()

    def handle_data(self, data):
        for name in {name for _, name in self.stack if name}:
            self.texts[name] = self.texts.get(name, "") + data


def fields(page, heading):
    """Of the batch tables: a dict for each, name -> value."""
    found = []
    for part in page.split('<div class="batch">')[1:]:
        table = part.split("</table>")[0]
        rows = {}
        for row in table.split("<tr><th>")[1:]:
            name, value = row.split("</th><td>")
            rows[name] = value.split("</td>")[0]
        found.append(rows)
    check(found, f"there are tables of {heading}")
    return found


def scenario_report_proves_its_evidence():
    """The page of a real alert: its proofs hold by another implementation, and what would overwrite asks."""
    marker = f"report-{os.getpid()}"
    with daemon(QUICK, rules=rules(marker)) as instance:
        instance.start()
        with hostile_alert(instance, marker) as marked:
            alert = marked.alert["alert_id"]
        path = os.path.join(instance.folder, "report.html")
        made = make_report(instance, alert, path)
        check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "for its maker only")
        with open(path, encoding="utf-8") as file:
            page = file.read()
        check(made["bytes"] == len(page.encode()) and made["processes"] >= 2, f"counted: {made}")
        check(not [name for name in os.listdir(instance.folder) if name.startswith("report.html.")], "nothing beside it")

        text = Text(page)
        check(text.tags.isdisjoint({"script", "img", "link", "iframe", "object", "b64", "i"}), f"elements: {text.tags}")
        check(not [name for name in text.attributes if name.startswith("on") or name in ("style", "src")],
              f"attributes: {text.attributes}")
        for part in ("<script>document.title='owned'</script>", "\\x1b", "\\u{202e}", "\\xff"):
            check(part in text.texts["command"] or part in text.texts["summary"], f"{part!r} is told in text")
        check("AND 1 < 2" in text.texts["sql"], f"the statement: {text.texts['sql']}")
        check('href="https://attack.mitre.org/techniques/T1059/004/"' in page and 'href="javascript' not in page, "links")

        with open(os.path.join(os.path.dirname(instance.audit), "checkpoint.key.pub"), encoding="utf-8") as file:
            key = file.read()
        check(text.texts["key"] == key.strip(), "the key is that of the ledger")
        roots = {}
        for name, proof in text.texts.items():
            if not name.startswith("proof-"):
                continue
            _, payload, _ = tlog.verify_inclusion_text(proof, key)
            sealed = json.loads(payload)
            roots[name[len("proof-"):]] = sealed
            file = os.path.join(instance.folder, name)
            with open(file, "w", encoding="utf-8") as out:
                out.write(proof)
            verified = instance.cli("audit", "verify-proof", file, "--key",
                                    os.path.join(os.path.dirname(instance.audit), "checkpoint.key.pub"))
            check(verified.code == 0 and "valid" in verified.out, f"verified: {verified.out} {verified.err}")
        for batch in fields(page, "batches"):
            entry = batch["Ledger"].split("entry ")[1].split(",")[0]
            index, count = batch["Leaf"].split(" of ")
            path_up = [bytes.fromhex(part) for part in batch.get("Path", "").split()]
            leaf = tlog.leaf_hash(bytes.fromhex(batch["Digest"]))
            root = tlog.inclusion_root(int(index), int(count), leaf, path_up)
            check(root.hex() == batch["Root"] == roots[entry]["root"], f"the digest leads to the root: {batch}")
            check(int(count) == roots[entry]["count"] and roots[entry]["epoch"] == batch["Epoch"], f"of that range: {batch}")

        before = os.stat(path).st_mtime_ns
        refused = instance.cli("report", alert, "--html", path)
        check(refused.code == 2 and "--yes" in refused.err and os.stat(path).st_mtime_ns == before, f"asked: {refused.err}")
        check(instance.cli("report", alert, "--html", instance.folder).code == 2, "a folder is no file")
        check(instance.cli("report", "no-such-alert", "--html", path, "--yes").code == 1, "no such alert")
        out = instance.cli("report", alert, "--html", "-")
        check(out.code in (0, 3) and out.out.startswith("<!DOCTYPE html>") and out.out.rstrip().endswith("</html>"), "- is the output")
        check(instance.stop() == 0, "a clean stop ends with 0")
        stopped = instance.cli("--format", "json", "report", alert, "--html", path, "--yes")
        check(stopped.code in (0, 3) and stopped.json()["rows"][0]["proven"] == made["proven"],
              f"also when nothing runs: {stopped.out} {stopped.err}")


def scenario_report_of_altered_evidence_ends_with_5():
    """Of a file that ran once and briefly: its hash is told, and evidence that was altered since is told by page and code."""
    marker = f"honest-{os.getpid()}"
    with daemon(QUICK, rules=rules(marker)) as instance:
        instance.start()
        brief = os.path.join(instance.folder, "sleep")
        shutil.copy2("/bin/sleep", brief)
        with open(brief, "ab") as file:
            file.write(marker.encode())  # an executable of its own, hashed by nobody before
        with open(brief, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        subprocess.run([brief, "0", marker, b"\xff\xfe"], stderr=subprocess.DEVNULL, check=False)
        alert = wait_for("the alert", lambda: instance.query(
            "SELECT alert_id FROM alerts WHERE rule_id = 'marked-process'"))[0]["alert_id"]

        def hashed():
            page = instance.cli("report", alert, "--html", "-").out
            return page if f"<th>SHA-256</th><td>{digest}" in page else None
        text = Text(wait_for("the hash of a file whose process has ended", hashed))
        check("\\xff\\xfe" in text.texts["tree"], f"the bytes as they were: {text.texts['tree']}")
        shown = instance.cli("alerts", "show", alert)
        # The matched row is as the alert has kept it, in JSON, which has no such bytes.
        head, _, rest = shown.out.partition("matched row")
        tree = rest.partition("lineage")[2]
        check(shown.code in (0, 3) and tree and "\ufffd" not in head + tree, f"also there: {shown.out}")

        path = os.path.join(instance.folder, "report.html")
        make_report(instance, alert, path)
        check(instance.stop() == 0, "stops")
        intact = instance.cli("report", alert, "--html", path, "--yes")
        check(intact.code in (0, 3), f"as it was: {intact.code} {intact.err}")
        tamper(os.path.join(instance.state, "events.redb"),
               "UPDATE tail SET canonical = another_argument(canonical, batch_no)")
        altered = instance.cli("--format", "json", "report", alert, "--html", path, "--yes")
        check(altered.code == 5, f"altered: {altered.code} {altered.out} {altered.err}")
        check("not what the ledger says" in altered.err and "batch " in altered.err, f"told: {altered.err}")
        check(altered.json()["rows"][0]["proven"] < altered.json()["rows"][0]["batches"], f"counted: {altered.out}")
        with open(path, encoding="utf-8") as file:
            check("Altered" in Text(file.read()).texts["integrity"], "the page is there and says it")


# For each element with text of its own: is it readable on what lies behind it?
CONTRAST = """
(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
                       return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                          if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (e.closest('svg title')) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest('svg') && !e.closest('foreignObject') ? style.fill : style.color);
    const a = lum(ink) + .05, b = lum(behind(e)) + .05;
    const ratio = Math.max(a, b) / Math.min(a, b);
    if (ratio < 4.5) poor.push([e.tagName, e.className.baseVal ?? e.className, ratio.toFixed(2)].join(' '));
  }
  return [...new Set(poor)];
})()
"""


def scenario_report_in_a_browser():
    """Chromium shows it without a word to console or network; light, dark, narrow, on paper; nothing hostile runs."""
    if browser.find() is None:
        raise Skip("there is no Chromium")
    marker = f"browser-{os.getpid()}"
    with daemon(QUICK, rules=rules(marker)) as instance:
        instance.start()
        with hostile_alert(instance, marker) as marked:
            alert = marked.alert["alert_id"]
        file = os.path.join(instance.folder, "report.html")
        make_report(instance, alert, file)
        os.chmod(file, 0o644)
        with browser.browser() as running:
            page = running.page()
            page.look()
            page.open(f"file://{file}")
            check(page.evaluate("document.title").startswith("Marked: sleep 300"), "the title is the alert's")
            count = page.evaluate("document.querySelectorAll('script,img,iframe,object,embed,form,link,base,[style],[onerror],"
                                  "[onmouseover]').length")
            check(count == 0, f"{count} elements that there should not be")
            check(page.evaluate("document.querySelectorAll('style').length") == 1, "one style sheet, ours")
            command = page.evaluate("document.querySelector('pre.command').textContent")
            for part in (HOSTILE[0], HOSTILE[1], HOSTILE[3], "\\u{202e}gnp.exe", "\\x1b]0;owned\\x07", "\\xff\\xfe\\xc3<b>", "line\\nbreak"):
                check(part in command, f"{part!r} is shown as text: {command[:600]!r}")
            check(all(ord(c) >= 32 for c in command), "no control character")
            sections = page.evaluate("[...document.querySelectorAll('section')].map((s) => s.id)")
            check(sections[:7] == ["summary", "row", "tree", "timeline", "evidence", "rule", "proofs"], f"sections: {sections}")
            tree = page.evaluate("document.querySelector('#tree').textContent")
            check("sleep" in tree and "sh -c" in tree, f"the tree has the parent: {tree[:500]}")
            depth = page.evaluate("(() => { let n = 0; for (let e = document.querySelector('.process.subject'); e; "
                                  "e = e.parentElement) n += e.tagName === 'UL'; return n; })()")
            check(depth >= 2, f"the process stands below its ancestors: {depth}")
            check(page.evaluate("document.querySelectorAll('#timeline tr.evidence').length") == 1, "the evidence is marked")
            check(page.evaluate("document.querySelectorAll('#timeline tr.alert').length") == 1, "so is the alert")
            check(page.evaluate("document.querySelectorAll('svg .bar.subject').length") == 1, "the picture has its bar")
            check("Proven" in page.evaluate("document.querySelector('#integrity').textContent"), "proven")

            backgrounds = []
            for scheme in ("light", "dark"):
                for width in (1280, 390):
                    page.look(scheme, width=width)
                    check(page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"fits {width} pixels, {scheme}")
                poor = page.evaluate(CONTRAST)
                check(not poor, f"readable in {scheme}: {poor}")
                backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            check(backgrounds[0] != backgrounds[1], f"dark is not light: {backgrounds}")
            page.look("dark", media="print")
            check(page.evaluate("getComputedStyle(document.body).backgroundColor") == backgrounds[0], "paper is light")
            check(not page.evaluate(CONTRAST), "readable on paper")
            paper = page.pdf()
            check(paper[:5] == b"%PDF-" and paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") >= 1, "printed")

            check(not page.problems, f"nothing is said to the console: {page.problems}")
            check(page.requests == [f"file://{file}"], f"nothing else is asked for: {page.requests}")
            # Would it hold if something slipped through? The policy is in force.
            page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x\" "
                          "onerror=\"document.title=1\"><p style=\"color:red\" onclick=\"document.title=1\" id=probe></p>')")
            page.evaluate("document.querySelector('#probe').click()")
            running.wait("the policy to refuse", lambda: len(page.problems) >= 3)
            check(page.evaluate("document.title").startswith("Marked"), "no handler ran")
            running.wait("the address to be refused", lambda: page.requests == [f"file://{file}"])


def scenario_trees_tell_times():
    """`ps --tree`, `tree`, `alerts show`: start, age, what became of it; colours on a terminal only; no escapes."""
    marker = f"trees-{os.getpid()}"
    with daemon(QUICK, rules=rules(marker)) as instance:
        instance.start()
        with hostile_alert(instance, marker) as marked:
            alert, pid = marked.alert["alert_id"], marked.alert["pid"]
        wait_for("its end in the store", lambda: instance.query(
            f"SELECT 1 FROM process_events WHERE kind = 'exit' AND pid = {pid}"))
        ended = instance.cli("tree", str(pid))
        check(ended.code in (0, 3), f"an ended process: {ended.code} {ended.err}")
        lines = ended.out.splitlines()
        check(lines[0].split() == ["pid", "user", "status", "started", "age", "cpu", "%", "process"], f"columns: {lines[0]}")
        its = next(line for line in lines if line.split()[0] == str(pid))
        check("exit 1" in its and its.rstrip().endswith("<"), f"how it ended, and marked: {its[:200]}")
        check(any("sh -c" in line for line in lines), "its parent is there")
        for words in (["tree", str(pid)], ["alerts", "show", alert], ["ps", "--tree"]):
            plain = instance.cli(*words)
            check("\x1b" not in plain.out and "\u202e" not in plain.out and "\x9b" not in plain.out, f"no escapes: {words}")
            with_terminal = on_a_terminal(instance, words)
            check("\x1b[2m" in with_terminal, f"colours on a terminal: {words}")
            check("\x1b]0;" not in with_terminal and "\x1b[2J" not in with_terminal, f"and no others: {words}")
            check("\x1b" not in on_a_terminal(instance, words, {"NO_COLOR": "1"}), f"NO_COLOR: {words}")
        for form in ("json", "jsonl", "csv"):
            text = on_a_terminal(instance, ["--format", form, "query", f"SELECT command_line FROM alerts WHERE pid = {pid}"])
            check("\x1b" not in text and "\x9b" not in text, f"{form} on a terminal: {text[:300]!r}")
        shown = instance.cli("alerts", "show", alert).out
        for part in ("lineage", "events of these processes around it", "exit 1 after", "yes"):
            check(part in shown, f"{part!r} in what is shown")
        as_json = instance.cli("--format", "json", "alerts", "show", alert).json()
        check([e["kind"] for e in as_json["events"] if e["evidence"]] == ["exec"], f"its events: {as_json['events']}")
        then = next(e["time"] for e in as_json["events"] if e["evidence"])
        past = instance.cli("--format", "json", "ps", "--tree", "--at", then)
        check(past.code in (0, 3), f"a tree of then: {past.err}")
        rows = past.json()["rows"]
        by_pid = {row["pid"]: row for row in rows}
        check(by_pid[os.getpid()]["depth"] >= 0 and marked.shell.pid in by_pid, "who lived then")
        check(by_pid[marked.shell.pid]["depth"] == by_pid[os.getpid()]["depth"] + 1, "below its parent")
        check(exact_arguments("true", "x") > 0, "still here")


def on_a_terminal(instance, words, environment=None):
    """What is printed on a terminal of 200 columns."""
    command = [os.path.join(os.environ["DE_TEST_BIN"], "daemoneye-cli"), "--config", instance.config, *words]
    primary, secondary = os.openpty()
    try:
        subprocess.run(["stty", "cols", "200", "rows", "0"], stdin=secondary, check=True)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=secondary, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "TERM": "xterm", "PAGER": "cat", **(environment or {})})
        os.close(secondary)
        secondary = None
        out = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(primary, 65536):
                out += data
        process.wait(60)
        return out.decode(errors="replace")
    finally:
        os.close(primary)
        if secondary is not None:
            os.close(secondary)
