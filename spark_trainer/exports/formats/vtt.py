"""WebVTT: what is said, with its times, in a file for each video."""

from spark_trainer.exports import subtitles

FORMAT = subtitles.of("vtt", subtitles.as_vtt, read_by="browsers and players")
