"""The directives of the page of options, written out of the one table that the checks and the commands read too.

`option-reference` writes every option by subject, `option-search` the search field, which `_static/options.js` serves.
Without scripts every option is shown.
"""

from collections import Counter

import attrs
from docutils.nodes import Node, raw
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from triosmtp.config import OPTIONS, Option, Settings

_USUAL_SCOPES = Counter(option.scopes for option in OPTIONS.values()).most_common(1)[0][0]
_SUBJECTS = {
    "SocketOptions": "Listening sockets and scopes",
    "TLSOptions": "TLS and certificates",
    "DialogueOptions": "SMTP dialogue and message format",
    "RelayOptions": "Recipients and relaying",
    "AuthOptions": "Authentication",
    "LimitOptions": "Limits",
    "PolicyOptions": "Policy and spool",
    "DeliveryOptions": "Delivery",
    "PeerOptions": "TrustedProxies",
    "LogOptions": "Logs",
    "StatusOptions": "Metrics and status page",
    "ProcessOptions": "Workers",
    "LifeOptions": "User, privileges and shutdown",
    "NodeOptions": "Nodes",
}
"""Titles in the order of the page; a class of options that is missing here comes last, under its own docstring."""
_SEARCH = """\
<form id="option-search" role="search" hidden>
<label for="option-query">Search the options</label>
<input id="option-query" type="search" placeholder="name, value or word" autocomplete="off" spellcheck="false">
<p id="option-count" role="status"></p>
</form>
"""


def subjects() -> dict[str, list[Option]]:
    """Return the options by the title of their subject, each in the order of their names."""
    found: dict[str, list[Option]] = {title: [] for title in _SUBJECTS.values()}
    for holder in Settings.__mro__:
        if holder is Settings or not attrs.has(holder):
            continue
        title = _SUBJECTS.get(holder.__name__) or (holder.__doc__ or holder.__name__).splitlines()[0].rstrip(".")
        names = [name for name in holder.__annotations__ if name in OPTIONS]
        found.setdefault(title, []).extend(OPTIONS[name] for name in names)
    return {title: sorted(options, key=lambda each: each.name.lower()) for title, options in found.items() if options}


def _entry(option: Option) -> str:
    notes = []
    if option.scopes != _USUAL_SCOPES:
        notes.append(f"Valid in: {', '.join(option.scopes)}.")
    if option.idle_in:
        notes.append(f"Without effect in: {', '.join(option.idle_in)}.")
    text = option.doc.replace("*", r"\*").replace("_", r"\_").replace("<", r"\<")
    return f"""\
```{{confval}} {option.name}
:type: {option.type.name}
:default: {option.write_default()}

{" ".join([text, *notes])}
```
"""


class OptionSearch(SphinxDirective):
    """Write the search field."""

    def run(self) -> list[Node]:
        return [raw("", _SEARCH, format="html")]


class OptionReference(SphinxDirective):
    """Write a section for each subject with one entry for each of its options."""

    def run(self) -> list[Node]:
        parts = [f"## {title}\n\n" + "\n".join(map(_entry, options)) for title, options in subjects().items()]
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("option-search", OptionSearch)
    app.add_directive("option-reference", OptionReference)
    app.add_js_file("options.js", loading_method="defer")
    app.add_css_file("options.css")
    return {"parallel_read_safe": True}
