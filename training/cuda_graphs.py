"""Training passes recorded as CUDA graphs: a GPU repeats a recorded pass without waiting for Python.

As in modules/cuda_graphs.py, but with the gradients, with noise, and with numbers that change from pass to pass.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.cuda_graphs import WARM_UP, recording
from modules.gaussian import Noise


class FixedNoise(Noise):
    """Noise in tensors at fixed addresses, as a recorded pass needs: handed out in the order of `shapes`, filled by fill()."""

    def __init__(self, shapes: list[tuple[int, ...]], *, batch: int, device: torch.device):
        super().__init__(None, batch=batch, device=device)
        self.tensors = [torch.empty(batch, *shape, device=device) for shape in shapes]

    def draw(self, *shape: int) -> Tensor:
        tensor = self.tensors[len(self.shapes)]
        if tensor.shape[1:] != shape:
            raise ValueError(f"draw {len(self.shapes) + 1}: expected the shape {tuple(tensor.shape[1:])}, got {shape}")
        self.shapes.append(shape)
        return tensor

    def fill(self, noise: Noise) -> None:
        """Draw all numbers again."""
        for tensor in self.tensors:
            tensor.copy_(noise.draw(*tensor.shape[1:]))


class Pass(NamedTuple):
    """What a forward and backward pass takes. The last two are tensors in a recorded pass, where a number would be fixed."""

    inputs: dict[str, Tensor]  # of the model's forward
    noise: Noise
    teacher_forced: bool
    kl_weight: float | Tensor
    loss_weight: float | Tensor


RunPass = Callable[[Pass], Tensor]  # adds to the gradients of the parameters and returns (loss, mse, kl), (3,)


class RecordedPass:
    """One pass as a CUDA graph, with the tensors that it reads and writes."""

    def __init__(self, run: RunPass, example: Pass, shapes: list[tuple[int, ...]], parameters: list[nn.Parameter], pool):
        device = parameters[0].device
        batch = len(next(iter(example.inputs.values())))
        self.parameters = parameters
        self.noise = FixedNoise(shapes, batch=batch, device=device)
        self.weights = torch.empty(2, device=device)
        inputs = {name: tensor.clone() for name, tensor in example.inputs.items()}
        self.fixed = Pass(inputs, self.noise, example.teacher_forced, self.weights[0], self.weights[1])
        self.graph = torch.cuda.CUDAGraph()
        with recording(self.graph, pool=pool):
            self.losses = run(self.fixed)
        self.gradients = [parameter.grad for parameter in parameters]

    def replay(self, given: Pass) -> Tensor:
        """Run the pass for other inputs of the same shapes."""
        for name, tensor in self.fixed.inputs.items():
            tensor.copy_(given.inputs[name])
        self.noise.fill(given.noise)
        self.weights.copy_(torch.tensor([given.kl_weight, given.loss_weight]), non_blocking=True)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return self.losses


class GraphedPass:
    """Runs passes, from the fourth of each kind and shape on as a recorded one.

    `run` must begin with parameters without gradients. Passes of all kinds share their memory, because they run in turns.
    """

    def __init__(self, run: RunPass, parameters: Iterable[nn.Parameter]):
        self.run, self.parameters = run, list(parameters)
        self.warm_ups: Counter = Counter()
        self.recorded: dict[tuple, RecordedPass] = {}
        self.noise_shapes: dict[tuple, list[tuple[int, ...]]] = {}  # of the latest pass of each kind
        self.works = True  # until a pass cannot be recorded
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, given: Pass) -> Tensor:
        kind = (given.teacher_forced, *((name, tensor.shape) for name, tensor in given.inputs.items()))
        if kind not in self.recorded:
            self.warm_ups[kind] += 1
            if self.warm_ups[kind] <= WARM_UP or not self.works:
                losses = self.run(given)
                self.noise_shapes[kind] = given.noise.shapes
                return losses
            try:
                self.recorded[kind] = RecordedPass(self.run, given, self.noise_shapes[kind], self.parameters, self.pool)
            except RuntimeError as error:
                self.works = False
                for parameter in self.parameters:
                    parameter.grad = None  # some may belong to the recording that failed
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"CUDA graphs do not work here ({reason[:100]}); training continues without them", file=sys.stderr)
                return self.run(given)
        return self.recorded[kind].replay(given)
