"""What training takes of memory, from a model's config alone, by formulas that are right to 25 %.

P parameters, of which the largest decoder layer has L, and R are in no layer, H of them the output layer's; n processes
share the weights, a GPU each; c bytes a number in compute precision (2 on a GPU, 4 on a CPU). For full training, and
with LoRA (lora.py) with its A adapter parameters:

    weights          4 P / n                         c P / n + 4 A / n      float32; a frozen base in compute precision
    moments          8 P / n                         8 A / n                AdamW's, float32
    gradients        4 P / n                         4 A / n                while an update runs
    reference        4 P / n                         0                      of --kl; with LoRA the base itself
    sampler's copy   c P                             c (P + A)              none for one process on a CPU
    gathered         c (R + H) + (3 c + 4) L         c R + 3 c L            beside the shards, in a backward
    cache            a position * PAGE * pages, and a page                  sampler.py; on a CPU rows in one piece
    activations      `layer_bytes` a token and layer; with gradient checkpointing of one layer, and the others' inputs
    logits           TABLES of one chunk, float32                           policy.py
    optimiser step   gradients, and the square root of the second moment

Left out is what is small: prompts in prefill, the sampler's own logits, CUDA's context, fragments. So a GPU is called
full at USABLE of its memory, and the sampler takes SHARE of what it finds free. tests/test_memory.py counts bytes.
"""

import math
from dataclasses import replace

import torch

import lora
import policy
from config import as_flags
from sampler import PAGE, default_slots, windows

USABLE, SHARE = 0.95, 0.8
GIB = 2**30
TABLES = 8  # of a chunk's logits that are alive at once in its backward


def _given(model_config, name: str, otherwise):
    return getattr(model_config, name, None) or otherwise


