"""From a config and pictures to a trained run's folder."""
