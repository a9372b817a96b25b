"""A small ext4 file system of a test's own, that can be filled, and broken as the kernel breaks it after an I/O error."""

import contextlib
import os
import shutil
import subprocess
import tempfile

from harness import check


class Disk:
    def __init__(self, image, path):
        self.image, self.path = image, path

    def mount(self, *options):
        return subprocess.run(["mount", *options, self.path], check=False, capture_output=True).returncode == 0

    def abort(self):
        """Read-only from now on, whoever has files open."""
        check(self.mount("-o", "remount,abort"), "the file system becomes read-only")

    def mend(self):
        """Nobody may have files open."""
        subprocess.run(["umount", self.path], check=True)
        subprocess.run(["e2fsck", "-p", self.image], check=False, capture_output=True)
        check(self.mount("-o", "loop", self.image), "the mended file system is mounted")


@contextlib.contextmanager
def small_disk(size):
    """A mounted Disk of `size` bytes, or None where none can be mounted."""
    folder = tempfile.mkdtemp(prefix="daemoneye-disk-", dir="/var/tmp")
    os.chmod(folder, 0o755)
    disk = Disk(os.path.join(folder, "image"), os.path.join(folder, "disk"))
    os.mkdir(disk.path)
    try:
        with open(disk.image, "wb") as file:
            file.truncate(size)
        made = subprocess.run(["mkfs.ext4", "-q", disk.image], check=False, capture_output=True).returncode == 0
        yield disk if made and disk.mount("-o", "loop", disk.image) else None
    finally:
        subprocess.run(["umount", "-l", disk.path], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
