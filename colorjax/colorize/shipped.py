"""The models that come with colorjax: one in the package itself, more in a clone."""

from pathlib import Path

from colorjax.configuration import CONFIG_FILE
from colorjax.errors import UserError

DEFAULT = "flowers"  # taken where no model is named
NAMES = (DEFAULT, "faces")

_PACKAGE = Path(__file__).parents[1]
# A wheel holds the models that it may in `shipped/`. In a clone that folder is made of links to
# checkpoints/, which lies beside the package and holds all models.
PLACES = (_PACKAGE / "shipped", _PACKAGE.parent / "checkpoints")


def find_shipped(name: str) -> Path | None:
    """Return the folder of a model that comes with colorjax, None if it is not here."""
    if name not in NAMES:
        return None
    for place in PLACES:
        folder = (place / name).resolve()
        if (folder / CONFIG_FILE).is_file() and (folder / "generator").is_dir():
            return folder
    return None


def missing_default() -> UserError:
    """Return the error for a call that names no model where none is shipped."""
    return UserError(
        "No model is shipped with this copy of colorjax: name one (--model DIR), such as "
        "checkpoints/wgan, which train.py makes."
    )


def missing_model(name: str) -> UserError:
    """Return the error for a name that is no model's here."""
    if name in NAMES and name != DEFAULT:
        return UserError(
            f"The model {name!r} is not part of the installed package, as the licence of its "
            "training photos allows non-commercial research alone: clone colorjax's repository and "
            f"name the folder checkpoints/{name} there."
        )
    return UserError(
        f"There is no model {name!r}: name a run's or a model's folder, or one that "
        "`colorjax models` lists."
    )
