"""The policy: a transformers causal LM seen as log p(y_t | x, y_<t) and the entropy of each p(. | x, y_<t).

Everything is per response token and flat, [N]: row after row, without padding. So no mask is ever read off token ids
(the pad id is often the end id, which must be trained on), and no average depends on how rows were padded.

Rows that share a prompt, or differ in length, are packed (`Packed`): they go through the network without padding, and
a prompt goes once, because with causal attention its hidden states do not depend on what follows.

Memory. Logits of all tokens would be N x vocabulary numbers, several times over in backward: 5 GB a copy at 8,192
tokens and 152k words in float32. Here the last hidden states of response positions go through the output layer in
chunks, which backward computes again, so only one chunk of logits is ever alive. Logits and their log-softmax are in
float32 whatever the compute precision, as in the sampler, and weights are kept in float32: in bfloat16 an update at a
learning rate of 1e-6 would be rounded away.
"""

import copy
import functools
import json
import math
import os
import shutil
from collections.abc import Iterable
from contextlib import contextmanager, nullcontext, suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from textwrap import shorten

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.nn.functional import embedding
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging
from transformers.utils.logging import disable_progress_bar

import parallel
from sampler import attention, refusal, wide_logits, windows

SPARED = 0.1  # of all tokens, padding included: what packing must spare, because its attention is slower
MAX_FAILED = 3  # steps in a row without a finite gradient before training gives up


class Policy(nn.Module):
    """Wraps a causal LM. Calling it on prompts and responses (ids) gives, for each response token in turn, its
    log-probability and the entropy at its position: ([N], [N]), float32, N = total response tokens."""

    packs = False  # whether rows may be packed: where `packs` found so

    def __init__(self, model, chunk: int | None = None):
        """`chunk`: tokens whose logits are alive at once; by default as many as 256 MiB hold in float32."""
        super().__init__()
        self.model, self.chunk = model, chunk or chunk_of(model.config)

    def forward(self, prompts: list[list[int]], responses: list[list[int]], temperature: float = 1.0):
        """The entropy carries no gradient."""
        return self.head(*self.hidden(prompts, responses), temperature)

    def hidden(self, prompts, responses):
        """The last hidden states [N, D] that predict the response tokens, and those tokens [N]. Where packing would
        spare little, rows are right-padded: what stands to the right of a token cannot change it."""
        if self.packs and not self.model.training and _spares(prompts, responses):  # dropout would be shared, too
            return self._hidden_of_packed(Packed(prompts, responses, self.model))
        ids_BT, position_N, row_N, target_N = (x.to(self.model.device) for x in _pad(prompts, responses))
        hidden_BTD = self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return hidden_BTD[row_N, position_N], target_N

    def agrees(self) -> bool:
        """Whether the model's own logits are those that are computed here, of the last hidden states."""
        ids_BT = torch.arange(4, device=self.model.device)[None]
        theirs, inner = self.model(input_ids=ids_BT).logits, self.model.base_model(input_ids=ids_BT)
        hidden = getattr(inner, "last_hidden_state", None)
        ours = self.model.get_output_embeddings()(hidden) if hidden is not None else None
        return ours is not None and torch.allclose(theirs, ours, atol=1e-4, rtol=1e-4)

    def _hidden_of_packed(self, packed):
        given = {"input_ids": packed.ids_T[None], "position_ids": packed.position_T[None], "packed": packed}
        with attending(self.model.config, "packed"):
            hidden_1TD = self.model.base_model(**given, use_cache=False).last_hidden_state
        return hidden_1TD[0, -len(packed.target_N) :], packed.target_N

    def log_distribution(self, hidden_CD, temperature: float):
        """Hidden states to log-probabilities over the vocabulary, [C, V] float32."""
        head = self.model.get_output_embeddings()
        if isinstance(head, nn.Linear) and head.weight.dtype != torch.float32:
            logits_CV = _WideLogits.apply(hidden_CD, head.weight, head.bias)
        else:
            logits_CV = head(hidden_CD).float()
        return (logits_CV if temperature == 1 else logits_CV / temperature).log_softmax(-1)

    def head(self, hidden_ND, target_N, temperature: float = 1.0):
        """Log-probabilities of the targets and entropies, [N] each, from hidden states, chunk by chunk."""
        if len(hidden_ND) <= self.chunk:  # nothing to save by computing it again
            return self._chunk(hidden_ND, target_N, temperature)
        logprobs, entropy = [], []
        for hidden, target in zip(hidden_ND.split(self.chunk), target_N.split(self.chunk)):
            one, two = checkpoint(self._chunk, hidden, target, temperature, use_reentrant=False)
            logprobs.append(one)
            entropy.append(two)
        return torch.cat(logprobs), torch.cat(entropy)

    def _chunk(self, hidden_CD, target_C, temperature):
        logprobs_CV = self.log_distribution(hidden_CD, temperature)
        with torch.no_grad():
            entropy_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1)
        return logprobs_CV.gather(-1, target_C[:, None])[:, 0].clone(), entropy_C  # FSDP warns when it is given a view


