"""SubRip: what is said, with its times, in a file for each video."""

from spark_trainer.exports import subtitles
from spark_trainer.speech.subtitles import spelled

FORMAT = subtitles.of("srt", spelled, read_by="players and editors")
