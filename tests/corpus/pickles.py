"""Pickles that tell, by a file that they make, when they are loaded."""

import io
import pickle

import torch


class Evil:
    """Makes the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def plain(marker):
    return pickle.dumps(Evil(marker))


def of_torch(marker):
    """As `torch.save` packs it: a zip archive."""
    archive = io.BytesIO()
    torch.save({"weight": Evil(marker)}, archive)
    return archive.getvalue()


PICKLES = {"pickle": plain, "torch.save": of_torch}
