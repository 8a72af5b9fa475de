"""The page at /docs: the routes of the OpenAPI document as HTML without a script.

FastAPI's page loads scripts from a CDN into a page where tokens are typed. This page loads nothing and works offline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

_STYLE: Final = """
:root{color-scheme:dark}
body{margin:0;background:#0f172a;color:#e2e8f0;font:16px/1.6 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
a{color:#a5b4fc}code{background:#1e293b;padding:.1rem .35rem;border-radius:.25rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .75rem;border-bottom:1px solid #334155;vertical-align:top}
"""


def page(document: Mapping[str, Any]) -> str:
    """Write the page."""
    about = document["info"]
    paths = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(about["title"])}</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(about["title"])} {escape(about["version"])}</h1>
<p>{escape(about.get("description", ""))}</p>
<p>Parameters go into the query string. A token goes into <code>Authorization: Bearer dp_…</code>; it is made by
<code>daemonpulse actions token new</code>. For programs: <a href="openapi.json">openapi.json</a>.</p>
{paths}</main></body></html>
"""


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{escape(_kind(one['schema']))}</td><td>{escape(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", ())
    )
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    says = escape(operation.get("description", ""))
    return f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{says}</p>{table}\n"


def _kind(schema: Mapping[str, Any]) -> str:
    """Say what a value may be."""
    return ", ".join(dict.fromkeys(_kinds(schema)))


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    for choice in schema.get("anyOf", ()):
        yield from _kinds(choice)
    if "enum" in schema:
        yield " | ".join(map(str, schema["enum"]))
    elif schema.get("type") not in {None, "null"}:
        yield str(schema["type"])
