"""A launch configuration that is not there: what was tried, and where examples are."""

from pathlib import Path

import pytest

from llmtune.training import launch

CONFIGS = Path(__file__).parents[2] / "accelerate_configs"


def test_a_missing_file_is_told_whole_with_a_place_to_look(tmp_path, monkeypatch):
    wanted = tmp_path / "here" / "zero9.yaml"
    assert launch.read_launch(wanted).problem == f"launch: the file {wanted} is not there; examples are in {CONFIGS}"
    monkeypatch.chdir(tmp_path)
    assert f"the file {tmp_path / 'zero9.yaml'} is not there" in launch.read_launch(Path("zero9.yaml")).problem


@pytest.mark.parametrize("installed", [True, False])
def test_examples_of_an_installed_package(tmp_path, monkeypatch, installed):
    place = tmp_path / "share" / "llmtune" / "accelerate_configs"
    monkeypatch.setattr(launch, "shipped_folder", lambda name: tmp_path / "share/llmtune" / name if installed else None)
    told = launch.read_launch(tmp_path / "x.yaml").problem
    assert (f"examples are in {place}" if installed else "in llmtune's source, folder accelerate_configs/") in told


def test_plan_says_it(tmp_path):
    from typer.testing import CliRunner

    from llmtune.cli.app import build_app
    from tests.tiny import TEXT, tiny_checkpoint

    tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "a.txt").write_text("\n".join(TEXT))
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nmodel: model/\nstages:\n- corpus: {sources: [{path: a.txt}]}\n- train: {launch: no/zero9.yaml}\n"
    )
    done = CliRunner().invoke(build_app([]), ["plan", str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1
    assert f"the file {tmp_path / 'no' / 'zero9.yaml'} is not there; examples are in {CONFIGS}" in done.stdout