class Packed:
    """Rows in one, without padding. First come the different prompts, each without its last token; then of each row
    that token, and the response without its own last: their hidden states predict the response.

    Only attention pads, in two blocks: of prompts, which see themselves, and of responses, which see their prompts,
    too."""

    def __init__(self, prompts, responses, model):
        number = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        spans = [prompt[:-1] for prompt in number] + [(p[-1], *r[:-1]) for p, r in zip(prompts, responses)]
        firsts = [0] * len(number) + [len(prompt) - 1 for prompt in prompts]
        places = [range(first, first + len(span)) for first, span in zip(firsts, spans)]
        self.ids_T, self.position_T, self.target_N, length, own_B = (
            torch.tensor(column, device=model.device)
            for column in (
                [*chain(*spans)], [*chain(*places)], [*chain(*responses)], [*map(len, spans)],
                [number[tuple(prompt)] for prompt in prompts],
            )
        )  # fmt: skip
        self.windows = windows(model.config)
        start, P = length.cumsum(0) - length, len(number)
        self.blocks = [self._block(start[P:], length[P:], start[own_B], length[own_B])]
        if len(some := length[:P].nonzero()[:, 0]):  # of a prompt of one token nothing is left here
            self.blocks.insert(0, self._block(start[some], length[some], start[some], 0 * length[some]))

    def _block(self, start_B, length_B, before_B, ahead_B):
        """Of B spans, and of those ahead of them that they see, too: the places of queries [B, T] and of keys [B, L],
        which queries are no padding, and by window the mask [B, 1, T, L]: 0 where a query sees a key, else -inf."""
        (query_BT, real_BT), (ahead_BS, there_BS) = _padded(start_B, length_B), _padded(before_B, ahead_B)
        key_BL, there_BL = torch.cat([ahead_BS, query_BT], 1), torch.cat([there_BS, real_BT], 1)
        at_BT1, at_B1L = self.position_T[query_BT][..., None], self.position_T[key_BL][:, None]
        mask_BTL = torch.where(there_BL[:, None] & (at_B1L <= at_BT1), 0.0, -torch.inf)
        masks = {None: mask_BTL[:, None]}
        for window in {*self.windows} - {None}:
            masks[window] = mask_BTL.where(at_B1L > at_BT1 - window, -torch.inf)[:, None]
        return query_BT, key_BL, real_BT.flatten().nonzero()[:, 0], masks

    def attend(self, module, query_1HTD, key_1KTD, value_1KTD, mask, **more):
        """The attention of a layer, [1, T, H, D], as transformers' models call it; they make no mask for it."""
        out = []
        for query_BT, key_BL, real_N, masks in self.blocks:
            given = _taken(query_1HTD, query_BT), _taken(key_1KTD, key_BL), _taken(value_1KTD, key_BL)
            out_BTHD, _ = attention(module, *given, masks[self.windows[module.layer_idx]], **more)
            out.append(embedding(real_N, out_BTHD.flatten(0, 1).flatten(1)))
        return torch.cat(out).unflatten(-1, out_BTHD.shape[2:])[None], None


def _spares(prompts, responses) -> bool:
    """Whether packing these rows spares enough tokens."""
    padded = len(prompts) * max(len(p) + len(r) for p, r in zip(prompts, responses))
    once = sum(len(p) - 1 for p in {*map(tuple, prompts)}) + sum(map(len, responses))
    return once < (1 - SPARED) * padded


