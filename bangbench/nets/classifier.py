"""The wrapper that lets everything else work on grey levels."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bangbench.core.device import exact_arithmetic, memory_explained
from bangbench.nets.outputs import PLAIN, logits_in
from bangbench.store.records import Preprocessing

#: In eval mode the net sees batches of a multiple of so many images, the last image repeated to fill them. Matrix
#: products give a row other last bits in a batch of one to three rows (in one thread; of up to seven in two) than in a
#: larger one, so that what becomes of an image would depend on how many others are left.
BATCH_MULTIPLE = 8


class Classifier(nn.Module):
    """Grey levels float32 (N, C, H, W) in [0, 255] -> logits (N, K); only here are grey levels converted.

    The net sees (x / input_scale - mean) / std. `mean` and `std` are broadcast against (C, H, W): one value per
    channel, or a whole mean image.

    draws: the number of passes that a prediction averages, more than 1 for a net that is random in eval mode. The
    logits are then log(mean of softmax), at the level of the single passes' logits, whose signs some attacks look at:
    whatever asks for logits, votes or gradients in eval mode gets those of the averaged prediction (expectation over
    transformation, Athalye et al. 2018, section 4).
    """

    mean: Tensor | None
    std: Tensor | None
    _where: Tensor

    def __init__(
        self,
        net: nn.Module,
        preprocessing: Preprocessing,
        mean_image: Tensor | None = None,
        channels_last: bool = False,
        draws: int = 1,
    ) -> None:
        super().__init__()
        exact_arithmetic()
        self.net: nn.Module = _channels_last(net) if channels_last else net
        self.input_scale = preprocessing.input_scale
        self.channels_last = channels_last
        self.draws = draws
        #: How the logits are called in what the net returns.
        self.output = PLAIN
        mean = mean_image if mean_image is not None else _per_channel(preprocessing.mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", _per_channel(preprocessing.std))
        self.register_buffer("_where", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Return where it computes, whether or not the net has parameters."""
        return self._where.device

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of grey-level images (N, C, H, W); `OutOfMemoryError` where these are too many."""
        count, filled = len(images), images
        if not self.training and count % BATCH_MULTIPLE:
            filled = torch.cat([images, images[-1:].expand(-count % BATCH_MULTIPLE, *images.shape[1:])])
        with memory_explained(count):
            logits = self._averaged(filled) if self.draws > 1 and not self.training else self._logits(filled)
        as_many = isinstance(logits, Tensor) and logits.shape[:1] == filled.shape[:1]
        return logits[:count] if as_many and filled is not images else logits

    def with_draws(self, draws: int) -> Classifier:
        """Return this classifier, on the same net, with predictions that average so many passes."""
        other = copy.copy(self)
        other.draws = draws
        return other

    def _averaged(self, images: Tensor) -> Tensor:
        passes = torch.stack([self._logits(images) for _ in range(self.draws)])
        level = passes.detach().logsumexp(2, keepdim=True).mean(0)
        return passes.log_softmax(2).logsumexp(0) - math.log(self.draws) + level

    def _logits(self, images: Tensor) -> Tensor:
        single = images.dtype == torch.float32
        if self.channels_last:
            images = _lie_channels_last(images)
        if self.input_scale != 1.0:
            images = images / self.input_scale
        if self.mean is not None:
            images = images - self.mean
        if self.std is not None:
            images = images / self.std
        if self.input_scale == 1.0 and self.mean is None and self.std is None:
            images = images.clone()  # a net may change its input in place, and these are the caller's
        output = self.net(images)
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] == 1:
            output, self.output = logits_in(output)
        # attacks step in float32; a float64 copy of a net may answer in float32 and is to be seen to
        return output.float() if single and isinstance(output, Tensor) and output.is_floating_point() else output


def _lie_channels_last(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) whose channels lie next to each other in memory.

    With one channel both layouts are the same memory, but torch goes by the strides alone: without this, all that
    follows would be computed the slow way, twice as long for LeNet.
    """
    if images.shape[1] == 1:
        count, _, height, width = images.shape
        return images.reshape(count, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def _channels_last(net: nn.Module) -> nn.Module:
    """Lay the weights of 2-d convolutions out channels-last, in place."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return net


def _per_channel(values: tuple[float, ...] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values).view(-1, 1, 1)
