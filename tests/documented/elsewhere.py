"""The commands that the day in test_commands.py leaves out: who runs them, or why nobody does.

`ELSEWHERE` names a file and words that it holds; `NOBODY` a reason. The flags of both are read all
the same, in test_flags.py.
"""

CI = ".ci/run"
CLUSTER = "tests/slurm/test_demo.py"
ELSEWHERE = {
    "pip install uv && uv run snakemake --cores all": (CI, "snakemake --cores all"),
    "uv run pytest": (CI, "uv run pytest"),
    "uv run pytest -m long": (CI, "long and not slurm"),
    "uv run pytest -m gpu": ("tests/train/test_gpu.py", "uv run pytest -m gpu"),
    "python -m spark_trainer memory --run slow --gpus 8": (
        "tests/cli/test_memory.py",
        '"--run", "slow", "--gpus", "8"',
    ),
    ".ci/run": (CI, "set-up"),
    "uv run python .ci/site.py": (".ci/style", "python .ci/site.py"),
    "uv run python .ci/site.py --to site": ("tests/documented/test_site.py", '"--to"'),
    ".ci/style": (CI, ".ci/style"),
    "uv run --group bench python benchmarks/run.py --smoke": (CI, "benchmarks/run.py --smoke"),
    "tests/slurm/cluster.py --install uv run pytest -m slurm": (CI, "cluster.py --install"),
    "snakemake --profile slurm": (CLUSTER, "def test_the_demo"),
    "snakemake --profile slurm manifest": (CLUSTER, "def test_the_demo"),
    "python -m spark_trainer plan": ("tests/workflow/test_plan.py", "def test_"),
    "python -m spark_trainer plan manifest": ("tests/workflow/test_plan.py", "def test_"),
    **dict.fromkeys(
        (
            "python -m spark_trainer report --serve",
            'python -m spark_trainer correct dog.mp4 --caption "A dog runs through the snow."',
            "python -m spark_trainer correct dog.mp4 --transcript @dog.srt",
            'python -m spark_trainer correct dog.mp4 --flag "is this one dog or two?"',
            'python -m spark_trainer correct dog.mp4 --exclude "no consent"',
            "python -m spark_trainer correct dog.mp4 --clear",
        ),
        ("tests/workflow/test_corrections.py", "def test_"),
    ),
    "snakemake train report": ("tests/workflow/test_report.py", '("train", "report")'),
    "snakemake plan": ("tests/workflow/test_plan.py", "def test_"),
    "uv run python -m spark_trainer.config.schema --fix": (
        "tests/config/test_schema.py",
        "def test_",
    ),
    "uv run python -m tests.families.golden --fix": ("tests/families/test_golden.py", "def test_"),
    "python -m spark_trainer train": (
        "tests/cli/test_workflow.py",
        "def test_a_set_key_counts_as_one_of_the_file",
    ),
    "python -m spark_trainer train --manifest-path data/processed/manifest_v1.jsonl"
    " --model-type vision_language --model-name Salesforce/blip-image-captioning-base"
    " --batch-size 8 --num-epochs 3": (
        "tests/documented/test_training.py",
        "def test_",
    ),
}
NEW = {
    "step": ("tests/steps/test_new_step.py", '"sharpness"'),
    "captioner": ("tests/captioners/test_new_captioner.py", '"colours"'),
    "family": ("tests/families/test_new_family.py", '"idefics3"'),
    "method": ("tests/methods/test_new_method.py", '"raft"'),
}
ELSEWHERE |= {
    "snakemake manifest --config sharpness='{enabled: true}'": NEW["step"],
    "uv run pytest tests/steps/test_sharpness.py tests/test_architecture.py": NEW["step"],
    "snakemake manifest --config 'captioner_backend=[colours, llava-onevision]'": NEW["captioner"],
    "uv run pytest tests/captioners/test_contract.py -k llava_onevision": NEW["captioner"],
    "snakemake train --configfile config/examples/idefics3.yaml --resources gpu=1": NEW["family"],
    "uv run pytest tests/families/test_contract.py -k idefics3": NEW["family"],
    "uv run python -m tests.families.golden --fix idefics3": NEW["family"],
    "snakemake train --configfile config/examples/blip_small.yaml"
    " --config 'train={model_type: raft, final: best}'": NEW["method"],
}
ANYWHERE = ("tests/cli/test_workflow.py", "def test_a_manifest_from_any_folder")
FIRST = ("tests/cli/test_start.py", "def test_init_writes_a_configuration")
ELSEWHERE |= {
    "spark-trainer init": FIRST,
    "spark-trainer init films": FIRST,
    "uv tool install .": ANYWHERE,
    "python .ci/pins.py --list > pins.txt": (".ci/style", "python .ci/pins.py"),
    "spark-trainer init --slurm": ("tests/cli/test_start.py", '"init", "--slurm"'),
    "spark-trainer validate": ("tests/cli/test_commands.py", '"validate"'),
    "spark-trainer manifest": ANYWHERE,
    "spark-trainer train": ("tests/cli/test_workflow.py", "def test_a_set_key_counts"),
    "spark-trainer train --resources gpu=8": ("tests/cli/test_workflow.py", '"train", "-n"'),
    "spark-trainer train --set train.learning_rate=1e-4 --set train.lora.rank=32": (
        "tests/cli/test_workflow.py",
        "train.learning_rate=1e-4",
    ),
    "spark-trainer train --profile slurm": (CLUSTER, "def test_the_demo"),
    "spark-trainer runs": ("tests/cli/test_workflow.py", '"runs"'),
    "spark-trainer manifest -n": ("tests/cli/test_workflow.py", '"-n"'),
    "spark-trainer build --dag | dot -Tsvg": ("tests/cli/test_workflow.py", '"build", "--dag"'),
    "spark-trainer build --unlock": ("tests/cli/test_workflow.py", '"build", "--unlock"'),
    "snakemake export": ("tests/workflow/test_export.py", 'snakemake("export")'),
    "spark-trainer export": ("tests/cli/test_export.py", "no manifest yet"),
    "spark-trainer export films": ("tests/workflow/test_export.py", '"export", "talk"'),
    "spark-trainer export --to llava --out films-llava": (
        "tests/workflow/test_export.py",
        '"export", "--to", "llava"',
    ),
    "spark-trainer export --to webdataset --out shards --option shard_mb=500": (
        "tests/exports/test_read_back.py",
        'export("webdataset", split=ALL, shard_mb=1)',
    ),
    **dict.fromkeys(
        (
            "spark-trainer push slow-1a2b3c4d --to me/films",
            "spark-trainer push slow-1a2b3c4d --to me/films --dry-run",
            "spark-trainer push exports/films --to me/films-data",
            "spark-trainer push exports/films --to me/films-data --public",
        ),
        ("tests/hub/test_push.py", "def test_"),
    ),
    "spark-trainer settings exports": ("tests/cli/test_start.py", "settings"),
    "spark-trainer --help": ("tests/cli/test_start.py", "def test_every_flag_has_a_help"),
    "spark-trainer train --help": ("tests/cli/test_start.py", "def test_every_flag_has_a_help"),
    "spark-trainer --print-completion bash"
    " > ~/.local/share/bash-completion/completions/spark-trainer": (
        "tests/cli/test_start.py",
        '"--print-completion", "bash"',
    ),
}
ELSEWHERE |= dict.fromkeys(
    (
        "cd films",
        "mkdir videos",
        "spark-trainer plan manifest",
        'spark-trainer correct cup.mp4 --caption "A cup turns on a table."',
        "spark-trainer report",
    ),
    ("tests/documented/test_newcomer.py", "def test_a_first_day"),
)
NOBODY = {
    "snakemake --sdm conda": "needs conda and its channels; the versions are compared in a test",
    "pip install uv && uv sync && source .venv/bin/activate": "needs the package index",
    "uv sync --no-dev": "needs the package index",
    "uv sync --no-dev --extra demo": "needs the package index",
    "uv tool install '.[openai-whisper,slurm]'": "needs the package index",
    "uv tool install --torch-backend cpu .": "needs PyTorch's index",
    "uv venv && uv pip install --torch-backend cpu -e '.[demo]'": "needs PyTorch's index",
    "uv run --no-sync snakemake --cores all": "the demo, after the line above it",
    "pip install .": "needs the package index",
    "uv pip install 'spark-trainer[datasets]'": "needs the package index",
    "uv pip install 'vllm>=0.32'": "needs the package index",
    **dict.fromkeys(
        (
            "vllm serve Qwen/Qwen2-VL-7B-Instruct --limit-mm-per-prompt '{\"image\": 8}'",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve Qwen/Qwen2-VL-2B-Instruct"
            " --enable-lora --max-lora-rank 16 --logprobs-mode processed_logprobs",
        ),
        "needs vLLM and a GPU; tests/rollouts/serving.py speaks its protocol",
    ),
    "srun --nodes 1 --ntasks 1 --overlap --gpus 8 python -m spark_trainer train"
    " --manifest-path data/processed/manifest_v1.jsonl": (
        "needs two nodes with GPUs; tests/train/test_launch.py has a srun of its own"
    ),
    "salloc --nodes 2 --gpus-per-node 8": "needs two nodes with GPUs",
    'sinfo -o "%P %l %m %c %G"': "shows a cluster's partitions",
    'squeue --me --format "%.10i %.9P %.8T %.10M %k"': "shows a cluster's jobs",
    "squeue --me --start": "shows a cluster's jobs",
    "accelerate launch": "named as what is not used",
    "apt-get install chromium": "needs Debian's packages; .ci/run installs it",
    "git clone <this repository> spark-trainer && cd spark-trainer": "needs an address",
    "hf auth login": "needs an account",
    "git config user.name": "named as what is read",
    "fuser -v <folder>/*": "a program of the machine, over its leases",
    "ssh -L 8765:127.0.0.1:8765": "needs a second machine",
    "snakedeploy deploy-workflow": "needs an address; tests/workflow/test_module.py uses a path",
    **dict.fromkeys(
        (
            "docker build -f envs/Dockerfile -t spark-trainer .",
            'docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" spark-trainer init',
            'docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" -v /data/videos:/data/videos:ro'
            " -v ~/.cache:/cache --gpus all --shm-size 8g spark-trainer manifest",
            "apptainer build spark-trainer.sif envs/apptainer.def",
            "apptainer run --nv --bind /data/videos spark-trainer.sif manifest",
        ),
        "needs Docker or Apptainer; docs/containers.md says what was tested",
    ),
    **dict.fromkeys(
        (
            "cd films && nano config/config.yaml",
            "nano profiles/slurm/cluster.yaml",
        ),
        "an editor",
    ),
}
