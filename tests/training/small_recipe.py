"""A recipe of networks that compile in a moment, for programs that tests start.

The folder of this file has to be on their PYTHONPATH.
"""

from ml_collections import ConfigDict
from small_networks import register_small_networks

from configs import wgan


def get_config() -> ConfigDict:
    """Return a recipe of seconds: 24 drawn pictures of 16 pixels, two phases."""
    register_small_networks()
    config = wgan.get_config("tiny")
    config.image_size = 16
    config.batch_size = 4
    config.generator = ConfigDict({"name": "small", "dropout": 0.5})
    config.critic = ConfigDict({"name": "small"})
    config.phases.adversarial.generator_steps = 1
    config.data.garden_images = 24
    return config
