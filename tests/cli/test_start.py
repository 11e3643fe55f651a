"""A first configuration, the keys with their meaning, completion, the help of every flag."""

import argparse
import subprocess
from pathlib import Path

import pytest

from spark_trainer import __version__, cli, config
from spark_trainer.cli import start
from tests.cli.test_commands import call


def said(*words: str) -> str:
    """What a command of the package prints."""
    done = call(Path(), *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_init_writes_a_configuration_and_nothing_else(tmp_path: Path) -> None:
    done = call(tmp_path, "init", "my films")
    written = tmp_path / "my films/config/config.yaml"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [written]
    assert "cd my films" in done.stderr
    assert config.read(written).video_dir == "videos"
    commented = written.read_text(encoding="utf-8").replace("# train:", "train:")
    written.write_text(commented.replace("\n#   ", "\n  "), encoding="utf-8")
    assert config.read(written).runs["default"].finetune == "lora"
    again = call(tmp_path, "init", "my films")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        "spark_trainer: my films/config/config.yaml is there already; nothing was written\n"
    )


def test_init_writes_a_profile_where_it_is_asked_for(tmp_path: Path) -> None:
    call(tmp_path, "init", "--slurm")
    assert (tmp_path / "slurm/cluster.yaml").is_file()
    assert (tmp_path / "slurm/bin/sacct").stat().st_mode & 0o100


def test_settings_show_what_a_key_means() -> None:
    whole = Path(start.__file__).parents[2] / "config/default.yaml"
    assert said("settings") == whole.read_text(encoding="utf-8")
    assert said("settings", "train.lora.rank") == (
        "    # Rank of the two matrices. (at least 1)\n    rank: 16\n"
    )
    assert "    dropout: 0.0\n" in said("settings", "train.lora")
    assert "finetune" not in said("settings", "train.lora").replace("`finetune: lora`", "")
    assert call(Path(), "settings", "train.bogus").stderr == (
        "spark_trainer: train.bogus: no such key; `settings` alone shows them all\n"
    )


def test_version() -> None:
    assert said("--version").startswith(f"spark-trainer {__version__}")


def test_bash_completes_commands_and_flags(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(said("--print-completion", "bash"))
    script = """
        source ./completion
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
          "$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')"; echo "${COMPREPLY[@]}"; }
        complete_words spark-trainer man
        complete_words spark-trainer runs --js
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["manifest", "--json"]


@pytest.mark.parametrize("program", [cli.PROGRAM, cli.MODULE])
@pytest.mark.parametrize("about_a_store", [False, True])
def test_every_flag_has_a_help(program: str, about_a_store: bool) -> None:
    parser = cli._parser(program, about_a_store)
    [commands] = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    shown = {choice.dest for choice in commands._choices_actions}
    assert "runs" in shown
    for name in shown:
        for action in commands.choices[name]._actions:
            assert action.help, f"{name} {action.option_strings or action.dest}"
