"""Settings of the documentation site: Sphinx with the theme Furo, readable without a network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from draw_pictures import draw_missing_pictures  # noqa: E402
from notebook_pages import write_notebook_pages  # noqa: E402
from reference_pages import write_reference_pages  # noqa: E402

from sarstack import __version__  # noqa: E402

project = "sarstack"
author = "The sarstack developers"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["build"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3
smartquotes = False  # options are written with two hyphens

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have the types
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"sarstack {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["small-screens.css"]

# Pages and pictures that are made from the code come before Sphinx looks for its files.
write_reference_pages(HERE / "generated")
draw_missing_pictures(HERE / "generated" / "pictures")
write_notebook_pages(HERE / "generated" / "notebooks")
