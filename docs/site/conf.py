"""How Sphinx makes the site from what `workbook.site` has put in place. Nothing here reaches for a network."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(ROOT))

project = "Fine-tuning workbook"
author = "the workbook's authors"
copyright = ""
html_title = project
language = "en"

extensions = [
    "myst_nb",
    "autoapi.extension",
    "workbook.site.formulas",
    "workbook.site.reference",
]
exclude_patterns = ["extra"]  # the figures, which go to the top of the site as they are
nb_execution_mode = "off"  # what is committed is what is shown
nb_render_markdown_format = "myst"  # lesson 12 prints its tables with links
nb_merge_streams = True
nb_number_source_lines = False
nb_ipywidgets_js = {}  # the default asks a content network for the widgets' scripts; each has its figure instead
myst_enable_extensions = ["dollarmath", "attrs_inline", "attrs_block", "colon_fence"]
myst_heading_anchors = 4
myst_heading_slug_func = "workbook.site.links.slug"
myst_links_external_new_tab = False
suppress_warnings = ["mystnb.unknown_mime_type", "autoapi.python_import_resolution"]

# The reference of helpers, read from its sources: nothing heavy is imported to describe it.
autoapi_dirs = [os.fspath(ROOT / "helpers")]
autoapi_root = "api"
autoapi_add_toctree_entry = False  # the start page lists it
autoapi_options = ["members", "undoc-members", "show-inheritance"]
autoapi_template_dir = os.fspath(Path(__file__).with_name("templates") / "autoapi")
add_module_names = False
python_maximum_signature_line_length = 88  # a longer one has a line for each argument

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_static_path = [os.fspath(Path(__file__).with_name("static"))]
templates_path = [os.fspath(Path(__file__).with_name("templates"))]
html_css_files = ["workbook.css"]
html_favicon = os.fspath(Path(__file__).with_name("static") / "mark.svg")
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_last_updated_fmt = None
html_permalinks_icon = "#"
pygments_style = "a11y-high-contrast-light"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_repository_button": False,
    "navbar_persistent": [],  # one place to search is enough
    "show_navbar_depth": 1,
    "max_navbar_depth": 1,  # the helpers' pages are listed on theirs
    "show_toc_level": 1,
    "home_page_in_toc": True,
    "toc_title": "On this page",
    "logo": {"text": project, "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg", "alt_text": ""},
    "extra_footer": "<p>Every figure here was computed: by the cell above it, or from the reference results.</p>",
    "footer_content_items": ["extra-footer.html"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
