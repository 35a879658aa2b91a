"""The directive `lua-functions`: the table of the functions of scripts, from the code that declares them."""

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from triosmtp.lua.api.function_table import markdown


class LuaFunctions(SphinxDirective):
    """Write the table."""

    def run(self) -> list[Node]:
        return self.parse_text_to_nodes(markdown())


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("lua-functions", LuaFunctions)
    return {"parallel_read_safe": True}
