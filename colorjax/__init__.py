"""Image colorization in JAX: train it on your own photos, colour your own pictures."""
