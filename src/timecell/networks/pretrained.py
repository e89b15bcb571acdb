"""Language models that others have trained: `load_pretrained` puts any causal model of Hugging Face behind `CausalLM`.

Nothing is fetched: the model is an object that you made, or a folder on your disk (safetensors; no code from it is run).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import DataError, InputError, MissingExtra
from timecell.state import StateTree


def load_pretrained(model: Any) -> PretrainedLM:
    """A causal language model of Hugging Face as a `timecell.networks.causal_lm.CausalLM`.

    Args:
        model: the model itself, or the folder that its `save_pretrained` wrote.

    Raises:
        InputError: the object is no causal language model.
        DataError: there is no such folder, or no such model in it.
        MissingExtra: a folder was named, and transformers is not installed.
    """
    if not isinstance(model, str | Path):
        return PretrainedLM(model)
    folder = Path(model)
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise MissingExtra("transformers", "hf", f"load_pretrained({str(folder)!r})") from None
    if not (folder / "config.json").is_file():
        raise DataError(
            str(folder), found="no config.json", expected="a folder as `save_pretrained` of transformers wrote it",
            remedy="save the model there first; nothing is fetched from a network",
        )  # fmt: skip
    try:
        return PretrainedLM(AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True))
    except (OSError, ValueError) as e:
        raise DataError(
            str(folder), found=str(e).splitlines()[0], expected="a causal language model in safetensors",
            remedy="save it again with save_pretrained",
        ) from e  # fmt: skip


class Read(NamedTuple):
    """All that was read so far: embedded words [B, P, D], and which of them are no padding [B, P]."""

    words: Tensor
    alive: Tensor


class PretrainedLM(nn.Module):
    """The adapter. It goes on reading by reading everything again, which every model and version can.

    Args:
        model: with `base_model`, `config.hidden_size`, `get_input_embeddings` and `get_output_embeddings`, as every causal
            model of transformers has them.

    Shapes: x [B, L, D], embedded -> [B, L, D]; state: `Read`.

    Raises:
        InputError: the object lacks one of these.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        needed = ("base_model", "config", "get_input_embeddings", "get_output_embeddings")
        missing = [name for name in needed if not hasattr(model, name)]
        if missing or model.get_output_embeddings() is None:
            raise InputError(
                "model", found=f"{type(model).__name__} without {', '.join(missing) or 'a head'}",
                expected="a causal language model of transformers", remedy="load it with AutoModelForCausalLM",
            )  # fmt: skip
        self.model = model

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.model.config.hidden_size)

    @property
    def tokens(self) -> int:
        """Words of the vocabulary."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def add_tokens(self, number: int) -> int:
        """Add words behind those of the model and return the id of the first; its tables of words are then trained."""
        first = self.tokens
        self.model.resize_token_embeddings(first + number)
        for table in (self.model.get_input_embeddings(), self.model.get_output_embeddings()):
            table.requires_grad_(True)
        return first

    def embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """The words as the model reads them."""
        return self.model.get_input_embeddings()(ids)

    def forward(
        self, x: Float[Tensor, "B L D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B L D"], StateTree]:
        """Read on."""
        check_sequence("PretrainedLM(x)", x, lengths)
        check_channels("PretrainedLM(x)", x, self.hidden_size)
        alive = torch.ones(x.shape[:2], dtype=torch.int64, device=x.device)
        if lengths is not None:
            alive = (torch.arange(x.shape[1], device=x.device) < lengths[:, None]).long()
        now = (
            Read(x, alive)
            if state is None
            else Read(torch.cat([state.words, x], 1), torch.cat([state.alive, alive], 1))
        )
        told: dict[str, Tensor] = {}
        if not now.alive.all():  # padding takes no place
            told["position_ids"] = (now.alive.cumsum(1) - 1).clamp(min=0)
        hidden = self.model.base_model(inputs_embeds=now.words, attention_mask=now.alive, use_cache=False, **told)[0]
        return silence(hidden[:, -x.shape[1] :], lengths), now

    def head(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next word."""
        return self.model.get_output_embeddings()(hidden)
