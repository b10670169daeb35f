"""From videos of a person to the pose images that the dance model is conditioned on."""
