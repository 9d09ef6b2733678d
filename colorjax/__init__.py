"""Image colorization in JAX: train it on your own photos, colour your own pictures."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorjax import color, losses, metrics, models
    from colorjax.colorize.colorizer import Colorizer
    from colorjax.colorize.hints import Hint

__all__ = ["Colorizer", "Hint", "color", "losses", "metrics", "models"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: JAX takes a second to import."""
    if name == "Colorizer":
        return importlib.import_module("colorjax.colorize.colorizer").Colorizer
    if name == "Hint":
        return importlib.import_module("colorjax.colorize.hints").Hint
    if name in __all__:
        return importlib.import_module(f"colorjax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