@torch.no_grad()
def packs(model) -> bool:
    """Whether a model, with whole weights, gives packed rows the hidden states that it gives padded ones. Errors are of
    any kind: they tell what its attention expects and does not find, such as a cap on its scores. On a GPU rows are
    padded: there attention that needs no mask has a kernel whose speed is worth more than what packing spares."""
    if model.device.type != "cpu":
        return False
    one, other = Policy(model), Policy(model)
    other.packs, rows = True, ([[0, 1]] * 2, [[2, 3]] * 2)
    try:
        padded_ND, packed_ND = (network.hidden(*rows)[0] for network in (one, other))
    except Exception:
        return False
    close = 1e-4 if model.dtype == torch.float32 else 0.3  # of bfloat16: only what is wrong altogether
    return not refusal(model) and bool((packed_ND - padded_ND).norm() <= close * padded_ND.norm())


def _padded(start_B, length_B):
    """The places of the tokens of B spans, [B, T], the last again as padding, and which are none, [B, T]."""
    t_T, length_B1 = torch.arange(int(length_B.max()), device=length_B.device), length_B[:, None]
    return start_B[:, None] + t_T.minimum(length_B1 - 1).clamp_min(0), t_T < length_B1


def _taken(x_1HTD, place_BT):
    """The tokens at these places, [B, H, T, D]. Threads sum an index's gradient in any order, and an embedding's in the
    same each time, which a run that is resumed bit for bit needs."""
    return embedding(place_BT, x_1HTD[0].transpose(0, 1).flatten(1)).unflatten(-1, x_1HTD.shape[1::2]).transpose(1, 2)


@contextmanager
def attending(model_config, implementation: str):
    """In this block a model has this implementation of attention: its own, or `packed`."""
    AttentionInterface.register("packed", lambda module, *given, packed, **more: packed.attend(module, *given, **more))
    former, model_config._attn_implementation = model_config._attn_implementation, implementation
    try:
        yield
    finally:
        model_config._attn_implementation = former


class _WideLogits(torch.autograd.Function):
    """`wide_logits` with a gradient, which is in the layer's precision, as it is of any layer."""

    @staticmethod
    def forward(ctx, hidden_CD, weight_VD, bias_V):
        ctx.save_for_backward(hidden_CD, weight_VD, bias_V)
        return wide_logits(hidden_CD, weight_VD, bias_V)

    @staticmethod
    def backward(ctx, grad_CV):
        hidden_CD, weight_VD, bias_V = ctx.saved_tensors
        grad_CV = grad_CV.to(weight_VD.dtype)
        return grad_CV @ weight_VD, grad_CV.t() @ hidden_CD, None if bias_V is None else grad_CV.sum(0)


def chunk_of(model_config) -> int:
    """How many tokens' logits 256 MiB hold in float32."""
    return max(1, 2**26 // model_config.vocab_size)


def _pad(prompts, responses):
    """Padded ids [B, T]; for each response token its row, the position that predicts it, and itself, [N] each."""
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses)]
    ids_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    row, position, target = [], [], []
    for b, (prompt, response) in enumerate(zip(prompts, responses)):
        ids_BT[b, : lengths[b]] = torch.tensor(prompt + response)
        row += [b] * len(response)
        position += range(len(prompt) - 1, lengths[b] - 1)
        target += response
    return ids_BT, *(torch.tensor(x, dtype=torch.long) for x in (position, row, target))


def micro_batches(lengths: list[int], max_tokens: int, groups: list[int] | None = None) -> list[list[int]]:
    """Indices of rows in micro-batches of at most `max_tokens` tokens, padding included (a longer row goes alone).
    Rows of like length go together, so that little is padded; rows of different `groups` are kept apart. The largest
    micro-batch is the first, so that memory runs out at once where it runs out at all."""
    groups = groups or [0] * len(lengths)
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (groups[i], -lengths[i])):
        last = batches[-1] if batches else []
        if last and groups[last[0]] == groups[i] and (len(last) + 1) * lengths[last[0]] <= max_tokens:
            last.append(i)
        else:
            batches.append([i])
    return sorted(batches, key=lambda batch: -len(batch) * lengths[batch[0]])


def decoder_layers(model) -> list[nn.Module]:
    """The model's repeated layers, the units of sharding and of gradient checkpointing."""
    return [m for m in model.modules() if type(m).__name__ in (model._no_split_modules or ())]


def recompute(model):
    """Gradient checkpointing: have the model's layers compute their activations again in the backward, in place."""
    for layer in decoder_layers(model):
        layer.forward = functools.partial(_recomputed, layer.forward, model.config)


