"""Small models and tokenisers, made on the spot."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CLASSES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def make_model(kind="qwen3", vocab=97, hidden=32, layers=2, context=512, eos=(1,), tied=True, seed=0, sharp=6.0):
    """An untrained model with grouped-query attention. `sharp` scales its output, so that its choices are not all
    ties."""
    config_class, model_class = CLASSES[kind]
    torch.manual_seed(seed)
    config = config_class(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        head_dim=hidden // 4, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
        tie_word_embeddings=tied, eos_token_id=list(eos), pad_token_id=0, bos_token_id=None,
        attn_implementation="sdpa",
    )  # fmt: skip
    model = model_class(config).eval()
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


def logprobs_one_at_a_time(model, prompt, ids, temperature):
    """log p of each id and the entropies, by a plain forward in float64 of the whole sequence."""
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
