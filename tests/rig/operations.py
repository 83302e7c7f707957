"""Every operation of a process on the store's files, counted, and a SIGKILL at any of them."""

import os
import re
import signal
import stat
import sys
from pathlib import Path

import safetensors.torch

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What Python tells of before it happens, and which of the arguments is the folder's descriptor.
TOLD = {"os.rename": 2, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.truncate": None}


class Operations:
    """Tells of each operation on a file under `root`, and ends this process right before one.

    Since nothing happens to files in between, right before an operation is right after the one
    before it. `torn` ends it within the write that an fsync follows: half of the file is there.
    """

    def __init__(self, root, at=None, torn=False):
        self.root, self.at, self.torn, self.count = str(root.resolve()), at, torn, 0

    def __call__(self, narrator):
        self.narrator = narrator
        flush, save = os.fsync, safetensors.torch.save_file

        def fsync(handle):
            mode = os.fstat(handle).st_mode
            self._meet(
                "fsync" if stat.S_ISREG(mode) else "fsync of a folder", _path(handle), handle
            )
            flush(handle)

        def save_file(tensors, path, *args):
            self._meet("write", str(path))
            save(tensors, path, *args)

        os.fsync, safetensors.torch.save_file = fsync, save_file
        sys.addaudithook(self._hear)

    def end(self):
        """All operations are done: the moment after the last one."""
        if self.at == self.count:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event, args):
        if event == "open" and isinstance(args[0], str | bytes | Path) and args[2] & WRITING:
            self._meet("open", args[0])
        elif event == "fcntl.flock" and isinstance(args[0], int):
            self._meet("lock", _path(args[0]))
        elif event in TOLD:
            folder = args[TOLD[event]] if TOLD[event] is not None else -1
            if event != "os.mkdir" or not os.path.lexists(args[0]):
                self._meet(event.removeprefix("os."), args[0], folder=folder)

    def _meet(self, kind, path, handle=None, folder=-1):
        path = _path(path) if isinstance(path, int) else os.fsdecode(path)
        if folder is not None and folder >= 0:
            path = f"{_path(folder)}/{path}"
        path = f"{Path(path).parent.resolve()}/{Path(path).name}"
        if not path.startswith(f"{self.root}/"):
            return
        if self.count == self.at and self.torn and handle is not None:
            size = os.fstat(handle).st_size
            os.ftruncate(handle, size - 9 if path.endswith(".log") else size // 2)
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        pattern = re.sub(r"\d+", "0", path.removeprefix(f"{self.root}/"))
        pattern = re.sub(r"[A-Za-z0-9_]+-0\.tmp", "tmp", pattern)
        self.narrator.tell(("operation", kind, pattern, self.narrator.phase))


def _path(handle):
    return str(Path(f"/proc/self/fd/{handle}").readlink())
