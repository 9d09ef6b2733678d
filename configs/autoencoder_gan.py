"""An autoencoder against a CNN, in RGB, and the autoencoders that led to it.

    python train.py --config configs/autoencoder_gan.py             # Flowers-102 at 128 pixels
    python train.py --config configs/autoencoder_gan.py:demo        # the small network it shipped
    python train.py --config configs/autoencoder_gan.py:ae5         # the first of its iterations
    python train.py --config configs/autoencoder_gan.py:small       # at 64 pixels: a CPU
    python train.py --config configs/autoencoder_gan.py:tiny        # built-in data, minutes

A student system rebuilt: the grey picture, three times over, goes through a residual autoencoder
with an embedding of 16x16x512 and comes out in colour. A CNN that sees nothing but the picture
(454,849 parameters) judges it. The loss is binary cross entropy on flipped labels plus 75 times L1.
Two tricks hold the critic back: it isn't trained on a batch that it judges more accurately than
`critic_gate`, and in every fifth epoch noise takes the place of the generated pictures that it is
shown. Its accuracy is reported for each epoch, on all validation pictures (the original took 100).

The variants: `demo` is the network whose weights were shipped (218,227 parameters). `ae5`, `ae7`,
`ae7_leaky` and `ae9_skip` are the iterations before the GAN: autoencoders of 5 and 7 layers, the
latter with LeakyReLU, and of 9 layers with skips, trained alone on the squared error. `colorjax
compare --models autoencoder_gan-ae5 autoencoder_gan-ae7 ...` puts them beside one another.
`--config.data.validation_source=folder:OTHER` validates on other flower photos, as the original
did.

What no source states was chosen so: the gate at an accuracy of 0.8, on noise as on pictures; noise
uniform over the range of the batch's colours; pix2pix's Adam, of each batch first the critic, its
loss halved, then the generator; batches of 32, 100 epochs; a 70/15/15 split; horizontal flips;
dropout of 0.3 in the critic; skips added before the ReLU; the plain autoencoders of 64 channels,
doubled at each stride, with one more convolution to the picture, `ae9_skip` with LeakyReLU and
added skips; an average of the generator is what is evaluated and shipped.

Result: `small`, four epochs on 5,149 flower photos: PSNR 18.1 dB (grey 18.0, best constant colour
18.7), CIEDE2000 16.4, 0.83 of the photos' colourfulness (docs/results.md). The full recipe has not
been run yet.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

ITERATIONS: dict[str, dict[str, object]] = {
    "ae5": {"layers": 5},
    "ae7": {"layers": 7},
    "ae7_leaky": {"layers": 7, "activation": "leaky_relu"},
    "ae9_skip": {"layers": 9, "activation": "leaky_relu", "skips": True},
}
VARIANTS = ("demo", *ITERATIONS, "small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or one of its `VARIANTS`."""
    config = common.get_config()
    config.codec = "rgb"
    config.batch_size = 32
    config.data.source = "tfds:oxford_flowers102"
    config.generator = ConfigDict({"name": "residual_autoencoder"})
    config.critic = ConfigDict({"name": "cnn", "dropout": 0.3, "norm": "batch"})
    config.generator_optimizer = common.pix2pix_optimizer()
    config.critic_optimizer = common.pix2pix_optimizer()
    config.phase_order = ("adversarial",)
    config.phases = ConfigDict({"adversarial": common.gan(100, reconstruction_weight=75.0)})
    config.phases.adversarial.loss = "flipped_bce"
    config.phases.adversarial.critic_gate = 0.8
    config.phases.adversarial.noise_every_epochs = 5
    if variant == "demo":
        config.generator = ConfigDict({"name": "demo_autoencoder"})
    elif variant in ITERATIONS:
        reconstruct_alone(config, ITERATIONS[variant])
    elif variant == "small":
        common.shrink(config)
        config.phases.adversarial.epochs = 5
    elif variant == "tiny":
        common.shrink_further(config)
        config.batch_size = 8
        config.generator = ConfigDict({"name": "demo_autoencoder"})
        config.generator_optimizer.learning_rate = 2e-3
        config.phases.adversarial.epochs = 15
    elif variant:
        raise unknown_variant("configs/autoencoder_gan.py", variant, list(VARIANTS))
    return config


def reconstruct_alone(config: ConfigDict, fields: dict[str, object]) -> None:
    """Train a plain autoencoder without a critic, on the squared error."""
    config.generator = ConfigDict({"name": "plain_autoencoder", **fields})
    config.critic.name = ""
    config.phase_order = ("reconstruction",)
    config.phases = ConfigDict({"reconstruction": common.reconstruction(epochs=100)})
    config.phases.reconstruction.loss = "squared"
