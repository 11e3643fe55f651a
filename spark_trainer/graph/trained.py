"""Where a model will lie that a run of the same graph trains, and by which others are made."""

from pathlib import Path

from spark_trainer.config import Config, ConfigError, trained
from spark_trainer.data.layout import Layout
from spark_trainer.runs import configured


def located(config: Config) -> Config:
    """Return the configuration with the place of a run's model in place of `run:<name>`.

    The place has the run id in it, which says which weights they will be before there are any.

    Raises:
        ConfigError: the run is given the manifest built here, or its manifest does not exist.
    """
    name = trained.run_of(config.transcript)
    if name is None:
        return config
    layout, run = Layout(Path(config.output_dir)), config.runs[name]
    key = f"train.runs.{name}"
    if Path(run.manifest_path or "").resolve() == layout.manifest.resolve():
        raise ConfigError(
            f"{trained.cycle(name)}; expected another manifest as {key}.manifest_path"
        )
    folder = configured.spec_on_manifest(name, run, layout, key).folder
    return config.transcribed_by(folder.final)
