"""Packages: the ZIP archives that hold the parts of office documents and of books, opened within bounds."""

import io
import posixpath
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from lxml import etree

from charter.ground.documents.parsing.outcome import Damaged, Locked, Refused, Text

_SMALL = 1 << 20  # bytes unpacked below which a member may be of any ratio


class Package:
    """A ZIP archive whose members are within bounds. Raises Refused if they aren't, Locked, and Damaged."""

    def __init__(self, data: bytes, text: Text) -> None:
        self.data = data
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            raise Damaged() from None
        bounds, members = text.bounds, self.archive.infolist()
        if len(members) > bounds.members:
            raise Refused(
                f"This file packs {len(members):,} members, and at most {bounds.members:,} are unpacked; "
                "save it again from the program that made it."
            )
        if any(member.flag_bits & 1 for member in members):
            raise Locked()
        size = sum(member.file_size for member in members)
        if size > bounds.unpacked:
            raise Refused(
                f"This file unpacks to {size:,} bytes, and at most {bounds.unpacked >> 20} MB are unpacked; "
                "send a part of it."
            )
        for member in members:
            if member.file_size > max(_SMALL, bounds.ratio * member.compress_size):
                raise Refused(
                    f"A member of this file unpacks to over {bounds.ratio} times its size, as none of a document "
                    "does; it is not read."
                )
        self.names = {member.filename for member in members}

    def read(self, name: str) -> bytes:
        """The bytes of a member; Damaged if it isn't there or isn't whole."""
        try:
            return self.archive.read(name)
        except (
            KeyError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ):
            raise Damaged() from None

    def check(self) -> None:
        """Damaged unless every member is whole and as large as the archive says."""
        for name in self.names:
            self.read(name)

    def xml(self, name: str) -> Any:
        """The root element of a member. Entities are refused, and nothing outside the file is read."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(self.read(name), parser)
        except (etree.XMLSyntaxError, ValueError):
            raise Damaged() from None
        declared = root.getroottree().docinfo.internalDTD
        if declared is not None and next(declared.iterentities(), None) is not None:
            raise Refused("This file declares XML entities, as no document does; it is not read.")
        return root

    def parts(self, name: str) -> dict[str, tuple[str, str]]:
        """What a part of an office document refers to inside the file, by id: the last word of the relation's type,
        and the part's name."""
        folder, _, file = name.rpartition("/")
        relations = posixpath.join(folder, "_rels", f"{file}.rels")
        if relations not in self.names:
            return {}
        return {
            relation.get("Id", ""): (
                relation.get("Type", "").rpartition("/")[2],
                inside(folder, relation.get("Target", "")),
            )
            for relation in self.xml(relations).iterchildren("{*}Relationship")
            if relation.get("TargetMode") != "External"
        }


def inside(folder: str, target: str) -> str:
    """The member that a reference names, seen from a folder of the archive; it never leads out of the archive."""
    path = unquote(target.partition("#")[0])
    return posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def local(element: Any) -> str:
    """The name of an element without its namespace; "" for comments and instructions."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Any, name: str) -> str:
    """The value of an attribute in whatever namespace, or ""."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")
