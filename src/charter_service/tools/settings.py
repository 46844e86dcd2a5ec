"""The configuration of server tools; what isn't configured can't be asked for."""

from __future__ import annotations

from pydantic import Field, field_validator

from charter.ground.settings.frozen import Frozen


class Documents(Frozen):
    """Search over a folder of documents."""

    folder: str = Field(min_length=1, description="the folder; links that lead out of it are not followed")
    index: str = Field("documents.sqlite", min_length=1, description="file of the index, made by the server")
    passages: int = Field(4, ge=1, le=20, description="passages that a search gives")


class Sql(Frozen):
    """Read-only SQL."""

    database: str = Field(min_length=1, description="a file of SQLite, or postgresql://USER@HOST/NAME")
    about: str = Field("", max_length=2000, description="what the model is told beside the tables")


class WebSearch(Frozen):
    """Search of the web, by a server of SearXNG's shape."""

    url: str = Field(description="its address, such as http://127.0.0.1:8888")
    results: int = Field(5, ge=1, le=20, description="results that a search gives")
    fetch: int = Field(0, ge=0, le=10, description="pages of the results that are read; 0: none leaves SearXNG")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not the address of a server; write it as http://HOST:PORT")
        return url.rstrip("/")


class Tools(Frozen):
    """Tools that the server runs for a model, for keys with the scope `tools` and requests that name them."""

    calculator: bool = Field(False, description="arithmetic")
    documents: Documents | None = Field(None, description="search over a folder of documents")
    sql: Sql | None = Field(None, description="read-only SQL")
    web_search: WebSearch | None = Field(None, description="search of the web")
    rounds: int = Field(10, ge=1, le=50, description="times that a model is asked for one message")
