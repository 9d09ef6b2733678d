"""Show a recipe's networks, their shapes, parameters and FLOPs, its phases and its data."""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn
    from ml_collections import ConfigDict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("recipe", metavar="RECIPE|MODEL", help="configs/wgan.py[:VARIANT] or a run")


def run(arguments: argparse.Namespace) -> int:
    """Print the description; no weights are made or read."""
    from colorjax.cli.reporting import quieten
    from colorjax.console import say
    from colorjax.models import create_networks, critic_shapes, generator_shapes

    quieten(arguments.verbose)
    config = _read(arguments.recipe)
    networks = create_networks(config)
    size, codec = networks.image_size, networks.codec
    say(f"{arguments.recipe}: pictures of {size}x{size}, codec {config.codec}, {config.dtype}\n")
    say(
        describe_network(
            f"generator {config.generator.name}",
            networks.generator,
            generator_shapes(networks),
            (1, size, size, codec.input_channels),
        )
    )
    if networks.critic is not None:
        title = f"critic {config.critic.name}"
        shapes = critic_shapes(networks)
        say("\n" + describe_network(title, networks.critic, shapes, (1, size, size, 3)))
    say("\n" + _describe_training(config))
    return 0


def describe_network(
    title: str, network: "nn.Module", shapes: Any, input_shape: tuple[int, ...]
) -> str:
    """Return a network's layers, parameters and the FLOPs of a forward pass of one picture.

    Args:
      title: of the description.
      network: the module.
      shapes: its variables' shapes.
      input_shape: (1, H, W, C).
    """
    import jax
    import jax.numpy as jnp

    from colorjax.cli.reporting import format_table
    from colorjax.models import count_parameters, predict

    picture = jax.ShapeDtypeStruct(input_shape, jnp.float32)
    rows = [["layer", "output", "parameters"], ["input", _format_shape(input_shape), ""]]
    for path, shape in _trace_layers(network, shapes, picture):
        count = count_parameters(_own_parameters(shapes["params"], path))
        rows.append(["/".join(path), _format_shape(shape), f"{count:,}"])
    # Portable, so that the count is the same on every device.
    forward = jax.jit(partial(predict, network, portable=True))
    costs = forward.lower(shapes, picture).cost_analysis() or {}
    flops = costs.get("flops", 0.0)
    total = count_parameters(shapes["params"])
    statistics = count_parameters(shapes["batch_stats"])
    return (
        f"{title}: {total:,} parameters"
        + (f" and {statistics:,} batch statistics" if statistics else "")
        + f"; forward pass of one picture {flops / 1e9:.3g} GFLOPs (XLA's count of the program "
        "before optimisation, a multiplication and an addition being two)\n" + format_table(rows)
    )


def _read(recipe: str) -> "ConfigDict":
    from pathlib import Path

    from colorjax import configuration
    from colorjax.colorize.model import find_model

    if recipe.partition(":")[0].endswith(".py") and not Path(recipe).is_dir():
        return configuration.load_recipe(recipe)
    return find_model(recipe).config


def _trace_layers(
    network: "nn.Module", shapes: Any, picture: Any
) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return the path and output shape of each innermost layer, in the order of the call."""
    import flax.linen as nn
    import jax

    calls: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        # A whole encoder gives a tuple of stages; its layers are listed, each with its own.
        if context.method_name == "__call__" and hasattr(output, "shape"):
            calls.append((context.module.path, output.shape))
        return output

    with nn.intercept_methods(record):
        jax.eval_shape(lambda v, x: network.apply(v, x, train=False), shapes, picture)
    parents = {path[:length] for path, _ in calls for length in range(len(path))}
    return [(path, shape) for path, shape in calls if path not in parents]


def _own_parameters(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params.get(name, {})
    return params


def _describe_training(config: "ConfigDict") -> str:
    lines = []
    for name in config.phase_order:
        fields = dict(config.phases[name])
        options = ", ".join(
            f"{field} {_format_option(value)}"
            for field, value in fields.items()
            if field not in ("objective", "epochs")
        )
        phase = f"phase {name}: {fields['objective']}, {fields['epochs']} epochs"
        lines.append(f"{phase}; {options}" if options else phase)
    data = config.data
    fractions = "/".join(f"{100 * fraction:g}" for fraction in data.split_fractions)
    lines.append(
        f"data {data.source}: {fractions} % train, validation, test (seed {data.split_seed}); "
        f"batches of {config.batch_size}"
    )
    return "\n".join(lines)


def _format_option(value: Any) -> str:
    from ml_collections import ConfigDict

    if not isinstance(value, ConfigDict):
        return str(value)
    return f"{value.name} at {value.learning_rate:g} (betas {value.b1:g}, {value.b2:g})"


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape[1:])
