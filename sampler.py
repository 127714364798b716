"""Batched sampling from a causal language model with a key-value cache: continuous batching, plainly.

The cache has `slots` rows. Each row holds one unfinished completion, and every step feeds one token a row:

    1. admit    a free row takes the next waiting completion: its prompt's keys and values are copied in
    2. forward  one token a row, at that row's own position; row b sees the cache up to its position and no further
    3. choose   one uniform number a row, turned into a token by inverting the cumulative distribution
    4. retire   a row whose token is an end token, or whose limit is reached, becomes free

Two choices keep this short. A prompt is prefilled without its last token, once for all its completions, and the last
token is the first thing that every completion feeds itself: so tokens are chosen in one place only. And rows are
kept dense (the last rows move into holes when nothing waits), so a step never computes an empty row.

A completion depends on (weights, prompt, seed, index) alone, where index numbers the completions of that prompt
within the call: not on slots, on the order of the prompts, or on what else is in the batch. (Up to floating point:
another batch shape may round a logit differently in its last bit.)

On a CPU a cache row is as long as the longest possible response, and a step attends to a prefix of the cache whose
length grows in buckets. On a GPU rows take pages of 256 positions as they grow, so memory follows what is really there;
when pages run out, the row with the fewest tokens gives its own back and is computed again later. There a step reads
each row's own positions and no others, by torch's variable-length attention, and is recorded once for each number of
rows (in powers of two) as a CUDA graph, because launching its kernels takes longer than running them. The first step
computes attention both ways, plainly and by that kernel; if they disagree, or there is no such kernel, a sentence says
so and plain attention it is. Layers with a sliding window read the same cache through a narrower window: what no window
reaches any more stays in memory, and the code stays short.
"""

import contextlib
import math
import sys
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from inspect import signature

import numpy as np
import torch
from torch.nn.functional import rms_norm
from torch.nn.functional import scaled_dot_product_attention as sdpa
from tqdm import tqdm
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

try:
    from torch.nn.attention.varlen import varlen_attn

    if "block_table" not in signature(varlen_attn).parameters:  # torch 2.11
        varlen_attn = None
except ImportError:
    varlen_attn = None

PAGE = 256  # positions of a page on a GPU: flash attention takes multiples of it


@dataclass(frozen=True)
class Completion:
    """A sampled response. `ids` ends with the end token when `finished`, else it was cut at its limit. `logprobs` holds
    log p(id) under the sampling temperature, over the whole vocabulary, in float32 (at temperature 0: under 1)."""

    ids: list[int]
    logprobs: list[float]
    finished: bool

    @property
    def said(self) -> list[int]:
        """The ids without the end token."""
        return self.ids[:-1] if self.finished else self.ids


class NotFinite(ValueError):
    """The model gives no probabilities."""


