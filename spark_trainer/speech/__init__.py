"""What is said in a sound track, as Whisper learns it: references, windows of 30 s, rows."""

SAMPLE_RATE = 16_000  # of Whisper's input, in samples per second
WINDOW_S = 30.0  # length of Whisper's input
