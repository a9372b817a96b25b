"""A Debian of its own, in a folder: for installing our package as on somebody's machine, without touching this one.

The base system comes from a mirror once (debootstrap) and is kept in /var/cache; each use works on a copy, in a mount
and process namespace of its own, so that nothing is left running or mounted.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request

from harness import Failure, Skip, check, wait_for

MIRROR = os.environ.get("DE_TEST_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"
INCLUDED = "systemd,systemd-sysv"
CACHE = "/var/cache/daemoneye-tests"


def output(*command, **keywords):
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **keywords)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command[:4])} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def dependencies(package):
    fields = [output("dpkg-deb", "--field", package, name).strip() for name in ("Pre-Depends", "Depends")]
    return ", ".join(field for field in fields if field)


def base_root(needed):
    """The folder of a minimal Debian with these dependencies; made when it is not there yet."""
    digest = hashlib.sha256(" ".join([MIRROR, SUITE, INCLUDED, needed]).encode()).hexdigest()[:12]
    folder = os.path.join(CACHE, f"{SUITE}-{digest}")
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder
        if shutil.which("debootstrap") is None:
            raise Skip("debootstrap is not installed (scripts/setup)")
        try:
            urllib.request.urlopen(f"{MIRROR}/dists/{SUITE}/InRelease", timeout=10).close()
        except OSError as error:
            raise Skip(f"no Debian mirror: {MIRROR}: {error}") from error
        with tempfile.TemporaryDirectory(prefix="new-", dir=CACHE) as new:
            root = os.path.join(new, "root")
            # Whatever is cut off is not kept: there is no need to wait for the disk.
            surroundings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "DPKG_FORCE": "unsafe-io"}
            # Its mounts end with it, also when it is cut off: nothing is ever removed through them.
            output("unshare", "--mount", "--propagation", "private", "debootstrap", "--variant=minbase", SUITE, root,
                   MIRROR, env=surroundings)
            # apt finds out what belongs together in a second, debootstrap takes many.
            output("chroot", root, "apt-get", "satisfy", "-y", "--no-install-recommends", f"{needed}, {INCLUDED}",
                   env=surroundings)
            for rest in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(os.path.join(root, rest), ignore_errors=True)
            for old in os.listdir(CACHE):  # of an earlier list of packages, or left when cut off
                if old.startswith((SUITE, "new-")) and os.path.join(CACHE, old) != new:
                    shutil.rmtree(os.path.join(CACHE, old), ignore_errors=True)
            os.rename(root, folder)
    return folder


# The first process of the namespaces: with it everything in them ends. Its /proc is theirs. The root is a mount, as
# systemd wants it for the namespaces of its services.
MOUNTS = ('mount --bind "$0" "$0"; mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; mount -t tmpfs tmpfs "$0/run"; '
          'mount -t tmpfs tmpfs "$0/tmp"; ')
SLEEP = MOUNTS + 'echo ready; exec sleep infinity'
# systemd needs its own part of the control groups, and to be told that it is not on bare metal.
SYSTEMD = MOUNTS + ('mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"; echo ready; exec chroot "$0" env -i container=other '
                    'PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd systemd.unit=multi-user.target')


def own_control_group():
    """A new control group of the unified hierarchy, which processes can be moved into."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    top = next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None)
    if top is None:
        raise Skip("there is no cgroup2 hierarchy for a systemd of its own")
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        here = next((line[3:].strip() for line in file if line.startswith("0::")), "/")
    folder = os.path.join(top + here.rstrip("/"), f"daemoneye-test-{os.getpid()}")
    try:
        os.mkdir(folder)
    except OSError as error:
        raise Skip(f"no control group can be made for a systemd of its own: {error}") from error
    return folder


class DebianRoot:
    def __init__(self, base, systemd=False):
        self.folder = tempfile.mkdtemp(prefix="root-", dir=CACHE)
        self.root = os.path.join(self.folder, "root")
        self.control_group = own_control_group() if systemd else None
        output("cp", "-a", "--reflink=auto", base, self.root)
        if not systemd:
            # No service manager is there to say that services may be started.
            policy = self.path("/usr/sbin/policy-rc.d")
            with open(policy, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\nexit 0\n")
            os.chmod(policy, 0o755)
        enter = ["sh", "-ec", 'echo $$ >"$0/cgroup.procs"; exec "$@"', self.control_group] if systemd else []
        self.first = subprocess.Popen(
            [*enter, "unshare", "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child",
             "--propagation", "private", "sh", "-ec", SYSTEMD if systemd else SLEEP, self.root],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        if self.first.stdout.readline() != "ready\n":
            raise Skip("namespaces and mounts are not allowed here")
        with open(f"/proc/{self.first.pid}/task/{self.first.pid}/children", encoding="ascii") as file:
            self.inside = int(file.read())
        if systemd:
            wait_for("systemd inside", lambda: self.run("systemctl", "is-system-running", code=(0, 1)).stdout.strip()
                     in ("running", "degraded"))

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def run(self, *command, code=0, environment=()):
        """Runs it inside, as root there; `code`: the exit codes that are well."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.inside), "--mount", "--pid", "--cgroup", "chroot", self.root, "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive",
             *environment, *command],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
        codes = code if isinstance(code, tuple) else (code,)
        check(done.returncode in codes,
              f"inside, {' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
        return done

    def running(self, name):
        """Whether a program of this name runs inside; what nobody waited for there has ended all the same."""
        look = ('for stat in /proc/[0-9]*/stat; do read -r _ name state _ < "$stat" && [ "$state" != Z ] && echo "$name"; '
                'done 2>/dev/null | grep -qxF "($0)"')
        return self.run("sh", "-c", look, name, code=(0, 1)).returncode == 0

    def close(self):
        if self.first.poll() is None:
            self.first.send_signal(signal.SIGKILL)
        self.first.wait()
        wait_for("the namespaces' end", lambda: not os.path.exists(f"/proc/{self.inside}"))
        if self.control_group:
            for where, _, _ in os.walk(self.control_group, topdown=False):
                wait_for("an empty control group", lambda where=where: removed(where))
        shutil.rmtree(self.folder, ignore_errors=True)


def removed(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return not os.path.exists(folder)
    return True


@contextlib.contextmanager
def debian_root(package, systemd=False):
    root = DebianRoot(base_root(dependencies(package)), systemd)
    try:
        yield root
    finally:
        root.close()
