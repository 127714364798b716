"""What training takes of memory, from a model's config alone: counted on the meta device, where tensors have no bytes.

P parameters, of which the largest decoder layer has L, and R are in no layer, H of them the output layer's; n processes
share the weights, a GPU each; c bytes a number in compute precision (2 on a GPU, 4 on a CPU). For full training, and
with LoRA (lora.py) with its A adapter parameters:

    weights          4 P / n                         c P / n + 4 A / n      float32; a frozen base in compute precision
    moments          8 P / n                         8 A / n                AdamW's, float32
    gradients        4 P / n                         4 A / n                while an update runs
    reference        4 P / n                         0                      of --kl; with LoRA the base itself
    sampler's copy   c P                             c (P + A)              none for one process on a CPU
    gathered         c (R + H) + (3 c + 4) L         c R + 3 c L            FSDP2: see `gathered_bytes`
    cache            a position * PAGE * pages, and a page                  sampler.py; on a CPU rows in one piece
    activations      what a forward of the layers saves for its backward, counted; with gradient checkpointing the
                     inputs of all layers, and all that one of them saves
    logits           TABLES of one chunk, float32                           policy.py
    optimiser step   gradients, and the square root of the second moment

Left out is what is small: prompts in prefill, the sampler's own logits, CUDA's context, fragments. So a GPU is called
full at USABLE of its memory, and the sampler takes SHARE of what it finds free. tests/test_memory.py counts bytes: the
numbers of the weights and the cache are exact, those of activations and of what is gathered within a tenth, on CPUs.
"""

import contextlib
import math
from dataclasses import replace

import torch
from transformers import AttentionInterface

import lora
import policy
from config import as_flags
from sampler import PAGE, default_slots, windows

USABLE, SHARE = 0.95, 0.8
GIB = 2**30
TABLES = 8  # of a chunk's logits that are alive at once in its backward


