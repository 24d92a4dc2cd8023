"""validate, schema and recipes, as they are typed."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner

from llmtune.cli.app import build_app
from llmtune.errors import LlmtuneError
from llmtune.recipe import json_schema, load_recipe, shipped
from llmtune.recipe.source import parse

Llmtune = Callable[..., subprocess.CompletedProcess[str]]
RECIPE = """\
name: real
model: smollm2-135m-instruct-q4
stages:
  - corpus: {sources: [{format: python-docs}]}
  - train: {tokens: 10_000}
  - quantize: {method: round}
  - export: {format: gguf}
evaluate: {minutes: 1}
"""


def test_validate_shows_the_stages_and_what_they_take(llmtune: Llmtune, tmp_path: Path) -> None:
    path = tmp_path / "real.yaml"
    path.write_text(RECIPE)
    done = llmtune("validate", path, "seed=5")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    takes = {row[0]: row[1:-1] for row in rows if row[-1] in {"corpus", "checkpoint", "bundle", "scores"}}
    assert list(takes) == [
        "base", "corpus", "base.evaluate", "train", "train.evaluate", "quantize", "quantize.evaluate", "export",
        "export.evaluate",
    ]  # fmt: skip
    assert takes["train"] == ["checkpoint", "←", "base,", "corpus", "←", "corpus"]
    assert "a valid recipe" in done.stdout
    assert "seed 5" in done.stdout


def test_validate_tells_every_problem_on_stderr(llmtune: Llmtune, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(RECIPE.replace("tokens", "tokns").replace("quantize", "quantise"))
    done = llmtune("validate", path, "sead=5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 3 problems\n")
    for told in (f"{path}:5:13: unknown key 'tokns' in train", f"{path}:6:5: unknown stage 'quantise'", "'sead'"):
        assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_tells_every_problem_of_a_search_at_once(llmtune: Llmtune, tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(
        f"{RECIPE}search:\n"
        "  space:\n"
        "    train.lrr: {choices: [1, 2]}\n"
        "    train.tokens: {choices: [abc]}\n"
        "    train.lr: {low: 2, high: 1}\n"
        "    nope.lr: {choices: []}\n"
        "  minimize: tarin.valid_loss\n"
    )
    done = llmtune("validate", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.removeprefix(f"{path}:").split(";")[0] for line in done.stderr.splitlines()] == [
        "error: 6 problems",
        "11:5: unknown key 'lrr' in train",
        "12:5: train.tokens: found 'abc', expected a whole number",
        "13:5: search.space.train.lr: low (2) must be below high (1)",
        "14:5: no stage or setting 'nope'",
        "14:24: search.space.nope.lr.choices: found a list of 0, expected at least 1 of them",
        "15:13: search.minimize: no stage 'tarin'",
    ]


def test_validate_notes_every_path_that_is_not_there(llmtune: Llmtune, tmp_path: Path) -> None:
    """Wherever it stands in the recipe; not a glob, a URL, or the name of a model."""
    (tmp_path / "there").mkdir()
    path = tmp_path / "paths.yaml"
    path.write_text(
        "name: paths\n"
        "model: ./base\n"
        "stages:\n"
        "  - corpus:\n"
        "      id: texts\n"
        "      sources:\n"
        "        - path: there/\n"
        "        - path: nosuch/\n"
        "        - path: nosuch/*.md\n"
        "        - path: https://example.org/nosuch.md\n"
        "        - path: '[no] such?'\n"
        "      known: [there, /nosuch/known]\n"
        "      filters: {relevance: {seeds: seeds.md}}\n"
        "  - train: {launch: two.yaml}\n"
        "  - distill: {teacher: {name: big.gguf}}\n"
        "  - distill: {teacher: {name: smollm2-360m}}\n"
        "evaluate: {own_questions: questions.jsonl, general: licences}\n"
    )
    done = llmtune("validate", path)
    assert (done.returncode, done.stderr) == (0, "")
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert sorted(notes) == sorted(
        f"note: {name}: {tmp_path / missing} does not exist here yet"
        for name, missing in [
            ("model", "base"),
            ("texts.sources.1.path", "nosuch"),
            ("texts.known.1", "/nosuch/known"),
            ("texts.filters.relevance.seeds", "seeds.md"),
            ("train.launch", "two.yaml"),
            ("distill.teacher", "big.gguf"),
            ("evaluate.own_questions", "questions.jsonl"),
        ]
    )
    (tmp_path / "nosuch").mkdir()
    assert "texts.sources.1" not in llmtune("validate", path).stdout


def test_a_home_folder_that_is_not_known_is_told_with_its_place(llmtune: Llmtune, tmp_path: Path) -> None:
    path = tmp_path / "home.yaml"
    path.write_text(RECIPE.replace("{format: python-docs}", "{path: ~nobody-of-that-name/x}"))
    done = llmtune("validate", path)
    assert done.returncode == 2
    assert f"{path}:4" in done.stderr
    assert "no home folder of ~nobody-of-that-name is known here" in done.stderr


def test_a_command_without_memory_says_so(tmp_path: Path) -> None:
    """As much address space as Python itself takes, and not enough for the libraries."""
    path = tmp_path / "real.yaml"
    path.write_text(RECIPE)
    told = 0
    for megabytes in (32, 36, 40, 44):
        command = f"ulimit -v {megabytes * 1000}; exec {sys.executable} -m llmtune validate {path}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        if done.returncode < 0 or "Fatal Python error" in done.stderr:
            continue  # this Python itself takes more
        assert done.returncode in (0, 1), done.stderr
        told += done.returncode
        # What CPython itself writes, from C, when it has no memory even to report a generator it throws away.
        said = re.sub(
            r"\A(Exception ignored on building sys\.unraisablehook arguments: .*\nMemoryError: \n)+", "", done.stderr
        )
        assert done.returncode == 0 or said.startswith("error: the command itself ran out of memory"), done.stderr
        assert "Traceback" not in said
    assert told, "none of the limits was reached"


def test_schema_to_a_file_and_to_stdout(llmtune: Llmtune, tmp_path: Path) -> None:
    target = tmp_path / "recipe.schema.json"
    assert llmtune("schema", "-o", target).returncode == 0
    assert json.loads(llmtune("schema").stdout) == json.loads(target.read_text())


@pytest.fixture
def with_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped recipes: one in a file, one in a folder."""
    folder = tmp_path / "recipes"
    (folder / "big").mkdir(parents=True)
    (folder / "small.yaml").write_text("# yaml-language-server: $schema=x\n# The small one\nname: small\n")
    (folder / "big" / "recipe.yaml").write_text("# The big one\n# and more\nname: big\n")
    (folder / "big" / "README.md").write_text("hello")
    monkeypatch.setattr(shipped, "shipped_folder", lambda name: folder)
    return tmp_path


