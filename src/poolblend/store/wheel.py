"""Write poolblend itself as a wheel: from a checkout or an installed package, without a build.

<https://packaging.python.org/en/latest/specifications/binary-distribution-format/>
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import poolblend

PACKAGE = Path(poolblend.__file__).parent
PACKED = (".py", ".txt", ".yaml", ".ipynb")
EPOCH = (1980, 1, 1, 0, 0, 0)  # of all files: equal contents make equal wheels


def write_wheel(folder: Path, shipped: Mapping[str, Path]) -> Path:
    """Write the wheel of this poolblend into a folder; its path.

    `shipped` are folders that may lie beside the code, by the name that they have in the package:
    no others of a checkout are packed, whose configs may be of anything.
    """
    contents: dict[str, bytes] = {}
    for name, place in {"": PACKAGE, **shipped}.items():
        for file in sorted(place.rglob("*")):
            if file.suffix in PACKED and file.is_file():
                inside = Path("poolblend", name, file.relative_to(place)).as_posix()
                contents[inside] = file.read_bytes()
    stem = f"poolblend-{poolblend.__version__}"
    about = f"{stem}.dist-info"
    contents[f"{about}/METADATA"] = _metadata(contents["poolblend/supported.txt"].decode()).encode()
    contents[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: poolblend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    contents[f"{about}/entry_points.txt"] = (
        b"[console_scripts]\npoolblend = poolblend.commands:main\n"
    )
    lines = [f"{name},{_hash(content)},{len(content)}" for name, content in contents.items()]
    record = f"{about}/RECORD"
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def _metadata(supported: str) -> str:
    needs = [line for line in supported.splitlines() if line and not line.startswith("#")]
    head = ["Metadata-Version: 2.1", "Name: poolblend", f"Version: {poolblend.__version__}"]
    return "\n".join([*head, *(f"Requires-Dist: {each}" for each in needs), ""])


def _hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')}"
