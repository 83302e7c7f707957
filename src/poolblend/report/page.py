"""One HTML page of its own: style within, no script, and nothing that a browser may load."""

from __future__ import annotations

from html import escape

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
img, svg {{ max-width: 100%; height: auto; }}
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


def page(title: str, body: str, footer: str) -> str:
    """The page; `title` and `footer` are plain text, `body` is HTML."""
    return PAGE.format(title=escape(title), body=body, footer=escape(footer))
