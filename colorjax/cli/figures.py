"""What models reach, as one table: on a terminal and in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]

# Means over pictures, each with the bounds of its 95 % interval: NAME_low and NAME_high.
MEANS = (
    "psnr",
    "psnr_lab",
    "ssim",
    "ciede2000",
    "colorfulness",
    "colorfulness_abs",
    "l1",
    "gan_loss",
)

# Of one model, in the order of `evaluate --json`; `size` is the measured pictures' side, in pixels.
FIELDS = (
    "images",
    "size",
    "psnr",
    "psnr_lab",
    "ssim",
    "ciede2000",
    "colorfulness",
    "colorfulness_abs",
    "colorfulness_real",
    "l1",
    "gan_loss",
    "gray_psnr",
    "gray_ssim",
    "gray_ciede2000",
    "constant_psnr",
    "constant_ciede2000",
    "fid",
    *(f"{name}_{bound}" for name in MEANS for bound in ("low", "high")),
)
_COLUMNS = {
    "l1": ("L1", ".4f"),
    "gan_loss": ("GAN loss", ".4f"),
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "ciede2000": ("CIEDE2000", ".2f"),
    "colorfulness": ("colourfulness", ".1f"),
    "share": ("of photos'", ".2f"),
    "fid": ("FID", ".2f"),
}
_AT_TRAINING_SIZE = (
    "Pictures squashed bicubically to the model's training size, RGB in [0, 1], means over "
    "pictures; a model that predicts RGB is measured with its own lightness."
)
_AT_ONE_SIZE = (
    "Pictures squashed bicubically to {size}x{size}, RGB in [0, 1], means over pictures. A network "
    "of another training size sees them brought to that bicubically, antialiased; the a and b that "
    "it predicts are brought back along the edges of the lightness, as `colorize` does by default, "
    "and joined with the pictures' own lightness, also where a model predicts RGB. Its GAN loss is "
    "taken at its training size."
)
_PROTOCOL = (
    "SSIM with a Gaussian window of sigma 1.5, colourfulness by Hasler and Suesstrunk. grey: the "
    "uncoloured picture; constant: the mean a and b of these pictures painted everywhere. L1 is "
    "taken on each model's own normalised target, the GAN loss with its own critic: compare "
    "neither between codecs or objectives. ± is half the width of the mean's 95 % interval "
    "(bootstrap over pictures)."
)


@dataclass(frozen=True)
class Group:
    """Models that were measured on the same pictures.

    Attributes:
      pictures: which these are, in words.
      figures: of each model, named as in `FIELDS`.
    """

    pictures: str
    figures: Mapping[str, Figures]


def make_table(groups: Sequence[Group]) -> list[list[str]]:
    """Return rows of cells, the first of titles: the models, then what is reached without one.

    With several groups a column says which of the sets of pictures a row is about.
    """
    several = len(groups) > 1
    has_fid = any(
        each.get("fid") is not None for group in groups for each in group.figures.values()
    )
    columns = {field: column for field, column in _COLUMNS.items() if field != "fid" or has_fid}
    rows = [["", *(["set"] if several else []), *(title for title, _ in columns.values())]]
    for number, group in enumerate(groups, start=1):
        for name, figures in _named_rows(group):
            cells = [_format(figures, field, code) for field, (_, code) in columns.items()]
            rows.append([name, *([str(number)] if several else []), *cells])
    return rows


def make_notes(groups: Sequence[Group], size: int | None = None) -> list[str]:
    """Return the lines under the table: which pictures, and how they were measured.

    Args:
      groups: of the table.
      size: the one that all figures were taken at; None for each model's training size.
    """
    several = len(groups) > 1
    names = [f"Set {number}: " if several else "" for number in range(1, len(groups) + 1)]
    pairs = zip(names, groups, strict=True)
    pictures = _AT_TRAINING_SIZE if size is None else _AT_ONE_SIZE.format(size=size)
    return [*(f"{name}{group.pictures}." for name, group in pairs), f"{pictures} {_PROTOCOL}"]


def format_markdown(groups: Sequence[Group], notes: Sequence[str]) -> str:
    """Return the table and the notes under it in Markdown."""
    titles, *rows = [[cell.replace("|", r"\|") for cell in row] for row in make_table(groups)]
    ruler = ["---", *["--:"] * (len(titles) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (titles, ruler, *rows)]
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def _named_rows(group: Group) -> list[tuple[str, Figures]]:
    shared = next(iter(group.figures.values()))
    real = shared["colorfulness_real"]
    rows: dict[str, Figures] = {
        name: {**figures, "share": figures["colorfulness"] / real if real else None}
        for name, figures in group.figures.items()
    }
    gray = {field: shared[f"gray_{field}"] for field in ("psnr", "ssim", "ciede2000")}
    constant = {field: shared[f"constant_{field}"] for field in ("psnr", "ciede2000")}
    return [
        *rows.items(),
        ("grey", {**gray, "colorfulness": 0.0, "share": 0.0}),
        ("constant", constant),
        ("photos", {"colorfulness": real, "share": 1.0}),
    ]


def _format(figures: Figures, field: str, code: str) -> str:
    """Return a figure, with half the width of its interval where it has one."""
    value = figures.get(field)
    if value is None:
        return "-"
    low, high = (figures.get(f"{field}_{bound}") for bound in ("low", "high"))
    margin = "" if low is None or high is None else f" ±{format((high - low) / 2, code)}"
    return format(value, code) + margin
