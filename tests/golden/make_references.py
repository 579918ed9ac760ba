#!/usr/bin/env python3
"""Reference logits of checkpoints, by Hugging Face transformers in float32 on the CPU.

    make_references.py CHECKPOINT_DIR... -o OUTPUT_DIR [--rows 8]

For each checkpoint: reads the prompt from its ref.json, loads the stored weights widened to float32,
and writes the last rows of the prompt's logits to OUTPUT_DIR/<name>.last<rows>.f32 (little-endian,
[rows][vocabulary]). Prints how far they are from the same model evaluated in float64 and from the
logits in the checkpoint's folder, in standard deviations of the float64 logits, and whether the
greedy continuation is the one in ref.json. Without -o it only prints.

Needs torch, transformers, safetensors and numpy; data/README.md names the versions used.
"""

import argparse
import json
import pathlib

import numpy
import torch
import transformers


def load(folder, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager")
    return model.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().numpy()


def greedy(model, start, count):
    ids = list(start)
    while len(ids) < count:
        ids.append(int(logits_of(model, ids)[-1].argmax()))
    return ids


def stored_logits(folder, vocabulary):
    for path in sorted(folder.glob("ref_logits*.f32")):
        return numpy.fromfile(path, dtype="<f4").reshape(-1, vocabulary).astype(numpy.float64)
    return None


def main():
    parser = argparse.ArgumentParser(description="Reference logits in float32")
    parser.add_argument("checkpoints", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args()
    # One thread: the order of float32 sums, and with it the last bits, does not vary.
    torch.set_num_threads(1)
    print("torch", torch.__version__, "transformers", transformers.__version__,
          "numpy", numpy.__version__)
    for folder in options.checkpoints:
        reference = json.loads((folder / "ref.json").read_text())
        prompt = reference["prompt_ids"]
        model = load(folder, torch.float32)
        single = logits_of(model, prompt)
        double = logits_of(load(folder, torch.float64), prompt)
        deviation = double.std()
        print(f"{folder.name}: float32 - float64: {abs(single - double).max() / deviation:.2e}")
        stored = stored_logits(folder, single.shape[1])
        if stored is not None:
            error = abs(stored - double[-len(stored):])
            print(f"  stored - float64: {error.max() / deviation:.2e}, "
                  f"root mean square {(error ** 2).mean() ** 0.5 / deviation:.2e}")
        for key, ids in reference.items():
            if key.startswith("greedy_ids_from_first_"):
                given = int(key.rsplit("_", 1)[1])
                same = greedy(model, ids[:given], len(ids)) == ids
                print("  greedy continuation:", "equal" if same else "DIFFERENT")
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            single[-options.rows:].astype("<f4").tofile(
                options.output / f"{folder.name}.last{options.rows}.f32")


if __name__ == "__main__":
    main()
