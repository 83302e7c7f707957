"""An executed notebook as one HTML page that asks nothing of any network.

The page carries its style and pictures, holds no script, and forbids the browser to load anything,
so that not even a name from the data could make it do so.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --muted: #66727f; --line: #dde3e8; --blue: #0072b2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; background: #fff;
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
p { max-width: 44rem; margin: .6rem 0; }
nav { font-size: .9rem; margin: 1rem 0; }
nav a { display: inline-block; margin: 0 1.1rem .3rem 0; color: var(--blue);
  text-decoration: none; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; background: #f2f5f7; border-radius: 3px; padding: .1em .3em; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: .6rem 0;
  max-width: 44rem; }
.output_stream pre { color: var(--muted); }
.celltag_callout pre { color: var(--ink); border-left: 4px solid var(--blue); background: #eef5fa;
  padding: .7rem 1rem; font-size: 1.05rem; }
.output_html, .output_png { overflow-x: auto; margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th.col_heading.level0[colspan] { text-align: center; }
th.row_heading { position: sticky; left: 0; background: #fff; text-align: left; font-weight: 600; }
footer { margin-top: 3rem; padding-top: .6rem; border-top: 1px solid var(--line);
  color: var(--muted); font-size: .85rem; }
footer p { max-width: none; }
@media (max-width: 40rem) { .output_png img { max-width: 44rem; } }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { margin-top: 1.2rem; }
  h2, .text_cell { break-after: avoid; }
  .output_png, table, pre, p { break-inside: avoid; }
  .output_html, .output_png { overflow: visible; }
  .output_png img { max-height: 11.5cm; width: auto; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .35rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
<footer>{footer}</footer>
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
    return PAGE.format(
        title=escape(title), style=STYLE, body=_with_contents(body), footer=escape(footer)
    )


def _with_contents(body: str) -> str:
    """The sections numbered to be linked to, with links to them before the first."""
    names: list[str] = []

    def numbered(heading: re.Match[str]) -> str:
        names.append(heading[1])
        return f'<h2 id="section-{len(names)}">{heading[1]}</h2>'

    body = re.sub(r"<h2>(.*?)</h2>", numbered, body)
    links = [f'<a href="#section-{n}">{name}</a>' for n, name in enumerate(names, start=1)]
    return re.sub(r"(?=<h2 )", f"<nav>{' '.join(links)}</nav>", body, count=1)
