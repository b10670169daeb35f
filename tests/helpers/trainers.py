"""A Trainer in the test's own process, and batches for it."""

from torch import Tensor
from torch.utils.data import default_collate

from dataloader import BatchPosition
from runtime.distributed import Ranks
from Trainer import Trainer
from training.flags import parse_trainer_flags
from training.resume import StartPoint


def make_trainer(train_args, *more: str) -> Trainer:
    """Return a Trainer that has not trained yet."""
    return Trainer(parse_trainer_flags([*train_args, *more])[0], StartPoint(), Ranks())


def position(index: int, *, loss_weight: float = 1.0, completes_step: bool = True) -> BatchPosition:
    """Return the position of a batch, with 0 for the values that do not matter to the tests."""
    return BatchPosition(index, 0, 0, loss_weight, completes_step)


def batch_of(trainer, indices) -> dict[str, Tensor]:
    """Return the batch of the clips with these indices in the first epoch."""
    return default_collate([trainer.loader.dataset[0, i] for i in indices])
