"""Draw photos of a test split, every k-th of them: grey, as each model colours them, original.

python tools/result_sheet.py --models wgan-small wgan-small@2889 --every 100 --output sheet.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from colorjax import Colorizer, data, evaluation, sheets
from colorjax.colorize.model import find_model
from colorjax.colorize.pictures import read_picture


def main() -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", required=True, help="runs, or RUN@STEP")
    parser.add_argument("--data", help="folder:PATH; default: what the first was trained on")
    parser.add_argument("--split", default="test")
    parser.add_argument("--every", type=int, default=100, help="take every k-th picture")
    parser.add_argument("--side", type=int, default=120, help="pixels of each square cut")
    parser.add_argument("--columns", type=int, default=10, help="pictures beside one another")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    originals = read_originals(arguments)
    colorizers = [Colorizer.load(model) for model in arguments.models]
    colored = [np.stack(list(each.colorize_many(originals))) for each in colorizers]
    kinds = [evaluation.gray_images(originals), *colored, originals]
    starts = range(0, len(originals), arguments.columns)
    rows = [kind[start : start + arguments.columns] for start in starts for kind in kinds]
    sheets.make_grid(rows).save(arguments.output, quality=88)


def read_originals(arguments: argparse.Namespace) -> np.ndarray:
    """Return the chosen photos, cut to their middle square: uint8 (N, side, side, 3)."""
    config = find_model(arguments.models[0]).config
    if arguments.data:
        config.data.source = arguments.data
    root = Path(config.data.source.removeprefix("folder:"))
    pictures = data.load_pictures(config.data, config.image_size)
    chosen = data.split_indices(pictures, arguments.split)[arguments.every - 1 :: arguments.every]
    return np.stack([cut_square(root / pictures.names[i], arguments.side) for i in chosen])


def cut_square(path: Path, side: int) -> np.ndarray:
    """Return the middle square of a photo at the given side."""
    image = Image.fromarray(read_picture(path))
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, box=box))


if __name__ == "__main__":
    main()
