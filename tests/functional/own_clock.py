"""A wall clock for some programs alone, which a test may set: the machine's own stays as it is."""

import os
import shutil
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class OwnClock:
    """Seen by what is started by `within` (harness.Daemon.start). None where it cannot be made: see make()."""

    def __init__(self, library, path):
        self.library, self.path = library, path
        self.history = [(0.0, 0)]  # since when (monotonic), nanoseconds before or after the true time
        self._write(0)

    @staticmethod
    def make(folder):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return None
        library = os.path.join(folder, "clock.so")
        done = subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library,
                               os.path.join(HERE, "own_clock.c"), "-ldl"], check=False, capture_output=True)
        return OwnClock(library, os.path.join(folder, "clock-offset")) if done.returncode == 0 else None

    @property
    def within(self):
        return ("env", f"LD_PRELOAD={self.library}", f"DE_CLOCK_OFFSET={self.path}")

    def set(self, seconds):
        """So much after the true time (before it, when negative)."""
        nanoseconds = int(seconds * 1e9)
        self._write(nanoseconds)
        self.history.append((time.monotonic(), nanoseconds))

    def offsets_between(self, begin, end):
        """What it was set to within these moments (monotonic)."""
        ends = [since for since, _ in self.history[1:]] + [float("inf")]
        return {offset for (since, offset), until in zip(self.history, ends) if since <= end and until >= begin}

    def _write(self, nanoseconds):
        # In place: the programs have the file in their memory.
        with open(self.path, "r+b" if os.path.exists(self.path) else "w+b", buffering=0) as file:
            file.write(struct.pack("=q", nanoseconds))
        os.chmod(self.path, 0o644)