def test_shipped_recipes_and_their_first_comment(with_recipes: Path) -> None:
    assert [(recipe.name, recipe.about) for recipe in shipped.shipped_recipes()] == [
        ("big", "The big one"),
        ("small", "The small one"),
    ]


def test_copy_a_file_and_a_folder(with_recipes: Path) -> None:
    into = with_recipes / "mine"
    assert shipped.copy_recipe("small", into).path == into / "small.yaml"
    assert shipped.copy_recipe("small", into / "other.yaml").path == into / "other.yaml"
    assert shipped.copy_recipe("big", with_recipes / "b").path == with_recipes / "b"
    assert (with_recipes / "b" / "README.md").read_text() == "hello"


def test_a_copy_is_named_after_the_file_or_folder_it_becomes(with_recipes: Path) -> None:
    written = "# yaml-language-server: $schema=x\n# The small one\nname: {}\n"
    for file, name in [
        ("other.yaml", "other"),
        ("My docs (2).yml", "My-docs-2-"),
        ("_x.y.yaml", "x.y"),
        ("2024.yaml", '"2024"'),
        ("true.yaml", '"true"'),
        ("日本.yaml", "my-small"),
        ("small.yaml", "my-small"),
        ("n" * 120 + ".yaml", "n" * 100),
    ]:
        copy = shipped.copy_recipe("small", with_recipes / file)
        assert copy.path == with_recipes / file
        assert copy.path.read_text() == written.format(name)
        assert parse(copy.path.read_bytes(), file).data == {"name": name.strip('"')} == {"name": copy.name}
    folder = shipped.copy_recipe("big", with_recipes / "large")
    assert (folder.path / "recipe.yaml").read_text() == "# The big one\n# and more\nname: large\n"
    (with_recipes / "recipes" / "small.yaml").write_text("model:\n  name: x\nname: small # why\n")
    assert (
        shipped.copy_recipe("small", with_recipes / "z.yaml").path.read_text() == "model:\n  name: x\nname: z # why\n"
    )