def _recomputed(forward, model_config, *args, **kwargs):
    if not torch.is_grad_enabled():  # on a CPU one process samples with these very layers, and needs none of it
        return forward(*args, **kwargs)
    again = attending(model_config, model_config._attn_implementation)  # which is another's by then
    return checkpoint(forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again), **kwargs)


def sharded(network: Policy, gradient_checkpointing: bool = False, resharded: bool | None = None) -> Policy:
    """The network, whose weights are from now on shards where there is a process group (parallel.shard)."""
    if gradient_checkpointing:
        recompute(network.model)
    parallel.shard(network, decoder_layers(network.model), resharded)
    register_fsdp_forward_method(network, "agrees")
    return network


def descend(model, optimizer, losses: Iterable[torch.Tensor], max_grad_norm: float) -> float:
    """One optimiser step on the sum of some losses, those of all processes, unless its gradient is not finite. A longer
    gradient is scaled down to `max_grad_norm`. Returns its norm.

    Losses are computed one by one, and all processes must have equally many (parallel.side_by_side)."""
    for loss in losses:
        (loss * parallel.size()).backward()  # FSDP averages over processes; the loss is a sum
    norm = parallel.whole(nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)).item()
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad()
    return norm


_trusted = False


def trust(remote_code: bool):
    """From now on, run the code that models and tokenisers bring along (auto_map), or refuse them. It is refused until
    somebody who knows that code says otherwise."""
    global _trusted
    _trusted = remote_code


def load(path: str, device: str = "cpu", weights: bool = True):
    """(model, tokeniser) of a local folder or hub id; see `load_tokenizer`, `load_model` and, for a model without its
    `weights`, `outline`. Raises ValueError with a sentence when they do not go together."""
    tokenizer = load_tokenizer(path)
    model = load_model(path, device) if weights else outline(path)
    ids, rows = max(tokenizer.get_vocab().values()) + 1, model.get_input_embeddings().weight.shape[0]
    if ids > rows:
        raise ValueError(f"{path}: its tokeniser has {ids} ids, and its embedding holds {rows}: one is another model's")
    return model, tokenizer


def load_to_sample(path: str):
    """(model, tokeniser) of a local folder or hub id, whole and in compute precision, for what does not train. On CPUs
    the processes of a node share one copy. Raises ValueError with a sentence."""
    if not parallel.grouped():
        return load(path)
    model, tokenizer = load(path, weights=False)
    whole = parallel.WholeWeights(model, parallel.device())
    fill(whole.model, path, whole.shared)
    check(Policy(whole.model), path)
    return whole.model, tokenizer


def load_tokenizer(path: str):
    """The tokeniser of a local folder or hub id. Raises ValueError with a sentence when there is none."""
    looks_local = path.startswith(("/", ".", "~")) or path.count("/") > 1  # no hub id does
    if looks_local and not Path(path).is_dir():
        raise ValueError(f"there is no folder {path}: give a model folder in transformers' format, or a hub id")
    folder = Path(path)
    if (folder / "model" / "config.json").is_file():
        raise ValueError(f"{path} is the folder of a run or of a cold start: its model is {folder / 'model'}")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{path} holds no model: a model folder has a config.json, weights and a tokeniser")
    if (folder / "generation_config.json").is_file():  # transformers goes on without one that is broken
        with _loading(path):
            json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    with _loading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=_trusted)
        if not tokenizer("1 + 1").input_ids:
            raise ValueError("its tokeniser is missing or empty")
    return tokenizer


def load_config(path: str):
    """The config of a local folder or hub id, or in a config.json. Raises ValueError with a sentence."""
    with _loading(path):
        return AutoConfig.from_pretrained(path, trust_remote_code=_trusted)


def skeleton(model_config, dtype: torch.dtype):
    """The causal LM of a config on the meta device: shapes without numbers, to count with."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(copy.deepcopy(model_config), dtype=dtype, trust_remote_code=_trusted)
    return made.eval()


def load_model(path: str, device: str = "cpu"):
    """The causal LM of a local folder or hub id, in float32 and in evaluation mode. Raises ValueError with a sentence
    when there is none, when weights are missing, left over or not finite, or when its logits are not what `Policy`
    would compute. Runs no code of the folder's (but see `trust`), and unpickles nothing."""
    with _loading(path), torch.no_grad():
        model, found = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=_trusted, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
        for kind in ("missing", "unexpected", "mismatched"):
            if names := sorted(map(str, found.get(f"{kind}_keys") or ())):
                raise ValueError(f"its weights have {kind} keys: {', '.join(names[:3])}{', ...' * (len(names) > 3)}")
        _finite(dict(model.named_parameters()))
        model = model.to(device).eval()
    check(Policy(model), path)
    return model