def _count(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def position_bytes(model_config, c: int) -> int:
    """What the sampler's cache takes for a position of a row: keys and values of every layer."""
    heads = model_config.num_attention_heads
    size = _given(model_config, "head_dim", model_config.hidden_size // heads)
    numbers = 2 * _given(model_config, "num_key_value_heads", heads) * size
    if latent := _given(model_config, "kv_lora_rank", 0):  # DeepSeek's attention keeps what keys and values are made of
        numbers = latent + model_config.qk_rope_head_dim
    return model_config.num_hidden_layers * numbers * c


def layer_bytes(model_config, layer, row: int, c: int, window: int | None = None) -> float:
    """What a decoder layer saves for its backward, for a token of a row of `row` tokens: inputs of norms in float32,
    normalised, and weighted; queries, keys, values and what they give; four times the MLP's width. Rows beyond its
    `window` need a mask, and keys and values of every head; attention that is not fused has tables of scores."""
    heads, hidden, wide = model_config.num_attention_heads, model_config.hidden_size, model_config.intermediate_size
    weights = dict(layer.named_parameters())
    queries = heads * _given(model_config, "head_dim", hidden // heads)
    keys = queries * _given(model_config, "num_key_value_heads", heads) / heads
    norms = sum("norm" in name and p.shape == (hidden,) for name, p in weights.items())
    inner = any("q_norm" in name for name in weights) * (4 + c) * (queries + keys)
    masked, unfused = bool(window and row >= window), model_config._attn_implementation == "eager"
    attention = 2 * (queries + (queries if masked else keys)) + (masked + 3 * heads * unfused) * row
    if latent := _given(model_config, "kv_lora_rank", 0):  # DeepSeek's
        inner = (4 + 2 * c) * (latent + _given(model_config, "q_lora_rank", 0))
        attention = heads * (3 * model_config.qk_head_dim + 2 * model_config.v_head_dim)
    if any("experts" in name for name in weights):
        count = model_config.num_experts_per_tok
        wide = (count + _given(model_config, "n_shared_experts", 0)) * _given(
            model_config, "moe_intermediate_size", wide
        )
        wide += count * hidden / 2
    return norms * (4 + 2 * c) * hidden + inner + c * (attention + 4 * wide)


def activation_bytes(model, tokens: int, row: int, c: int, again: bool) -> float:
    """Of a micro-batch of `tokens` tokens, in rows of at most `row`. `again`: gradient checkpointing."""
    each = [
        layer_bytes(model.config, layer, row, c, window)
        for layer, window in zip(policy.decoder_layers(model), windows(model.config))
    ]
    hidden = model.config.hidden_size
    return tokens * ((4 + c) * hidden + (c * hidden * len(each) + max(each) if again else sum(each)))


def gathered_bytes(model, c: int) -> int:
    """What a backward has beside its shards when it has most, in units of FSDP2 as policy.sharded makes them: what is
    in no layer, with the output layer's gradient; the weights of a layer and of the one before it; gradients of a
    layer, and of the one behind it in float32 while they are summed. Found by counting, with torch 2.13."""
    layers = [_count(layer.parameters()) for layer in policy.decoder_layers(model)]
    rest, head = _count(model.parameters()) - sum(layers), _count(model.get_output_embeddings().parameters())
    return c * (rest + 3 * max(layers)) + (0 if lora.weights(model) else c * head + 4 * max(layers))


class Plan:
    """The memory of a run of train.py. What takes how many bytes of each process: `held` between steps; `sampling`,
    with the cache; in an `update`; and in the optimiser's `step`. `rows` are the bytes of cache of the longest response
    and construction, and `slots` how many such rows go side by side; more of shorter ones do, up to `most`. Then what a
    save takes of the `disk`, and the processes of a node of its memory (`host`)."""

    def __init__(self, model_config, settings, processes: int, memory: float, prompt: int, gpu: bool = True):
        """`settings` has the parts objective, sampling and optimiser of config.Training. `processes` are those of a
        node, `memory` bytes is a GPU's, or on CPUs the node's; `prompt` tokens has the longest prompt."""
        self.args, self.settings = (model_config, settings, processes, memory, prompt, gpu), settings
        self.gpu, self.processes, self.usable = gpu, processes, USABLE * memory / (1 if gpu else processes)
        objective, o, n = settings.objective, settings.optimiser, processes
        dtype, copies = (torch.bfloat16, 1) if gpu else (torch.float32, (n > 1) / n)  # processes on CPUs share one
        c, model = dtype.itemsize, policy.skeleton(model_config, dtype)
        self.parameters = self.trained = _count(model.parameters())
        largest, frozen = max(p.numel() for p in model.parameters()), self.parameters if o.lora else 0
        if o.lora:
            lora.adapt(model, o.lora, dtype)
            self.trained = _count(lora.weights(model).values())
        self.held = {
            "weights": (c * frozen + 4 * self.trained) / n,
            "moments": 8 * self.trained / n,
            "sampler's copy": copies * c * (frozen + self.trained),
            "reference": 4 * self.parameters / n if objective.kl and not frozen else 0,
        }
        self._sample(prompt, position_bytes(model_config, c), _given(model_config, "max_position_embeddings", math.inf))
        self.tokens = max(o.micro_batch_tokens, self.longest)  # of the largest micro-batch
        updating = self.held | {"gradients": 4 * self.trained / n}
        self.step = updating | {"square roots": 4 * self.trained / n}
        self.update = updating | {
            "gathered": gathered_bytes(model, c) if gpu or n > 1 else 0,
            "activations": activation_bytes(model, self.tokens, self.longest, c, o.gradient_checkpointing),
            "logits": TABLES * 4 * min(policy.chunk_of(model_config), self.tokens) * model_config.vocab_size,
        }
        self.peak = max(sum(self.update.values()), sum(self.step.values()))
        least = max(self.rows.values()) / SHARE if gpu else self.sampling["cache"]  # on a GPU a single row
        self.needed = max(sum(self.held.values()) + least, self.peak)
        self.fits, self.disk = self.needed <= self.usable, 12 * self.trained
        self.host = 4 * largest if gpu else n * sum(self.update.values())  # GPUs' shards are read tensor by tensor

    def _sample(self, prompt: int, position: int, context: float):
        """The cache for responses and for constructions, as sampler.Sampler makes it: on a GPU the pages that its rows
        take if all are at their longest, or else those that its share of the free memory holds."""
        objective, s = self.settings.objective, self.settings.sampling
        lengths = {"responses": prompt + s.max_new_tokens}
        if objective.algo in ("tapo", "sft"):
            lengths["constructions"] = prompt + 2 * s.max_new_tokens + s.max_synthesis_tokens
        self.longest = min(context, max(lengths.values()) if objective.mu else lengths["responses"])
        self.most = min(s.slots or default_slots(self.gpu), self.settings.optimiser.queries * s.k)
        self.rows, self.slots, self.sampling = {}, {}, self.held | {"cache": 0}
        for name, length in lengths.items():
            length = min(length, context) - 1  # the last token is never fed
            page, width = (PAGE * position, math.ceil(length / PAGE)) if self.gpu else (length * position, 1)
            pages = self.most * width
            if self.gpu:
                free = max(0, int(SHARE * (self.usable - sum(self.held.values()))))
                pages = min(pages, free // page)
            self.rows[name], self.slots[name] = width * page, pages // width
            self.sampling["cache"] = max(self.sampling["cache"], (pages + self.gpu) * page)  # a page is nobody's

    def changed(self, processes: int | None = None, **changes) -> "Plan":
        """The same with other settings of the optimisation, or on more processes."""
        model_config, settings, n, *more = self.args
        settings = settings._replace(optimiser=replace(settings.optimiser, **changes))
        return Plan(model_config, settings, processes or n, *more)

    def advice(self) -> str:
        """What makes it fit, as the end of a sentence: the gentlest flags that do, and the least number of GPUs."""
        o, fewer = self.settings.optimiser, math.ceil(self.longest / 1024) * 1024
        less = {"micro_batch_tokens": fewer} if fewer < o.micro_batch_tokens else {}
        small = {} if o.gradient_checkpointing else {"gradient_checkpointing": True}
        adapters = {} if o.lora else {"lora": 32}
        ways = [adapted | way for adapted in ({}, adapters) for way in ({}, small, less, small | less)]
        first = next((way for way in ways if way and self.changed(**way).fits), None)
        found = [as_flags(first)] if first else []
        if not first or "lora" in first:
            more = (self.changed(n, **small | less) for n in (2, 4, 8, 16, 32) if n > self.processes)
            unit = "GPUs" if self.gpu else "processes"
            found += [f"{plan.processes} {unit} {as_flags(less)}".rstrip() for plan in more if plan.fits][:1]
        return f"; it fits with {', or with '.join(found)}" if found else ""

    def row(self, name: str) -> str:
        """How many rows of a kind go side by side."""
        full = f"{self.slots[name]} {name} of full length ({self.rows[name] / GIB:.2f} GiB each)"
        return full if self.slots[name] in (0, self.most) else f"{full}, up to {self.most} shorter ones"

    def lines(self) -> list[str]:
        """What there is to say of it, in three lines."""
        where = f"a {'GPU' if self.gpu else 'process'}'s {self.usable / GIB:.1f} GiB"
        sums = []
        for parts in (self.sampling, self.update, self.step):
            each = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
            sums.append(f"{sum(parts.values()) / GIB:.1f} ({each})")
        return [
            f"memory, GiB: of {where}, {sums[0]} while it samples: {', '.join(self.row(name) for name in self.rows)}",
            f"memory, GiB: {sums[1]} in an update of {self.tokens} tokens",
            f"memory, GiB: {sums[2]} in the optimiser's step; {self.disk / GIB:.1f} on the disk in a save",
        ]
