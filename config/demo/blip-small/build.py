"""Makes this folder: a very small BLIP configuration and its vocabulary, without weights.

    uv run python config/demo/blip-small/build.py

The vocabulary is WordPiece over the names of the ImageNet classes, which the offline tagger
uses, and all single letters, so that any English caption can be spelt.
"""

from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from torchvision.models import EfficientNet_B0_Weights
from transformers import BertTokenizerFast, BlipConfig, BlipImageProcessor, BlipProcessor

HERE = Path(__file__).parent
SIDE_PX = 96
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'()-"


def main() -> None:
    """Write the configuration, the image processor and the tokenizer."""
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    texts = [*names, *["tags: no tag"] * 20, LETTERS, " ".join(LETTERS)]
    wordpiece.train_from_iterator(texts, vocab_size=1200, special_tokens=SPECIAL, min_frequency=2)
    wordpiece.save(str(HERE / "words.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(HERE / "words.json"), bos_token="[DEC]")
    (HERE / "words.json").unlink()
    size = {"height": SIDE_PX, "width": SIDE_PX}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(HERE)
    layers = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    vision = layers | {"image_size": SIDE_PX, "patch_size": 16, "initializer_range": 0.02}
    text = layers | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "encoder_hidden_size": vision["hidden_size"],
    }
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=96)
    config.save_pretrained(HERE)


if __name__ == "__main__":
    main()
