"""`blend.py --report`: run notebooks/blend.ipynb and write it as one HTML file.

The page contains its style and pictures, holds no script, and forbids the browser to load anything,
so that no name in the data can make the browser load a file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
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
from poolblend.printing import hide_bars
from poolblend.report.packages import require_packages
from poolblend.report.page import page
from poolblend.report.tables import show

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

log = logging.getLogger(__name__)

NOTEBOOK = config.SHIPPED / "notebooks" / "blend.ipynb"
PACKAGES = ("ipykernel", "matplotlib", "nbclient", "nbconvert", "nbformat")
SOURCES = str(Path(poolblend.__file__).resolve().parents[1])


def write_report(
    config_path: str | None = None,
    sets: Sequence[str] = (),
    *,
    members: Sequence[str] | None = None,
    members_from: str | None = None,
) -> str:
    """Run `blend` in the notebook, and write the notebook as blend.html beside the blend card.

    Returns the text that blend.py prints. Raises UserError for missing packages and for user errors
    in the notebook; an earlier report is then unchanged.
    """
    settings = config.load(config_path, sets)
    require_packages("a report", PACKAGES)
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
    """The notebook after running it with these parameters, with this interpreter.

    It runs in the working directory, so that relative paths are valid. A UserError in the notebook
    is raised again; other exceptions come from nbclient, with the cell's traceback.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    if not NOTEBOOK.is_file():
        raise UserError(f"no notebook at {NOTEBOOK}; make reports in the project's folder")
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
            "the notebook's process was killed, often because memory was full; "
            "free some memory, or run blend.py without --report"
        ) from None
    return notebook


def to_html(notebook: NotebookNode, title: str, footer: str) -> str:
    """The notebook's text and outputs without its code; `title` and `footer` are plain text."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    return page(title, body, footer)


def _run(notebook: NotebookNode) -> None:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    n_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with (
        # A new folder instead of the user's IPython profile, which may not be writable.
        TemporaryDirectory(prefix="poolblend-", ignore_cleanup_errors=True) as folder,
        tqdm(total=n_cells, desc="report", unit="cell", disable=hide_bars()) as bar,
        ThreadPoolExecutor(1) as pool,
    ):
        # Without folders of kernels, `python3` is this interpreter.
        kernels = KernelSpecManager(kernel_dirs=[])
        manager = AsyncKernelManager(
            kernel_spec_manager=kernels, connection_file=str(Path(folder) / "kernel.json")
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=None,
            log=logging.Logger("nbclient", logging.CRITICAL),  # it also raises what it logs
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(Path.cwd())}},
            on_cell_executed=lambda **_: bar.update(),
        )
        # In the main thread, nbclient would handle Ctrl-C itself, and fail an assertion.
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
        "TQDM_DISABLE": "1",  # the report would contain the progress bars
    }


def _arguments(
    config_path: str | None,
    sets: Sequence[str],
    members: Sequence[str] | None,
    members_from: str | None,
) -> str:
    """The command that makes this report again."""
    words = ["python", "blend.py", "--report"]
    words += ["--config", config_path] if config_path else []
    words += [word for item in sets for word in ("--set", item)]
    words += ["--members", ",".join(members)] if members else []
    words += ["--members-from", members_from] if members_from else []
    return shlex.join(words)