def check(network: Policy, path: str):
    """Raises ValueError when the logits of the model that was loaded from `path` are not what `network` computes. It
    may be `sharded`; then all processes must call it alike."""
    with _loading(path), torch.no_grad():
        agrees = network.agrees()
    if isinstance(network, FSDPModule):
        network.reshard()  # no backward does it, and shards may yet be written
    if not agrees:
        raise ValueError(f"{path}: its logits are not those of its output layer on its last hidden states (policy.py)")


def outline(path: str):
    """The causal LM of a local folder or hub id, in float32 and in evaluation mode, without its weights: they are on
    the meta device, to be sharded (parallel.py) and then filled by `fill`. Raises ValueError with a sentence."""

    def weightless(module, name, parameter):
        if parameter is not None and not parameter.is_meta:  # tied ones stay the same object
            return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    config = load_config(path)
    with _loading(path):
        hook = register_module_parameter_registration_hook(weightless)
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=_trusted)
        finally:
            hook.remove()
        with suppress(OSError):  # without such a file what the config says counts
            model.generation_config = GenerationConfig.from_pretrained(path)
    return model.eval()


def fill(model, path: str, shared: bool = False):
    """Read the weights of a local folder or hub id into `model`, whose parameters may be shards. All processes must
    call it alike; each reads its rows, or, if the parameters are in memory that the processes of a node have `shared`,
    its part of them. Where transformers has the weights under other names than the model (it merges the experts of some
    mixtures), the first process loads all of them and hands them out. Raises ValueError as `load_model` does, but for
    the logits, which `check` looks at."""
    tensors = stored(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    number, count = parallel.local() if shared else (0, 1)
    others = {name for i, (name, _) in enumerate(model.named_parameters()) if i % count != number}
    mine = {name: tensor for name, tensor in tensors.items() if name not in others}
    with _loading(path):
        found = parallel.contents(_files(path))

    def read():
        with _loading(path):
            parallel.read(found, mine)

    def load_whole():
        loaded.update(stored(load_model(path)))
        if {name: tuple(tensor.shape) for name, tensor in loaded.items()} != shapes:
            raise ValueError(f"{path} holds another model than the one to go on with")

    def finite():
        with _loading(path):
            _finite({name: parallel.rows(tensor)[0] for name, tensor in mine.items()})

    if _under_their_names(model) and {name: shape for name, (_, shape) in found.items()} == shapes:
        parallel.everywhere(read)
    else:
        loaded: dict[str, torch.Tensor] = {}
        parallel.once(load_whole)
        for name, tensor in tensors.items():
            parallel.hand_out(tensor, loaded.pop(name, None))
    parallel.everywhere(finite)


def _finite(weights: dict[str, torch.Tensor]):
    if names := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise ValueError(f"its weights are not finite: {', '.join(names[:3])}{', ...' * (len(names) > 3)}")


def stored(model) -> dict[str, torch.Tensor]:
    """What belongs into a model's file: parameters, tied ones once under their first name, and persistent buffers."""
    names = {tensor: name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    return {name: tensor for tensor, name in names.items() if ".adapter." not in name}  # they have files of their own


def _under_their_names(model) -> bool:
    """Whether transformers stores what is in the model as it is, under the names that it has there."""
    tensors = stored(model)
    theirs = revert_weight_conversion(model, dict(tensors))
    return theirs.keys() == tensors.keys() and all(theirs[name] is tensor for name, tensor in tensors.items())


def _files(path: str) -> list[Path]:
    """The safetensors files of a local folder or hub id."""
    optional = {"_raise_exceptions_for_missing_entries": False}
    if single := cached_file(path, SAFE_WEIGHTS_NAME, **optional):
        return [Path(single)]
    index = cached_file(path, SAFE_WEIGHTS_INDEX_NAME, **optional)
    names = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()) if index else ()
    return [Path(cached_file(path, name)) for name in sorted(names)]


@contextmanager
def _loading(path: str):
    """What transformers may raise in here, which is of many kinds, as one sentence; what it would print is left out."""
    disable_progress_bar()  # transformers' own, one for each small thing
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except Exception as error:
        if "trust_remote_code" in str(error) and not _trusted:
            told = "brings Python code of its own along, which is not run unless you say so"
            raise ValueError(f"'{path}' {told}: read it, and add --trust-remote-code") from None
        reason = shorten(str(error), 240, placeholder=" ...") or type(error).__name__
        raise ValueError(f"no model could be loaded from '{path}': {reason}") from None
    finally:
        logging.set_verbosity(level)


def eos_ids(model, tokenizer) -> set[int]:
    """Every token that ends a response: those of the generation config, the tokeniser's, and the one that the chat
    template puts after a response (a base model's generation config does not know it)."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = {*configured} if isinstance(configured, (list, tuple)) else {configured}
    ids = (ids | {tokenizer.eos_token_id, end_of_response(tokenizer)}) - {None}
    if not ids:
        raise ValueError("the model names no end-of-sequence token: set eos_token_id in its generation_config.json")
    if not all(type(i) is int for i in ids):
        raise ValueError(f"eos_token_id in the model's generation_config.json must be ids of tokens, not {configured}")
    return ids


def end_of_response(tokenizer) -> int | None:
    """The token that ends a response: the added one, if there is one, that the chat template puts right behind what an
    assistant says; else the tokeniser's end token."""
    said = "It is four."
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": said}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # there is no template, or it has no place for this: prompts are another matter (data.py)
        return tokenizer.eos_token_id
    behind = text.rpartition(said)[2].lstrip() if said in text else ""
    ids = tokenizer(behind, add_special_tokens=False).input_ids
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else tokenizer.eos_token_id


def fingerprint(model) -> str:
    """Eight bytes that tell models apart, as hex: of every number of the weights, and of the config, which says how
    they are used. It takes 0.6 s of 135 M float32 weights."""
    named = {"_name_or_path", "transformers_version", "architectures", "dtype"}  # of the folder, and of how it is read
    used = {name: value for name, value in model.config.to_dict().items() if name not in named}
    hashed = blake2b(json.dumps(used, sort_keys=True, default=str).encode(), digest_size=8)
    for tensor in stored(model).values():
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()


@contextmanager
def writing(path: str | Path):
    """An OSError in here names what could not be written: `path`. What safetensors and tokenizers raise in its place,
    on a full disk, becomes one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
    except Exception as error:
        if "(os error" not in str(error):
            raise
        raise OSError(f"{path}: {error}") from None


def open_up(folder: Path):
    """Give all files below a folder the mode that new files have: safetensors lets nobody else read its own."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        path.chmod(0o777 & ~mask if path.is_dir() else 0o666 & ~mask)


def save(model, tokenizer, folder: str | Path, tensors: dict | None = None):
    """Write model (safetensors) and tokeniser to `folder` in transformers' format, all or nothing. All processes must
    call it alike, and each writes its shards; a model whose weights transformers stores under other names goes whole
    through the memory of the first. `tensors` stand in for its own. Raises OSError on all of them, as when the disk is
    full."""
    folder = Path(folder)
    scratch = folder.with_name(f".{folder.name}.{parallel.gather(os.getpid())[0]}")
    disable_progress_bar()
    by_rows, tensors = _under_their_names(model), tensors or stored(model)
    weights = {} if by_rows else {name: _on_first(tensor) for name, tensor in tensors.items()}

    def begin():
        if folder.exists():
            raise FileExistsError(f"{folder} exists already")
        with writing(folder):
            model.save_pretrained(scratch, state_dict=weights)
            tokenizer.save_pretrained(scratch)

    try:
        parallel.once(begin)
        if by_rows:
            with writing(folder):
                parallel.write(scratch / SAFE_WEIGHTS_NAME, tensors)
        parallel.once(lambda: (open_up(scratch), scratch.rename(folder)))
    finally:
        if parallel.rank() == 0:
            shutil.rmtree(scratch, ignore_errors=True)


def _on_first(tensor: torch.Tensor) -> torch.Tensor | None:
    """The whole tensor on the first process, which writes; None on the others, which only take part."""
    tensor = parallel.whole(tensor)
    return tensor.detach().cpu().contiguous() if parallel.rank() == 0 else None
