"""What runs look like: as text, as a page that holds no script, and as curves."""

import base64
import hashlib
import json
import math
import sys
from html.parser import HTMLParser

import pytest
from tiny import make_tokenizer

import config
from reflect import OUTCOMES
from tools import report
from tools.curves import UNIMPORTANT, Course, _looks, band, draw, grouped, series
from tools.page import align, page, split_turn

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


def make_run(folder, rows=(), steps=12, seed=0, **settings):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"settings": {"algo": "tapo", "seed": seed, "lam": 2.0} | settings}))
    with open(folder / "metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            names = (*report.CURVES, "kl", "reward_mean", "length_mean", "parsed", "correct")
            row = dict.fromkeys(names, step / 10 + seed)
            row |= {"step": step, "loss_orig": 1.0, "loss_ref": 0.5, "gap_mean": 1e-7, "ots_weight": None}
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
    """Tags with their attributes, and the text in each class of span."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.spans, self.text, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "style" not in inside and "body" in inside:
            self.text += data
        if inside[-1:] == ["span"] and "article" in inside and " w" in self.open[-1][1]:
            self.spans.append((self.open[-1][1], data))


def test_the_page_marks_parts_and_weights():
    row = kept(ots_weights=[1.0, 1.0, 0.01, 1.0, 2.0, 0.01, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.03])
    read = Reader(page("T", {"run": [row]}))
    assert read.spans == [  # neighbours with the same part and strength are one span
        ("prefix w3", "2 +"), ("prefix w0", " 2"), ("prefix w3", " ="), ("prefix w4", " 5."),
        ("diagnosis w0", " Wait,"), ("diagnosis w3", " that is wrong."),
        ("correction w2", " It"), ("correction w3", " is \\boxed{4}."),
    ]  # fmt: skip
    titles = [attrs["title"] for tag, attrs in read.tags if tag == "span" and "title" in attrs]
    assert titles[1] == "prefix, OTS weight 0.01" and "end: 0.03" in read.text
    for said in ("step 1", "reward1", "advantage-0.50", "tokens kept5 of 13", "OTS, prefix1.00", "2 + 2 = 5. So 5."):
        assert said in read.text
    assert [attrs for tag, attrs in read.tags if tag == "details"] == [
        {},
        {},
    ]  # y- and y+, folded; no analysis was given


def test_the_page_filters_by_outcome_without_script():
    rows = [kept(), kept(reward=0.0), kept(2), thrown("tags"), thrown("too_long", prefix="5. ", turn="Wait, 4.")]
    text = page("T", {"a": rows, "b": []})
    read = Reader(text)
    assert [a["class"] for tag, a in read.tags if tag == "article"] == ["right", "wrong", "right", "tags", "too_long"]
    inputs = {a["id"]: a for tag, a in read.tags if tag == "input"}
    assert list(inputs) == ["only-all", "only-right", "only-wrong", "only-tags", "only-too_long"]
    assert "checked" in inputs["only-all"] and len({a["name"] for a in inputs.values()}) == 1
    for k in ("right", "wrong", "tags", "too_long"):
        assert f"#only-{k}:checked ~ section article:not(.{k}) {{ display: none; }}" in text
    for said in ("all (5)", "kept, right (2)", "tags (1)", OUTCOMES["tags"], "5. Wait, 4.", "No trajectory is stored"):
        assert said in read.text


def test_what_a_model_wrote_is_only_text():
    fields = dict.fromkeys(("question", "wrong", "right", "analysis", "prefix"), EVIL)
    rows = [kept(turn=f" Wait. {EVIL}", **fields), thrown("splice", **fields, turn=EVIL)]
    text = page(EVIL, {EVIL: rows})
    read = Reader(text)
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "span", "input", "label"}
    allowed |= {"section", "article", "header", "details", "summary", "dl", "dt", "dd"}
    assert {tag for tag, _ in read.tags} <= allowed
    assert not any(
        name.startswith("on") or name in ("style", "href", "src") for _, attrs in read.tags for name in attrs
    )
    assert read.text.count(EVIL) == 2 + 2 * 6  # title and run; two cards with six texts each
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
    assert split_turn("Wait") == ("Wait", "")


def test_the_program_writes_a_page(tmp_path, monkeypatch, capsys):
    rows = [row for step in range(1, 101) for row in (kept(step), thrown("tags", step))]
    one, two = make_run(tmp_path / "one", rows), make_run(tmp_path / "two")
    out = tmp_path / "p.html"
    assert str(out) in run(monkeypatch, capsys, one, two, "--page", out)
    text = out.read_text()
    assert text.count("<article") == 60 and "step 100<" in text and text.count("<section>") == 2
    run(monkeypatch, capsys, one, "--page", out, "--outcome", "tags", "--step", 7)
    assert out.read_text().count("<article") == 1
    assert [row["step"] for row in report.spread([{"step": i} for i in range(10)], 4)] == [2, 4, 7, 9]
    assert report.spread([1, 2], 3) == [1, 2] and report.spread([], 3) == report.spread([1], 0) == []
    assert "an .html file" in refused(monkeypatch, capsys, one, "--page", tmp_path / "one" / "metrics.jsonl")
    assert "no metrics.jsonl" in refused(monkeypatch, capsys, tmp_path, "--page", out)
    (tmp_path / "one" / "config.json").write_text("[]")
    assert "one/config.json: settings missing" in refused(monkeypatch, capsys, one)
    (tmp_path / "two" / "metrics.jsonl").write_text('{"step": 1')
    assert "no step yet" in refused(monkeypatch, capsys, two)


def test_the_program_as_text(tmp_path, monkeypatch, capsys):
    one = make_run(tmp_path / "one", [kept(1), thrown("tags", 1), kept(2), kept(3), kept(4)])
    printed = run(monkeypatch, capsys, one)
    assert [f"step {i}:" in printed for i in range(1, 5)] == [False, True, True, True]
    assert "[2 + 2 = 5.] [Wait, that is wrong.] [It is \\boxed{4}.]" in printed and "accuracy" in printed
    escape = kept(1, question="\x1b[2J\u009b1mQ", prefix="\x07a\tb \u6570\u3000x")
    shown = run(monkeypatch, capsys, make_run(tmp_path / "two", [escape]))
    assert "\ufffd[2J\ufffd1mQ" in shown and "\ufffda\tb \u6570\u3000x" in shown and "\x1b" not in shown
    assert "thrown away: tags" in run(monkeypatch, capsys, one, "--outcome", "tags")
    assert "no trajectory of step 9" in run(monkeypatch, capsys, one, "--step", 9)
    assert "step 4:" not in run(monkeypatch, capsys, one, "-n", 0)


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


def test_curves_refused(tmp_path, monkeypatch, capsys):
    one = make_run(tmp_path / "one")
    assert "drawn as .png" in refused(monkeypatch, capsys, one, "--curves", tmp_path / "one" / "metrics.jsonl")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install matplotlib" in refused(monkeypatch, capsys, one, "--curves", tmp_path / "c.png")
    with pytest.raises(ValueError, match="pip install matplotlib"):
        draw([], "c.svg")
