"""Executes a notebook in the working directory, as Kaggle does; a program of its own.

The kernel is spoken to through files, as there may be no network at all, not even this machine's.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def printed(notebook):
    """The text that the cells have printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def main(path):
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        manager = AsyncKernelManager(
            # Without folders of kernels, `python3` is this interpreter.
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(Path(folder, "kernel.json")),
            transport="ipc",
            ip=str(Path(folder, "ipc")),
        )
        resources = {"metadata": {"path": str(Path.cwd())}}
        client = NotebookClient(notebook, km=manager, timeout=None, resources=resources)
        try:
            asyncio.run(client.async_execute(cleanup_kc=True))
        except CellExecutionError as error:
            print(f"{error.ename}: {error.evalue}", file=sys.stderr)
            sys.exit(1)
        finally:
            print(printed(notebook))


if __name__ == "__main__":
    main(sys.argv[1])
