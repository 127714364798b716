"""A GRPO step beside trl's GRPOTrainer, in one run; and what a TAPO step costs for each token beside ours of GRPO.

    python bench/step.py                  # needs: pip install trl
    python bench/step.py --skip-trl       # only ours

The same tiny model (Qwen3, hidden 128, 4 layers, vocabulary 1,024), 32 prompts of 40 tokens x 8 completions of 48
tokens (no token ends one), the same reward function, AdamW, no KL, one optimiser step a batch, nothing computed twice
for memory's sake (gradient checkpointing). trl gets what its user would choose on a CPU: the batch that is fastest of
those tried; ours has the default. The first step is not counted; the median of the rest is.

The second comparison is on the toy, from its cold start: seconds of a step over tokens generated plus trained on, and
over all that pass through the network (forwards of the KL's reference are not counted).
"""

import random
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[1]))
import config
import policy
import toy
from data import Problem
from train import Trainer

ROOT = Path(__file__).parents[1]
VOCABULARY, PROMPTS, LENGTH, K, LIMIT = 1024, 32, 40, 8, 48


def make_tokenizer():
    """One token a word: w0, w1, ..."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w0")


def make_model():
    """Untrained; no token ends a completion, because none of those sampled is the end token: its logit is -100."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
        eos_token_id=1, bos_token_id=None, pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    model = Qwen3ForCausalLM(shape)
    model.generation_config.eos_token_id = 1
    head = model.lm_head
    model.lm_head = torch.nn.Linear(128, VOCABULARY)  # with a bias
    with torch.no_grad():
        model.lm_head.weight.copy_(head.weight)
        model.lm_head.bias.zero_()[1] = -100.0
    return model


def prompts():
    """The texts of all prompts."""
    rng = random.Random(0)
    return [" ".join(f"w{rng.randrange(2, VOCABULARY)}" for _ in range(LENGTH)) for _ in range(PROMPTS)]


def reward(text: str) -> float:
    """1 when the first word has an even number: half of the completions."""
    return float(int(text.split()[0][1:]) % 2 == 0)


def ours(steps: int) -> list[float]:
    """Seconds of each of our steps."""
    given = {"algo": "grpo", "queries": PROMPTS, "k": K, "max_new_tokens": LIMIT, "slots": PROMPTS * K}
    settings = config.settle(config.Training, given | {"gradient_checkpointing": False, "kl": 0.0, "lr": 1e-6})
    trainer = Trainer(settings, make_model().eval(), make_tokenizer(), [Problem(text, "0") for text in prompts()])
    trainer.actor.reward = lambda text, problem: reward(text)
    sample = trainer.actor.sampler.sample

    def sample_finished(*given, **more):
        # Every completion is cut at the limit. A cut one gets reward 0 here without the reward being asked, so no
        # response would have an advantage, and there would be nothing to train on; trl asks its reward of all. So ours
        # count as finished: then both judge all of them, and train on all but what we leave out in any run, groups of
        # equal rewards (one in 128 by chance).
        return [[replace(completion, finished=True) for completion in group] for group in sample(*given, **more)]

    trainer.actor.sampler.sample = sample_finished
    seconds = []
    for number in range(steps):
        start = time.perf_counter()
        figures, _, _ = trainer.step(number)
        seconds.append(time.perf_counter() - start)
        assert figures["tokens_sampled"] == PROMPTS * K * LIMIT and 0 < figures["reward_mean"] < 1
    return seconds


def trl(steps: int, batch: int) -> list[float]:
    """Seconds of each of trl's steps, in micro-batches of `batch` completions."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    ends = []

    class Clock(TrainerCallback):
        """Notes when each optimiser step is done."""

        def on_train_begin(self, *args, **_):
            ends.append(time.perf_counter())

        def on_step_end(self, *args, **_):
            ends.append(time.perf_counter())

    def rewards(completions, **_):
        return [reward(text) for text in completions]

    with tempfile.TemporaryDirectory() as folder:
        options = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=batch, gradient_accumulation_steps=PROMPTS * K // batch,
            num_generations=K, max_completion_length=LIMIT, beta=0.0, learning_rate=1e-6, max_steps=steps,
            use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no",
            logging_steps=steps, disable_tqdm=True, temperature=1.0, dataloader_num_workers=0,
        )  # fmt: skip
        rows = Dataset.from_list([{"prompt": text} for text in prompts()] * steps)
        trainer = GRPOTrainer(
            model=make_model(), reward_funcs=rewards, args=options, train_dataset=rows,
            processing_class=make_tokenizer(), callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
        mean = [row for row in trainer.state.log_history if "completions/mean_length" in row][-1]
        assert mean["completions/mean_length"] == LIMIT
    return [b - a for a, b in pairwise(ends)]


def toy_cost(algo: str, steps: int) -> tuple[float, float, int]:
    """Microseconds of a step on the toy for each token generated or trained on; for each token that passes through the
    network, prompts included; and how many are generated or trained on a step."""
    settings = config.settle(config.Training, {"algo": algo}, toy.SETTINGS)
    trainer = Trainer(settings, *policy.load(str(ROOT / toy.COLD_START)), toy.problems()[0])
    sampler, passed = trainer.actor.sampler, []
    sample = sampler.sample

    def sample_and_count(*given, **more):
        groups = sample(*given, **more)
        if groups:  # to sample nothing leaves the stats of the call before
            passed.append(sampler.stats.prefill_tokens + sampler.stats.decode_tokens)
        return groups

    def count_trained(layer, given, out):
        passed.append(given[0].numel() if torch.is_grad_enabled() else 0)

    sampler.sample = sample_and_count
    trainer.model.get_input_embeddings().register_forward_hook(count_trained)
    seconds, tokens = 0.0, 0
    for number in range(steps + 1):
        figures, _, _ = trainer.step(number)
        if not number:
            passed.clear()
            continue
        seconds += figures["seconds_sampling"] + figures["seconds_training"]
        tokens += figures["tokens_sampled"] + figures["tokens_synthesised"] + figures["tokens_trained"]
    return 1e6 * seconds / tokens, 1e6 * seconds / sum(passed), tokens // steps


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--skip-trl", action="store_true")
    args = parser.parse_args()
    if args.steps < 2:
        config.fail("--steps must be at least 2: the first is not counted")
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    mine = statistics.median(ours(args.steps)[1:])
    print(f"ours: {mine:.2f} s a GRPO step", flush=True)
    if not args.skip_trl:
        tried = {batch: statistics.median(trl(args.steps, batch)[1:]) for batch in (64, 128, 256)}
        theirs = min(tried.values())
        print("trl, micro-batches of " + ", ".join(f"{batch}: {s:.2f} s" for batch, s in tried.items()))
        print(f"ours takes {mine / theirs:.2f} of trl's time")
    if not (ROOT / toy.COLD_START).exists():
        config.fail(f"the toy's cold start is not there: python coldstart.py makes it, in {toy.COLD_START}")
    for algo in ("grpo", "tapo"):
        each, passed, tokens = toy_cost(algo, 3)
        print(f"on the toy, {algo}: {tokens} tokens a step, {each:.1f} us each; {passed:.1f} us with prompts counted")


if __name__ == "__main__":
    config.run(main)
