"""What a build shows while it runs: a panel on a terminal, plain lines elsewhere.

Snakemake's own text is in its log, `.snakemake/log/`. With `SPARK_TRAINER_SCREEN=off`, and
for `-n`, `-p`, `--verbose`, `--quiet` and `--debug-dag`, it is on the terminal instead.
"""
