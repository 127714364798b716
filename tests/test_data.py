"""Every format and field name that problem sets come in, from files made on the spot; and what is said of bad ones."""

import gzip
import json
import sys
from pathlib import Path

import huggingface_hub
import pytest
from tiny import make_tokenizer
from tokenizers import processors

import data
from data import Problem, load, prompt_ids, unwrap

SHARED = Path(__file__).parents[2] / "shared" / "data"
GSM8K = "She sold 1,200 - 8 = <<1200-8=1192>>1192.\n#### 1,192"
MESSAGES = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "1+1?"}]
ROWS = {  # as the sets of the hub have them
    "HuggingFaceH4/aime_2024": ({"id": 60, "problem": "Q", "solution": "So \\boxed{9}", "answer": "204"}, "204"),
    "Maxwell-Jia/AIME_2024": ({"ID": "I-1", "Problem": "Q", "Solution": "...", "Answer": 73}, "73"),
    "math-ai/aime24": ({"problem": "Q", "solution": "\\boxed{204}"}, "204"),
    "BytedTsinghua-SIA": ({"prompt": MESSAGES, "reward_model": {"ground_truth": "34", "style": "rule"}}, "34"),
    "opencompass/AIME2025": ({"question": "Q", "answer": "70"}, "70"),
    "MathArena/aime_2025": ({"problem_idx": 1, "problem": "Q", "answer": 70}, "70"),
    "openai/gsm8k": ({"question": "Q", "answer": GSM8K}, "1,192"),
    "rllm gsm8k.json": ({"problem": "Q", "answer": None, "solution": GSM8K}, "1,192"),
    "open-r1/DAPO": ({"prompt": "Q", "solution": "34", "reward_model": {"ground_truth": "34"}}, "34"),
    "zwhe99/DeepMath": ({"question": "Q", "final_answer": "\\frac{1}{2}", "r1_solution_1": "..."}, "\\frac{1}{2}"),
    "nvidia/OpenMath": ({"problem": "Q", "expected_answer": "x^2", "generated_solution": "..."}, "x^2"),
    "worked solution": (
        {"problem": "Q", "solution": "First \\boxed{1}.\n\nThen \\boxed{\\frac{3}{4}}."},
        "\\frac{3}{4}",
    ),
    "a float": ({"problem": "Q", "answer": 0.5}, "0.5"),
}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("source", ROWS)
def test_fields_of_the_sets_in_use(source, tmp_path):
    row, answer = ROWS[source]
    expected = [Problem("Be brief.\n\n1+1?" if "Byted" in source else "Q", answer)]
    text = json.dumps(row)
    assert load(write(tmp_path / "a.jsonl", text + "\n\n")) == expected
    assert load(write(tmp_path / "a.json", f"\ufeff [\n{text}\n]")) == expected
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode()))
    assert load(str(tmp_path / "a.gz")) == expected
    (tmp_path / "b.json").write_bytes(gzip.compress(f"[{text}]".encode()))  # gzip is told by its content
    assert load(str(tmp_path / "b.json")) == expected


@pytest.mark.parametrize("source", ROWS)
def test_parquet(source, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    row, answer = ROWS[source]
    question = "Be brief.\n\n1+1?" if "Byted" in source else "Q"
    parquet.write_table(pyarrow.Table.from_pylist([row, row | {"junk": b"\xff"}]), tmp_path / "a.parquet")
    assert load(str(tmp_path / "a.parquet")) == [Problem(question, answer)] * 2


def test_parquet_refusals(tmp_path, monkeypatch):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ValueError, match=r"torn\.parquet is a Parquet file.*pip install pyarrow$"):
            load(str(tmp_path / "torn.parquet"))
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    with pytest.raises(ValueError, match=r"torn\.parquet is a broken Parquet file"):
        load(str(tmp_path / "torn.parquet"))
    for rows, said in [
        ([{"problem": "Q", "answer": "1"}, {"problem": "Q", "answer": None}], "row 2: the field answer is missing"),
        ([{"id": 1}], "row 1: the field problem/question"),
    ]:
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=rf"a\.parquet, {said}"):
            load(str(tmp_path / "a.parquet"))


