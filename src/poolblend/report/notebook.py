"""`blend.py --report`: runs notebooks/blend.ipynb and keeps it as one HTML file."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

import poolblend
from poolblend import config
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.report.page import to_html
from poolblend.report.tables import show

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

log = logging.getLogger(__name__)

NOTEBOOK = config.ROOT / "notebooks" / "blend.ipynb"
PACKAGES = ("ipykernel", "matplotlib", "nbclient", "nbconvert", "nbformat")
SOURCES = str(Path(poolblend.__file__).resolve().parents[1])


def write_report(
    config_path: str | None = None,
    sets: Sequence[str] = (),
    *,
    members: Sequence[str] | None = None,
    members_from: str | None = None,
) -> str:
    """Blend in the notebook, which writes the blend card; keep it beside the card as blend.html.

    Returns what blend.py prints. Raises UserError for what is the user's to mend, inside the
    notebook too, and for missing packages; a report made earlier then stays as it was.
    """
    settings = config.load(config_path, sets)
    _require_packages()
    notebook = execute(
        CONFIG=config_path,
        SETS=list(sets),
        MEMBERS=list(members) if members else None,
        MEMBERS_FROM=members_from,
        MAKE_SUBMISSION=False,
    )
    store = open_store(settings)
    arguments = _arguments(config_path, sets, members, members_from)
    made = f"poolblend {poolblend.__version__}, {datetime.now():%Y-%m-%d %H:%M}: {arguments}"
    store.write_report(to_html(notebook, f"The blend of {settings.run}", made))
    log.info("report: %s", store.report_path)
    return show(store.read_blend())


def execute(**parameters: Any) -> NotebookNode:
    """The notebook with these values in its parameters' cell, run on this very interpreter.

    It runs in the working directory, where relative paths start. Raises UserError where the
    notebook does; any other exception is nbclient's, with the cell's traceback.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    if not NOTEBOOK.is_file():
        raise UserError(f"no notebook at {NOTEBOOK}; a report is made from the project's folder")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    try:
        _run(notebook)
    except CellExecutionError as error:
        if error.ename == UserError.__name__:
            raise UserError(error.evalue) from None
        raise
    except DeadKernelError:
        raise UserError(
            "the notebook's process was ended from outside, often for lack of memory; "
            "free some, or run blend.py without --report"
        ) from None
    return notebook


def _run(notebook: NotebookNode) -> None:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    n_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with (
        # The user's own IPython profile, and folders that may not be writable, stay out of it.
        TemporaryDirectory(prefix="poolblend-", ignore_cleanup_errors=True) as folder,
        tqdm(total=n_cells, desc="report", unit="cell", disable=None) as bar,
        ThreadPoolExecutor(1) as pool,
    ):
        # Without folders of kernels to look in, `python3` is this interpreter.
        kernels = KernelSpecManager(kernel_dirs=[])
        manager = AsyncKernelManager(
            kernel_spec_manager=kernels, connection_file=str(Path(folder) / "kernel.json")
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=None,
            log=logging.Logger("nbclient", logging.CRITICAL),  # what it has to say is raised, too
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(Path.cwd())}},
            on_cell_executed=lambda **_: bar.update(),
        )
        # In the main thread nbclient would answer Ctrl-C itself, with an assertion that fails.
        work = client.async_execute(cleanup_kc=True, env=_environment(folder))
        done = pool.submit(asyncio.run, work)
        try:
            done.result()
        except KeyboardInterrupt:
            asyncio.run(_end(manager))
            raise


async def _end(kernel: AsyncKernelManager) -> None:
    await kernel.signal_kernel(signal.SIGTERM)


def _environment(folder: str) -> dict[str, str]:
    paths = [SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "IPYTHONDIR": folder,
        "PYTHONPATH": os.pathsep.join(paths),
        "TQDM_DISABLE": "1",  # a bar would be kept in the report
    }


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"a report needs packages that are not installed: {', '.join(missing)}; "
            f"{Path(sys.executable).name} -m pip install {' '.join(missing)}"
        )


def _arguments(
    config_path: str | None,
    sets: Sequence[str],
    members: Sequence[str] | None,
    members_from: str | None,
) -> str:
    """The command that makes this report, to be typed again."""
    words = ["python", "blend.py", "--report"]
    words += ["--config", config_path] if config_path else []
    words += [word for item in sets for word in ("--set", item)]
    words += ["--members", ",".join(members)] if members else []
    words += ["--members-from", members_from] if members_from else []
    return shlex.join(words)
