"""A tree that nothing may be written into, and whether something was."""

import stat


def seen(root):
    """Whatever a write would change, a folder's own times among it: even a file that came and went.

    Other than permissions, this binds root, too.
    """
    infos = [(place, place.stat()) for place in [root, *sorted(root.rglob("*"))]]
    return {
        str(place): (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        for place, info in infos
    }


def close(root):
    """What chmod -R a-w does."""
    for place in [*root.rglob("*"), root]:
        place.chmod(stat.S_IMODE(place.stat().st_mode) & ~0o222)
