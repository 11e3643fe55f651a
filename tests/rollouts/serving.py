"""A server that answers as vLLM does, by transformers: it draws by the seeds that it gets.

What it takes and gives is that of vLLM 0.33.0: see spark_trainer/rollouts/vllm.py.
"""

import base64
import http.server
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers.video_utils import VideoMetadata

Reply = tuple[int, Any]  # status, and what is sent as JSON
ABSENT: Reply = (404, {"detail": "Not Found"})


def numbers(seed: int, length: int) -> torch.Tensor:
    """The numbers that a seed draws by."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(length, generator=generator, dtype=torch.float64)


class Picks(transformers.LogitsProcessor):
    """Leaves one token, as vLLM's sampler would pick it, and keeps its log-probability."""

    def __init__(self, request: dict[str, Any], start: int) -> None:
        self.request, self.start, self.logs = request, start, list[float]()
        self.numbers = numbers(request.get("seed", 0), request["max_tokens"])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores, place = scores[0].float().clone(), input_ids.shape[1] - self.start
        for token, bias in self.request.get("logit_bias", {}).items():
            scores[int(token)] += bias
        log_V = (scores / (self.request["temperature"] or 1)).log_softmax(0)
        sums_V = log_V.double().exp().cumsum(0)
        token = int(torch.searchsorted(sums_V, self.numbers[place] * sums_V[-1], right=True))
        if self.request["temperature"] == 0:
            token = int(log_V.argmax())
        self.logs.append(float(log_V[token]))
        only = torch.full_like(scores, -torch.inf)
        only[token] = 0
        return only[None]


