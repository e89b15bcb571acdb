"""What of a trained net is trained on: nothing, the norms and places, small matrices beside the large ones, or all.

    LoRA    W + (alpha / r) B A      A [r, in] drawn, B [out, r] zero at first; W stays

Source: Hu et al., "LoRA" (2021), arXiv:2106.09685; norms and places alone: Lu et al. (2021), arXiv:2103.05247.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from timecell.errors import InputError, unknown_name

Trainable = Literal["frozen", "norm+pos", "lora", "full"]


class LowRank(nn.Module):
    """What is added to a weight: (alpha / rank) B A, zero at first.

    Example:
        >>> layer = nn.Linear(6, 4)
        >>> before = layer.weight.detach().clone()
        >>> _ = parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank=2, alpha=4.0))
        >>> torch.equal(layer.weight, before), sorted(p.numel() for p in layer.parametrizations.weight[0].parameters())
        (True, [8, 12])
    """

    def __init__(self, weight: Float[Tensor, "O I"], rank: int, alpha: float) -> None:
        super().__init__()
        if not 1 <= rank <= min(weight.shape):
            raise InputError(
                "rank", found=rank, expected=f"1 to {min(weight.shape)}, the smaller side of the weight",
                remedy="choose a smaller one",
            )  # fmt: skip
        self.A = nn.Parameter(torch.randn(rank, weight.shape[1], device=weight.device) / weight.shape[1] ** 0.5)
        self.B = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device))
        self.scale = alpha / rank

    def forward(self, weight: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
        """The weight that is used."""
        return weight + self.scale * (self.B @ self.A)


def set_trainable(net: nn.Module, mode: Trainable, rank: int = 8, alpha: float = 16.0) -> None:
    """Say what of a net training may change.

    Args:
        net: changed in place.
        mode: "frozen"; "norm+pos", its norms and what tells it places; "lora", a small matrix beside each matrix (not
            beside tables of words and the head); "full".
        rank: of the small matrices.
        alpha: their weight is alpha / rank.

    Raises:
        InputError: an unknown mode, or a rank that does not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        >>> set_trainable(net, "norm+pos")
        >>> [name for name, p in net.named_parameters() if p.requires_grad]
        ['1.weight', '1.bias']
        >>> set_trainable(net, "lora", rank=2)
        >>> sum(p.numel() for p in net.parameters() if p.requires_grad)
        24
    """
    if mode not in get_args(Trainable):
        raise unknown_name("mode", mode, get_args(Trainable))
    net.requires_grad_(mode == "full")
    for name, module in list(net.named_modules()):
        if mode == "norm+pos" and ("Norm" in type(module).__name__ or _tells_places(name, module)):
            module.requires_grad_(True)
        elif mode == "lora" and _is_matrix(module) and not name.endswith("head"):
            parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, alpha))


def _tells_places(name: str, module: nn.Module) -> bool:
    own = name.rpartition(".")[2]
    return isinstance(module, nn.Embedding) and ("pos" in own or own == "wpe")


def _is_matrix(module: nn.Module) -> bool:
    """Linear layers, also those that keep their weight the other way round (GPT-2); embeddings are tables."""
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 2 and not isinstance(module, nn.Embedding)
