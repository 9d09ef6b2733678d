"""The channels of the networks that are measured."""


def stage_widths(first: int) -> tuple[int, ...]:
    """Return the channels of five stages, each with twice those of the one before."""
    return tuple(first * 2**stage for stage in range(5))
