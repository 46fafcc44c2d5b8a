"""Train the captioner that lesson 07 shows: the embedded ViT and language model, LoRA of rank 8 by domain.

    python tools/train_captioner.py

It sees 6,000 scenes of a series of their own, none of which is in the task 'scenes'. Seeded; about ten minutes on one
CPU core; interrupted, the same command goes on. Writes data/captioners/scenes/.
"""

import argparse
from pathlib import Path
from tempfile import gettempdir

from peftlab import load_backbone
from peftlab.captioning import Captioner, attribute_accuracy, evaluate, fit, load_captions, load_language_model
from peftlab.captioning.generation import write_captions
from peftlab.captioning.load import SCENES_CAPTIONER
from peftlab.captioning.training import save
from peftlab.common.files import write_json
from peftlab.tasks.captions import CaptionTask, draw_scenes
from peftlab.tasks.once import made_once


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "peftlab-captioner", help="scenes and run")
    args = parser.parse_args()
    folder = args.work / f"scenes-{args.scenes}"
    made_once(folder, lambda part: draw_scenes(part, {"train": args.scenes}, series="more scenes"))
    model = Captioner(load_backbone(), load_language_model(), "context_peft", grid=4, standardise=True)
    task = CaptionTask("more-scenes", folder, synthetic=True)
    run = fit(model, task, epochs=args.epochs, batch_size=16, lr=args.lr, runs=args.work / "runs")
    test = load_captions()
    captions = write_captions(model, model.encode_images(test, "test"))
    SCENES_CAPTIONER.mkdir(parents=True, exist_ok=True)
    save(model, SCENES_CAPTIONER)
    facts = {
        "method": model.title,
        "scenes": args.scenes,
        "epochs": args.epochs,
        "lr": args.lr,
        "minutes": round(run.record["seconds"] / 60, 1),
        "perplexity on the scenes' test split": round(evaluate(model, test, "test")["perplexity"], 3),
        "statements right": {k: round(v, 3) for k, v in attribute_accuracy(captions, test.factors("test")).items()},
    }
    write_json(SCENES_CAPTIONER / "facts.json", facts)
    print(facts)


if __name__ == "__main__":
    main()
