rule train_run:
    """Train one run, on the GPUs that Snakemake granted."""
    input:
        data=of_run(RUNS.data),
        encoded=of_run(RUNS.encoded),
        base=of_run(RUNS.base),
    output:
        summary=report(
            RunFolder(Path("{runs}/{run}-{run_id}")).summary,
            caption="report/run.rst",
            category="Runs",
        ),
    log:
        "logs/train/{runs}/{run}-{run_id}.log",
    wildcard_constraints:
        runs=r".+",
        run="|".join(CONFIG.runs) or "none",
        run_id=r"[0-9a-f]{8}",
    conda:
        "../envs/train.yaml"
    threads: asked(lambda wanted: 8 * max(1, wanted.gpus))
    resources:
        gpu=asked(lambda wanted: wanted.nodes * wanted.gpus),
        nodes=asked(lambda wanted: wanted.nodes),
        # On several nodes the job starts a task on each itself; these tell Slurm's plugin so.
        mpi=asked(lambda wanted: "srun", several=True),
        tasks=asked(lambda wanted: wanted.nodes, several=True),
        tasks_per_gpu=asked(lambda wanted: 0, several=True),
        slurm_extra=asked(lambda wanted: f"--gpus-per-node={wanted.gpus}", several=True),
    params:
        spec=of_run(RUNS.spec_file),
        data=of_run(RUNS.data_file),
    shell:
        "python -m spark_trainer fit --spec {params.spec:q}"
        " --gpus {resources.gpu} --nodes {resources.nodes} --threads {threads}"
        " --log {log:q} --data {params.data:q}"
