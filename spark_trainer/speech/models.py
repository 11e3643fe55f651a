"""What Whisper models are called, and whether a transcript is a model's own."""

from pathlib import PurePath

from spark_trainer.config import Run
from spark_trainer.config.run import SPOKEN

PACKAGES = ("faster-", "offline-", "whisper-")  # before a size, as in faster-whisper-small
EXPORTS = ("final", "ct2", "openai.pt")  # of a run, which is called by its folder


def plain(name: str) -> str:
    """Return what a model is called, whichever package, folder or file its name is for."""
    path = PurePath(name)
    while path.name in EXPORTS:
        path = path.parent
    called = path.name.removesuffix(".pt")
    for prefix in PACKAGES:
        called = called.removeprefix(prefix)
    return called


def learns_its_own(run: Run, transcriber_model: str | None) -> bool:
    """Tell whether a run learns what its own base wrote down, and so nothing but its mistakes.

    Args:
        run: the settings.
        transcriber_model: which model wrote a video's transcript, as the manifest says.
    """
    if run.kind != "speech" or run.asr.references or run.texts.answer != SPOKEN:
        return False
    return transcriber_model is not None and plain(transcriber_model) == plain(run.model_name)