def test_csv(tmp_path):
    text = 'ID,Question,Answer\r\n1,"Two\r\nlines, and a comma",25\r\n2,"He said ""1""?",025\r\n'
    expected = [Problem("Two\r\nlines, and a comma", "25"), Problem('He said "1"?', "025")]
    (tmp_path / "a.csv").write_bytes(text.encode())
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert load(str(tmp_path / "a.csv")) == load(str(tmp_path / "a.csv.gz")) == expected
    with pytest.raises(ValueError, match=r"a\.csv, line 4: the field answer is missing"):
        load(write(tmp_path / "a.csv", "Question,Answer\n1,1\n\n2\n"))
    mac = load(write(tmp_path / "a.csv", "Question,Answer,\rQ,1\r"))  # as Excel once wrote it
    assert mac == load(write(tmp_path / "a.csv", 'Question, Answer\nQ, "1"\n')) == [Problem("Q", "1")]
    (tmp_path / "a.csv").write_bytes(b"Question,Answer\nQ,1\n\xe9,2\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 3: 'utf-8' codec can't decode byte 0xe9"):
        load(str(tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=r"a\.csv, line \d+: field larger"):
        load(write(tmp_path / "a.csv", "Question,Answer\n" + "1" * 200_000 + ",1\n"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "problem,answer\nQ,1\nWhat is 1,000 + 1?,1001\n", "line 3: 3 fields in 2 columns"),
        ("a.tsv", "problem\tanswer\n1,000 + 1?\t1\t2\n", "line 2: 3 fields in 2 columns"),
        ("a.csv", "problem,answer,Answer\nQ,1,2\n", "line 2: the field answer is named twice"),
        ("a.csv", "problem,answer,answer\nQ,1,2\n", "line 1: the field answer is named twice"),
        (
            "a.csv",
            "problem;answer\nQ;1\n",
            "line 1: the first line must name the columns, as in 'problem,answer'; it is 'problem;answer'",
        ),
        ("a.csv", "What is 1 + 1?,2\n", "line 1: .*; it is 'What is 1 \\+ 1\\?,2'"),
    ],
)
def test_tables_that_would_be_misread(tmp_path, name, text, said):
    with pytest.raises(ValueError, match=rf"{name}, {said}"):
        load(write(tmp_path / name, text))


def test_a_bad_row_is_named(tmp_path):
    good = '{"problem": "1+1?", "answer": "2"}\n'
    for text, said in [
        (good + "\n" + '{"problem": "Q", "answer": "2"\n', "line 3: no JSON"),
        (good + '{"problem": " ", "answer": "2"}', "line 2: the field problem/question/prompt is missing"),
        (good + '{"problem": 5, "answer": "2"}', "line 2: the field problem/question/prompt is missing, empty or no"),
        (good + '{"problem": "Q", "answer": true}', "line 2: the field answer is missing"),
        (good + '{"problem": "Q", "answer": NaN}', "line 2: the field answer is missing"),
        (good + '{"problem": "Q", "answer": "\\\\boxed{ }"}', "line 2: the field answer holds an empty"),
        (good + '{"prompt": [{"role": "user", "content": " "}], "answer": "1"}', "line 2: the field problem/question"),
        (good + json.dumps({"prompt": [{"role": "user", "content": [1]}], "answer": "1"}), "line 2: the field problem"),
        (good + '{"problem": "Q", "answer": "1", "answer": "2"}', "line 2: the field answer is named twice"),
        (good + '{"problem": "Q", "Answer": "1", "answer": "2"}', "line 2: the field answer is named twice"),
        (good + json.dumps({"problem": "Q", "solution": "Because " * 20}), "line 2: there is no answer, and the solu"),
        (good + '{"problem": "Q", "answer": ' + "1" * 5000 + "}", "line 2: Exceeds"),
        (good + "[" * 100_000, "line 2: "),
        ("[" + good + ', {"problem": "Q"}]', "row 2: the field answer is missing"),
        ("[" + good, "no JSON"),
        ("[]", "holds no problems"),
        ('{"data": [\n{"problem": "Q", "answer": "2"}]}', "line 1: no JSON"),
    ]:
        with pytest.raises(ValueError) as refused:
            load(write(tmp_path / "a.jsonl", text))
        assert f"{tmp_path}/a.jsonl" in str(refused.value) and said in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_long_integer(tmp_path):
    assert load(write(tmp_path / "a.jsonl", '{"problem": "Q", "answer": 1' + 400 * "0" + "}"))[0].answer == str(10**400)


