"""Small byte-level tokenizers and the chat templates of the families' real checkpoints."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "a dog runs over the green grass and the camera follows the dog",
    "two people walk along the street while a red car drives past",
    "a man in a blue shirt is talking to the camera in a small kitchen",
    "the view moves slowly from the left to the right over the sea",
    "describe the video in one sentence and say what happens in it",
)

# What the real checkpoints' templates emit. LLaVA 1.5 has no end token after an answer.
LLAVA = (
    "{% for message in messages %}"
    "{% if message.role != 'system' %}{{ message.role | upper + ': ' }}{% endif %}"
    "{% for part in message.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_NEXT = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}"
    "{{ '<<SYS>>\n' + message.content[0].text + '\n<</SYS>>\n\n' }}"
    "{% elif message.role == 'user' %}{{ '[INST] ' }}"
    "{% for part in message.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content[0].text + '</s> ' }}{% endif %}"
    "{% endfor %}"
)
LLAVA_ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + ' ' }}"
    "{% for part in message.content if part.type == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message.content if part.type == 'video' %}{{ '<video>' }}{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ '\n' + part.text }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat(image: str, video: str, system: str = "") -> str:
    """A ChatML template writes these placeholders for an image and a video.

    A conversation without a system message begins with `system`, where that is not empty.
    """
    first = "{% if loop.first and message.role != 'system' %}"
    default = f"{first}{{{{ {_turn('system', system)!r} }}}}{{% endif %}}" if system else ""
    return (
        "{% for message in messages %}"
        f"{default}"
        "{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.content is string %}{{ message.content }}"
        "{% else %}{% for part in message.content %}"
        f"{{% if part.type == 'image' %}}{{{{ {image!r} }}}}"
        f"{{% elif part.type == 'video' %}}{{{{ {video!r} }}}}"
        "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
        "{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def _turn(role: str, text: str) -> str:
    """ChatML marks where a message begins and ends."""
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def opt() -> PreTrainedTokenizerFast:
    """A text begins with </s>, OPT's only mark."""
    specials = ("<s>", "<pad>", "</s>", "<image>")
    return _bpe(specials, begin="</s>", bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def t5() -> PreTrainedTokenizerFast:
    """A text ends with </s>."""
    specials = ("<pad>", "</s>", "<unk>", "<image>")
    return _bpe(specials, end="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def clip() -> PreTrainedTokenizerFast:
    """A text stands between two marks, and the second one fills up, as for Stable Diffusion 1.5."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    return _bpe(
        (begin, end),
        begin=begin,
        end=end,
        bos_token=begin,
        eos_token=end,
        pad_token=end,
        model_max_length=77,
    )


def bart() -> PreTrainedTokenizerFast:
    """A text stands between <s> and </s>; <image> is Florence-2's."""
    return _bpe(
        ("<s>", "<pad>", "</s>", "<unk>", "<image>"),
        begin="<s>",
        end="</s>",
        named={"image_token": "<image>"},
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def llama() -> PreTrainedTokenizerFast:
    """A text begins with <s>, as for Llama and Mistral."""
    return _bpe(
        ("<unk>", "<s>", "</s>", "<pad>", "<image>"),
        begin="<s>",
        named={"image_token": "<image>"},
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def chatml(*more: str, **named: str) -> PreTrainedTokenizerFast:
    """Nothing is put around a text, as for Qwen; a turn ends with <|im_end|>."""
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *more, *named.values())
    return _bpe(specials, named=named, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _bpe(
    specials: tuple[str, ...],
    *,
    begin: str = "",
    end: str = "",
    named: dict[str, str] | None = None,
    model_max_length: int | None = None,
    **roles: str,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE returns every text as it was; the special tokens' ids are the first.

    `begin` and `end` are put around a text, `named` are a processor's own tokens, and `roles`
    are the usual ones (`eos_token` and so on).
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}".strip(),
        special_tokens=[(token, backend.token_to_id(token)) for token in (begin, end) if token],
    )
    known = {*roles.values(), *(named or {}).values()}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=model_max_length,
        extra_special_tokens=[token for token in specials if token not in known],
        model_specific_special_tokens=named or {},
        **roles,
    )
