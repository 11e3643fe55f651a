"""What work needs of its machine: GPUs, worker processes, locks, logs, Slurm."""
