"""What mkdocs asks while it builds the site: generated pages, anchors as GitHub makes them, links between pages."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pages import generated, relink, slug


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors are the same on the site and in the repository."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = lambda heading, _: slug(heading)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no one writes."""
    for page, text in generated().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository become links of the site; Markdown within folded parts is read as such."""
    text = relink(page.file.src_uri, markdown)
    return re.sub(r"<details>", '<details markdown="1">', text)