@dataclass
class Serving:
    """A tiny Qwen2-VL behind vLLM's addresses; `broken` answers in the place of one of them."""

    model_path: str
    name: str = ""
    lags: bool = False  # answers by the weights before the last ones
    started: bool = True  # with what lets it take weights
    broken: dict[str, Callable[[dict[str, Any]], Reply]] = field(default_factory=dict)
    changed: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # what it says in a chat
    adapters: dict[str, str] = field(default_factory=dict)
    version: str = "default"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.name or self.model_path
        self.processor = transformers.AutoProcessor.from_pretrained(self.model_path)
        self.model = self.loaded(self.model_path)
        self.former: list[str] = []  # adapters in the order in which they came
        self.lock = threading.Lock()

    @staticmethod
    def loaded(path: str) -> Any:
        made = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
        return made.eval()

    def reply(self, path: str, request: dict[str, Any]) -> Reply:
        self.requests.append((path, request))
        replies: dict[str, Callable[[dict[str, Any]], Reply]] = {
            "/v1/models": self.models,
            "/v1/chat/completions": self.chat,
        }
        if self.started:
            replies |= {
                "/v1/load_lora_adapter": self.load_adapter,
                "/v1/unload_lora_adapter": self.unload_adapter,
                "/weight_info": lambda _: (200, {"weight_version": self.version}),
                "/collective_rpc": self.reload,
                "/update_weight_version": self.rename,
            }
            for cache in ("prefix", "mm", "encoder"):
                replies[f"/reset_{cache}_cache"] = lambda _: (200, {"success": True})
        with self.lock:
            known = replies | self.broken
            return known[path](request) if path in known else ABSENT

    def models(self, _: dict[str, Any]) -> Reply:
        base = {"id": self.name, "root": self.model_path, "parent": None}
        adapted = [
            {"id": name, "root": path, "parent": self.name} for name, path in self.adapters.items()
        ]
        return 200, {"object": "list", "data": [base, *adapted]}

    def load_adapter(self, request: dict[str, Any]) -> Reply:
        name, path = request["lora_name"], request["lora_path"]
        if not name or not path:
            return refused(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.adapters:
            return refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not Path(path).is_dir():
            return refused(404, f"Loading lora {name} failed: No adapter found for {path}")
        if name not in self.former:  # unloaded ones stay, for a server that lags
            self.model.load_adapter(path, adapter_name=name)
        self.adapters[name] = path
        self.former = [*(one for one in self.former if one != name), name]
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload_adapter(self, request: dict[str, Any]) -> Reply:
        if request["lora_name"] not in self.adapters:
            return refused(404, "The lora adapter cannot be found.")
        del self.adapters[request["lora_name"]]
        return 200, "Success"

    def reload(self, request: dict[str, Any]) -> Reply:
        assert request["method"] == "reload_weights"
        if not self.lags:
            self.model = self.loaded(request["kwargs"]["weights_path"])
        return 200, {"results": [None]}

    def rename(self, request: dict[str, Any]) -> Reply:
        self.version = request["new_version"]
        return 200, {"success": True, "new_version": self.version}

    def chat(self, request: dict[str, Any]) -> Reply:
        if request["model"] not in {self.name, *self.adapters}:
            return refused(404, f"The model `{request['model']}` does not exist.")
        if self.adapters:
            behind = self.former[-2:][0] if self.lags else request["model"]
            self.model.set_adapter(behind)
        inputs = self.inputs(request)
        prompt: list[int] = inputs["input_ids"][0].tolist()
        picks = Picks(request, len(prompt))
        with torch.no_grad():
            ids_1L = self.model.generate(
                **inputs,
                max_new_tokens=request["max_tokens"],
                eos_token_id=request["stop_token_ids"],
                do_sample=False,
                logits_processor=[picks],
            )
        ids: list[int] = ids_1L[0, len(prompt) :].tolist()
        said = self.said(request, prompt, ids, picks.logs)
        return 200, self.changed(said) if self.changed else said

    def said(
        self, request: dict[str, Any], prompt: list[int], ids: list[int], logs: list[float]
    ) -> dict[str, Any]:
        tokenizer = self.processor.tokenizer
        content = [
            {"token": tokenizer.decode([token]), "logprob": log, "bytes": [], "top_logprobs": []}
            for token, log in zip(ids, logs, strict=True)
        ]
        choice = {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": tokenizer.decode(ids, skip_special_tokens=True),
            },
            "logprobs": {"content": content},
            "finish_reason": "stop" if ids[-1] in request["stop_token_ids"] else "length",
            "token_ids": ids,
            "weight_versions": [{"version": self.version, "start": 0, "end": len(ids)}],
        }
        return {
            "object": "chat.completion",
            "model": request["model"],
            "choices": [choice],
            "prompt_token_ids": prompt,
        }

    def inputs(self, request: dict[str, Any]) -> Any:
        """The prompt as the checkpoint's own template and processor make it."""
        [message] = request["messages"]
        [shown] = [one for one in message["content"] if one["type"] == "video_url"]
        files = shown["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
        frames = [Image.open(BytesIO(base64.b64decode(file))) for file in files]
        told = request["media_io_kwargs"]["video"]
        chat = [
            {
                "role": message["role"],
                "content": [
                    {"type": "video"} if one["type"] == "video_url" else one
                    for one in message["content"]
                ],
            }
        ]
        prompt = self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=False
        )
        return self.processor(
            text=[prompt],
            videos=[frames],
            video_metadata=[
                VideoMetadata(
                    total_num_frames=told["total_num_frames"],
                    fps=told["fps"],
                    frames_indices=told["frames_indices"],
                )
            ],
            do_sample_frames=False,
            add_special_tokens=request["add_special_tokens"],
            return_tensors="pt",
        )


def refused(status: int, message: str) -> Reply:
    return status, {"error": {"message": message, "code": status}}


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads a request, and sends what `serving` replies."""

    serving: Serving

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply(json.loads(body) if body else {})

    def _reply(self, request: dict[str, Any]) -> None:
        status, said = self.serving.reply(self.path, request)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Listening(http.server.ThreadingHTTPServer):
    """Lets as many connections wait as a rollout makes."""

    request_queue_size = 128


class Running:
    """A server that runs in a thread, until it is stopped."""

    def __init__(self, serving: Serving) -> None:
        handler = type("Of", (Handler,), {"serving": serving})
        self.server = Listening(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
