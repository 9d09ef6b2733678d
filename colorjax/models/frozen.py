"""Frozen layers: parts of a pretrained encoder that training leaves bit-identical.

A generator that has an encoder names them in its field `frozen`, by prefixes of torchvision's
names: "layer1.0.conv1" is one convolution, "layer1" a whole stage. Flax names modules with an
underscore where torchvision has a point: the module `layer1_0/downsample_1` of the tree is
torchvision's `layer1.0.downsample.1`.
"""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax

from colorjax.errors import UserError

ENCODER = "encoder"  # the submodule of a generator that the prefixes are names within


def torchvision_name(modules: Iterable[str]) -> str:
    """Return torchvision's name of a module, given the names on the way to it in Flax's tree."""
    return ".".join(modules).replace("_", ".")


def frozen_prefixes(generator: nn.Module) -> tuple[str, ...]:
    """Return a generator's field `frozen`; one without it has no frozen layers."""
    return tuple(getattr(generator, "frozen", ()))


def is_frozen(name: str, prefixes: Iterable[str]) -> bool:
    """Return whether one of the prefixes names this module or one that holds it.

    Args:
      name: torchvision's name, such as "layer1.0.conv1".
      prefixes: whole parts of names: "layer1" holds "layer1.0" but not "layer10".
    """
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def frozen_mask(params: Any, prefixes: Iterable[str]) -> Any:
    """Return a tree like a generator's `params` that is True where a parameter is frozen.

    Args:
      params: the generator's parameters or their shapes.
      prefixes: its field `frozen`; nothing above or beside the submodule `encoder` is frozen.

    Raises:
      UserError: for a prefix that no parameter of the encoder has.
    """
    prefixes = tuple(prefixes)
    modules = {
        path: torchvision_name(path[1:-1]) if path[0] == ENCODER else None
        for path in (_keys(path) for path, _ in jax.tree.leaves_with_path(params))
    }
    names = [name for name in modules.values() if name is not None]
    for prefix in prefixes:
        if not any(is_frozen(name, (prefix,)) for name in names):
            raise UserError(
                f"config.generator.frozen has {prefix!r}, which names no layer of this "
                'generator\'s encoder: give the start of a name such as "layer1.0.conv1".'
            )

    def is_frozen_leaf(path: tuple[Any, ...], _: Any) -> bool:
        name = modules[_keys(path)]
        return name is not None and is_frozen(name, prefixes)

    return jax.tree.map_with_path(is_frozen_leaf, params)


def trainable_labels(params: Any, prefixes: Iterable[str]) -> Any:
    """Return a tree like `params` of "frozen" and "trainable", as `optax.multi_transform` wants.

    Arguments and errors are those of `frozen_mask`.
    """
    mask = frozen_mask(params, prefixes)
    return jax.tree.map(lambda frozen: "frozen" if frozen else "trainable", mask)


def _keys(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(entry.key for entry in path)
