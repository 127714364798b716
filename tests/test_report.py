"""What runs look like: as text, as a page that holds no script, and as curves; and which rollouts are kept for that."""

import base64
import hashlib
import json
import math
import re
import sys
import time
from html.parser import HTMLParser

import pytest
from tiny import make_tokenizer

import config
import metrics
from data import Problem
from reflect import OUTCOMES
from rollouts import Response
from tools import report
from tools.curves import UNIMPORTANT, Course, _looks, band, draw, grouped, picture, series
from tools.page import LONG, align, page, split_turn

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">\'</style>&amp;\u202e'


def kept(step=1, prefix="2 + 2 = 5.", turn=" Wait, that is wrong. It is \\boxed{4}.", reward=1.0, **more):
    tokens = [*prefix.split(" "), *turn.strip().split(" "), "<|end|>"]
    weights = [round(0.1 * (i % 12) + 0.01, 2) for i in range(len(tokens))]
    row = {
        "step": step,
        "question": "2 + 2?",
        "outcome": "kept",
        "wrong": prefix + " So 5.",
        "right": "4",
        "analysis": "",
    }
    row |= {"prefix": prefix, "turn": turn, "reward": reward, "advantage": -0.5, "tokens": tokens}
    return row | {"kept_tokens": len(prefix.split(" ")), "ots_weights": weights} | more


def thrown(outcome, step=1, **more):
    row = {"step": step, "question": "Q", "outcome": outcome, "wrong": "5", "right": "4", "analysis": "5 is not 4"}
    return row | {"prefix": "", "turn": ""} | more


def rollout(step=1, text="It is \\boxed{4}.", reward=1.0, **more):
    row = {"step": step, "question": "2 + 2?", "answer": "4", "text": text, "reward": reward, "correct": reward > 0}
    return row | {"reflects": False, "advantage": 0.5, "tokens": 9, "finished": True} | more


