"""The directive `option-reference`: every option, out of the one table that the checks and the commands read too."""

from collections import Counter

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from triosmtp.config import OPTIONS, Option

_USUAL_SCOPES = Counter(option.scopes for option in OPTIONS.values()).most_common(1)[0][0]


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


class OptionReference(SphinxDirective):
    """Write one entry an option, in the order of their names."""

    def run(self) -> list[Node]:
        options = sorted(OPTIONS.values(), key=lambda option: option.name.lower())
        return self.parse_text_to_nodes("\n".join(map(_entry, options)))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("option-reference", OptionReference)
    return {"parallel_read_safe": True}
