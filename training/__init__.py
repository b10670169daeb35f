"""The training loop's parts: flags, schedules, optimizer step, checkpoints, logs."""