def position_bytes(model_config, itemsize: int) -> int:
    """What the sampler's cache takes for a position of a row: keys and values of every layer."""
    heads, of = model_config.num_attention_heads, lambda name, otherwise: getattr(model_config, name, None) or otherwise
    if of("kv_lora_rank", 0):  # DeepSeek's attention keeps what keys and values are made of
        numbers = model_config.kv_lora_rank + model_config.qk_rope_head_dim
    else:
        numbers = 2 * of("num_key_value_heads", heads) * of("head_dim", model_config.hidden_size // heads)
    return model_config.num_hidden_layers * numbers * itemsize


class _Attention(torch.autograd.Function):
    """Fused attention, as far as what it saves is concerned: queries, keys, values, output and a number a query. If it
    has a mask, which is made once for all layers, also the mask in numbers; then keys and values are those of every
    head."""

    @staticmethod
    def forward(ctx, query_BHTD, key_BKTD, value_BKTD, mask_B1TT):
        B, H, T, _ = query_BHTD.shape
        if mask_B1TT is not None:
            key_BKTD, value_BKTD = (x.repeat_interleave(H // x.shape[1], 1) for x in (key_BKTD, value_BKTD))
            mask_B1TT = mask_B1TT, mask_B1TT.to(query_BHTD.dtype)
        out_BHTD = query_BHTD.new_empty(B, T, H, value_BKTD.shape[-1]).transpose(1, 2)
        numbers_BHT = query_BHTD.new_empty(B, H, T).float()
        ctx.save_for_backward(query_BHTD, key_BKTD, value_BKTD, out_BHTD, numbers_BHT, *(mask_B1TT or ()))
        return out_BHTD


def saved(model, tokens: int) -> tuple[list[int], int]:
    """What a forward of one row of `tokens` tokens saves for its backward, without weights: the bytes of each decoder
    layer, and of the rest. On the meta device `_Attention` stands for scaled dot products (sdpa)."""
    layers, place, found, seen, masks = policy.decoder_layers(model), [-1], {}, set(), {}
    weights = {p.untyped_storage()._cdata for p in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen | weights:
            seen.add(storage._cdata)
            found.setdefault(place[0], []).append(storage)  # kept, so that no other gets its address
        return tensor

    with contextlib.ExitStack() as stack:
        for i, layer in enumerate(layers):
            for hook in (
                layer.register_forward_pre_hook(lambda *_, i=i: place.__setitem__(0, i)),
                layer.register_forward_hook(lambda *_: place.__setitem__(0, -1)),
            ):
                stack.callback(hook.remove)
        if model.device.type == "meta" and model.config._attn_implementation == "sdpa":
            AttentionInterface.register("counted", lambda module, *given, **_: (_fused(*given[:4]), None))
            masks = {"attention_mask": _masks(model.config, tokens)}
            model.config._attn_implementation = "counted"
            stack.callback(setattr, model.config, "_attn_implementation", "sdpa")
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor))
        ids_BT = torch.zeros(1, tokens, dtype=torch.long, device=model.device)
        kept = model.base_model(input_ids=ids_BT, use_cache=False, **masks).last_hidden_state  # noqa: F841
        sizes = {i: sum(storage.nbytes() for storage in some) for i, some in found.items()}
    return [sizes.get(i, 0) for i in range(len(layers))], sizes.get(-1, 0)


def _masks(model_config, tokens: int):
    """The masks that a model is given (or makes) where it has a sliding window: one, or one of each kind of layer."""
    window, kinds = max(filter(None, windows(model_config)), default=None), getattr(model_config, "layer_types", None)
    if not window or tokens < window:
        return None
    mask_11TT = torch.empty(1, 1, tokens, tokens, dtype=torch.bool, device="meta")
    return {"full_attention": None, "sliding_attention": mask_11TT} if kinds else mask_11TT


def _fused(query_BHTD, key_BKTD, value_BKTD, mask_B1TT):
    return _Attention.apply(query_BHTD, key_BKTD, value_BKTD, mask_B1TT).transpose(1, 2)


def activation_bytes(layers: list[int], rest: int, tokens: int, counted: int, hidden: int, again: bool) -> float:
    """Of a micro-batch of `tokens` tokens, from what `saved` says of `counted` ones. `again`: gradient checkpointing.
    `hidden`: the bytes of a token's hidden state."""
    share = tokens / counted
    return share * rest + (tokens * hidden * len(layers) + share * max(layers) if again else share * sum(layers))


def gathered_bytes(model, itemsize: int) -> int:
    """What a backward has beside its shards when it has most, in units of FSDP2 as policy.sharded makes them: what is
    in no layer, with the output layer's gradient; the weights of one layer and, on their way, of the one before it; and
    gradients of one layer, with those of the one behind it in float32, while they are summed. With adapters a forward
    has more: of a layer the weights, and those of two as they came.

    Measured by counting (tests/test_memory.py), with torch 2.13: it is how that works, and no promise of it. When a
    micro-batch begins and ends there is more of what is in no layer, but there are neither logits nor activations."""

    def trained(module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    layers = policy.decoder_layers(model)
    largest = max(_count(layer.parameters()) for layer in layers)
    rest = _count(model.parameters()) - sum(_count(layer.parameters()) for layer in layers)
    behind = (itemsize + 4) * max(map(trained, layers))
    head = trained(model.get_output_embeddings())
    return itemsize * (rest + head + 2 * largest) + max(itemsize * largest, behind)


class Plan:
    """The memory of a run of train.py. What takes how many bytes of each process: `held` between steps; `sampling`,
    with the cache; in an `update`; and in the optimiser's `step`. `rows` are the bytes of cache of the longest response
    and construction, and `slots` how many such rows go side by side; more of shorter ones do, up to `most`. Then what a
    save takes of the `disk`, and the processes of a node of its memory (`host`)."""

    def __init__(self, model_config, settings, processes: int, memory: float, prompt: int, gpu: bool = True):
        """`settings` has the parts objective, selection, sampling and optimiser of config.Training. `processes` are
        those of a node, `memory` bytes is a GPU's, or on CPUs the node's; `prompt` tokens has the longest prompt."""
        self.args = model_config, settings, processes, memory, prompt, gpu
        self.settings, self.processes, self.gpu = settings, processes, gpu
        self.usable = USABLE * memory / (1 if gpu else processes)
        self.dtype, rank = torch.bfloat16 if gpu else torch.float32, settings.optimiser.lora
        model = policy.skeleton(model_config, self.dtype)
        self.parameters = self.trained = _count(model.parameters())
        largest = max(p.numel() for p in model.parameters())
        if rank:
            lora.adapt(model, rank, self.dtype)
            self.trained = _count(lora.weights(model).values())
            for p in lora.weights(model).values():
                p.data = p.data.to(self.dtype)  # as FSDP does for a forward
        self._hold()
        self._sample(model_config, prompt)
        self._update(model, model_config, prompt)
        self.disk = 12 * self.trained
        # GPUs' shards are read and written tensor by tensor.
        self.host = 4 * largest if gpu else processes * sum(self.update.values())

    def _hold(self):
        """Weights, moments, the sampler's copy, the reference."""
        n, c, frozen = self.processes, self.dtype.itemsize, 0 if self.trained == self.parameters else self.parameters
        copies = (1 if self.gpu else 1 / n) if self.gpu or n > 1 else 0  # processes on CPUs share one
        self.held = {
            "weights": (c * frozen + 4 * self.trained) / n,
            "moments": 8 * self.trained / n,
            "sampler's copy": copies * c * (frozen + self.trained),
            "reference": 4 * self.parameters / n if self.settings.objective.kl and not frozen else 0,
        }

    def _sample(self, model_config, prompt: int):
        """The cache for responses and for constructions, as sampler.Sampler makes it: on a GPU the pages that its rows
        take if all are at their longest, or else those that its share of the free memory holds."""
        s, position = self.settings.sampling, position_bytes(model_config, self.dtype.itemsize)
        self.context = getattr(model_config, "max_position_embeddings", None) or math.inf
        lengths = {"responses": prompt + s.max_new_tokens}
        if self.settings.objective.algo in ("tapo", "sft"):
            lengths["constructions"] = prompt + 2 * s.max_new_tokens + s.max_synthesis_tokens
        slots, asked = s.slots or default_slots(self.gpu), self.settings.optimiser.queries * s.k
        self.most, free = min(slots, asked), self.usable - sum(self.held.values())
        self.rows, self.slots, caches = {}, {}, []
        for name, length in lengths.items():
            length = min(length, self.context) - 1  # the last token is never fed
            size = PAGE if self.gpu else length
            width = math.ceil(length / size)  # pages of a row
            fit = max(0, int(SHARE * free)) // (size * position) if self.gpu else math.inf
            pages = min(self.most * width, fit)
            self.rows[name], self.slots[name] = width * size * position, pages // width
            caches.append((pages + self.gpu) * size * position)  # a page is nobody's
        self.sampling = self.held | {"cache": max(caches)}

    def _update(self, model, model_config, prompt: int):
        """Forward and backward of the largest micro-batch, which is the longest row where that has more tokens."""
        o, s, n, c = self.settings.optimiser, self.settings.sampling, self.processes, self.dtype.itemsize
        longest = prompt + s.max_new_tokens
        if self.settings.objective.mu and "constructions" in self.rows:
            longest += s.max_new_tokens + s.max_synthesis_tokens
        self.longest = min(self.context, longest)
        self.tokens = max(o.micro_batch_tokens, self.longest)
        counted = saved(model, self.longest) if self.gpu else self._in_float32(model)
        hidden, chunk = c * model_config.hidden_size, min(policy.chunk_of(model_config), self.tokens)
        gradients = {"gradients": 4 * self.trained / n}
        self.update = self.held | gradients | {
            "gathered": gathered_bytes(model, c) if self.gpu or n > 1 else 0,
            "activations": activation_bytes(*counted, self.tokens, self.longest, hidden, o.gradient_checkpointing),
            "logits": TABLES * 4 * chunk * model_config.vocab_size,
        }  # fmt: skip
        self.step = self.held | gradients | {"square roots": 4 * self.trained / n}

    def _in_float32(self, model) -> tuple[list[int], int]:
        """`saved`; of mixtures of experts, which compute in bfloat16 alone on the meta device, that twice."""
        try:
            return saved(model, self.longest)
        except RuntimeError:
            layers, rest = saved(model.to(torch.bfloat16), self.longest)
            return [2 * layer for layer in layers], 2 * rest

    @property
    def peak(self) -> float:
        """What an update with its step takes."""
        return max(sum(self.update.values()), sum(self.step.values()))

    @property
    def needed(self) -> float:
        """What a process needs at the most; on a GPU with a single slot."""
        cache = max(self.rows.values()) / SHARE if self.gpu else self.sampling["cache"]
        sampling = sum(self.held.values()) + cache
        return max(sampling, self.peak)

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.needed <= self.usable

    def advice(self) -> str:
        """What makes it fit, as the end of a sentence."""
        return f"; it fits with {', or with '.join(found)}" if (found := self.remedies()) else ""

    def changed(self, processes: int | None = None, **changes) -> "Plan":
        """The same with other settings of the optimisation, or on more processes."""
        model_config, settings, n, memory, prompt, gpu = self.args
        settings = settings._replace(optimiser=replace(settings.optimiser, **changes))
        return Plan(model_config, settings, processes or n, memory, prompt, gpu)

    def remedies(self) -> list[str]:
        """What makes it fit: the gentlest flags that do on these GPUs, and the least number of GPUs."""
        found: list[str] = []
        less = {"micro_batch_tokens": math.ceil(self.longest / 1024) * 1024}
        less = less if less["micro_batch_tokens"] < self.settings.optimiser.micro_batch_tokens else {}
        small = {} if self.settings.optimiser.gradient_checkpointing else {"gradient_checkpointing": True}
        adapters = {} if self.settings.optimiser.lora else {"lora": 32}
        for with_them in ({}, adapters):
            ways = [with_them | way for way in ({}, small, less, small | less)]
            fit = [way for way in ways if way and not self.fits and not found and self.changed(**way).fits]
            found += [as_flags(way) for way in fit[:1]]
        for count in (2, 4, 8, 16, 32) if (not found or "lora" in found[0]) and not self.fits else ():
            if count > self.processes and (more := self.changed(count, **small | less)).fits:
                found.append(f"{more.processes} {'GPUs' if self.gpu else 'processes'} {as_flags(less)}".rstrip())
                break
        return found

    def row(self, name: str) -> str:
        """How many rows of a kind go side by side."""
        full = f"{self.slots[name]} {name} of full length ({self.rows[name] / GIB:.2f} GiB each)"
        return full if self.slots[name] in (0, self.most) else f"{full}, up to {self.most} shorter ones"

    def lines(self) -> list[str]:
        """What there is to say of it, in three lines."""
        where = f"a GPU's {self.usable / GIB:.1f} GiB" if self.gpu else f"a process's {self.usable / GIB:.1f} GiB"
        slots = ", ".join(self.row(name) for name in self.rows)
        return [
            f"memory, GiB: of {where}, {_told(self.sampling)} while it samples: {slots}",
            f"memory, GiB: {_told(self.update)} in an update of {self.tokens} tokens",
            f"memory, GiB: {_told(self.step)} in the optimiser's step; {self.disk / GIB:.1f} on the disk in a save",
        ]


def _count(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _told(parts: dict[str, float]) -> str:
    """A sum, with its parts."""
    told = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
    return f"{sum(parts.values()) / GIB:.1f} ({told})"
