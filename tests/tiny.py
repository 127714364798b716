"""Small models and tokenisers, made on the spot."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

SLIDING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "moe_intermediate_size": 32}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6}
CLASSES = {  # of each kind the config, and what it is given beside what `make_model` gives all
    "qwen3": (Qwen3Config, {}),
    "qwen2": (Qwen2Config, {}),
    "llama": (LlamaConfig, {}),
    "mistral": (MistralConfig, {"sliding_window": 6}),
    "qwen3_sliding": (Qwen3Config, {"use_sliding_window": True, **SLIDING}),
    "gemma3": (Gemma3TextConfig, {"query_pre_attn_scalar": 8, **SLIDING}),
    "gpt_oss": (GptOssConfig, {**SLIDING, **EXPERTS, "attn_implementation": None}),
    "qwen3_moe": (Qwen3MoeConfig, {**EXPERTS, "num_experts": 4}),
    "deepseek_v3": (DeepseekV3Config, {**LATENT, "first_k_dense_replace": 2, "num_key_value_heads": 4, "head_dim": 4}),
}
WINDOWED = ["mistral", "qwen3_sliding", "gemma3", "gpt_oss"]


def make_model(kind="qwen3", vocab=97, hidden=32, layers=2, context=512, eos=(1,), tied=True, seed=0, sharp=6.0):
    """An untrained model with grouped-query attention. `sharp` scales its output, so that its choices are not all
    ties."""
    config_class, more = CLASSES[kind]
    torch.manual_seed(seed)
    given = {
        "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers,
        "head_dim": hidden // 4, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": context,
        "tie_word_embeddings": tied, "eos_token_id": list(eos), "pad_token_id": 0, "bos_token_id": None,
        "attn_implementation": "sdpa",
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(config_class(**(given | more))).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(sharp)
    return model


def make_tokenizer(texts, vocab=600, chat=True):
    """A byte-level BPE tokeniser that merges as `texts` suggest, with an end token and a chat template."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, max_token_length=12, show_progress=False
    )
    inner.train_from_iterator([piece for text in texts for piece in text.split("\n")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<pad>")
    if chat:
        tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}<|assistant|>"
    return tokenizer


def make_sentencepiece(texts, **given):
    """A tokeniser that treats the beginning of a text as Llama 2's does: it puts a space there, and decoding takes it
    away. Its pieces are the words of `texts`, their beginnings, characters, and bytes."""
    words = {("\u2581" + word)[:end] for text in texts for word in text.split(" ") for end in (1, 2, 3, 4, 99)}
    words = sorted(words | {character for text in texts for character in text} - {" ", "\n"})
    pieces = [(piece, 0.0) for piece in ("<unk>", "<s>", "</s>")] + [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    inner = Tokenizer(models.Unigram(pieces + [(word, -10.0) for word in words], unk_id=0, byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **given
    )


def logprobs_one_at_a_time(model, prompt, ids, temperature):
    """log p of each id and the entropies, by a plain forward in float64 of the whole sequence."""
    model.config._experts_implementation = "eager"  # of a mixture: the others know no float64
    logits = model.double()(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature
    table = logits.log_softmax(-1)
    return table.gather(-1, torch.tensor(ids)[:, None])[:, 0], -(table.exp() * table).sum(-1)


class WidestTable(torch.utils._python_dispatch.TorchDispatchMode):
    """While it is entered: `rows`, the most rows of any tensor with a vocabulary axis that was made."""

    def __init__(self, vocab):
        super().__init__()
        self.vocab, self.rows = vocab, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == self.vocab:
                self.rows = max(self.rows, tensor.numel() // self.vocab)
        return out


class Alive(torch.utils._python_dispatch.TorchDispatchMode):
    """While it is entered: `peak`, the most bytes that tensors had at once which were made or looked at here, but for
    those that were `known` before; `table`, those of a table of logits, [any, vocab]."""

    def __init__(self, vocab=0, known=()):
        super().__init__()
        self.vocab, self.storages, self.peak, self.table = vocab, {}, 0, 0
        self.known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self.known:
                is_table = tensor.ndim == 2 and tensor.shape[-1] == self.vocab
                self.storages[storage._cdata] = StorageWeakRef(storage), is_table
                del storage
        sizes = {key: self.size(ref) for key, (ref, _) in self.storages.items()}  # FSDP makes some empty, and larger
        self.storages = {key: self.storages[key] for key, size in sizes.items() if size is not None}
        self.peak = max(self.peak, sum(sizes[key] for key in self.storages))
        self.table = max(self.table, sum(sizes[key] for key, (_, is_table) in self.storages.items() if is_table))
        return out

    @staticmethod
    def size(ref: StorageWeakRef) -> int | None:
        """The bytes that a storage has now; None when it is gone."""
        storage = torch.UntypedStorage._new_with_weak_ptr(ref.cdata)
        return None if storage is None else storage.nbytes()