@dataclass
class Stats:
    """What a call of `sample` did. Seconds are of wall time; on a GPU a step ends when its tokens reach the CPU."""

    slots: int = 0
    prefill_tokens: int = 0  # computed, padding included
    decode_tokens: int = 0  # sampled
    steps: int = 0
    put_back: int = 0  # times that a row gave its pages to others, to be computed again later
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    cache_bytes: int = 0  # at the peak

    @property
    def seconds(self) -> float:
        """Of prefill and decoding."""
        return self.prefill_seconds + self.decode_seconds

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens."""
        return self.decode_tokens / self.seconds

    @property
    def occupancy(self) -> float:
        """The share of rows in use over all steps."""
        return self.decode_tokens / (self.steps * self.slots) if self.steps else 0.0


@dataclass
class _Row:
    """An admitted or waiting completion: what its next step needs to know."""

    prompt: int  # index of its prompt among the distinct ones
    key: int  # 64 random bits of its own
    limit: int
    pending: int  # the token to feed next
    position: int  # where that token goes in the cache
    place: tuple[int, int]  # of its completion in what `sample` returns
    pages: list[int] = field(default_factory=list)  # of the cache, in the order of positions; on a CPU there are none
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Engine:
    """What samples for the library. `Sampler` is the one it uses unless it is given another: a subclass of this with
    `sample` and, if it keeps weights of its own, `refresh`. The README says how to name it.

    `model` has the weights to sample with, whole, in compute precision, on this process's device. An update changes
    them in place, and then `refresh` is called. `eos_ids`: the tokens that end a completion; None takes those of the
    model's generation config. `slots`: how many completions run side by side, at most; None: 512 on a GPU, and else 64.

    Training holds for any engine that keeps what `sample` says of lengths, ends and log-probabilities. What the
    library promises of seeds (the same completions on another number of processes, or after a resumption) holds only
    if a completion depends on nothing but (weights, prompt, seed, its index among the prompt's completions)."""

    def __init__(self, model, *, eos_ids=None, slots: int | None = 64):
        if slots is not None and slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        if eos_ids is None:
            configured = model.generation_config.eos_token_id
            eos_ids = configured if isinstance(configured, (list, tuple)) else [configured]
        self.model, self.eos_ids = model, frozenset(eos_ids)
        self.slots = slots or default_slots(model.device.type == "cuda")

    def sample(
        self,
        prompts: list[list[int]],
        n: int = 1,
        *,
        max_new_tokens: int | list[int],
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        progress: str = "",
    ) -> list[list[Completion]]:
        """n completions of each prompt: outer list a prompt, inner list its completions.

        `max_new_tokens` is one limit for all or one a prompt. Temperature 0 takes the likeliest token. With top_p < 1
        or top_k > 0 tokens come from the truncated distribution, but `logprobs` stay those of the full one: training
        wants neither, because its importance ratio would then compare two different distributions. `progress` names a
        bar that appears when sampling takes more than a few seconds.

        Raises ValueError before any work on an empty prompt, or one that fits neither the model's context nor memory.
        """
        raise NotImplementedError

    def refresh(self):
        """Take over the present weights, those of `self.model`: all of its processes call it alike."""

    def check(self, prompts, n, max_new_tokens, temperature=1.0, top_p=1.0, top_k=0) -> list[int]:
        """The limit of each prompt. Raises ValueError with a sentence where `sample` would refuse these arguments."""
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        if len(limits) != len(prompts):
            raise ValueError(f"{len(limits)} limits for {len(prompts)} prompts: give one limit, or one a prompt")
        if n < 1 or any(limit < 1 for limit in limits):
            raise ValueError("n and max_new_tokens must be at least 1")
        if not (0 <= temperature < float("inf") and 0 < top_p <= 1 and top_k >= 0):
            raise ValueError("needed: a finite temperature >= 0, 0 < top_p <= 1, top_k >= 0")
        context = getattr(self.model.config, "max_position_embeddings", None)
        for i, (prompt, limit) in enumerate(zip(prompts, limits)):
            if not prompt:
                raise ValueError(f"prompt {i} is empty: it needs at least one token")
            if context and len(prompt) + limit > context:
                raise ValueError(
                    f"prompt {i} has {len(prompt)} tokens and may get {limit} more, but the model's context holds "
                    f"{context}: shorten the prompt or lower max_new_tokens"
                )
        return limits


def default_slots(gpu: bool) -> int:
    """The most rows side by side, unless told otherwise; on a GPU memory may hold fewer."""
    return 512 if gpu else 64


class Sampler(Engine):
    """Samples groups of completions from `model`, a transformers causal LM whose layers attend to all positions or to a
    sliding window. Raises ValueError with one sentence when it cannot run the model: `refusal` and `_try` find out.

    `memory`: bytes that the cache may take; None means 80 % of what is free on a GPU, and no bound on a CPU. Of the
    `slots`, as many are used as it holds. `page`: positions of a page of the cache; None, as on a CPU, keeps each row
    in one piece. The model is used as it is: its device, its weights, their precision; autocast is off.

    A position of the cache takes B = 2 * layers * kv_heads * head_dim * (bytes a number) bytes (`position_bytes`, which
    is measured). In one piece the cache takes B * slots * length, where length is the longest prompt plus its limit,
    minus 1; in pages it takes that, rounded up to pages, or what `memory` allows if that is less. While prompts are
    prefilled, another B * (prompts of the batch) * (longest of them - 1). `stats` tells after a call what it came to,
    and how it went."""

    def __init__(self, model, *, eos_ids=None, slots: int | None = 64, memory: int | None = None):
        super().__init__(model, eos_ids=eos_ids, slots=slots)
        self.memory, self.page = memory, PAGE if model.device.type == "cuda" else None
        self.by_kernel: bool | None = None  # whether pages are read by torch's kernel; None: the first step will tell
        self.by_graph = model.device.type == "cuda" and model._can_compile_fullgraph
        self.norms = norms(model) if model.device.type == "cuda" else []
        self.stats = Stats()
        self.position_bytes = self._try()

    @torch.inference_mode()
    def sample(self, prompts, n=1, *, max_new_tokens, temperature=1.0, top_p=1.0, top_k=0, seed=0, progress=""):
        """See `Engine.sample`."""
        limits = self.check(prompts, n, max_new_tokens, temperature, top_p, top_k)
        distinct, rows = _plan(prompts, n, limits, seed)
        groups: list[list[Completion]] = [[None] * n for _ in prompts]
        self.stats = Stats()
        if not rows:
            return groups
        length = max(len(p) + limit - 1 for p, limit in zip(prompts, limits))
        cache = self._cache(len(rows), length)
        bar = tqdm(total=len(rows), desc=progress, unit="completion", delay=3, leave=False, disable=not progress)
        with bar, _evaluating(self.model, "slots", self.norms):
            for row, finished in self._run(cache, distinct, deque(rows), temperature, top_p, top_k):
                i, j = row.place
                groups[i][j] = Completion(row.ids, row.logprobs, finished)
                bar.update()
                bar.set_postfix_str(f"{self.stats.tokens_per_second:.0f} tokens/s", refresh=False)
        return groups

    @torch.inference_mode()
    def _try(self) -> int:
        """Run five tokens. Raises ValueError with a sentence if that fails, or if the logits are not those of the
        model's own forward. Returns the bytes that a position of the cache takes."""
        model, device = self.model, self.model.device
        ids_BT, start_B = torch.arange(5, device=device)[None], torch.zeros(1, dtype=torch.long, device=device)
        cache = KVCache(model.config.get_text_config(), 1, 5)

        def differs() -> str | None:
            with _evaluating(model, "slots", self.norms):
                _forward(model, cache, ids_BT[:, :4], start_B, 4)
                ours = _forward(model, cache, ids_BT[:, 4:], start_B + 4, 5)
            with _evaluating(model, model.config._attn_implementation):
                theirs = model(input_ids=ids_BT, use_cache=False).logits[:, -1].float()
            close = 1e-4 if model.dtype == torch.float32 else 0.3  # of bfloat16: only what is wrong altogether
            if theirs.isfinite().all() and not (ours - theirs).norm() <= close * theirs.norm():
                return "its logits are not those of its own forward"

        if reason := refusal(model) or _reason(differs):
            raise ValueError(f"the sampler cannot run this model ({type(model).__name__}): {reason}")
        return cache.bytes // 5

    def _cache(self, rows: int, length: int) -> "KVCache":
        """The cache for `rows` completions of at most `length` positions, and in `stats` how many run side by side."""
        memory, slots = self.memory, min(rows, self.slots)
        if memory is None and self.model.device.type == "cuda":
            free, device = torch.cuda.mem_get_info(self.model.device)[0], self.model.device
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own reserve
            memory = int(0.8 * free)
        size = self.page or length
        width = -(-length // size)  # pages of the longest row
        pages = slots * width
        if memory is not None:
            pages = min(pages, memory // (size * self.position_bytes))
        if pages < width:
            raise ValueError(
                f"one completion of {length} positions needs {width * size * self.position_bytes / 2**20:.1f} MiB of "
                f"cache, but it may take only {memory / 2**20:.1f} MiB: lower max_new_tokens"
            )
        self.stats = Stats(slots=slots if self.page else pages)
        if self.page:
            return PagedCache(self.model, slots, width, pages, size)
        return KVCache(self.model.config, pages, length)

    def _run(self, cache, prompts, waiting, temperature, top_p, top_k) -> Iterator[tuple[_Row, bool]]:
        """The loop: admit, forward, choose, retire, until nothing waits and no row is active. Gives each row that
        retires, and whether it ended by itself."""
        device, stats = self.model.device, self.stats
        prefilled = _Prefill(self.model, prompts, stats)
        decode = (_PagedDecode if self.page else _Decode)(self, cache)
        active: list[_Row | None] = []
        while True:
            start = time.perf_counter()
            for row in cache.make_room(active):
                waiting.append(prefilled.as_prompt(row))
            holes, newcomers = cache.admit(waiting, active)
            prefilled.copy_into(cache, newcomers, holes)
            active = cache.close_holes(active)
            if not active:
                stats.cache_bytes = max(stats.cache_bytes, cache.bytes)
                return
            begun = time.perf_counter()
            logits_BV = decode(active)
            uniform_B = uniforms([row.key for row in active], [len(row.ids) for row in active])
            chosen_B, logprobs_B = choose(logits_BV, uniform_B.to(device), temperature, top_p, top_k)
            for row, id_, logprob in zip(active, chosen_B.tolist(), logprobs_B.tolist()):
                if math.isnan(logprob):
                    raise NotFinite("the model's logits are not finite: broken weights, or too low a temperature")
                row.ids.append(id_)
                row.logprobs.append(logprob)
                row.pending, row.position = id_, row.position + 1
            stats.steps += 1
            stats.decode_tokens += len(chosen_B)
            stats.prefill_seconds += begun - start
            stats.decode_seconds += time.perf_counter() - begun
            for i, row in enumerate(active):
                finished = row.pending in self.eos_ids
                if finished or len(row.ids) == row.limit:
                    active[i] = None
                    cache.release(row)
                    yield row, finished


def _plan(prompts, n, limits, seed):
    """The distinct prompts, and the rows to run, in order."""
    index: dict[tuple, int] = {}
    seen: Counter = Counter()
    rows = []
    for i, (prompt, limit) in enumerate(zip(prompts, limits)):
        p = index.setdefault(tuple(prompt), len(index))
        for j in range(n):
            key = blake2b(repr((seed, tuple(prompt), seen[p])).encode(), digest_size=8).digest()
            seen[p] += 1
            rows.append(_Row(p, int.from_bytes(key, "little"), limit, prompt[-1], len(prompt) - 1, (i, j)))
    rows.sort(key=lambda row: row.prompt)  # stable: the same prompt's completions follow one another
    return [list(prompt) for prompt in index], rows


def uniforms(keys: list[int], counters: list[int]) -> torch.Tensor:
    """One number in [0, 1) for each (64-bit key, counter), float64 [B]: the splitmix64 generator, at random access."""
    z = np.array(keys, np.uint64) + (np.array(counters, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def choose(logits_BV, uniform_B, temperature: float, top_p: float, top_k: int):
    """Token ids [B] and their log-probabilities [B], from float32 logits and one uniform number a row.

    The token is the first whose cumulative probability exceeds the uniform number (in float64, so that rounding never
    selects a token of probability zero)."""
    if temperature == 0:
        chosen = logits_BV.argmax(-1)
        return chosen, logits_BV.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
    logprobs = (logits_BV / temperature).log_softmax(-1)
    cumulative = truncate(logprobs.exp(), top_p, top_k).cumsum(-1, dtype=torch.float64)
    chosen = torch.searchsorted(cumulative, uniform_B[:, None] * cumulative[:, -1:], right=True)[:, 0]
    chosen.clamp_(max=cumulative.shape[1] - 1)  # of NaN, which `sample` will find
    return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]


def truncate(probs_BV, top_p: float, top_k: int):
    """Zero all but the top_k likeliest tokens (0: no limit) and then all but the fewest whose mass reaches top_p."""
    if top_p == 1 and top_k == 0:
        return probs_BV
    ordered, order = probs_BV.sort(dim=-1, descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = 0
    before = ordered.cumsum(-1) - ordered
    ordered[before >= top_p * ordered.sum(-1, keepdim=True)] = 0
    return torch.zeros_like(probs_BV).scatter(-1, order, ordered)


def refusal(model) -> str | None:
    """Why `Sampler` cannot run a model, as far as its class and config tell."""
    config = model.config
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if config.get_text_config() is not config:
        return "it is more than a text model"
    if others:
        return f"it has layers of {', '.join(sorted(others))}, and only full_attention and sliding_attention will do"
    if model._is_stateful:
        return "its layers keep a state, not keys and values"
    if not model._supports_attention_backend:
        return "transformers does not let its attention be replaced"
    return None


def _reason(work) -> str | None:
    """What `work` finds wrong, or why it fails, in one line. Its errors are of any kind: they are whatever a model's
    code, or a kernel, expects and does not find here."""
    try:
        return work()
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0]


def norms(model) -> list[torch.nn.Module]:
    """The RMS norms of a model that torch's own computes, too, but for rounding. Written out, as in transformers, a
    norm is eight kernels, and on a GPU a step of a few tokens mostly waits for kernels to start."""
    found = []
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if hasattr(module, "variance_epsilon") and weight is not None and weight.ndim == 1:
            x_1D = torch.arange(1.0, 1 + len(weight)).sin().to(weight)[None]
            with torch.no_grad():
                theirs_1D, ours_1D = module(x_1D), _norm(module, x_1D)
            if (ours_1D - theirs_1D).norm() <= 0.01 * theirs_1D.norm():
                found.append(module)
    return found


def _norm(module, x):
    return rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


@contextlib.contextmanager
def _evaluating(model, implementation: str, norms=()):
    """While it is entered: the model in evaluation mode with this implementation of attention, these `norms` by torch's
    own, its logits in float32, and no autocast."""
    AttentionInterface.register("slots", _attention)
    config, training, former = model.config, model.training, model.config._attn_implementation
    head = model.get_output_embeddings()
    narrow = isinstance(head, torch.nn.Linear) and head.weight.dtype != torch.float32
    try:
        model.eval()
        config._attn_implementation = implementation
        if narrow:
            head.forward = lambda hidden: wide_logits(hidden, head.weight, head.bias)
        for norm in norms:
            norm.forward = partial(_norm, norm)
        with torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        model.train(training)
        config._attn_implementation = former
        for module in [*norms, *([head] if narrow else [])]:
            vars(module).pop("forward", None)


def wide_logits(hidden, weight_VD, bias_V=None):
    """float32 logits [..., V] of an output layer in lower precision, without a gradient. Products of two bfloat16
    numbers are exact in float32 and summed there at no cost; rounded to bfloat16, as the layer itself would, logits
    near 20 are off by up to 0.06, and so are the log-probabilities of the sampler and the trainer."""
    hidden_ND = hidden.flatten(0, -2)
    if hidden.device.type == "cuda":
        logits_NV = torch.mm(hidden_ND, weight_VD.t(), out_dtype=torch.float32)
    else:
        logits_NV = hidden_ND.float() @ weight_VD.t().float()
    return (logits_NV if bias_V is None else logits_NV + bias_V).unflatten(0, hidden.shape[:-1])


def _attention(module, query_BHTD, key, value, mask, *, pages: "PagedCache | None" = None, **more):
    """The attention that the model is given: plain, or that of `pages`, or both, to compare them."""
    if pages is None:
        return attention(module, query_BHTD, key, value, mask, **more)
    fast = pages.attend(module.layer_idx, query_BHTD, **more)
    if pages.off is None:
        return fast, None
    plain, _ = attention(module, query_BHTD, key, value, mask, **more)
    difference, size = ((x.float().flatten(1).norm(dim=1)) for x in (fast - plain, plain))
    pages.off.append((difference / size.clamp_min(1e-9)).max().item())
    return plain, None


def attention(module, query_BHTD, key_BKLD, value_BKLD, attention_mask, *, scaling=None, s_aux=None, **more):
    """The attention of `sample`, as transformers' models call it: scaled dot products plus `attention_mask` [B, 1, T,
    L] (0 or -inf), query heads H in groups of G = H / K for each key head. `s_aux` [H] are sinks (gpt-oss): each is
    one more score of its head, without a value. Returns [B, T, H, head_dim] and no weights.

    A single query is the case that counts, and there the G heads of a group are G queries to the same keys, which are
    then read once. Two small products, which beat PyTorch's fused kernel on a CPU."""
    for name in ("softcap", "position_bias", "indices", "block_indices", "sinks"):
        if more.get(name) is not None:
            raise ValueError(f"its attention takes {name}")
    B, H, T, D = query_BHTD.shape
    K = key_BKLD.shape[1]
    if s_aux is None and T > 1:
        key_BHLD, value_BHLD = (x.repeat_interleave(H // K, 1) for x in (key_BKLD, value_BKLD))
        out_BHTD = sdpa(query_BHTD, key_BHLD, value_BHLD, attn_mask=attention_mask.to(query_BHTD.dtype), scale=scaling)
        return out_BHTD.transpose(1, 2), None
    G = H // K
    query_BKMD = query_BHTD.reshape(B, K, G * T, D)  # M: the T queries of each of the G heads
    if s_aux is None and query_BHTD.device.type != "cpu":
        out_BKGD = sdpa(query_BKMD, key_BKLD, value_BKLD, attn_mask=attention_mask.to(query_BHTD.dtype), scale=scaling)
        return out_BKGD.reshape(B, 1, H, -1), None
    scaling = D**-0.5 if scaling is None else scaling
    scores_BKGTL = ((scaling * query_BKMD) @ key_BKLD.transpose(-1, -2)).unflatten(2, (G, T))
    scores_BKGTL += attention_mask[:, :, None]
    if s_aux is not None:
        scores_BKGTL = torch.cat([scores_BKGTL, s_aux.view(K, G, 1, 1).expand(B, K, G, T, 1)], -1)
    weights_BKML = scores_BKGTL.softmax(-1)[..., : key_BKLD.shape[2]].flatten(2, 3)
    return (weights_BKML @ value_BKLD).reshape(B, H, T, -1).transpose(1, 2), None


def paged_attention(query_BHD, key_NSKD, value_NSKD, table_BP, seen_B, begin_2R, scaling=None, window=None):
    """The attention of one token a row over pages, by torch's kernel, which reads only what the row sees: of N pages of
    S positions, row b has table_BP[b] and sees the first seen_B[b] positions, or the last `window` of them. `begin_2R`:
    where each of the B = R - 1 rows begins, and where the last one ends, were the queries, and P * S positions a row,
    in one piece (all int32, as flash attention wants them). Returns [B, H, D]. Only CUDA has the kernel; tests hold its
    contract in its place."""
    if varlen_attn is None:
        raise ValueError(f"torch {torch.__version__} has none that reads pages, and 2.12 has")
    other = getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)()  # the user's: FA3, FA4
    return varlen_attn(
        query_BHD,
        key_NSKD,
        value_NSKD,
        begin_2R[0],
        None if other else begin_2R[1],  # torch's own wants it beside a table, the others refuse it
        1,
        table_BP.shape[1] * key_NSKD.shape[1],
        scale=scaling,
        window_size=(window - 1, 0) if window else (-1, -1),
        enable_gqa=True,
        seqused_k=seen_B,
        block_table=table_BP,
        num_splits=1,  # more give wrong results on pages (pytorch#194167)
    )


def _forward(model, cache, ids_BT, start_B, attended: int):
    """Logits [B, V] of the last column of ids_BT, float32, whose row b stands at positions start_B[b], start_B[b] + 1,
    ...; it sees positions of the first `attended` ones."""
    position_BT = start_B[:, None] + torch.arange(ids_BT.shape[1], device=start_B.device)
    out = model(
        input_ids=ids_BT,
        position_ids=position_BT,
        attention_mask=cache.at(position_BT, attended),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **({"pages": cache} if cache.by_kernel else {}),
    )
    return out.logits[:, -1].float()


class _Decode:
    """A step: logits [B, V] of one token in each of B rows, float32."""

    def __init__(self, sampler: Sampler, cache: "KVCache"):
        self.sampler, self.model, self.cache = sampler, sampler.model, cache
        self.input_2B = torch.zeros(2, cache.rows, dtype=torch.long, device=sampler.model.device)

    def __call__(self, rows: list[_Row]) -> torch.Tensor:
        self._take(rows)
        return self._step(len(rows), -(-(max(row.position for row in rows) + 1) // 16) * 16)

    def _take(self, rows: list[_Row]):
        self.input_2B[:, : len(rows)] = torch.tensor([[row.pending for row in rows], [row.position for row in rows]])

    def _step(self, count: int, attended: int) -> torch.Tensor:
        """Logits of the first `count` rows, which see positions of the first `attended` ones."""
        token_B, position_B = self.input_2B[:, :count]
        return _forward(self.model, self.cache, token_B[:, None], position_B, min(self.cache.length, attended))


class _PagedDecode(_Decode):
    """A step that reads pages, on a GPU: by torch's kernel, if the first step finds it to be right, and then by a CUDA
    graph for each number of rows, if transformers says that the model can be recorded (some mixtures of experts
    cannot)."""

    def __init__(self, sampler: Sampler, cache: "PagedCache"):
        super().__init__(sampler, cache)
        cache.by_kernel = sampler.by_kernel
        self.graphs: dict[int, tuple] = {}
        self.side = None  # a stream to warm up in

    def __call__(self, rows: list[_Row]) -> torch.Tensor:
        count, attended = len(rows), max(len(row.pages) for row in rows) * self.cache.size
        self._take(rows)
        if self.sampler.by_kernel is None:
            wrong = _reason(lambda: self._compare(count, attended))
            self.sampler.by_kernel = self.cache.by_kernel = not wrong
            if wrong:
                print(f"sampling by plain attention, without torch's variable-length kernel: {wrong}", file=sys.stderr)
        if not self.cache.by_kernel:
            return self._step(count, attended)
        padded = min(1 << (count - 1).bit_length(), self.cache.rows)
        if self.sampler.by_graph and padded not in self.graphs and (wrong := _reason(lambda: self._record(padded))):
            self.sampler.by_graph = False
            print(f"sampling without CUDA graphs: {wrong}", file=sys.stderr)
        if not self.sampler.by_graph:
            return self._step(count, 1)
        graph, logits_BV = self.graphs[padded]
        graph.replay()
        return logits_BV[:count]

    def _take(self, rows: list[_Row]):
        """The rows behind these, which a graph computes, too, write to page 0."""
        super()._take(rows)
        self.input_2B[:, len(rows) :] = 0
        self.cache.show(rows)

    def _compare(self, count: int, attended: int) -> str | None:
        """What is wrong with the kernel: a step by it beside plain attention, layer by layer, on the same inputs."""
        self.cache.by_kernel, self.cache.off = True, []
        try:
            self._step(count, attended)
            if len(self.cache.off) != len(self.cache.layers):
                return "the model does not hand over where its cache is"
            # Rounding to bfloat16 gives 0.005; a position too many or too few in a thousand 0.03.
            wrong = [off for off in self.cache.off if not off <= 0.02]
            return f"its results are {wrong[0]:.0%} off those of plain attention" if wrong else None
        finally:
            self.cache.off = None

    def _record(self, count: int) -> str | None:
        """What is wrong with the graph of a step, which otherwise is kept, with the place where it leaves its logits. A
        step can be repeated, so it is its own warm-up, and tells what the graph has to give."""
        self.side = self.side or torch.cuda.Stream()
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            expected_BV = self._step(count, 1)
        torch.cuda.current_stream().wait_stream(self.side)
        graph, pool = torch.cuda.CUDAGraph(), next((graph.pool() for graph, _ in self.graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            logits_BV = self._step(count, 1)
        graph.replay()
        if not (logits_BV - expected_BV).norm() <= 0.02 * expected_BV.norm():
            return "they give other logits than the steps that they record"
        self.graphs[count] = graph, logits_BV


def windows(config) -> list[int | None]:
    """How many positions each layer of a model attends to, its own the last; None where it attends to all."""
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    window = getattr(config, "sliding_window", None) or None
    return [window if kind == "sliding_attention" else None for kind in kinds]


class KVCache(Cache):
    """Preallocated keys and values of every layer, [rows, kv_heads, length, head_dim] each, as transformers' models
    take them. Before a forward, `at` says at which positions its tokens stand."""

    by_kernel = False

    def __init__(self, config, rows: int, length: int):
        self.rows, self.length = rows, length
        self.kinds, self.windows = getattr(config, "layer_types", None), windows(config)
        self.window = max(filter(None, self.windows), default=None)
        super().__init__(layers=[_KVLayer(self) for _ in range(config.num_hidden_layers)])

    @property
    def bytes(self) -> int:
        """What its tensors take."""
        return sum(t.nbytes for layer in self.layers if layer.is_initialized for t in (layer.keys, layer.values))

    def at(self, position_BT, attended: int):
        """Aim the next forward's writes at `position_BT` of the first B rows; returns its attention mask
        [B, 1, T, attended], 0 where a token sees a position, those up to its own (as many as the window holds, if there
        is one), else -inf. A model with layers of both kinds takes a dictionary of masks."""
        self.row_B1 = torch.arange(len(position_BT), device=position_BT.device)[:, None]
        self.position_BT = position_BT
        self.attended = attended
        behind_B1TL = (position_BT[..., None] - torch.arange(attended, device=position_BT.device))[:, None]
        mask_B1TL = torch.where(behind_B1TL >= 0, 0.0, -torch.inf)
        if not self.window:
            return mask_B1TL
        near_B1TL = mask_B1TL.where(behind_B1TL < self.window, -torch.inf)
        return {"full_attention": mask_B1TL, "sliding_attention": near_B1TL} if self.kinds else near_B1TL

    def allocate(self, layer: "_KVLayer", key_BKTD, value_BKTD):
        """Give a layer room for keys and values like these. A key's numbers lie as far apart as a row is long: on a CPU
        products with queries are faster so, and take half the time in bfloat16."""
        (_, K, _, D), (_, _, _, V) = key_BKTD.shape, value_BKTD.shape
        layer.keys = key_BKTD.new_zeros(self.rows, K, D, self.length).transpose(2, 3)
        layer.values = value_BKTD.new_zeros(self.rows, K, self.length, V)

    def update_of(self, layer: "_KVLayer", key_BKTD, value_BKTD):
        """Write to a layer where the forward aims; returns what the B rows hold up to the attended length."""
        layer.keys[self.row_B1, :, self.position_BT] = key_BKTD.transpose(1, 2)
        layer.values[self.row_B1, :, self.position_BT] = value_BKTD.transpose(1, 2)
        batch = len(key_BKTD)
        return layer.keys[:batch, :, : self.attended], layer.values[:batch, :, : self.attended]

    def make_room(self, active: list) -> list[_Row]:
        """The active rows that must leave before the next step, because the cache is full: none."""
        return []

    def admit(self, waiting: deque, active: list) -> tuple[list[int], list[_Row]]:
        """Move who waits to where `active` has holes (None), as long as there is room: where, and who."""
        active += [None] * (self.rows - len(active))
        holes, running = [i for i, row in enumerate(active) if row is None], sum(row is not None for row in active)
        for taken, i in enumerate(holes):
            if not waiting or not self.take_in(waiting[0], running + taken):
                return holes[:taken], [active[i] for i in holes[:taken]]
            active[i] = waiting.popleft()
        return holes, [active[i] for i in holes]

    def take_in(self, row: _Row, running: int) -> bool:
        """Whether a row can be taken in beside those that are running; if so, its prompt has room."""
        return True

    def release(self, row: _Row):
        """A row has ended."""

    def fill(self, source: "KVCache", source_rows: list[int], rows: list[_Row], places: list[int]):
        """Copy what `rows` have behind them from rows of `source` (it may be this cache) to these places."""
        for mine, theirs in zip(self.layers, source.layers):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            for source_row, row, place in zip(source_rows, rows, places):
                mine.keys[place, :, : row.position] = theirs.keys[source_row, :, : row.position]
                mine.values[place, :, : row.position] = theirs.values[source_row, :, : row.position]

    def close_holes(self, active: list) -> list:
        """Move the last active rows into the holes (None) before them: the active rows, now dense."""
        keep = sum(row is not None for row in active)
        holes = [i for i, row in enumerate(active[:keep]) if row is None]
        movers = [i for i in range(keep, len(active)) if active[i] is not None]
        if movers:
            self.fill(self, movers, [active[i] for i in movers], holes)
        for hole, mover in zip(holes, movers):
            active[hole] = active[mover]
        return active[:keep]


class PagedCache(KVCache):
    """Keys and values in pages of `size` positions, [1 + pages, size, kv_heads, head_dim] a layer, of which rows take
    one after another as they grow. Page 0 is nobody's."""

    def __init__(self, model, rows: int, width: int, pages: int, size: int):
        """`width`: the most pages of a row."""
        super().__init__(model.config, rows, width * size)
        self.size, self.pages, self.free = size, pages, list(range(pages, 0, -1))
        self.table_BP = torch.zeros(rows, width, dtype=torch.int32, device=model.device)  # where graphs read
        self.off: list[float] | None = None  # while both ways of attention are compared: how much they differ

    def allocate(self, layer: "_KVLayer", *like):
        shape = 1 + self.pages, self.size
        layer.keys, layer.values = (x.new_zeros(*shape, x.shape[1], x.shape[3]) for x in like)

    def show(self, rows: list[_Row]):
        """Show the pages of these rows to the next step."""
        table = np.zeros(self.table_BP.shape, np.int32)
        for line, row in zip(table, rows):
            line[: len(row.pages)] = row.pages
        self.table_BP.copy_(torch.from_numpy(table))

    def at(self, position_BT, attended: int):
        position_B, self.shown_BP = position_BT[:, 0], self.table_BP[: len(position_BT)]
        page_B = self.shown_BP.gather(1, position_BT // self.size)[:, 0].long()
        self.slot_B, self.seen_B = page_B * self.size + position_B % self.size, position_B.int() + 1
        row_R = torch.arange(len(position_B) + 1, dtype=torch.int32, device=position_B.device)
        self.begin_2R = torch.stack([row_R, row_R * self.length])
        return super().at(position_BT, attended)

    def update_of(self, layer, key_BKTD, value_BKTD):
        layer.keys.flatten(0, 1).index_copy_(0, self.slot_B, key_BKTD[:, :, 0])
        layer.values.flatten(0, 1).index_copy_(0, self.slot_B, value_BKTD[:, :, 0])
        if self.by_kernel and self.off is None:
            return key_BKTD, value_BKTD  # `attend` looks at the pages
        pages_BP = self.shown_BP[:, : self.attended // self.size].long()
        return tuple(x[pages_BP].flatten(1, 2).transpose(1, 2) for x in (layer.keys, layer.values))

    def attend(self, layer: int, query_BHTD, scaling=None, s_aux=None, **_):
        """The attention of a layer over the rows' pages, [B, 1, H, D]."""
        if s_aux is not None:
            raise ValueError("it knows no attention sinks")
        held = self.layers[layer]
        given = held.keys, held.values, self.shown_BP, self.seen_B, self.begin_2R, scaling, self.windows[layer]
        return paged_attention(query_BHTD[:, :, 0], *given)[:, None]

    def make_room(self, active: list) -> list[_Row]:
        """Give a page to each row that has filled its last one. Where pages are short, the rows with the fewest tokens
        of their own give theirs back, and are returned."""
        back: list[_Row] = []
        while True:
            rows = [row for row in active if row is not None]
            grown = [row for row in rows if row.position == len(row.pages) * self.size]
            if len(grown) <= len(self.free):
                for row in grown:
                    row.pages.append(self.free.pop())
                return back
            back.append(min(rows, key=lambda row: len(row.ids)))
            active[active.index(back[-1])] = None
            self.release(back[-1])

    def take_in(self, row: _Row, running: int) -> bool:
        need = row.position // self.size + 1
        if running and running + need > len(self.free):  # each of those that run can still grow by a page
            return False
        row.pages = [self.free.pop() for _ in range(need)]
        return True

    def release(self, row: _Row):
        self.free += row.pages
        row.pages = []

    def fill(self, source: KVCache, source_rows: list[int], rows: list[_Row], places: list[int]):
        position_N = np.concatenate([np.arange(row.position) for row in rows])
        page_N = np.concatenate([np.array(row.pages)[np.arange(row.position) // self.size] for row in rows])
        source_N = np.repeat(source_rows, [row.position for row in rows])
        page_N, offset_N, source_N, position_N = (
            torch.from_numpy(x).to(self.table_BP.device) for x in (page_N, position_N % self.size, source_N, position_N)
        )
        for mine, theirs in zip(self.layers, source.layers):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            mine.keys[page_N, offset_N] = theirs.keys[source_N, :, position_N]
            mine.values[page_N, offset_N] = theirs.values[source_N, :, position_N]

    def close_holes(self, active: list) -> list:
        return [row for row in active if row is not None]


class _KVLayer(CacheLayerMixin):
    """One layer of a KVCache."""

    is_sliding = False

    def __init__(self, cache):
        super().__init__()
        self.cache = weakref.proxy(cache)  # a cycle would keep dead caches alive until the garbage collector runs

    def lazy_initialization(self, key_states, value_states):
        self.cache.allocate(self, key_states, value_states)
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        """Write [B, heads, T, head_dim] at the cache's aim, and return what attention wants to see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self.cache.update_of(self, key_states, value_states)

    def get_seq_length(self) -> int:
        return 0  # positions are always given explicitly

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.attended, 0

    def get_max_length(self) -> int:
        return self.cache.length

    get_max_cache_shape = get_max_length  # its name in earlier transformers


class _Prefill:
    """Keys and values of the prompts about to be admitted. Completions come in the order of their prompts, so a batch
    of prompts is computed when the first of them is needed, and dropped when the next batch is."""

    MAX_TOKENS = 16_384  # of one prefill forward: bounds its activations

    def __init__(self, model, prompts: list[list[int]], stats: Stats):
        self.model, self.prompts, self.stats = model, prompts, stats
        self.first, self.cache = 0, None  # the cache holds prompts first .. first + cache.rows - 1

    def copy_into(self, cache: KVCache, newcomers: list[_Row], rows: list[int]):
        """Fill `rows` of `cache` with the prompts of `newcomers`, all but their last tokens."""
        todo = deque(zip(newcomers, rows))
        while todo:
            if self.cache is None or todo[0][0].prompt >= self.first + self.cache.rows:
                self._compute(todo[0][0].prompt)
            here = []
            while todo and todo[0][0].prompt < self.first + self.cache.rows:
                here.append(todo.popleft())
            if self.cache.length:
                source_rows = [row.prompt - self.first for row, _ in here]
                cache.fill(self.cache, source_rows, [row for row, _ in here], [i for _, i in here])
                self.stats.cache_bytes = max(self.stats.cache_bytes, cache.bytes + self.cache.bytes)

    def as_prompt(self, row: _Row) -> _Row:
        """The row, with what it has said as part of its prompt, which becomes the last one."""
        said = row.position + 1 - len(self.prompts[row.prompt])
        self.prompts.append(self.prompts[row.prompt] + row.ids[len(row.ids) - said :])
        row.prompt = len(self.prompts) - 1
        self.stats.put_back += 1
        return row

    def _compute(self, first: int):
        """Prefill as many prompts as fit into one forward, starting with prompt `first`, in chunks of MAX_TOKENS."""
        count, width = 0, 0
        for prompt in self.prompts[first : first + self.stats.slots]:
            width_with = max(width, len(prompt) - 1)
            if count and (count + 1) * width_with > self.MAX_TOKENS:
                break
            count, width = count + 1, width_with
        self.first, self.cache = first, KVCache(self.model.config, count, width)
        if not width:
            return
        ids_PT = torch.zeros(count, width, dtype=torch.long)  # what pads is never seen: it stands after the prompt
        for i, prompt in enumerate(self.prompts[first : first + count]):
            ids_PT[i, : len(prompt) - 1] = torch.tensor(prompt[:-1])
        ids_PT = ids_PT.to(self.model.device)
        chunk = max(1, self.MAX_TOKENS // count)
        for start in range(0, width, chunk):
            start_P = torch.full((count,), start, device=self.model.device)
            _forward(self.model, self.cache, ids_PT[:, start : start + chunk], start_P, min(width, start + chunk))
        self.stats.prefill_tokens += ids_PT.numel()
