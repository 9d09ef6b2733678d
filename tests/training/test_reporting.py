"""What a run tells: its plots."""

import json

import pytest
from PIL import Image

from colorjax.training.reporting import draw_plots

RECONSTRUCTION = {"train/l1": 0.1, "validation/l1": 0.2, "validation/psnr": 20.0}
GAN = RECONSTRUCTION | {"train/gan_loss": 1.0, "train/critic_loss": 0.5}
ACCURACY = {"train/critic_accuracy": 0.7, "validation/critic_accuracy": 0.6}


@pytest.mark.parametrize(
    ("values", "plots"),
    [(RECONSTRUCTION, 2), (GAN, 4), (GAN | ACCURACY, 5), ({"validation/psnr": 20.0}, 1)],
)
def test_each_kind_of_figure_that_is_there_has_a_plot(tmp_path, values, plots):
    lines = [{"step": 5 * epoch, "epoch": epoch} | values for epoch in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_plots(tmp_path)
    # 400 by 350 pixels each.
    assert Image.open(tmp_path / "plots/losses.png").size == (400 * plots, 350)
