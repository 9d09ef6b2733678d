"""From a model's folder and pictures to coloured pictures."""
