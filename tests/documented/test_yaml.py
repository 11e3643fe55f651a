"""Every YAML of the pages is a configuration, and every example says how it is run."""

from pathlib import Path

import pytest
import yaml

from spark_trainer import config
from spark_trainer.config import Config

from .pages import ROOT, SETTINGS, Block, commands, yaml_blocks


@pytest.mark.parametrize("block", yaml_blocks(), ids=str)
def test_yaml_of_the_pages_is_a_configuration(block: Block) -> None:
    data = yaml.safe_load(block.text)
    if not data.keys() <= {*Config.model_fields, *Config.flat_keys}:
        data = {"train": data}
    if "transcript" in data:
        data.setdefault("audio", {})
    config.load(data)


def test_there_are_pages_to_look_at() -> None:
    assert len(list(yaml_blocks())) > 15
    assert len(commands()) > 40


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it(path: Path) -> None:
    config.read(path)
    name = path.relative_to(ROOT).as_posix()
    assert [found for found in commands() if f"--configfile {name}" in found]