@pytest.mark.parametrize("roles", [["system"], ["user", "assistant"], ["user", "assistant", "user"], ["user"] * 2, []])
def test_of_messages_one_is_of_the_user(tmp_path, roles):
    row = {"prompt": [{"role": role, "content": "1+1?"} for role in roles], "answer": "2"}
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: a prompt may be one message of the user, or"):
        load(write(tmp_path / "a.jsonl", json.dumps(row)))


def test_a_problem_knows_its_row_where_that_is_asked_for(tmp_path):
    """And what it knows counts in the digest; a reward sees it (tests/test_train.py)."""
    rows = [{"Problem": "Q", "answer": 2, "tests": ["f(1) == 2"]}, {"Problem": "Q", "answer": 2, "tests": None}]
    one, other = (write(tmp_path / f"{i}.jsonl", json.dumps(row)) for i, row in enumerate(rows))
    assert [load(one, whole=True)[0].row, load(other, whole=True)[0].row] == rows
    assert load(one) == load(other) == [Problem("Q", "2")] and load(one)[0].row == {}
    assert data.digest(load(one)) == data.digest(load(other)) == data.digest([Problem("Q", "2")]) == "7149beee12d5c2d4"
    assert len({data.digest(load(name, whole)) for name in (one, other) for whole in (False, True)}) == 3
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [problem.row for problem in load(str(tmp_path / "a.parquet"), whole=True)] == rows


@pytest.mark.parametrize(
    ("name", "beginning", "said"),
    [
        ("a.xlsx", b"PK\x03\x04", "a.xlsx is an .xlsx or .zip file: save the table as CSV"),
        ("a.jsonl.bz2", b"BZh91AY", "a.jsonl.bz2 is compressed by bzip2: unpack it"),
        ("data-00000-of-00001.arrow", b"\xff" * 4, "arrow is an Arrow file, as save_to_disk"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1", "a.parquet is a Git LFS pointer"),
    ],
)
def test_files_of_other_kinds(tmp_path, name, beginning, said):
    (tmp_path / name).write_bytes(beginning + b"\x00\xff")
    with pytest.raises(ValueError, match=said):
        load(str(tmp_path / name))


def test_torn_files_are_named(tmp_path):
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b'{"problem": "Q", "answer": "2"}')[:-9])
    with pytest.raises(ValueError, match="broken gzip"):
        load(str(tmp_path / "torn.gz"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("204", "204"),
        ("\\boxed{\\left\\{1, \\frac{1}{2}\\right\\}} or so", "\\left\\{1, \\frac{1}{2}\\right\\}"),
        ("\\boxed{x \\mid x \\} y}", "x \\mid x \\} y"),
        ("\\boxed{7}, then an open \\boxed{8", "7"),
        ("#### Step 2\nThe answer is \\boxed{5}.", "5"),
        ("#### 3\n#### 1,200\n", "1,200"),
        ("#### Step 2\nThe answer is 5.", "#### Step 2\nThe answer is 5."),
        ("\\boxed{\\boxed{3}}", "3"),
    ],
)
def test_unwrap(text, answer):
    assert unwrap(text) == answer


