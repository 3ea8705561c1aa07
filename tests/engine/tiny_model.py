"""A GGUF model of some 200 kB that llama.cpp really loads, and whose greedy answers are known.

Theory of operation. Attention and feed-forward write zeros, so what the model says next depends on
its last token alone: the embedding of a token is a random direction, and the output row of its
successor is the same direction. So the model walks along a chain of tokens:

  * after any token that is in no chain it tells `STORY`, and ends with EOS;
  * after a word of `LOOP` it goes on with the next word of it, for ever.

The story has characters of which llama.cpp tells only the last token's id: 😀 (2 tokens, 4 bytes),
ñ (2 of 2), € (3 of 3) and 👩 (3 of 4, which cannot be told apart from other splits).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

STORY_TOKENS = (
    " Once", " upon", " a", " time", b"\xf0\x9f\x98", b"\x80", " and", b"\xc3", b"\xb1", " or",
    b"\xe2", b"\x82", b"\xac", " then", b"\xf0\x9f", b"\x91", b"\xa9", " the", " end", ".",
)  # fmt: skip
LOOP = (" one", " two", " three", " four", " five", " six", " seven", " eight")
STORY = " Once upon a time😀 andñ or€ then👩 the end."
CONTEXT = 32768
WIDTH = 64
HEADS = 4
BLOCKS = 2
# Low enough that sampling at a temperature leaves the chain, high enough for greedy to keep to it.
SHARPNESS = 0.3

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'alien' %}{{ raise_exception('no aliens') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
)


@lru_cache(maxsize=1)
def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level BPE vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}


def letters(piece: str | bytes) -> str:
    data = piece.encode() if isinstance(piece, str) else piece
    return "".join(byte_letters()[byte] for byte in data)


def vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges): control tokens, all bytes, and every word built up letter by letter."""
    tokens = ["<s>", "</s>", *byte_letters().values()]
    merges: list[str] = []
    for piece in (*STORY_TOKENS, *LOOP):
        word = letters(piece)
        for end in range(2, len(word) + 1):
            merge = f"{word[: end - 1]} {word[end - 1]}"
            if merge not in merges:
                merges.append(merge)
                tokens.append(word[:end])
    return tokens, merges


def successors(tokens: list[str]) -> dict[int, int]:
    """Token -> what follows it, for the tokens of the chains."""
    ids = {token: at for at, token in enumerate(tokens)}
    story = [ids[letters(piece)] for piece in STORY_TOKENS]
    loop = [ids[letters(piece)] for piece in LOOP]
    return dict(zip(story + loop, [*story[1:], ids["</s>"], *loop[1:], loop[0]], strict=True))


def write_tiny_model(path: Path) -> Path:
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_keys(writer, len(tokens))
    _write_tokenizer(writer, tokens, merges)
    for name, tensor in _tensors(tokens).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_keys(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    writer.add_name("tiny story")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, tokens: list[str], merges: list[str]) -> None:
    kinds = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def _tensors(tokens: list[str]) -> dict[str, np.ndarray]:
    after = successors(tokens)
    # Orthogonal directions: one for each token of a chain, one that all others share.
    square = np.random.default_rng(7).standard_normal((WIDTH, WIDTH))
    directions = np.linalg.qr(square)[0]
    embedding = np.tile(directions[0], (len(tokens), 1))
    output = np.zeros_like(embedding)
    output[tokens.index(letters(STORY_TOKENS[0]))] = directions[0]
    for direction, (token, successor) in zip(directions[1:], after.items(), strict=False):
        embedding[token] = output[successor] = direction
    output *= SHARPNESS
    ones, zeros = np.ones(WIDTH), np.zeros((WIDTH, WIDTH))
    tensors = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": ones}
    for block in range(BLOCKS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"blk.{block}.{name}.weight"] = zeros
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            tensors[f"blk.{block}.{name}.weight"] = zeros
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{block}.{name}.weight"] = ones
    return tensors
