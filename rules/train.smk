rule train_run:
    """One training run, on the GPUs that Snakemake granted."""
    input:
        data=training_data,
        encoded=encoded,
    output:
        summary="{runs}/{run}-{seal}/trained.json",
    log:
        "logs/train/{runs}/{run}-{seal}.log",
    wildcard_constraints:
        runs=r".+",
        run="|".join(CONFIG.runs) or "none",
        seal=r"[0-9a-f]{8}",
    conda:
        "../envs/train.yaml"
    threads: 8
    resources:
        gpu=lambda wildcards: CONFIG.runs[wildcards.run].gpus,
    params:
        order=run_order,
        data=data_file,
    shell:
        "python -m spark_trainer fit --order {params.order:q} --summary {output.summary:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q} --data {params.data:q}"
