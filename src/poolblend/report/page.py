"""An executed notebook as one HTML page that loads nothing from any network.

The page carries its style and pictures, holds no script, and forbids the browser to load anything,
so that not even a name from the data could make it do so.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ max-width: 62rem; margin: 0 auto; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
img {{ max-width: 100%; height: auto; }}
.output_html {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ padding: .2rem .6rem; text-align: right; white-space: nowrap; }}
</style>
</head>
<body>
{body}
<footer><hr>{footer}</footer>
</body>
</html>
"""


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
    return PAGE.format(title=escape(title), body=body, footer=escape(footer))
