"""The directive `event-list`: every event of `triosmtp.event` with the first sentence of its docstring."""

from inspect import getdoc

from docutils.nodes import Node
from event_classes import events
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class _EventList(SphinxDirective):
    """Writes the list."""

    def run(self) -> list[Node]:
        text = "\n".join(
            f"- [`{each.__name__}`](#triosmtp.event.{each.__name__}): {(getdoc(each) or '').splitlines()[0]}"
            for each in events()
        )
        return self.parse_text_to_nodes(text.replace("``", "`"))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("event-list", _EventList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
