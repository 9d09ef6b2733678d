import jax.numpy as jnp
import pytest

from colorjax import models
from colorjax.errors import UserError
from colorjax.models.frozen import frozen_mask, frozen_prefixes, is_frozen, trainable_labels

PARAMS = {
    "encoder": {
        "conv1": {"kernel": jnp.zeros(1)},
        "layer1_0": {"conv1": {"kernel": jnp.zeros(1)}, "downsample_1": {"scale": jnp.zeros(1)}},
        "layer1_1": {"conv1": {"kernel": jnp.zeros(1)}},
    },
    "conv1": {"kernel": jnp.zeros(1)},
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("layer1", True), ("layer1.0", True), ("layer1.0.conv1", True), ("layer", False), ("", False)],
)
def test_a_prefix_is_made_of_whole_names(prefix, expected):
    assert is_frozen("layer1.0.conv1", [prefix]) == expected


def test_mask_is_true_below_the_prefixes_and_in_the_encoder_alone():
    assert frozen_mask(PARAMS, ("conv1", "layer1.0.downsample.1", "layer1.1")) == {
        "encoder": {
            "conv1": {"kernel": True},
            "layer1_0": {"conv1": {"kernel": False}, "downsample_1": {"scale": True}},
            "layer1_1": {"conv1": {"kernel": True}},
        },
        "conv1": {"kernel": False},
    }


def test_labels_say_what_the_mask_says():
    labels = trainable_labels({"encoder": PARAMS["encoder"]}, ("layer1",))
    assert labels["encoder"]["conv1"] == {"kernel": "trainable"}
    assert labels["encoder"]["layer1_0"]["downsample_1"] == {"scale": "frozen"}


@pytest.mark.parametrize("prefix", ["layer2", "bn1", "layer1.0.conv", "encoder", ""])
def test_a_prefix_of_nothing_is_an_error(prefix):
    with pytest.raises(UserError, match=rf"config\.generator\.frozen has '{prefix}'"):
        frozen_mask(PARAMS, ("conv1", prefix))


def test_a_generator_without_the_field_has_nothing_frozen():
    assert frozen_prefixes(models.UNet()) == ()
    assert not any(frozen_mask({"Conv_0": {"kernel": 1}}, ())["Conv_0"].values())
