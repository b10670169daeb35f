"""The way from videos of a person to the pose images on which the dance model is conditioned."""
