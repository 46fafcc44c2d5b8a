"""Put finished runs of a ledger into data/adapters: adapter in fp16, record, curves and a card of ten lines.

    python tools/ship_runs.py runs results/strength.csv      # or results/synthetic.csv

The runs are those of SHIPPED, seed 0, of a table that was swept into that ledger.
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd

from peftlab.common.files import write_text
from peftlab.common.tensors import read_tensors, write_tensors
from peftlab.methods import create_method
from peftlab.training.trained import FOLDER

SHIPPED = {  # tasks whose licences allow it
    "oxford_iiit_pet": "linear lora adapter gist_adapter gist_lora gift gift_linear norm two_stage".split(),
    "clevr_count": "linear lora gist_lora gift gift_linear norm two_stage context_peft".split(),
    "eurosat": "linear lora norm two_stage".split(),
    "clevr_count_synthetic": "lora gist_lora".split(),
}
SOURCES = {
    "oxford_iiit_pet": "Oxford-IIIT Pet, 10 photographs of each breed (CC BY-SA 4.0)",
    "clevr_count": "CLEVR scenes rendered anew with the original assets (BSD)",
    "eurosat": "EuroSAT, RGB (MIT)",
    "clevr_count_synthetic": "scenes like CLEVR's, drawn by this workbook",
}
CARD = """# {name}

{method} on `{backbone}` at {img_size} px, trained on {train_images} images:
{source}; our own split, not VTAB-1k's.
{parameters:,} parameters and a head of {head_parameters:,}, kept in fp16; no image is contained.
Test accuracy {accuracy:.1f} % ({test_images} images, opened once), {train_accuracy:.1f} % in training.
Seed 0 of the label `{label}` in `results/{table}`; seeds differ by points.

    {command}

For pictures and lessons. The backbone's history (`../../backbones/peftlab_vit_small.md`) is this adapter's, too.
Apache-2.0.
"""


def command(row):
    """The call of `peftlab fit` that makes such a run."""
    options = json.loads(row["options"])
    usual = create_method(row["method"], **{k: v for k, v in options.items() if k == "base_method"}).options()
    plain = json.loads(json.dumps(usual))  # tuples as lists
    options = {k: v for k, v in options.items() if k == "base_method" or v != plain[k]}
    given = "".join(f" -o {key}={','.join(v) if isinstance(v, list) else v}" for key, v in options.items())
    recipe = f"--epochs {row['epochs']} --batch-size {row['batch_size']} --lr {row['lr']:g} --precision bf16 --seed 0"
    first = " --first-lr 0.03" if row["method"] == "two_stage" else ""
    where = f"--backbone {row['backbone']} --img-size {row['img_size']}" + " --root synthetic" * row["synthetic"]
    return f"peftlab fit {row['method']} {row['task']}{given} {where} {recipe}{first}"


def task_of(row):
    return row["task"] + "_synthetic" * row["synthetic"]


def ship(run, row, table):
    name = f"{task_of(row)}-{row['label'].replace(' ', '_')}"
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("adapter.json", "run.json", "curves.csv"):
        shutil.copyfile(run / file, folder / file)
    tensors, metadata = read_tensors(run / "adapter.safetensors")
    half = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
    write_tensors(folder / "adapter.safetensors", half, metadata)
    (folder / "adapter.safetensors").chmod(0o644)
    facts = dict(row) | {"name": name, "source": SOURCES[task_of(row)], "command": command(row), "table": table}
    facts |= {"accuracy": 100 * row["test_accuracy"], "train_accuracy": 100 * row["train_accuracy"]}
    write_text(folder / "README.md", CARD.format(**facts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("table", type=Path)
    args = parser.parse_args()
    rows = pd.read_csv(args.table).query("train_split == 'train800val200' and seed == 0")
    rows["test_images"] = rows["test_images"].astype(int)
    for row in rows.to_dict("records"):
        if row["label"].replace(" ", "_") in SHIPPED.get(task_of(row), []):
            ship(args.ledger / row["run"], row, args.table.name)


if __name__ == "__main__":
    main()