def test_repeated_questions_are_reported_and_kept(tmp_path, capsys, monkeypatch):
    rows = [("A", "1"), ("B", "2"), ("A ", "1"), ("B", "3"), ("A", "1")]
    text = "\n".join(json.dumps({"problem": q, "answer": a}) for q, a in rows)
    assert len(load(write(tmp_path / "a.jsonl", text))) == 5
    said = capsys.readouterr().err
    assert "3 of 5 rows repeat a question, 1 of them with another answer" in said and said.count("\n") == 1
    monkeypatch.setenv("RANK", "1")  # of several processes the first says it
    assert len(load(str(tmp_path / "a.jsonl"))) == 5 and not capsys.readouterr().err


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a=b.jsonl", '{"problem": "Q", "answer": "1"}')
    assert load("aime24=a=b.jsonl") == load("a=b.jsonl") == [Problem("Q", "1")]
    assert data.label("aime24=a=b.jsonl") == "aime24" and data.label("a=b.jsonl") == "a=b.jsonl"
    (tmp_path / "folder").mkdir()
    for name, said in [
        ("absent.jsonl", "there is no data file 'absent.jsonl'"),
        ("data/absent.jsonl", "there is no data file 'data/absent.jsonl'"),
        ("aime24=absent/file", "there is no data file 'absent/file'"),
        ("aime23", "one of aime24, aime25"),
        ("./owner/name", "there is no data file"),
        ("folder", "folder is a folder: name the data file in it"),
        ("owner/name:test", "a file of the hub (owner/name/FILE or owner/name/FILE@REVISION)"),
        ("gsm8k:train", "there is no data file 'gsm8k:train'"),
        ("owner/name/test.jsonl", "could not be read from the hub: "),
        ("owner/na me", "could not be read from the hub: "),
    ]:
        with pytest.raises(ValueError) as refused:
            load(name)
        assert said in str(refused.value) and "\n" not in str(refused.value)