def make_run(folder, rows=(), steps=12, seed=0, rollouts=(), **settings):
    folder.mkdir()
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rollouts))
    (folder / "config.json").write_text(json.dumps({"settings": {"algo": "tapo", "seed": seed, "lam": 2.0} | settings}))
    with open(folder / "metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            names = (*report.CURVES, "kl", "reward_mean", "length_mean", "parsed", "correct")
            row = dict.fromkeys(names, step / 10 + seed)
            row |= {
                "lr": 1e-5 * step,
                "step": step,
                "loss_orig": 1.0,
                "loss_ref": 0.5,
                "gap_mean": 1e-7,
                "ots_weight": None,
            }
            file.write(json.dumps(row) + "\n")
    (folder / "trajectories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def run(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["report.py", *map(str, argv)])
    report.main()
    return capsys.readouterr().out


def refused(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["report.py", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        config.run(report.main)
    printed = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and printed.startswith("error: ") and "\n" not in printed
    return printed


class Reader(HTMLParser):
    """Tags with their attributes; the text, that of each class of span, and that of each card, folded or not; and each
    text within the body with the tags that it stands in."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.spans, self.text, self.cards, self.texts, self.open = [], [], "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append((tag, dict(attrs)))
        if tag == "article":
            self.cards.append({"all": "", "folded": ""})

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "body" not in inside:
            return
        self.text += data
        self.texts.append((data, [*self.open]))
        if "article" in inside:
            self.cards[-1]["all"] += data
            within = inside[inside.index("article") :]
            self.cards[-1]["folded"] += data if "details" in within and "summary" not in within else ""
            if inside[-1] == "span" and " w" in self.open[-1][1].get("class", ""):
                self.spans.append((self.open[-1][1]["class"], data))


def test_the_page_marks_parts_and_weights():
    row = kept(ots_weights=[1.0, 1.0, 0.01, 1.0, 2.0, 0.01, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.03])
    read = Reader(page("T", {"run": [row]}))
    assert read.spans == [  # neighbours with the same part and strength are one span
        ("prefix w3", "2 +"), ("prefix w0 floor", " 2"), ("prefix w3", " ="), ("prefix w4", " 5."),
        ("diagnosis w0 floor", " Wait,"), ("diagnosis w3", " that is wrong."),
        ("correction w2", " It"), ("correction w3", " is \\boxed{4}."),
    ]  # fmt: skip
    titles = [attrs["title"] for tag, attrs in read.tags if tag == "span" and "title" in attrs]
    assert titles[1] == "prefix, OTS weight 0.01" and "end: 0.03" in read.text
    for said in ("step 1", "reward1", "advantage-0.50", "tokens kept5 of 13", "OTS, prefix1.00", "2 + 2 = 5. So 5."):
        assert said in read.text
    assert read.cards[0]["folded"] == "2 + 2 = 5. So 5." + "4"  # y- and y+; no analysis was given


def test_the_page_marks_what_stands_at_the_floor():
    """In the text and beside it, the end token by its name; and it tells what the mark means."""
    weights = [1.0, 1.0, 0.0101, 1.0, 0.04, 0.01, 0.01, 1.0, 0.01, 0.01, 1.0, 1.0, 0.01]
    row = kept(prefix="2 + <b> = 5.", turn=" <i> wait that wait \n is \\boxed{4}.", ots_weights=weights)
    text = page("T", {"run": [row, kept(2, ots_weights=[1.0] * 13)]})
    read = Reader(text)
    assert "at the floor5 of 13: <i>, wait, \\n, end" in read.text and "at the floor0 of 13" in read.text
    first, *framed, last = (data for data, inside in read.texts if " floor" in inside[-1][1].get("class", ""))
    assert (first, "".join(framed), last) == ("at the floor, 0.01", " <i> wait wait \n", "end: 0.01")
    assert ".floor { outline" in text and "framed" in explained(text)[0]["at the floor"]
    assert "at the floor" not in Reader(page("T", {"grpo": [rollout()]})).text


def test_the_page_filters_without_script():
    rows = [
        rollout(),
        rollout(reward=-1.0, finished=False),
        kept(),
        kept(reward=0.0),
        rollout(2, reflects=True),
        kept(2),
    ]
    rows += [thrown("tags", 2), thrown("too_long", 2, prefix="5. ", turn="Wait, 4.")]
    text = page("T", {"a": rows, "b": []}, {"a": {2: "accuracy 0.25"}})
    read = Reader(text)
    assert [a["class"] for tag, a in read.tags if tag == "article"] == [
        "rollout rollout-right", "rollout rollout-wrong rollout-cut", "construction right", "construction wrong",
        "rollout rollout-right rollout-reflects", "construction right", "construction tags", "construction too_long",
    ]  # fmt: skip
    steps = [a["class"].split() for tag, a in read.tags if tag == "details" and "step" in a.get("class", "")]
    assert set(steps[0]) == {
        "step",
        *"rollout rollout-right rollout-wrong rollout-cut construction right wrong".split(),
    }
    assert set(steps[1]) == {"step", *"rollout rollout-right rollout-reflects construction right tags too_long".split()}
    inputs = {a["id"]: a for tag, a in read.tags if tag == "input"}
    names = (
        "all rollout rollout-right rollout-wrong rollout-reflects rollout-cut construction right wrong tags too_long"
    )
    assert list(inputs) == [f"only-{name}" for name in names.split()]
    assert [name for name, a in inputs.items() if "checked" in a] == ["only-all"]
    assert {a["name"] for a in inputs.values()} == {"kind"} and "#only-all:checked ~ section" not in text
    assert [a["for"] for tag, a in read.tags if tag == "label"] == list(inputs)
    for k in names.split()[1:]:
        assert f"#only-{k}:checked ~ section :is(article, .step):not(.{k}) {{ display: none; }}" in text
    labels = "everything (8)", "right (2)", "wrong (1)", "reflecting (1)", "cut (1)", "kept, right (2)", "tags (1)"
    for said in (*labels, "step 2accuracy 0.25", OUTCOMES["tags"], "5. Wait, 4.", "Nothing of what it wrote is stored"):
        assert said in read.text


def explained(text):
    """The words that a page explains, and the words and figures that its cards and filters show."""
    read = Reader(text)
    shown, words = set(), {}
    for data, inside in read.texts:
        tags = [tag for tag, _ in inside]
        in_words = any(a.get("class") == "words" for _, a in inside)
        if tags[-1] == "dt":
            words |= {data: ""} if in_words else {}
            shown |= set() if in_words else {data}
        elif tags[-1] == "dd" and in_words:
            words[list(words)[-1]] += data
        elif tags[-1] == "label":
            shown.add(data.rpartition(" (")[0])
        elif inside[-1][1].get("class") == "badge":
            shown.add(data)
    return words, shown - {"everything", "all"}


def test_the_page_says_what_its_words_mean():
    constructions = [kept(), kept(reward=0.0), *map(thrown, [name for name in OUTCOMES if name != "kept"])]
    rollouts = [rollout(), rollout(reward=0.0, finished=False, reflects=True)]
    words, shown = explained(page("T", {"a": [*rollouts, *constructions]}))
    assert shown <= words.keys() and {"OTS, turn", "not_verbatim", "cut", "kept, wrong", "answer"} <= shown
    assert {"rollout", "construction", "OTS weight", "end: 0.02", "diagnosis", "y\u2212, y+", "step"} <= words.keys()
    assert all(OUTCOMES[name] in words[name] for name in OUTCOMES if name not in ("kept", "cut"))
    words, shown = explained(page("T", {"grpo": rollouts}))  # and no others
    assert shown <= words.keys() and words.keys() >= {"advantage", "rollout"} and "OTS" not in str(words)
    words, shown = explained(page("T", {"old": constructions}))
    assert shown <= words.keys() and "rollout" not in words


def test_the_page_folds_what_is_long():
    long = " ".join(map(str, range(2000)))  # 8889 characters
    prefix, turn = f"{long} = 1.", f" Wait, no. {long}"
    constructed = kept(prefix=prefix, turn=turn, wrong="5")
    rows = [rollout(text=long), thrown("splice", turn=long), constructed, rollout(text=long[:LONG])]
    read = Reader(page("T", {"a": rows}))
    said = [re.sub("[0-9,]+ characters more", "", card["all"]) for card in read.cards]
    assert all(long in text for text in said[:2]) and prefix + turn in said[2]  # nothing is lost
    for card, folds in zip(read.cards, (1, 1, 2, 0)):
        assert card["all"].count(" characters more") == folds
        assert (" 1000 " in card["folded"]) == (folds > 0)
        assert " 150 " not in card["folded"] and " 1999" not in card["folded"]  # the beginning and the end are shown
    assert "Wait" not in read.cards[2]["folded"] and "".join(text for _, text in read.spans) == prefix + turn
    assert len(page("T", {"a": [rollout(text="x" * 9999)]})) < 30_000  # without a space, too


def test_no_text_turns_another_round():
    rtl = "\u202eabc\u2067 \u05d0"
    fields = dict.fromkeys(("question", "wrong", "right", "analysis"), rtl)
    turn = f" Wait. {rtl} \u05d1"
    rows = [
        rollout(text=rtl, question=rtl, answer=rtl),
        kept(prefix=rtl, turn=turn, **fields),
        thrown("tags", **fields),
    ]
    text = page(rtl, {rtl: rows})
    for data, inside in Reader(text).texts:
        if "\u202e" in data:
            assert inside[-1][1].get("dir") == "auto" or inside[-2][1].get("class") == "part", (data, inside)
    assert ".part { unicode-bidi: isolate; }" in text
    parts = [
        [a.get("class") for _, a in inside[-2:]] for data, inside in Reader(text).texts if data.startswith("end: ")
    ]
    assert parts[-1] == ["text", "part quiet"]  # beside the parts, not within


def test_what_a_model_wrote_is_only_text():
    fields = dict.fromkeys(("question", "wrong", "right", "analysis", "prefix"), EVIL)
    rows = [kept(turn=f" Wait. {EVIL}", **fields), thrown("splice", **fields, turn=EVIL)]
    rows += [rollout(text=EVIL, question=EVIL, answer=EVIL), rollout(text=EVIL * 99, tokens=EVIL)]
    text = page(EVIL, {EVIL: rows}, {EVIL: {1: EVIL}})
    read = Reader(text)
    allowed = {"h3", "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "span", "input", "label"}
    allowed |= {"section", "article", "header", "details", "summary", "dl", "dt", "dd"}
    assert {tag for tag, _ in read.tags} <= allowed
    assert not any(
        name.startswith("on") or name in ("style", "href", "src") for _, attrs in read.tags for name in attrs
    )
    # title, run, step; two constructions with six texts each, two rollouts
    assert read.text.replace(" characters more", "").count(EVIL) >= 3 + 2 * 6 + 3 + 97 + 1
    [policy] = [a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';") and f"style-src 'sha256-{digest}';" in policy
    assert "script-src" not in policy and "unsafe" not in policy and "http:" not in text and "https:" not in text


def test_tokens_are_laid_on_the_text():
    assert align(["try", "9", ":", "<eos>"], "try 9 :") == ["try", " 9", " :", ""]
    assert align(["a", "b"], "a  b tail") == ["a", "  b tail"]
    text = "Also: 2 + 2 \u2260 5 \U0001f600\u3000\u2014 ja\u0308 \u6570\u5b66 Wait, \\boxed{4}."
    tokenizer = make_tokenizer([text])
    for vocabulary in (300, 600):  # few merges: one character is several tokens
        tokenizer = make_tokenizer([text], vocab=vocabulary)
        tokens = [tokenizer.decode([i]) for i in tokenizer(text).input_ids] + ["<|end|>"]
        pieces = align(tokens, text)
        assert "".join(pieces) == text and len(pieces) == len(tokens) and pieces[-1] == ""
        assert all(piece == token for piece, token in zip(pieces, tokens) if piece and "\ufffd" not in token)


def test_split_turn():
    assert split_turn(" Wait, 9 is 3. So 4.") == ("Wait, 9 is 3.", "So 4.")
    assert split_turn("wait 9 is high ; try 8") == ("wait 9 is high ;", "try 8")
    assert split_turn("Wait") == ("Wait", "") and split_turn("") == ("", "")
    assert split_turn(". Wait, 9 is 3. So 4.") == (". Wait, 9 is 3.", "So 4.")
    assert split_turn("...\n\nWait, 9 is 3.\nSo 4.") == ("...\n\nWait, 9 is 3.", "So 4.")
    assert split_turn("; hmm. No; wait ; 4") == ("; hmm. No; wait ;", "4")
    assert split_turn(". - .") == (". - .", "")
    begun = time.perf_counter()
    assert split_turn(". " * 50_000 + "Wait. 4")[1] == "4" and time.perf_counter() - begun < 5


def test_the_program_writes_a_page(tmp_path, monkeypatch, capsys):
    rows = [row for step in range(1, 101) for row in (kept(step), thrown("tags", step))]
    one, two = make_run(tmp_path / "one", rows), make_run(tmp_path / "two")
    out = tmp_path / "p.html"
    assert str(out) in run(monkeypatch, capsys, one, two, "--page", out)
    text = out.read_text()
    assert text.count("<article") == 60 and "step 100<" in text and text.count("<section>") == 2
    run(monkeypatch, capsys, one, "--page", out, "--outcome", "tags", "--step", 7)
    assert out.read_text().count("<article") == 1
    assert "an .html file" in refused(monkeypatch, capsys, one, "--page", tmp_path / "one" / "metrics.jsonl")
    assert "no metrics.jsonl" in refused(monkeypatch, capsys, tmp_path, "--page", out)
    (tmp_path / "one" / "config.json").write_text("[]")
    assert "one/config.json: settings missing" in refused(monkeypatch, capsys, one)
    (tmp_path / "two" / "metrics.jsonl").write_text('{"step": 1')
    assert "no step yet" in refused(monkeypatch, capsys, two)


def test_the_page_of_a_run_of_grpo(tmp_path, monkeypatch, capsys):
    verdicts = [1.0, 0.0, 1.0, 0.0]
    rows = [rollout(step, f"says {step} {i}", reward) for step in range(1, 41) for i, reward in enumerate(verdicts)]
    one, out = make_run(tmp_path / "one", rollouts=rows, steps=40), tmp_path / "p.html"

    def said(*argv):
        run(monkeypatch, capsys, one, "--page", out, *argv)
        return re.findall("says ([0-9]+) ([0-9])<", out.read_text())

    shown = said()
    assert len(shown) == 60 and {i for step, i in shown if step == "40"} == {*"0123"}  # whole steps
    assert "step 40</h3>accuracy 4, 4 tokens a response, 4 of 4 constructions kept<" in out.read_text()
    assert len({step for step, _ in shown}) == 15 and "OTS" not in Reader(out.read_text()).text
    filters = re.findall('for="only-([a-z-]+)"', out.read_text())
    assert filters == ["all", "rollout-right", "rollout-wrong"]  # none that hides nothing
    assert said("--step", 3) == [("3", i) for i in "0123"] and said("--step", 3, "-n", 2) == [("3", "0"), ("3", "1")]
    assert said("--only", "wrong", "-n", 4) == [(step, i) for step in ("20", "40") for i in "13"]
    assert said("--show", "constructions") == said("--outcome", "tags") == said("-n", 0) == []
    assert "--show rollouts leaves them out" in refused(
        monkeypatch, capsys, one, "--outcome", "tags", "--show", "rollouts"
    )


def test_whole_steps_are_spread_over_a_run():
    def steps(*kinds, count):
        return [row["step"] for row in report.spread([[{"step": i} for i in kind] for kind in kinds], count)]

    assert steps(range(10), [], count=4) == [2, 4, 7, 9] and steps([5, 5, 6], [6], count=9) == [5, 5, 6, 6]
    assert steps([1, 1, 2, 2, 3, 3], [3, 3, 3, 4], count=4) == [2, 2, 4]  # not step 3 and its 5 rows beside them
    assert steps([1, 2, 3, *[4] * 9], count=10) == [2, *[4] * 9]  # with step 3 there would be 11
    assert steps([7] * 5, [7] * 3, count=2) == [7] * 4 and steps([], [], count=3) == steps([1], [], count=0) == []
    many = steps([i // 8 for i in range(8000)], [i // 9 for i in range(500)], count=60)
    assert many[-1] == 999 and 40 <= len(many) <= 120 and many == sorted(many)


def test_the_program_as_text(tmp_path, monkeypatch, capsys):
    one = make_run(tmp_path / "one", [kept(1), thrown("tags", 1), kept(2), kept(3), kept(4)])
    printed = run(monkeypatch, capsys, one)
    assert [f"step {i}:" in printed for i in range(1, 5)] == [False, True, True, True]
    head, first, *_ = (line.split() for line in printed.splitlines()[1:])
    assert first[head.index("turn_weight")] == first[head.index("floor_share")] == "0.1" and len(first) == len(head)
    assert "[2 + 2 = 5.] [Wait, that is wrong.] [It is \\boxed{4}.]" in printed and "accuracy" in printed
    escape = kept(1, question="\x1b[2J\u009b1mQ", prefix="\x07a\tb \u6570\u3000x")
    shown = run(monkeypatch, capsys, make_run(tmp_path / "two", [escape]))
    assert "\ufffd[2J\ufffd1mQ" in shown and "\ufffda\tb \u6570\u3000x" in shown and "\x1b" not in shown
    assert "thrown away: tags" in run(monkeypatch, capsys, one, "--outcome", "tags")
    assert "no rollout or construction of step 9 is stored" in run(monkeypatch, capsys, one, "--step", 9)
    assert "no construction that ended as 'cut' is stored" in run(monkeypatch, capsys, one, "--outcome", "cut")
    assert "step 4:" not in run(monkeypatch, capsys, one, "-n", 0)


def test_rollouts_as_text(tmp_path, monkeypatch, capsys):
    long = " ".join(map(str, range(2000)))
    rows = [rollout(1, "one"), rollout(2, "two", 0.0, finished=False), rollout(3, "three\u202eeerht", reflects=True)]
    one = make_run(tmp_path / "one", [kept(3)], rollouts=[*rows, rollout(4, long)])
    printed = run(monkeypatch, capsys, one)
    assert [f"step {i}: 2 + 2?" in printed for i in range(1, 5)] == [False, True, True, True]
    assert "wrong, reward 0, advantage +0.50, 9 tokens, cut at the limit\n" in printed
    assert "right, reward 1, advantage +0.50, 9 tokens, it reflects\n" in printed and "three\ufffdeerht" in printed
    assert " 100 " in printed and " 1000 " not in printed and "1999" in printed and "7,589 characters more" in printed
    assert printed.index("\nrollouts\n") < printed.index("\nconstructions\n") < printed.index("[2 + 2 = 5.]")
    shown = run(monkeypatch, capsys, one, "--show", "rollouts", "--only", "right", "-n", 1, "--step", 1)
    assert "response one\n" in shown and "two" not in shown and "constructions\n" not in shown
    assert "rollouts\n" not in run(monkeypatch, capsys, one, "--show", "constructions")
    assert "rollouts\n" not in run(monkeypatch, capsys, one, "--outcome", "kept")
    assert "no wrong rollout of step 1 is" in run(
        monkeypatch, capsys, one, "--only", "wrong", "--step", 1, "--show", "rollouts"
    )
    (tmp_path / "one" / "rollouts.jsonl").unlink()  # a run of before there were any
    assert "[2 + 2 = 5.]" in run(monkeypatch, capsys, one)


@pytest.mark.parametrize(
    "groups, limit, chosen",
    [
        (["10", "01", "11", "00"], 4, [0, 2, 4, 6]),  # as many right as wrong ones, each of another query
        (["10", "01", "11", "00"], 3, [0, 2, 4]),
        (["0000", "0100", "0000"], 2, [5, 0]),  # the rarer first
        (["1111", "1101", "1111"], 2, [6, 0]),
        (["0000", "0100", "0000"], 4, [5, 0, 8, 1]),  # what there is of it; then queries come again
        (["11", "11"], 3, [0, 2, 1]),
        (["01"], 9, [1, 0]),
        (["01"], 0, []),
    ],
)
def test_which_rollouts_are_kept(groups, limit, chosen):
    problems = [Problem(f"question {q}", f"answer {q}") for q in range(len(groups))]
    responses = [
        Response([1] * (k + 1), [], k > 0, query=q, prompt=[], text=f"{q}{k}", reward=float(right), reflects=k == 2)
        for q, group in enumerate(groups)
        for k, right in enumerate(group)
    ]
    advantages = [i / 8 for i in range(len(responses))]
    rows = metrics.rollouts(responses, advantages, problems, limit)
    assert [advantages.index(row["advantage"]) for row in rows] == chosen
    for i, row in zip(chosen, rows):
        of = responses[i]
        expected = {"question": f"question {of.query}", "answer": f"answer {of.query}", "text": of.text}
        expected |= {"reward": of.reward, "correct": of.reward > 0, "reflects": of.reflects, "tokens": len(of.ids)}
        assert row == expected | {"advantage": i / 8, "finished": of.finished}


def test_runs_that_differ_in_the_seed_are_one_band():
    def course(name, seed, **settings):
        rows = [{"step": step, "accuracy": step + seed} for step in range(1, 4 + seed)]
        return Course(name, settings | {"seed": seed}, rows)

    a, b = course("a", algo="tapo", lr=1, seed=0, out="x"), course("b", algo="tapo", lr=1, seed=2, out="y")
    c = course("c", algo="grpo", lr=1, seed=0)
    assert grouped([a, c, b]) == {"algo tapo": [a, b], "algo grpo": [c]}
    assert list(grouped([a, b])) == ["a"] and list(grouped([Course("x", {}, []), Course("y", {}, [])])) == ["x", "y"]
    assert config.free(config.Training) | {"seed"} == UNIMPORTANT
    steps, low, mean, high = band([series(a, "accuracy"), series(b, "accuracy")])
    assert (steps, low, mean, high) == ([1, 2, 3, 4, 5], [1, 2, 3, 6, 7], [2, 3, 4, 6, 7], [3, 4, 5, 6, 7])
    assert math.isnan(band([{1: 5.0, 3: 5.0}])[2][1]) and band([{}]) == ([], [], [], [])
    rows = [{"step": 1, "loss_orig": 1.0, "loss_ref": 0.5, "loss_syn": 4.0}, {"step": 2}]
    assert series(Course("", {"lam": 2.0, "mu": 0.5}, rows), "loss") == {1: 4.0}
    assert series(Course("", {}, [{"step": 1, "ots_weight": None, "tried": 0, "kept": 0}]), "kept") == {}
    assert len(set(_looks(36))) == 36


def test_curves(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)
    other = make_run(tmp_path / "other", algo="<$grpo>", steps=1)
    run(monkeypatch, capsys, one, two, other, "--curves", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    run(monkeypatch, capsys, one, two, other, "--curves", tmp_path / "c.svg")
    drawn = (tmp_path / "c.svg").read_bytes()
    assert (
        drawn.count(b"FillBetweenPolyCollection") > 0
        and b"algo tapo (2 seeds)" in drawn
        and b"<$grpo>" not in drawn
        and b"algo &lt;$grpo&gt;" in drawn
    )
    assert b"not in these runs" in drawn  # no OTS weight
    run(monkeypatch, capsys, one, two, other, "--curves", tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_bytes() == drawn  # no date, no random ids
    assert "matplotlib.pyplot" not in sys.modules  # nothing that looks for a screen


def test_no_panel_says_what_another_says():
    pytest.importorskip("matplotlib")

    def titles(*rewards):
        rows = [{"step": i, "accuracy": 0.5, "reward_mean": reward, "lr": 1e-6} for i, reward in enumerate(rewards)]
        rows[0] |= {"turn_weight": 0.01, "floor_share": 0.1}
        return [axes.get_title(loc="left") for axes in picture([Course("x", {}, rows), Course("y", {}, [])]).axes]

    assert "mean reward" not in titles(0.5, 0.5) and {"learning rate", "training accuracy"} <= {*titles(0.5, 0.5)}
    assert "turn and floor" in titles(0.5)
    assert "mean reward" in titles(0.5, 0.25) and len(titles(0.5, 0.25)) == len(titles(0.5)) + 1


@pytest.mark.parametrize("count, length", [(1, 5), (3, 30), (5, 100), (8, 250), (9, 4000)])
def test_every_name_in_the_legend_fits(count, length):
    pytest.importorskip("matplotlib")
    names = [f"{'long$ name-' * 400}"[:length] + str(i) for i in range(count)]
    figure = picture([Course(name, {}, [{"step": 1, "accuracy": 0.5}]) for name in names])
    figure.draw_without_rendering()
    [legend], panel = figure.legends, figure.axes[0].get_window_extent()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height and box.y0 > panel.y1
    assert panel.height > 100  # the legend takes nothing from the panels
    told = [text.get_text() for text in legend.get_texts()]
    assert len({*told}) == count and all(text.endswith(str(i)) for i, text in enumerate(told))


def test_curves_refused(tmp_path, monkeypatch, capsys):
    one = make_run(tmp_path / "one")
    assert "drawn as .png" in refused(monkeypatch, capsys, one, "--curves", tmp_path / "one" / "metrics.jsonl")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install matplotlib" in refused(monkeypatch, capsys, one, "--curves", tmp_path / "c.png")
    with pytest.raises(ValueError, match="pip install matplotlib"):
        draw([], "c.svg")
