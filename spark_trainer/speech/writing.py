"""What a Whisper in training writes of what it hears."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def greedy(
    model: Any, states_BSD: "torch.Tensor", prefix_BP: "torch.Tensor", tokenizer: Any
) -> "torch.Tensor":
    """Return the tokens that a model writes greedily after a prefix, without times.

    Args:
        model: Whisper, as transformers has it.
        states_BSD: of its encoder, of whole windows of sound.
        prefix_BP: the tokens that tell language and task.
        tokenizer: OpenAI's.

    Returns:
        tokens (B, L), the end of a text repeated where others are longer.
    """
    import torch
    from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
    from transformers.modeling_outputs import BaseModelOutput

    known, longest = model.generation_config, model.config.max_target_positions
    start_BP = torch.nn.functional.pad(prefix_BP, (0, 1), value=tokenizer.no_timestamps)
    unwritten_V = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=states_BSD.device)
    unwritten_V[tokenizer.no_timestamps :] = True
    unwritten_V[[*(known.suppress_tokens or ())]] = True

    def suppress(_: Any, scores_BV: "torch.Tensor") -> "torch.Tensor":
        """Do as upstream's `suppress_tokens`, which looks for 1,600 tokens at every step."""
        return scores_BV.masked_fill(unwritten_V, -torch.inf)

    ids_BL: torch.Tensor = GenerationMixin.generate(
        model,
        encoder_outputs=BaseModelOutput(last_hidden_state=states_BSD),
        attention_mask=torch.ones_like(states_BSD[..., 0], dtype=torch.long),  # the sound is whole
        decoder_input_ids=start_BP,
        logits_processor=LogitsProcessorList([suppress]),
        generation_config=GenerationConfig(
            max_length=longest // 2,
            begin_suppress_tokens=known.begin_suppress_tokens,
            eos_token_id=tokenizer.eot,
            pad_token_id=tokenizer.eot,
            decoder_start_token_id=tokenizer.sot,
        ),
    )
    return ids_BL[:, start_BP.shape[1] :]
