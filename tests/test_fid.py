"""The Fréchet distance against its textbook formula, and the features that it is taken in."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from colorjax import data, parallel
from colorjax.cli import main
from colorjax.errors import UserError
from colorjax.fid import FeatureNetwork, frechet_distance
from conftest import save_picture


def test_the_distance_is_that_of_the_formula():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(50, 6)) @ generator.normal(size=(6, 6))
    b = generator.normal(size=(40, 6)) @ generator.normal(size=(6, 6)) + 1
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    expected += np.trace(
        covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1])
    )
    assert frechet_distance(a, b) == pytest.approx(expected.real, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # Fewer pictures than features: the covariances are singular.
    assert frechet_distance(a[:3], b[:3]) > 0
    with pytest.raises(UserError, match="two pictures"):
        frechet_distance(a[:1], b)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A ResNet-18 up to layer1, with random weights."""
    generator = np.random.default_rng(0)
    tensors = {"conv1.weight": generator.normal(0, 0.1, (64, 3, 7, 7))}
    for block in (0, 1):
        for conv in (1, 2):
            kernel = generator.normal(0, 0.05, (64, 64, 3, 3))
            tensors[f"layer1.{block}.conv{conv}.weight"] = kernel
    norms = [name.replace("conv", "bn").removesuffix(".weight") for name in tensors]
    for norm in norms:
        tensors |= {f"{norm}.weight": np.ones(64), f"{norm}.running_var": np.ones(64)}
        tensors |= {f"{norm}.bias": np.zeros(64), f"{norm}.running_mean": np.zeros(64)}
    path = tmp_path / "resnet.npz"
    np.savez(path, **{name: tensor.astype(np.float32) for name, tensor in tensors.items()})
    return path


def test_features_are_each_pictures_own(weights):
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    network = FeatureNetwork(str(weights), parallel.create_mesh())

    def extract(indices: list[int], batch_size: int) -> np.ndarray:
        batches = data.make_evaluation_batches(images, np.array(indices), batch_size=batch_size)
        return network.extract(batches)

    all_five = extract([0, 1, 2, 3, 4], 2)
    assert all_five.shape == (5, 64)
    assert len({round(value, 6) for value in all_five[:, 0]}) == 5
    np.testing.assert_allclose(extract([3], 1), all_five[3:4], rtol=1e-4, atol=1e-5)


def test_evaluate_gives_fid_with_its_protocol(
    weights, work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        save_picture(f"photos/{seed}.png", 40, 28, seed)
    arguments = ["evaluate", "--models", str(model_folder), "--data", "folder:photos"]
    arguments += ["--split", "all", "--json", "figures.json"]
    assert main([*arguments, "--fid-weights", str(weights)]) == 0
    [figures] = json.loads(Path("figures.json").read_text()).values()
    assert figures["fid"] > 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{figures['fid']:.2f}" in text
    assert f"ResNet-18 up to layer1 of {weights}" in text
    assert main([*arguments, "--fid-weights", "nothing.npz"]) == 2
    assert "There is no file nothing.npz" in capsys.readouterr().err