def test_hub_files_are_read_offline_once_they_were_fetched(tmp_path, monkeypatch):
    """The hub library itself, on its cache of an earlier session; conftest.py keeps it off the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def keep(repo, file, text):
        kept, revision = tmp_path / f"datasets--{repo.replace('/', '--')}", "0" * 40
        (kept / "refs").mkdir(parents=True, exist_ok=True)
        (kept / "refs" / "main").write_text(revision)
        (kept / "snapshots" / revision / file).parent.mkdir(parents=True, exist_ok=True)
        write(kept / "snapshots" / revision / file, text)

    keep("math-ai/aime25", "test.jsonl", '{"problem": "Q", "answer": "70"}\n{"problem": "R"}')
    with pytest.raises(ValueError, match=r"^math-ai/aime25/test\.jsonl, line 2: the field answer"):
        load("aime25")
    keep("math-ai/aime25", "test.jsonl", '{"problem": "Q", "answer": "70", "id": "0"}')
    for name in ("aime25", "aime25@main", "math-ai/aime25/test.jsonl", "math-ai/aime25/test.jsonl@main"):
        assert load(name) == [Problem("Q", "70")]
    for name in ("math-ai/aime25/test.jsonl@other", "math-ai/aime25/train.jsonl", "math-ai/aime25"):
        with pytest.raises(ValueError, match=f"there is no file '{name}', and it could not be read from the hub: "):
            load(name)
    for part in (1, 0):
        keep("o/n", f"en/train-0000{part}-of-00002.jsonl", f'{{"problem": "Q", "answer": "{part}"}}')
    assert load("o/n/en/train-*.jsonl@main") == [Problem("Q", "0"), Problem("Q", "1")]
    with pytest.raises(ValueError, match=r"o/n/en/test-\*\.jsonl holds no problems"):
        load("o/n/en/test-*.jsonl")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["README.md", "x.json"], None),
        (["b.csv", "a.jsonl"], "name a file, as in o/n/FILE; it has b.csv, a.jsonl"),
        (["x.bin"], "none that can be read"),
    ],
)
def test_of_a_hub_set_the_user_names_a_file(tmp_path, monkeypatch, files, said):
    asked = []

    def listing(self, repo, **where):
        asked.append((repo, where["revision"], where["repo_type"]))
        return files

    def fetch(repo, file, **where):
        asked.append((repo, file, where["revision"], where["repo_type"]))
        return write(tmp_path / "blob", '[{"problem": "Q", "answer": "1", "solution": ""}]')

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listing)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    if said:
        with pytest.raises(ValueError, match=said):
            load("o/n@abc")
    else:
        assert load("o/n@abc") == [Problem("Q", "1")]
        assert asked == [("o/n", "abc", "dataset"), ("o/n", "x.json", "abc", "dataset")]


@pytest.mark.parametrize("name", data.SETS)
def test_short_names_are_files_of_the_hub(name, tmp_path, monkeypatch):
    """Which file each is, as the public pages list them, at which revision."""
    asked = []

    def fetch(repo, file, **where):
        asked.append((f"{repo}/{file}", where["revision"]))
        return write(tmp_path / "blob", '{"problem": "Q", "answer": "1"}')

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert load(name) == load(f"{name}@v1") == [Problem("Q", "1")]
    assert asked == [(data.SETS[name], None), (data.SETS[name], "v1")]


@pytest.mark.skipif(not SHARED.exists(), reason="the data sets are not beside the repository")
def test_the_real_sets_are_read_whole(capsys):
    counts = {"aime24": 30, "aime25": 30, "hmmt25": 30, "math500": 500, "gsm8k_test": 500, "deepscaler_sample": 2000}
    for name, count in counts.items():
        problems = load(f"{name}={SHARED / name}.jsonl")
        rows = [json.loads(line) for line in (SHARED / f"{name}.jsonl").open(encoding="utf-8")]
        assert [(p.question, p.answer) for p in problems] == [(row["problem"], unwrap(row["answer"])) for row in rows]
        assert len(problems) == count
    assert "repeat" not in capsys.readouterr().err


def test_prompts():
    tokenizer = make_tokenizer(["Be brief. 1+1? think"])
    plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokenizer.chat_template = plain + "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}"

    def text(**given):
        return tokenizer.decode(prompt_ids(tokenizer, ["1+1?"], **given)[0])

    assert text() == text(enable_thinking=True) == "<user>1+1?<assistant>"
    assert text(enable_thinking=False, system="Be brief.") == "<system>Be brief.<user>1+1?<assistant>no"
    tokenizer.chat_template = "{{ messages[0].content }}<assistant>"
    assert text() == "1+1?<assistant>"
    for given, said in [
        ({"system": "Be brief."}, "no system message"),
        ({"enable_thinking": False}, "enable_thinking"),
    ]:
        for template in (tokenizer.chat_template, None):
            tokenizer.chat_template = template
            with pytest.raises(ValueError, match=said):
                text(**given)
        tokenizer.chat_template = "{{ messages[0].content }}<assistant>"
    tokenizer.chat_template = None
    assert text() == "1+1?\n" and prompt_ids(tokenizer, []) == []


def test_a_prompt_begins_once():
    """Whoever writes the beginning-of-sequence token, the template or the tokeniser: it stands there once, and no end
    token stands behind the prompt."""
    tokenizer = make_tokenizer(["1+1?"])
    bos, end = tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    tokenizer.bos_token = "<|user|>"
    plain = tokenizer("1+1?\n", add_special_tokens=False).input_ids
    for before, behind in [("", ""), ("<|user|> ", ""), ("", " <|end|>"), ("<|user|> ", " <|end|>")]:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before}$A{behind}", special_tokens=[("<|user|>", bos), ("<|end|>", end)]
        )
        assert tokenizer("1+1?\n").input_ids == [bos] * bool(before) + plain + [end] * bool(behind)
        for start in ("{{ bos_token }}", "", None):
            tokenizer.chat_template = None if start is None else start + "{{ messages[0].content + '\n' }}"
            begins = bool(before if start is None else start)
            assert prompt_ids(tokenizer, ["1+1?"]) == [[bos] * begins + plain]


def test_prompts_are_kept_small_and_given_as_lists():
    problems = [Problem(f"What is {i} + {i}?", str(2 * i)) for i in range(2500)]  # more than are tokenised at once
    tokenizer = make_tokenizer([problems[7].question], vocab=400)
    prompts = data.prompts_of(problems, tokenizer, data.TEMPLATES)
    texts = [data.TEMPLATES.plain.format(question=p.question) for p in problems]
    assert list(prompts) == prompt_ids(tokenizer, texts) and len(prompts) == 2500
    assert prompts.ids.itemsize == 4 and len(data.Prompts()) == 0
    with pytest.raises(IndexError):
        prompts[2500]