def test_a_recipe_with_a_folder_goes_into_a_file_or_below_a_folder(
    with_recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_recipes / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert shipped.copy_recipe("big", Path("pg.yaml")).path.read_text() == "# The big one\n# and more\nname: pg\n"
    assert shipped.copy_recipe("big", Path(".")).path == Path("big")
    assert sorted(path.name for path in here.rglob("*")) == ["README.md", "big", "pg.yaml", "recipe.yaml"]
    assert (here / "big" / "recipe.yaml").read_text().endswith("name: my-big\n")
    for target in (".", "pg.yaml"):
        with pytest.raises(LlmtuneError, match="stands there already"):
            shipped.copy_recipe("big", Path(target))
    assert shipped.copy_recipe("small", Path("big")).path == Path("big/small.yaml")
    assert Path("big/small.yaml").read_text().endswith("name: big-small\n")


def test_a_copy_means_what_the_original_means(tmp_path: Path) -> None:
    """A file elsewhere, beside nothing else: no path in a shipped recipe may be relative."""
    for number, recipe in enumerate(shipped.shipped_recipes()):
        assert load_recipe(recipe.path).name == recipe.name
        target = tmp_path / f"mine-{number}.yaml"
        done = CliRunner().invoke(build_app([]), ["recipes", "copy", recipe.name, str(target)])
        assert done.exit_code == 0, done.output
        original, copied = load_recipe(recipe.path), load_recipe(target)
        assert copied.name == f"mine-{number}"
        assert copied.model_copy(update={"name": original.name}) == original


def test_copy_refuses_what_it_would_overwrite_and_what_is_not_there(with_recipes: Path) -> None:
    (with_recipes / "mine.yaml").write_text("precious")
    with pytest.raises(LlmtuneError, match="stands there already"):
        shipped.copy_recipe("small", with_recipes / "mine.yaml")
    assert (with_recipes / "mine.yaml").read_text() == "precious"
    with pytest.raises(LlmtuneError, match="did you mean 'small'"):
        shipped.copy_recipe("smal", with_recipes / "x.yaml")


def test_a_file_in_the_way_is_told(llmtune: Llmtune, tmp_path: Path) -> None:
    """Without .yaml a target is a folder, which a file of that name does not let be made."""
    notes = tmp_path / "notes.txt"
    notes.write_text("precious")
    for recipe, target in [("quickstart", notes), ("postgres-docs", notes), ("quickstart", notes / "a.yaml")]:
        done = llmtune("recipes", "copy", recipe, target)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {notes}: stands there already\n")
    assert notes.read_text() == "precious"


def test_a_place_where_nothing_can_be_written_is_told(llmtune: Llmtune, tmp_path: Path) -> None:
    done = llmtune("recipes", "copy", "quickstart", tmp_path / ("n" * 300) / "x.yaml")
    assert done.returncode == 1
    assert "cannot be written: File name too long" in done.stderr


def test_a_copy_in_a_folder_leaves_the_run_of_the_original_alone(llmtune: Llmtune, tmp_path: Path) -> None:
    """Run from the same place, the original uses runs/quickstart, and two copies are not each other's either."""
    names = set()
    for folder in ("mine", "yours", "."):
        done = llmtune("recipes", "copy", "quickstart", tmp_path / folder)
        assert done.returncode == 0, done.stderr
        made = tmp_path / folder / "quickstart.yaml"
        name = load_recipe(made).name
        assert f"wrote {made}, named {name}; run it with: llmtune run {made}" in done.stdout.replace("\n", "")
        names.add(name)
    assert names == {"mine-quickstart", "yours-quickstart", f"{tmp_path.name}-quickstart"}


def test_recipes_command(llmtune: Llmtune, tmp_path: Path) -> None:
    done = llmtune("recipes")
    assert done.returncode == 0, done.stderr
    names = [recipe.name for recipe in shipped.shipped_recipes()]
    assert all(name in done.stdout for name in names)
    done = llmtune("recipes", "copy", "no-such-recipe", tmp_path / "x.yaml")
    assert done.returncode == 1
    assert "no recipe 'no-such-recipe' comes along" in done.stderr


def test_every_shipped_recipe_is_valid() -> None:
    schema = Draft202012Validator(json_schema())
    for recipe in shipped.shipped_recipes():
        done = CliRunner().invoke(build_app([]), ["validate", str(recipe.path)])
        assert done.exit_code == 0, done.output
        text = (recipe.path / "recipe.yaml" if recipe.path.is_dir() else recipe.path).read_text("utf-8")
        errors = schema.iter_errors(YAML(typ="safe", pure=True).load(text))
        assert [error.message for error in errors] == []


def test_startup_stays_quick() -> None:
    """Seconds of processor, which a busy machine changes little; `benchmarks/startup.py` measures what one waits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "llmtune", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
