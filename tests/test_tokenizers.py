"""Real tokenisers, and stand-ins of their kinds: prompts, end tokens, and 300 constructions each.

The real ones lie in ../models beside the checkout, or are skipped:

    ../shared/models/tokenizers.sh ../models/tok
    python ../shared/models/smollm2.py ../models/smollm2
"""

# ruff: noqa: RUF001 (such characters are the point)

import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import make_model, make_sentencepiece, make_tokenizer
from transformers import AutoTokenizer

import policy
from config import Sampling
from data import Problem, prompt_ids
from rollouts import Actor, Response
from sampler import Completion

MODELS = Path(__file__).parents[2] / "models"
REAL = {name: MODELS / "tok" / name for name in ("qwen3", "llama2", "llama3_1", "gemma3", "deepseek_v3", "gptoss")}
REAL["smollm2"] = MODELS / "smollm2"

SENTENCES = [
    "José has {a} croissants and sells {b}, so he doesn't keep {c}.",
    "Thus ${a} \\times {b} = {c}$.",
    "\\[\n\\frac{{{a}}}{{{b}}} = {c}\n\\]",
    "The café earns €{c}, i.e. {a} × {b} − 7!",
    "- First, \\( {a} + {b} = {c} \\)",
    "2. {a} ÷ {b} ≈ {c} 😊",
    "**Step 3:** <<{a}*{b}={c}>>{c} , which isn't {a}%.",
    "Since x² = {a}, we have $$\\sqrt{{{a}}} \\le {c}$$",
]
TURNS = [
    " Wait, {}.", "\n\nWait, {}.", "\nwait: {}.", " But wait, {}.", " Hmm, wait. I think {}.", "\n\nHold on, {}!",
    "... wait, {}.", " No, wait, {}.", " Oh, that’s wrong: {}.", " (Wait, {}.)", "\n\n**Wait**, {}.", " — wait, {}.",
    " 🤔 Wait, {}.", "\n- Wait, {}.", "\nLet me double-check: {}.", " I made a mistake, {}.", "? Actually, wait, {}.",
    "\n\n---\n\nWait, {}.", "\n\n> Wait, {}.", " So wait, {}.", " Well, wait, {}.", " Wait a minute, {}.",
    "\n\n### Wait, {}.",
]  # fmt: skip


def solution(rng) -> str:
    """Several lines or sentences with a boxed answer."""

    def number():
        return rng.choice([str(rng.randint(2, 99)), f"{rng.randint(1000, 999999):,}", f"{99 * rng.random():.2f}"])

    said = [rng.choice(SENTENCES).format(a=number(), b=number(), c=number()) for _ in range(rng.randint(3, 7))]
    return rng.choice([" ", "\n", "\n\n"]).join([*said, f"So it is $\\boxed{{{number()}}}$."])


def cut(text: str, rng) -> int:
    """Where the error of a solution ends: behind a word, a character inside a line, a line break or a formula. Not
    within the first token, where nothing would be left to keep."""
    ends = rng.choice([r"\w+", r"[^\s\w]", r"\n+", r"\$[^$\n]+\$|\\\]|\\\)"])
    return rng.choice([end.end() for end in re.finditer(ends, text) if end.end() > 12] or [len(text)])


@pytest.fixture(scope="module", params=[*REAL, "byte-level", "sentencepiece", "sentencepiece that cleans up"])
def tokenizer(request):
    if request.param in REAL:
        if not (REAL[request.param] / "tokenizer.json").is_file():
            pytest.skip(f"{REAL[request.param]} is not there")
        return AutoTokenizer.from_pretrained(REAL[request.param])
    texts = [solution(random.Random(seed)) for seed in range(20)]
    if request.param == "byte-level":
        return make_tokenizer(texts, vocab=900)
    return make_sentencepiece(texts, clean_up_tokenization_spaces="cleans" in request.param)


