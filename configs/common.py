"""Every config field is born here, with its meaning and its unit; a recipe changes what differs."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return the fields that all recipes share, with the house defaults."""
    config = ConfigDict()
    config.seed = 42  # of the weights, dropout, penalty and flips
    config.image_size = 128  # pixels; pictures are squashed to this square
    config.batch_size = 64  # pictures in the global batch, over all devices
    config.codec = "lab_centered"  # lab_centered: L/50-1, ab/110; lab_unit: L/100, ab/128; rgb
    config.dtype = "float32"  # of the networks' arithmetic: float32 or bfloat16
    # On a GPU: the same operations in the same order each time, and slower, for an exact resume.
    config.deterministic = False
    config.ema_decay = 0.999  # of the generator's average, per step; 0 switches it off
    # A run's folder (or DIR@STEP) whose weights and optimisers to start from, or a model's, which
    # holds the generator's weights alone.
    config.init_from = ""
    # The encoder's weights, where init_from names none: FILE.npz, FILE.safetensors, hf://OWNER/NAME.
    config.pretrained = ""
    config.steps_per_epoch = 0  # batches; 0: each training picture once an epoch
    config.patience = 0  # epochs without a lower validation L1 that end a run of one phase; 0: none
    config.on_nonfinite = "stop"  # on a loss or gradient that isn't finite: stop, or skip it
    config.nonfinite_limit = 10  # batches skipped in a row before training stops after all
    config.data = data()
    config.generator = ConfigDict({"name": "unet", "widths": (64, 128, 256, 512, 1024)})
    config.critic = ConfigDict({"name": "wgan", "widths": (), "norm": "instance"})
    config.generator_optimizer = optimizer()
    config.critic_optimizer = optimizer()
    config.phase_order = ("pretraining", "adversarial")  # names of fields of config.phases
    config.phases = ConfigDict({"pretraining": reconstruction(), "adversarial": wgan_gp()})
    config.checkpoint = ConfigDict()
    config.checkpoint.keep = 2  # how many of the newest steps are kept
    config.checkpoint.keep_every_epochs = 0  # keep these epochs' steps for ever; 0: none
    config.checkpoint.every_steps = 0  # save within an epoch as well; 0: at its end only
    config.log_every_steps = 20  # steps between two training lines in metrics.jsonl
    config.sample_images = 7  # columns of the sample grid
    return config


def data() -> ConfigDict:
    """Return where pictures come from and how they are prepared."""
    fields = ConfigDict()
    fields.source = "garden"  # folder:PATH, tfds:NAME or garden
    fields.validation_source = ""  # validate on all pictures of this source; empty: on the split
    fields.split_rule = ""  # hash, permutation or ordered (test first); empty: the source's
    fields.split_fractions = (0.7, 0.15, 0.15)  # train, validation, test
    fields.split_seed = 42
    fields.shuffle_seed = 0  # of the order of the training pictures
    fields.load_size = ()  # (height, width) in pixels as loaded; empty: the square image_size
    fields.crop_size = 0  # side of the middle square cut out (or padded) of that; 0: no cut
    fields.horizontal_flip = 0.5  # probability, on training pictures alone
    fields.zoom = 1.0  # training pictures' random parts are enlarged by up to this; 1: whole ones
    fields.rotation = 0.0  # degrees; training pictures are turned by up to this, either way
    fields.cache_dir = ""  # of the decoded pictures; empty: ~/.cache/colorjax
    fields.tfds_split = ""  # of TFDS: the one split to use; empty: all
    fields.tfds_dir = ""  # where TFDS keeps its data; empty: ~/tensorflow_datasets
    fields.manual_dir = ""  # where archives placed by hand lie; empty: nowhere
    fields.garden_images = 1000  # pictures that `garden` draws
    fields.threads = 4  # that decode, and that read batches
    fields.prefetch = 4  # batches read ahead
    return fields


def optimizer(learning_rate: float = 2e-4, b1: float = 0.0, b2: float = 0.9) -> ConfigDict:
    """Return Adam at a constant rate, by default WGAN-GP's."""
    fields = ConfigDict()
    fields.name = "adam"  # adam or adamw
    fields.learning_rate = learning_rate  # the peak, where a schedule changes it
    fields.schedule = "constant"  # constant, linear (decay to 0) or cosine (warm-up, then to 0)
    fields.warmup_steps = 0  # cosine only
    fields.b1 = b1
    fields.b2 = b2
    fields.eps = 1e-8
    fields.weight_decay = 0.0  # adamw only
    fields.gradient_clip = 0.0  # largest global norm of a gradient; 0: no clipping
    return fields


