"""Configuration of the documentation's build."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "triosmtp"
author = "the triosmtp authors"
project_copyright = f"2026, {author}"
version = release = version_of("triosmtp")

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinxcontrib_trio",
    "option_reference", "event_reference", "lua_functions",
]  # fmt: skip
exclude_patterns = ["_build"]
autodoc_typehints_format = "short"
# Constructors that triosmtp alone calls are no part of the reference.
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__"}
autodoc_member_order = "bysource"
myst_heading_anchors = 3

# What is copied from a transcript is its commands: no prompt, no output, no line number.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_static_path = ["_static"]
html_theme = "furo"
html_title = f"triosmtp {version}"
