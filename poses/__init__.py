"""From people in a video to the pose images that the dance's model takes."""
