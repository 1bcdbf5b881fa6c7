# SPDX-License-Identifier: Apache-2.0
"""A small ext4 of the test's own, in a file, mounted through a loop device. Needs root.

freeze() and thaw() are what `fsfreeze` does: while frozen, every write to it waits. Leaving the
`with` thaws and unmounts it in every case, lazily where something still holds it. With `written`
the file is written in full first, so that writes to the small disk change no metadata of the large.
"""
import os
import pathlib
import subprocess


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout.strip()


class LoopDisk:
    def __init__(self, folder, size_mib, written=False):
        self.image = pathlib.Path(folder) / "disk.img"
        self.path = pathlib.Path(folder) / "disk"
        self.size_mib = size_mib
        self.written = written
        self.device = None
        self.is_frozen = False

    def freeze(self):
        self.is_frozen = True
        run("fsfreeze", "-f", str(self.path))

    def thaw(self):
        run("fsfreeze", "-u", str(self.path))
        self.is_frozen = False

    def __enter__(self):
        self.path.mkdir()
        with open(self.image, "wb") as image:
            for _ in range(self.size_mib if self.written else 0):
                image.write(bytes(1 << 20))
            image.truncate(self.size_mib << 20)
            image.flush()
            os.fsync(image.fileno())
        # No reserved blocks: root shall find the disk as full as everyone else does.
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard",
            str(self.image))
        self.device = run("losetup", "--find", "--show", "--direct-io=on", str(self.image))
        try:
            run("mount", self.device, str(self.path))
        except AssertionError:
            run("losetup", "--detach", self.device)
            raise
        return self

    def __exit__(self, *_):
        if self.is_frozen:
            self.thaw()
        try:
            run("umount", str(self.path))
        except AssertionError:
            run("umount", "--lazy", str(self.path))
            raise
        finally:
            run("losetup", "--detach", self.device)
