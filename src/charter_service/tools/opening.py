"""Opens the tools of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from charter.ground.artifact.progress import Progress, SilentProgress
from charter_service.tools.arithmetic import Calculator
from charter_service.tools.document_index import DocumentIndex, DocumentSearch
from charter_service.tools.settings import Tools
from charter_service.tools.sql import SqlQuery
from charter_service.tools.tool import Tool
from charter_service.tools.web_search import Search

# what requests may name, and where the configuration has it
PLACES: Mapping[str, str] = {
    Search.kind: "tools.web_search",
    DocumentSearch.kind: "tools.documents",
    SqlQuery.kind: "tools.sql",
    Calculator.kind: "tools.calculator",
}
QUIET = SilentProgress()


def open_tools(settings: Tools | None, folder: Path, progress: Progress = QUIET) -> dict[str, Tool]:
    """The configured tools by their kinds; relative paths start at `folder`. Raises CharterError if one can't be
    opened."""
    tools = list[Tool]()
    if settings is None:
        return {}
    if settings.web_search is not None:
        tools.append(Search(settings.web_search))
    if settings.documents is not None:
        documents = settings.documents
        progress.note(f"indexing {documents.folder}")
        index = DocumentIndex(folder / documents.folder, folder / documents.index)
        index.update()
        tools.append(DocumentSearch(index, documents.passages))
    if settings.sql is not None:
        tools.append(SqlQuery(settings.sql.database, folder, settings.sql.about))
    if settings.calculator:
        tools.append(Calculator())
    return {tool.kind: tool for tool in tools}
