"""Draw grey, colourised and original photos of a test split, every k-th of them.

python tools/result_sheet.py --model checkpoints/wgan-small --every 100 --output sheet.jpg
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
    parser.add_argument("--model", required=True, help="a run trained on a folder of photos")
    parser.add_argument("--data", help="folder:PATH; default: what the model was trained on")
    parser.add_argument("--split", default="test")
    parser.add_argument("--every", type=int, default=100, help="take every k-th picture")
    parser.add_argument("--side", type=int, default=160, help="pixels of each square cut")
    parser.add_argument("--columns", type=int, default=6, help="pictures beside one another")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    originals = read_originals(arguments)
    colored = np.stack(list(Colorizer.load(arguments.model).colorize_many(originals)))
    gray = evaluation.gray_images(originals)
    rows = []
    for start in range(0, len(originals), arguments.columns):
        part = slice(start, start + arguments.columns)
        rows += [gray[part], colored[part], originals[part]]
    sheets.make_grid(rows).save(arguments.output, quality=88)


def read_originals(arguments: argparse.Namespace) -> np.ndarray:
    """Return the chosen photos, cut to their middle square: uint8 (N, side, side, 3)."""
    config = find_model(arguments.model).config
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