def pix2pix_optimizer(learning_rate: float = 2e-4) -> ConfigDict:
    """Return pix2pix's Adam (arXiv 1611.07004)."""
    return optimizer(learning_rate, b1=0.5, b2=0.999)


def reconstruction(epochs: int = 5) -> ConfigDict:
    """Return a phase that trains the generator alone, against the true colours.

    A phase may hold a `generator_optimizer` (or `critic_optimizer`) of its own, which then begins
    anew with the phase; without one the optimiser's state carries on from phase to phase.
    """
    fields = ConfigDict()
    fields.objective = "reconstruction"
    fields.epochs = epochs
    fields.loss = "absolute"  # absolute (L1) or squared
    # Of the cross-entropy of what pictures show, their folders; needs generator.classes (unet).
    fields.class_weight = 0.0
    return fields


def wgan_gp(epochs: int = 110) -> ConfigDict:
    """Return a phase of WGAN with gradient penalty plus L1 (arXiv 1704.00028)."""
    fields = adversarial("wgan_gp", epochs, reconstruction_weight=1.0)
    fields.generator_steps = 2
    fields.gradient_penalty_weight = 10.0
    return fields


def gan(epochs: int, reconstruction_weight: float = 100.0) -> ConfigDict:
    """Return a phase of a GAN whose critic tells real from fake, plus L1."""
    fields = adversarial("gan", epochs, reconstruction_weight)
    fields.loss = "bce"  # bce, flipped_bce (real is 0), least_squares or hinge
    return fields


def adversarial(objective: str, epochs: int, reconstruction_weight: float) -> ConfigDict:
    """Return what the adversarial phases share."""
    fields = ConfigDict()
    fields.objective = objective
    fields.epochs = epochs
    fields.generator_steps = 1  # generator updates per batch
    fields.critic_steps = 1  # critic updates per batch
    fields.reconstruction_weight = reconstruction_weight  # of L1 in the generator's loss
    fields.adversarial_weight = 1.0  # of the critic's part in the generator's loss
    fields.critic_gate = 1.0  # the critic skips a batch judged more accurately; 1: skips none
    fields.noise_every_epochs = 0  # the critic sees noise for fakes in each n-th epoch; 0: never
    return fields


def shrink(config: ConfigDict) -> None:
    """Make the data's side of a config one that a CPU bears: 64 pixels, batches of 16."""
    config.image_size = 64
    config.batch_size = 16
    config.ema_decay = 0.995


def shrink_further(config: ConfigDict) -> None:
    """Take pictures that the program draws itself, at 32 pixels."""
    shrink(config)
    config.data.source = "garden"
    config.image_size = 32
    config.ema_decay = 0.98


def faces() -> ConfigDict:
    """Return the fields that the two CelebA recipes share; shrink them with `shrink_faces`."""
    config = get_config()
    config.codec = "lab_unit"
    config.batch_size = 64
    config.steps_per_epoch = 500
    config.patience = 3
    config.critic.name = ""
    config.generator_optimizer = optimizer(1e-3, b1=0.9, b2=0.999)
    config.phase_order = ("reconstruction",)
    config.phases = ConfigDict({"reconstruction": reconstruction(epochs=15)})
    config.data.source = "tfds:celeb_a"
    config.data.tfds_split = "train"
    config.data.split_rule = "ordered"
    config.data.split_fractions = (0.75, 0.15, 0.10)
    config.data.load_size = (218, 178)
    config.data.crop_size = 150
    config.data.horizontal_flip = 0.0
    config.data.rotation = 15.0
    return config


def shrink_faces(config: ConfigDict) -> None:
    """Take faces of half the size, from a folder, to 64 pixels."""
    shrink(config)
    config.steps_per_epoch = 0
    config.data.source = "folder:faces"
    config.data.tfds_split = ""
    config.data.load_size = (109, 89)
    config.data.crop_size = 75


def shrink_faces_further(config: ConfigDict) -> None:
    """Take drawn pictures, whole, in steps enough for norms whose statistics move slowly."""
    shrink_further(config)
    config.batch_size = 8
    config.steps_per_epoch = 0
    config.patience = 0
    config.data.tfds_split = ""
    config.data.load_size = ()
    config.data.crop_size = 0
