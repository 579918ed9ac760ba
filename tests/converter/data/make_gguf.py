#!/usr/bin/env python3
"""GGUF files and what they must read as, by the reference package `gguf` (PyPI) and numpy.

    make_gguf.py OUTPUT_DIR

blocks.bin: for every tensor type, random blocks and their values: u32 type, u32 blocks, u32 values,
the blocks' bytes, the values as f32. tiny.gguf: a small LLaMA with grouped heads, biases of
attention, every type of 32-blocks, q and k reordered as the converters of that project do it, scaled
rotary frequencies and both special tokens and scores. tiny/: the same model as a Hugging Face
folder in f32, the weights as the package dequantizes them. The output is frozen beside this
program; gguf 0.19 made it.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

RANDOM = np.random.default_rng(1)
HIDDEN, HEADS, KV, FFN, LAYERS, VOCAB = 32, 2, 1, 64, 2, 300
HEAD = HIDDEN // HEADS
THETA, FACTOR, ORIGINAL = 10000.0, 8.0, 64


def blocks(path):
    """Random bytes are valid blocks but for their f16 scales, which are made finite."""
    halves = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2],
              Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.F32: [], Q.F16: [], Q.BF16: []}
    out = b""
    for kind, scales in halves.items():
        size, width = gguf.GGML_QUANT_SIZES[kind]
        count = 3 if size > 32 else 5
        data = RANDOM.integers(0, 256, (count, width), dtype=np.uint8)
        for at in scales:
            half = RANDOM.normal(0, 1, count).astype(np.float16)
            data[:, at:at + 2] = half.view(np.uint8).reshape(count, 2)
        if size == 1:
            values = RANDOM.normal(0, 1, count).astype(np.float32)
            data = np.frombuffer(gguf.quantize(values, kind).tobytes(), np.uint8)
        decoded = gguf.dequantize(data.reshape(1, -1), kind).astype("<f4").reshape(-1)
        out += struct.pack("<III", int(kind), count, decoded.size)
        out += data.tobytes() + decoded.tobytes()
    path.write_bytes(out)


def reorder(rows, heads):
    """Rotated halves to interleaved pairs, per head."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(shape)


def restore(rows, heads):
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(shape)


def rope_divisors():
    frequency = THETA ** (-np.arange(0, HEAD, 2) / HEAD)
    wavelength = 2 * np.pi / frequency
    smooth = np.clip((ORIGINAL / wavelength - 1) / (4 - 1), 0, 1)
    return (1 / ((1 - smooth) / FACTOR + smooth)).astype(np.float32)


class Model:
    def __init__(self, path):
        self.writer = gguf.GGUFWriter(path, "llama")
        self.expected = {}

    def add(self, name, hf, shape, kind=Q.F32, heads=0):
        values = RANDOM.normal(0, 0.5, shape).astype(np.float32)
        if heads:
            values = reorder(values, heads)
        stored = gguf.quantize(values, kind)
        read = gguf.dequantize(stored, kind).astype(np.float32).reshape(shape)
        self.writer.add_tensor(name, stored, raw_dtype=kind)
        self.expected[hf] = restore(read, heads) if heads else read

    def finish(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def tensors(model):
    model.add("token_embd.weight", "model.embed_tokens.weight", (VOCAB, HIDDEN), Q.Q8_0)
    model.add("output.weight", "lm_head.weight", (VOCAB, HIDDEN), Q.BF16)
    model.add("output_norm.weight", "model.norm.weight", (HIDDEN,))
    kinds = [[Q.Q4_0, Q.Q4_1, Q.F16, Q.Q8_0, Q.Q5_0, Q.Q5_1, Q.BF16],
             [Q.Q5_1, Q.F32, Q.Q4_1, Q.Q4_0, Q.Q8_0, Q.Q5_0, Q.Q4_1]]
    for n in range(LAYERS):
        b, h, k = f"blk.{n}.", f"model.layers.{n}.", kinds[n]
        model.add(b + "attn_norm.weight", h + "input_layernorm.weight", (HIDDEN,))
        model.add(b + "ffn_norm.weight", h + "post_attention_layernorm.weight", (HIDDEN,))
        for i, (name, hf, rows, heads) in enumerate([
                ("attn_q", "self_attn.q_proj", HEADS * HEAD, HEADS),
                ("attn_k", "self_attn.k_proj", KV * HEAD, KV),
                ("attn_v", "self_attn.v_proj", KV * HEAD, 0),
                ("attn_output", "self_attn.o_proj", HIDDEN, 0)]):
            model.add(f"{b}{name}.weight", f"{h}{hf}.weight", (rows, HIDDEN), k[i], heads)
            model.add(f"{b}{name}.bias", f"{h}{hf}.bias", (rows,), Q.F32, heads)
        model.add(b + "ffn_gate.weight", h + "mlp.gate_proj.weight", (FFN, HIDDEN), k[4])
        model.add(b + "ffn_up.weight", h + "mlp.up_proj.weight", (FFN, HIDDEN), k[5])
        model.add(b + "ffn_down.weight", h + "mlp.down_proj.weight", (HIDDEN, FFN), k[6])
    model.writer.add_tensor("rope_freqs.weight", rope_divisors())


def metadata(w):
    w.add_context_length(512)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_rope_freq_base(THETA)
    w.add_rope_dimension_count(HEAD)
    w.add_layer_norm_rms_eps(0.25)
    w.add_vocab_size(VOCAB)
    w.add_name("tiny")
    words = [f"\u2581w{i}" for i in range(VOCAB - 259)]
    w.add_tokenizer_model("llama")
    w.add_token_list(["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + words)
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(words))])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(words))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_chat_template("{{ messages }}")


def hugging_face(folder, expected):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV, "max_position_embeddings": 512, "rms_norm_eps": 0.25,
        "rope_theta": THETA, "attention_bias": True, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2,
        "rope_scaling": {"rope_type": "llama3", "factor": FACTOR, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0,
                         "original_max_position_embeddings": ORIGINAL}}, indent=1) + "\n")
    header, data = {}, b""
    for name, values in expected.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    folder = pathlib.Path(sys.argv[1])
    blocks(folder / "blocks.bin")
    model = Model(folder / "tiny.gguf")
    metadata(model.writer)
    tensors(model)
    model.finish()
    hugging_face(folder / "tiny", model.expected)


if __name__ == "__main__":
    main()
