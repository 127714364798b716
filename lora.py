"""Low-rank adaptation (LoRA, arXiv 2106.09685), for people with one GPU: the model's weights W stay as they are, and
each linear layer of the decoder learns a difference of rank r beside them:

    y = W x + (ALPHA / r) B A x          A [r, in] begins at random, B [out, r] at 0: the policy begins as the model

So only A and B have gradients and AdamW's moments, 1 % of the weights or so, and W needs no float32: it is kept in
compute precision, A and B in float32. The sampler runs with the adapters in place, as the trainer does; so both are the
same policy, where a W that had taken B A in would lose it to bfloat16's rounding. Without its adapters (`off`) the
model is what it was, which is the reference that --kl wants.

What is kept is the adapter, in the format of the library peft (`PeftModel.from_pretrained(model, folder)`); at the end
of a run also the model with W + (ALPHA / r) B A in place of W (`merged`), float32.

The experts of a mixture are no linear layers in transformers, so they learn nothing; nor do embedding and output layer.
The learning rate should be about ten times that of full training (LoRA Without Regret, Thinking Machines 2025).
"""

import contextlib
import math

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear

import parallel
import policy

ALPHA = 32
PREFIX = "base_model.model."  # of peft's names


class Adapter(nn.Module):
    """What one linear layer learns: it is the layer's child, and a hook adds what it gives to what the layer gives."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        new = {"device": layer.weight.device, "dtype": torch.float32}
        self.A = nn.Parameter(torch.empty(rank, layer.in_features, **new))
        self.B = nn.Parameter(torch.empty(layer.out_features, rank, **new))
        self.scale, self.on = ALPHA / rank, True

    def forward(self, x):
        """(ALPHA / r) B A x."""
        return linear(self.scale * linear(x.to(self.A.dtype), self.A), self.B)  # the scale where there is least to do


def _add(layer, given, out):
    return out + layer.adapter(given[0]).to(out.dtype) if layer.adapter.on else out


def adapt(model, rank: int, dtype: torch.dtype):
    """Freeze the weights of `model`, in place and in `dtype`, and give its decoder adapters, which `begin` fills."""
    model.requires_grad_(False)
    for p in model.parameters():
        p.data = p.data.to(dtype)
    for decoder in policy.decoder_layers(model):
        for layer in [module for module in decoder.modules() if isinstance(module, nn.Linear)]:
            layer.adapter = Adapter(layer, rank)
            layer.register_forward_hook(_add)


@torch.no_grad()
def begin(model, seed: int):
    """The values that adapters begin with: as torch begins linear layers, and 0."""
    generator = torch.Generator().manual_seed(seed)
    for adapter in _adapters(model).values():
        bound = 1 / math.sqrt(adapter.A.shape[1])
        part, first = parallel.rows(adapter.A)
        part.copy_(torch.empty(adapter.A.shape).uniform_(-bound, bound, generator=generator)[first : first + len(part)])
        parallel.rows(adapter.B)[0].zero_()


def _adapters(model) -> dict[str, Adapter]:
    """The adapters by the names of their layers."""
    return {name.removesuffix(".adapter"): m for name, m in model.named_modules() if isinstance(m, Adapter)}


@contextlib.contextmanager
def off(model):
    """In this block the model is what it was before it had adapters."""
    adapters = _adapters(model).values()
    for adapter in adapters:
        adapter.on = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.on = True


def weights(model) -> dict[str, nn.Parameter]:
    """What the adapters learn, by peft's names; nothing of a model without adapters."""
    return {
        f"{PREFIX}{name}.lora_{which}.weight": getattr(adapter, which)
        for name, adapter in _adapters(model).items()
        for which in "AB"
    }


def described(model) -> dict:
    """What peft's adapter_config.json says of the adapters."""
    adapters = _adapters(model)
    rank = len(next(iter(adapters.values())).A)
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": model.config._name_or_path,
        "r": rank, "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        "inference_mode": True, "target_modules": sorted({name.rpartition(".")[2] for name in adapters}),
    }  # fmt: skip


@torch.no_grad()
def merged(model) -> dict[str, torch.Tensor]:
    """The state of a model that needs no adapters, float32, tied tensors once; shards where they are shards."""
    adapters = {f"{name}.weight": adapter for name, adapter in _adapters(model).items()}
    found = {}
    for name, tensor in policy.stored(model).items():
        found[name] = tensor.float()
        if adapter := adapters.get(name):
            whole = found[name] + adapter.scale * (adapter.B @ adapter.A)
            found[name] = whole.redistribute(placements=tensor.placements) if isinstance(tensor, DTensor) else whole
    return found
