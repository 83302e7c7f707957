"""Wheels of packages that are installed here, made without a network."""

import zipfile
from importlib.metadata import distribution


def write_wheels(folder, names):
    """A wheel of each package, of the files that its installation has."""
    folder.mkdir(parents=True)
    for name in names:
        dist = distribution(name)
        path = folder / f"{name.replace('-', '_')}-{dist.version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for file in dist.files:
                if ".." not in file.parts and file.suffix != ".pyc":
                    wheel.write(file.locate(), file.as_posix())
    return folder