def test_constructions(tokenizer):
    """At most 1 % of sound constructions are lost, and those that are kept are what they must be. Of the ids of y-, a
    fifth is as a model samples them now and then, not as the tokeniser would write them."""
    rng, vocab, problem = random.Random(5), tokenizer.get_vocab(), Problem("What is it?", "1")
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("4")}  # both end a response here
    model = make_model(vocab=len(tokenizer), hidden=16, layers=1, context=10**6, eos=ends)
    actor = Actor(model, tokenizer, [problem], Sampling(k=2, max_new_tokens=2000), seed=0, constructs=False)

    def encode(text):
        return tokenizer(text, add_special_tokens=False).input_ids

    def split(id_):
        """Two tokens for one, where there are such."""
        token = tokenizer.convert_ids_to_tokens(id_)
        at = rng.randrange(1, len(token)) if len(token) > 1 and token[0] != "<" else 0
        halves = [vocab.get(token[:at]), vocab.get(token[at:])]
        return halves if at and rng.random() < 0.05 and None not in halves else [id_]

    groups, outputs, texts = [], [], []
    for i in range(300):
        wrong = encode(solution(rng))
        if i % 5 == 0:
            wrong = [id_ for one in wrong for id_ in split(one)]
        text = tokenizer.backend_tokenizer.decode(wrong)
        text = text[: cut(text, rng)] + rng.choice(TURNS).format("that is 5 − 2") + " " + solution(rng)
        said = f"<analysis>\nIt isn't so.\n</analysis>\n<reconstruction>\n{text}\n</reconstruction>"
        outputs.append([Completion([*encode(said), tokenizer.eos_token_id], [], True)])
        right = [*encode("So it is 1."), rng.choice(sorted(ends))]
        known = {"logprobs": [], "finished": True, "query": 0, "prompt": [1], "reflects": False}
        wrong = Response(ids=[*wrong, tokenizer.eos_token_id], text=text, reward=0.0, **known)
        groups.append([wrong, Response(ids=right, text="So it is 1.", reward=1.0, **known)])
        texts.append(text.strip())
    actor.sampler.sample = lambda *_, **__: outputs
    attempts = actor.construct([0] * 300, groups, [(i, 0, 1) for i in range(300)], 0)

    kept = [attempt for attempt in attempts if attempt.trajectory]
    outcomes = [attempt.construction.outcome for attempt in attempts]
    assert len(kept) >= 297, {outcome: outcomes.count(outcome) for outcome in outcomes}
    for attempt, text in zip(attempts, texts):
        if not attempt.trajectory:
            continue
        made, ids = attempt.construction, attempt.trajectory.ids
        assert made.kept > 0 and ids[: made.kept] == attempt.wrong.ids[: made.kept]
        assert tokenizer.backend_tokenizer.decode(ids[:-1]) == text == attempt.trajectory.text
        assert ids[-1] == attempt.right.ids[-1] and tokenizer.eos_token_id not in ids[:-1]
        new = ids[made.kept : -1]
        assert new == encode(text)[-len(new) :]  # as the tokeniser writes it within the text, not as a text of its own


PROMPTS = {
    "qwen3": "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s> 1 + 1?\n",  # it comes without a template
    "llama3_1": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n1 + 1?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma3": "<bos><start_of_turn>user\n1 + 1?<end_of_turn>\n<start_of_turn>model\n",
    "deepseek_v3": "<｜begin▁of▁sentence｜><｜User｜>1 + 1?<｜Assistant｜>",
    "gptoss": "1 + 1?\n",  # without a template, too
    "smollm2": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n",
}
ENDS = {
    "qwen3": "<|im_end|>", "llama2": "</s>", "llama3_1": "<|eot_id|>", "gemma3": "<end_of_turn>",
    "deepseek_v3": "<｜end▁of▁sentence｜>", "gptoss": "<|return|>", "smollm2": "<|im_end|>",
}  # fmt: skip
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
HARMONY = (  # of gpt-oss, in short: what ends a channel is not what ends a response
    "{% for m in messages %}{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>{% else %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def real(name):
    if not (REAL[name] / "tokenizer.json").is_file():
        pytest.skip(f"{REAL[name]} is not there")
    return AutoTokenizer.from_pretrained(REAL[name])


@pytest.mark.parametrize("name", REAL)
def test_prompts_and_end_tokens_of_real_chat_templates(name):
    tokenizer, untold = real(name), SimpleNamespace(generation_config=None)

    def prompt(**given):
        [ids] = prompt_ids(tokenizer, ["1 + 1?"], **given)
        return tokenizer.decode(ids)

    assert prompt() == PROMPTS[name]
    tokenizer.eos_token = None if tokenizer.chat_template else tokenizer.eos_token  # so that the template must tell
    assert tokenizer.convert_ids_to_tokens(list(policy.eos_ids(untold, tokenizer))) == [ENDS[name]]
    if name == "qwen3":
        assert prompt(enable_thinking=True) == PROMPTS[name]
        assert prompt(enable_thinking=False) == PROMPTS[name] + "<think>\n\n</think>\n\n"
        assert prompt(system="Be brief.") == "<|im_start|>system\nBe brief.<|im_end|>\n" + PROMPTS[name]
        return
    with pytest.raises(ValueError, match="knows no enable_thinking"):
        prompt(enable_thinking=False)
    if name in ("llama2", "gptoss"):
        with pytest.raises(ValueError, match="knows no system message"):
            prompt(system="Be brief.")
    else:
        assert prompt(system="Be brief.").count("Be brief.") == 1


@pytest.mark.parametrize(
    ("name", "template", "prompt"),
    [
        ("llama2", LLAMA2, "<s>[INST] 1 + 1? [/INST]"),
        ("gptoss", HARMONY, "<|start|>user<|message|>1 + 1?<|end|><|start|>assistant"),
    ],
)
def test_templates_that_are_given(name, template, prompt):
    tokenizer = real(name)
    tokenizer.chat_template = template
    [ids] = prompt_ids(tokenizer, ["1 + 1?"])
    assert ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1?"}], add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(ids).replace("<s> ", "<s>") == prompt and ids.count(tokenizer.bos_token_id) <= 1
    ends = policy.eos_ids(SimpleNamespace(generation_config=None), tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(ends)) == [ENDS[name]]
