"""Captioning: what a captioner reads, what it may not be moved by, how it writes, and how it is trained."""

import copy
import json
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from support import random_timm

from peftlab import captioning
from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.captioning import (
    Captioner,
    evaluate,
    fit,
    generate,
    load_language_model,
    word_accuracy,
    write_captions,
)
from peftlab.captioning.captioner import IGNORED, Standardise
from peftlab.captioning.interface import CausalLM, Tokenizer
from peftlab.captioning.language_model import LanguageModel, rotate
from peftlab.captioning.load import EMBEDDED
from peftlab.captioning.metrics import token_losses
from peftlab.captioning.tokens import WordTokenizer
from peftlab.captioning.training import load, make_spec, own_digest
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.common.files import write_json
from peftlab.results.ledger import read_ledger
from peftlab.tasks.captions import CaptionTask

WORDS = ["red", "green", "blue", "a", "picture", "of", "what", "is", "there"]
ADAPTED = [
    ("context_peft", {"kind": kind, "rank": 2, "contexts": c})
    for kind in ("lora", "bitfit", "ia3")
    for c in ("one", "domain", "parity")
]
EVERY = [("connector", {}), ("full", {}), *ADAPTED]


@pytest.fixture
def vit():
    return load_backbone("test_vit", pretrained=False, img_size=32)


def tiny_lm(context_length=32):
    torch.manual_seed(1)
    lm = LanguageModel(WordTokenizer(WORDS), width=16, depth=2, heads=2, hidden=24, context_length=context_length)
    lm.peftlab_name = "tiny"
    with torch.no_grad():
        for p in lm.parameters():
            p += 0.2 * torch.randn_like(p)
    return lm.requires_grad_(False).eval()


def llama():
    config = {"num_key_value_heads": 1, "intermediate_size": 24, "num_attention_heads": 2, "hidden_size": 16}
    return "LlamaConfig", config | {"num_hidden_layers": 2, "max_position_embeddings": 32}


def opt():
    config = {"ffn_dim": 24, "num_attention_heads": 2, "hidden_size": 16, "word_embed_proj_dim": 16}
    return "OPTConfig", config | {"num_hidden_layers": 2, "max_position_embeddings": 32}


def gpt2():
    return "GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}


def phi3():
    return "Phi3Config", llama()[1]


def starcoder():
    return "GPTBigCodeConfig", gpt2()[1]


def bloom():
    return "BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2}


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """A maker of tiny Hugging Face models with a tokenizer of nine words, on disk as safetensors."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    def make(kind):
        folder = tmp_path_factory.mktemp(kind.__name__)
        vocabulary = {word: i for i, word in enumerate(["<s>", "</s>", *WORDS])}
        tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<s>"))
        tokenizer.pre_tokenizer = Whitespace()
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
        name, options = kind()
        torch.manual_seed(2)
        special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        config = getattr(transformers, name)(vocab_size=len(vocabulary), **options, **special)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for p in model.parameters():
                p += 0.2 * torch.randn_like(p)
        model.save_pretrained(folder), fast.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(params=[None, llama, opt, gpt2], ids=["embedded", "llama", "opt", "gpt2"])
def lm(request):
    if request.param is None:
        return tiny_lm()
    return load_language_model(str(request.getfixturevalue("hf_folder")(request.param)))


def captioner(vit, lm, method="context_peft", **options):
    """One whose trained parameters have all been moved, so that each matters."""
    model = Captioner(vit, lm, method, grid=2, **options)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn_like(p)
    return model


def patches(n=3, width=64):
    return torch.randn(n, 4, width, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def tiny_captions(tmp_path):
    """24 images of three colours with two captions each, in COCO's layout."""
    import numpy as np
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path / "tiny"
    (folder / "annotations").mkdir(parents=True)
    for split, n in (("train", 12), ("val", 6), ("test", 6)):
        (folder / split).mkdir()
        content = {"images": [], "annotations": []}
        for i in range(n):
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
            pixels[..., i % 3] += 120
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
            content["images"].append({"id": i, "file_name": f"{i}.png"})
            for said in (WORDS[i % 3], f"a {WORDS[i % 3]} picture"):
                content["annotations"].append({"image_id": i, "caption": said})
        write_json(folder / "annotations" / f"captions_{split}.json", content)
    return CaptionTask("tiny", folder, synthetic=True)


# The embedded language model


def test_embedded_model_is_small_and_knows_its_texts():
    lm = load_language_model()
    assert EMBEDDED["peftlab_lm_tiny"].stat().st_size <= 8e6
    facts = json.loads(EMBEDDED["peftlab_lm_tiny"].with_suffix(".json").read_text())
    assert sum(p.numel() for p in lm.parameters()) == facts["parameters"]
    tokens = torch.tensor([[0, *lm.tokenizer.encode("the red cube is small . it is made of"), 1]])
    best = lm(lm.embed(tokens[:, :-1]))[0][0, -1].argmax().item()
    assert lm.tokenizer.words[best] in ("metal", "rubber")


def test_rotary_positions_equal_hugging_faces():
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    x, at = torch.randn(2, 3, 5, 8), torch.arange(4, 9)
    angle = at[:, None] * 10000 ** (-torch.arange(4) / 4)
    cos, sin = (torch.cat([f(angle)] * 2, -1)[None] for f in (torch.cos, torch.sin))
    torch.testing.assert_close(rotate(x, 4), modeling.apply_rotary_pos_emb(x, x, cos, sin)[0])


def test_later_tokens_do_not_change_earlier_ones():
    lm, x = tiny_lm(), torch.randn(1, 6, 16)
    before = lm(x)[0]
    x[:, 4] += 1
    assert torch.equal(lm(x)[0][:, :4], before[:, :4]) and not torch.equal(lm(x)[0][:, 4:], before[:, 4:])


def test_tokenizer_reads_and_writes():
    tokenizer = WordTokenizer(["a", "cube", ",", "red"])
    assert tokenizer.decode([0, *tokenizer.encode("A red cube, a cube"), 1]) == "a red cube , a cube"
    with pytest.raises(PeftlabError, match="knows 4 words, and not dog, two of 'two dog'"):
        tokenizer.encode("two dog")


def test_saved_as_loaded(tmp_path):
    from peftlab.captioning.load import save_language_model
    from peftlab.common.tensors import read_tensors

    lm = load_language_model()
    save_language_model(lm, tmp_path / "lm.safetensors")
    again, stored = read_tensors(tmp_path / "lm.safetensors")
    tensors, original = read_tensors(EMBEDDED["peftlab_lm_tiny"])
    assert stored == original and all(torch.equal(t, tensors[name]) for name, t in again.items())


@pytest.mark.parametrize("name", ["no/such/folder", "missing.gguf"])
def test_missing_language_model(name, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PeftlabError, match=f"cannot load the language model '{name}'.*peftlab_lm_tiny"):
        load_language_model(name)


def test_a_language_model_is_named_as_its_folder(hf_folder, monkeypatch):
    """A version number is no ending; ~ is the home folder."""
    folder = hf_folder(llama)
    folder = folder.rename(folder.with_name("Llama-3.2-1B"))
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder.parent))
    assert load_language_model("~/Llama-3.2-1B").peftlab_name == "Llama-3.2-1B"


def test_a_gguf_file_is_named_without_its_ending(hf_folder, monkeypatch):
    transformers, folder = pytest.importorskip("transformers"), hf_folder(llama)
    for kind in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        real = kind.from_pretrained
        monkeypatch.setattr(kind, "from_pretrained", lambda place, gguf_file, real=real, **how: real(folder, **how))
    assert load_language_model("models/Llama-3.2-1B.Q4_1.gguf").peftlab_name == "Llama-3.2-1B.Q4_1"


def test_damaged_language_models(hf_folder, monkeypatch):
    """Cut short, without a layer, whose shape is another; and where what goes wrong says nothing."""
    from safetensors import torch as files

    folder = hf_folder(llama)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    tensors = files.load(whole)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PeftlabError, match="cannot load the language model .*peftlab_lm_tiny"):
        load_language_model(str(folder))
    lost = [name for name in tensors if ".layers.1." in name]
    files.save_file({name: t for name, t in tensors.items() if name not in lost}, file, {"format": "pt"})
    with pytest.raises(PeftlabError, match=rf"lacks {len(lost)} weights of LlamaForCausalLM, model\.layers\.1\."):
        load_language_model(str(folder))
    files.save_file(tensors | {lost[0]: tensors[lost[0]][:1].clone()}, file, {"format": "pt"})
    with pytest.raises(PeftlabError, match="cannot load the language model"):
        load_language_model(str(folder))
    file.write_bytes(whole)

    def fail(*args, **how):
        raise OSError

    monkeypatch.setattr(pytest.importorskip("transformers").AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(PeftlabError, match="cannot load the language model .*: OSError"):
        load_language_model(str(folder))


def test_a_language_model_without_context_length_is_refused(hf_folder):
    with pytest.raises(PeftlabError, match="BloomForCausalLM has no max_position_embeddings"):
        load_language_model(str(hf_folder(bloom)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (phi3, "what the layers self_attn.qkv_proj, mlp.gate_up_proj of Phi3DecoderLayer do"),
        (starcoder, "attn.c_attn of GPTBigCodeBlock makes 32 numbers of 16"),
    ],
)
def test_layers_that_are_fused_in_another_way_are_refused(kind, words, vit, hf_folder):
    lm = load_language_model(str(hf_folder(kind)))
    with pytest.raises(PeftlabError, match=words):
        Captioner(vit, lm, "context_peft", grid=2)
    Captioner(vit, lm, grid=2)  # needs no names


def test_every_language_model_offers_the_same(lm):
    """All that `CausalLM` names, each its own; the blocks are modules of the model, in a copy those of the copy."""
    assert isinstance(lm, CausalLM) and isinstance(lm.tokenizer, Tokenizer)
    assert {*CausalLM.__annotations__} == {"peftlab_name", "tokenizer", "context_length", "embedding_width", "blocks"}
    assert all(hasattr(lm, name) for name in CausalLM.__annotations__)
    for name in ("embed", "forward", "attention", "pick"):
        assert getattr(type(lm), name) is not getattr(CausalLM, name)
    tokens = torch.tensor([lm.tokenizer.encode("a red picture")])
    assert lm.embed(tokens).shape == (1, 3, lm.embedding_width)
    for model in (lm, copy.deepcopy(lm)):
        assert len(model.blocks) == 2 and {*model.blocks} <= {*model.modules()}
    assert isinstance(lm, LanguageModel) or all(name.startswith("model.") for name in lm.state_dict())


def test_nothing_that_is_to_go_is_asked_of_a_language_model(lm):
    """transformers names what it will remove in warnings that reach neither its callers' tests nor their readers."""
    embeddings = lm.embed(torch.tensor([lm.tokenizer.encode("a red picture")]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = lm(embeddings)[1]
        lm(embeddings[:, :1], cache), lm.attention(embeddings)


# What a captioner reads


@pytest.mark.parametrize(("method", "options"), EVERY, ids=str)
def test_counts_start_and_what_moves(method, options, vit):
    """At the start every method writes as the connector alone does; the frozen models stay bit for bit."""
    lm = tiny_lm()
    frozen = [*lm.state_dict().values(), *vit.state_dict().values()]
    before = [t.clone() for t in frozen]
    model, plain = (Captioner(vit, lm, m, grid=2, **o) for m, o in ((method, options), ("connector", {})))
    assert model.method_parameters == model.count()
    tokens, labels = model.encode(["a red picture", "is there"])
    torch.testing.assert_close(model(patches(2), tokens), plain(patches(2), tokens), rtol=0, atol=1e-6)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    at_start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(patches(2), tokens).flatten(0, 1), labels.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, at_start[name]) != p.requires_grad, name
    assert all(torch.equal(t, was) for t, was in zip(frozen, before, strict=True))


def test_all_weights_keep_what_is_tied(vit, hf_folder):
    """GPT-2's output table is its input table, also when all weights are trained."""
    lm = load_language_model(str(hf_folder(gpt2)))
    model = Captioner(vit, lm, "full", grid=2)
    assert model.method_parameters == model.count() == sum(p.numel() for p in lm.parameters())
    assert model.lm.model.lm_head.weight is model.lm.model.get_input_embeddings().weight


@pytest.mark.parametrize("contexts", ["one", "domain", "parity"])
def test_padding_never_changes_a_loss(contexts, vit, lm):
    model = captioner(vit, lm, contexts=contexts)
    texts = ["red", "what is there", "a picture of a red green blue picture"]
    together, labels = token_losses(model, patches(), texts)
    for i, text in enumerate(texts):
        alone, _ = token_losses(model, patches()[i : i + 1], [text])
        n = alone.shape[1]
        torch.testing.assert_close(together[i, :n], alone[0], rtol=1e-4, atol=1e-5)
        assert (together[i, n:] == 0).all() and (labels[i, n:] == IGNORED).all()


def test_losses_are_those_of_the_caption_and_its_end_alone(vit):
    """Against plain cross-entropy over the positions from the last image token on."""
    model = captioner(vit, tiny_lm())
    tokens, labels = model.encode(["a red picture"])
    assert tokens.tolist() == labels.tolist() == [[*model.lm.tokenizer.encode("a red picture"), 1]]
    model.give_contexts(0, 8)
    everything = torch.cat([model.prompt(patches(1)), model.lm.embed(tokens[:, :-1])], 1)
    logits = model.lm(everything)[0][0, 4:]  # begin and four image tokens: the last of them says the first word
    expected = -logits.log_softmax(-1)[range(4), tokens[0]]
    torch.testing.assert_close(token_losses(model, patches(1), ["a red picture"])[0][0], expected)


def test_contexts_by_position(vit):
    model = captioner(vit, tiny_lm())
    model.give_contexts(0, 8)
    assert model.contexts.numbers.tolist() == [1, 0, 0, 0, 0, 1, 1, 1]  # begin is text
    model.give_contexts(5, 6)
    assert model.contexts.numbers.tolist() == [1]


def test_captions_that_do_not_fit(vit):
    model = captioner(vit, tiny_lm(context_length=10))
    with pytest.raises(PeftlabError, match="has 6 tokens, but a context length of 10 leaves 5 behind 4 image tokens"):
        model.encode(["red", "a red a red a red"])
    assert model.encode(["a red a red a"])[0].shape == (1, 6)
    with pytest.raises(PeftlabError, match="'' is empty"):
        model.encode(["red", ""])
    with pytest.raises(PeftlabError, match="4 image tokens leave none for a caption in a context length of 5"):
        Captioner(vit, tiny_lm(context_length=5), grid=2)
    with pytest.raises(PeftlabError, match="no captions to encode"):
        model.encode([])


@pytest.mark.parametrize("grid", [-3, 0, 3])
def test_impossible_grids(grid, vit):
    with pytest.raises(PeftlabError, match=f"grid is {grid}, but must lie between 1 and 2, the ViT's patches a side"):
        Captioner(vit, tiny_lm(), grid=grid)


def test_a_vit_in_another_precision_is_refused(vit):
    with pytest.raises(PeftlabError, match="weights are torch.bfloat16"):
        Captioner(vit.bfloat16(), tiny_lm())


def test_what_is_given_is_frozen(vit, tiny_captions):
    """Also a ViT and a language model that were not."""
    lm = tiny_lm().requires_grad_(True)
    model = Captioner(vit.requires_grad_(True), lm, grid=2)
    before = [p.detach().clone() for p in (*vit.parameters(), *lm.parameters())]
    fit(model, tiny_captions, epochs=2, batch_size=4)
    assert model.method_parameters == model.count() == 0
    assert all(torch.equal(p, q) for p, q in zip((*vit.parameters(), *lm.parameters()), before, strict=True))


def test_constant_channels_and_a_single_image_token(vit, tiny_captions):
    x = patches()
    x[..., 5] = 0.3
    standardise = Standardise(64)
    standardise.estimate(x)
    assert standardise(x).isfinite().all() and standardise(x)[..., 5].abs().max() < 0.1
    torch.testing.assert_close(standardise.std[:5], x.std((0, 1))[:5], rtol=0, atol=0)
    model = Captioner(vit, tiny_lm(), grid=1, standardise=True)
    with pytest.raises(PeftlabError, match="a single image token has no standard deviation"):
        fit(model, tiny_captions, epochs=1, train_images=1)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("contextpeft", {}, "did you mean 'context_peft'"),
        ("connector", {"rank": 2}, "'connector' has no options, but got rank"),
        ("context_peft", {"contexts": "quadrant"}, "unknown contexts 'quadrant'"),
        ("context_peft", {"rank": 17}, "rank is 17, but must lie between 1 and the width, 16"),
        ("context_peft", {"last_blocks": 1}, "last_blocks is for ViTs"),
        ("context_peft", {"rnak": 2}, "no option 'rnak'; did you mean 'rank'"),
    ],
)
def test_impossible_methods(method, options, words, vit):
    with pytest.raises(PeftlabError, match=words):
        Captioner(vit, tiny_lm(), method, grid=2, **options)


def test_image_tokens_are_the_patches_behind_the_prefix(vit, tiny_captions):
    """And averages of them where the grid is coarser; against timm's own features."""
    from peftlab.backbones.preprocess import prepare_for

    x = prepare_for(vit, tiny_captions.pixels("val", (32, 32)))
    with torch.no_grad():
        expected = vit.forward_features(x)[:, 1:]
    side = vit.patch_embed.grid_size[0]
    models = (Captioner(vit, tiny_lm(), grid=g) for g in (None, 1))
    fine, coarse = (model.encode_images(tiny_captions, "val", precision="fp32") for model in models)
    assert fine.shape == (6, side**2, vit.embed_dim)
    torch.testing.assert_close(fine, expected)
    torch.testing.assert_close(coarse[:, 0], expected.mean(1))


def test_image_tokens_of_an_oblong_vit_are_square(tiny_captions):
    """As many a side as the shorter one has patches, none of them twice."""
    vit = load_backbone("test_vit", pretrained=False, img_size=(64, 32))
    fine, model = Captioner(vit, tiny_lm(), grid=1), Captioner(vit, tiny_lm())
    assert model.grid == 2 and model.image_tokens == 4
    found = model.encode_images(tiny_captions, "val", precision="fp32")
    assert found.shape == (6, 4, 64) and (found[:, ::2] - found[:, 1::2]).abs().max() > 1e-3
    mean = fine.encode_images(tiny_captions, "val", precision="fp32")
    torch.testing.assert_close(found.mean(1), mean[:, 0])


def test_images_are_encoded_a_batch_at_a_time(vit, tiny_captions, monkeypatch):
    """Only what the connector reads is kept of each, so that all fit into memory."""
    model = Captioner(vit, tiny_lm(), grid=1)
    whole, seen = model.encode_images(tiny_captions, "val", precision="fp32"), []
    monkeypatch.setattr("peftlab.training.evaluate.EVAL_BATCH", 4)
    vit.norm.register_forward_hook(lambda norm, args, out: seen.append(len(out)))
    torch.testing.assert_close(model.encode_images(tiny_captions, "val", precision="fp32"), whole)
    assert seen == [4, 2] and len(model.encode_images(tiny_captions, "val", 5, "fp32")) == 5


@torch.no_grad()
def test_image_tokens_of_a_swin_are_those_of_its_last_stage(tiny_captions):
    from peftlab.backbones.preprocess import prepare_for

    small = {"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    swin = random_timm("swin_tiny_patch4_window7_224", num_classes=0, **small)
    vit = as_vit(swin)
    expected = swin.forward_features(prepare_for(vit, tiny_captions.pixels("val", (32, 32))))
    model = Captioner(vit, tiny_lm())
    found = model.encode_images(tiny_captions, "val", precision="fp32")
    assert model.image_tokens == 16 and found.shape == (6, 16, 32)
    torch.testing.assert_close(found, expected.flatten(1, 2), atol=1e-5, rtol=1e-5)
    coarse = Captioner(vit, tiny_lm(), grid=1).encode_images(tiny_captions, "val", precision="fp32")
    torch.testing.assert_close(coarse[:, 0], expected.mean((1, 2)), atol=1e-5, rtol=1e-5)


def test_merge(vit):
    model, tokens = captioner(vit, tiny_lm(), contexts="one"), torch.tensor([[3, 4, 1]])
    expected, plain = model(patches(1), tokens), model.merge()
    assert not [m for m in plain.modules() if type(m).__module__.startswith("peftlab.methods")]
    model.lm, model.contexts = plain, None
    torch.testing.assert_close(model(patches(1), tokens), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NotMergeable, match="only contexts='one' is one matrix"):
        captioner(vit, tiny_lm()).merge()


# Writing


def without_cache(model, image, max_new_tokens):
    """Greedy, the whole sequence read again for every word."""
    tokens = torch.empty(len(image), 0, dtype=torch.long)
    for _ in range(max_new_tokens):
        end = torch.full((len(image), 1), model.lm.tokenizer.eos)
        logits = model(image, torch.cat([tokens, end], 1))  # the last token is not read, only predicted
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], 1)
    eos = model.lm.tokenizer.eos
    rows = [row[: row.index(eos)] if eos in row else row for row in tokens.tolist()]
    return [model.lm.tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize("contexts", ["domain", "parity"])
def test_cache_changes_nothing(contexts, vit, lm):
    """Context numbers survive caching: the same words as when everything is read again at each step."""
    model = captioner(vit, lm, contexts=contexts)
    for _ in range(3):
        image = torch.randn(4, 4, 64)
        assert generate(model, image, max_new_tokens=9) == without_cache(model, image, 9)


def test_logits_with_cache_equal_those_without(vit, lm):
    model, tokens = captioner(vit, lm), torch.tensor([[3, 5, 2, 4, 1]]).expand(2, 5)
    expected = model(patches(2), tokens)
    logits, cache = model.read(model.prompt(patches(2)), last=1)
    got = [logits]
    for t in range(4):
        logits, cache = model.read(model.lm.embed(tokens[:, t : t + 1]), 5 + t, cache, last=1)
        got.append(logits)
    torch.testing.assert_close(torch.cat(got, 1), expected, rtol=1e-4, atol=1e-4)


def test_beams_of_every_word_are_exhaustive_search(vit, lm):
    """With as many beams as words, two steps look at every pair; the best is found by scoring all of them."""
    model, V, eos = captioner(vit, lm), len(WORDS) + 2, 1
    image = patches(2)
    for i, found in enumerate(generate(model, image, beams=V, max_new_tokens=2)):
        pairs = torch.cartesian_prod(torch.arange(V), torch.arange(V))
        log_p = model(image[i : i + 1].expand(len(pairs), -1, -1), pairs).log_softmax(-1)
        each = log_p.gather(2, pairs[..., None])[..., 0]
        total = torch.where(pairs[:, 0] == eos, torch.where(pairs[:, 1] == eos, each[:, 0], -torch.inf), each.sum(1))
        best = pairs[total.argmax()].tolist()
        assert found == model.lm.tokenizer.decode(best[: best.index(eos)] if eos in best else best)


def beams_without_cache(model, image, beams, max_new_tokens):
    """Beam search over sequences of one image, each read anew."""
    eos, kept = model.lm.tokenizer.eos, [((), 0.0)]
    for _ in range(max_new_tokens):
        longer = [(row, score) for row, score in kept if eos in row]
        for row, score in kept:
            if eos not in row:
                log_p = model(image, torch.tensor([[*row, eos]]))[0, -1].log_softmax(-1).tolist()
                longer += [((*row, word), score + p) for word, p in enumerate(log_p)]
        kept = sorted(longer, key=lambda each: -each[1])[:beams]
    best = kept[0][0]
    return model.lm.tokenizer.decode(best[: best.index(eos)] if eos in best else best)


def test_beams_keep_their_own_caches(vit, lm):
    """Beams that change places take their cached keys along."""
    model, image = captioner(vit, lm), torch.randn(4, 4, 64)
    expected = [beams_without_cache(model, each[None], 3, 6) for each in image]
    assert generate(model, image, beams=3, max_new_tokens=6) == expected


def test_generation_stops_at_the_context_length(vit):
    model = captioner(vit, tiny_lm(context_length=8))
    assert max(len(text.split()) for text in generate(model, patches(8), max_new_tokens=50)) <= 3


def test_impossible_searches(vit):
    model = captioner(vit, tiny_lm())
    with pytest.raises(PeftlabError, match="beams is 0, but must be at least 1"):
        generate(model, patches(), beams=0)
    with pytest.raises(PeftlabError, match="beams is 100, but the language model knows 11 tokens"):
        generate(model, patches(), beams=100)
    with pytest.raises(PeftlabError, match="max_new_tokens is 0, but must be at least 1"):
        generate(model, patches(), max_new_tokens=0)


def test_attention_is_causal_and_sums_to_one(vit, lm):
    model = captioner(vit, lm)
    tokens, _ = model.encode(["a red picture", "is there"])
    maps = model.attention(patches(2), tokens)
    assert len(maps) == 2 and all(m.shape == (2, 2, 8, 8) for m in maps)
    for weights in maps:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 8))
        assert weights.triu(1).abs().max() == 0
    torch.testing.assert_close(model(patches(2), tokens), model.read(model.embed_all(patches(2), tokens), last=4)[0])


# Training


def test_learns_and_records(vit, tiny_captions):
    model = Captioner(vit, tiny_lm(), "full", grid=2)
    start = evaluate(model, tiny_captions, "test")
    assert start["captions"] == 12 and start["tokens"] == 6 * (1 + 1 + 3 + 1)
    run = fit(model, tiny_captions, epochs=12, batch_size=4, lr=1e-2)
    assert run.evaluate("test") == run.metrics["test_perplexity"] < start["perplexity"] / 2
    row = read_ledger().iloc[0]
    assert (row["method"], row["train_images"], row["language_model"]) == ("full", 12, "tiny")
    assert row["test_captions"] == 12 and row["test_opened"] and not (run.folder / "state.safetensors").exists()
    assert math.isclose(math.exp(row["test_loss"]), row["test_perplexity"])


def test_label_smoothing_is_of_the_loss_alone(vit, tiny_captions, tmp_path):
    plain, smooth = (
        fit(
            Captioner(vit, tiny_lm(), grid=2), tiny_captions, epochs=1, batch_size=12, runs=tmp_path, label_smoothing=s
        )
        for s in (0.0, 0.5)
    )
    assert plain.folder != smooth.folder and plain.curves["loss"][0] != smooth.curves["loss"][0]


@pytest.mark.parametrize("more", [{"augmentation": "crop"}, {"gradient_checkpointing": True}, {"drop_path": 0.1}])
def test_what_a_captioner_is_not_trained_with_is_refused(more, vit, tiny_captions):
    (name,) = more
    with pytest.raises(PeftlabError, match=f"{name} is .*, but images of captions are encoded once"):
        fit(Captioner(vit, tiny_lm(), grid=2), tiny_captions, epochs=1, **more)


def test_channels_are_standardised_by_all_training_images(vit, tiny_captions):
    model = Captioner(vit, tiny_lm(), grid=2, standardise=True)
    fit(model, tiny_captions, epochs=1, batch_size=12, lr=1e-4, precision="fp32")
    patches = model.encode_images(tiny_captions, "train", precision="fp32")
    assert len(patches) == 12
    torch.testing.assert_close(model.connector[0].mean, patches.mean((0, 1)))


def test_word_accuracy_counts_no_padding(vit, monkeypatch):
    model = Captioner(vit, tiny_lm(), grid=2)
    monkeypatch.setattr(model, "forward", lambda patches, tokens: F.one_hot(tokens).float())  # always right
    assert word_accuracy(model, patches(2), ["blue", "what is a red picture"]) == 1


def test_perplexity_weighs_every_token_alike(vit, tiny_captions):
    """Against one caption at a time."""
    model = captioner(vit, tiny_lm())
    image, total, n = model.encode_images(tiny_captions, "val", precision="fp32"), 0.0, 0
    for i, each in enumerate(tiny_captions.captions("val")):
        for caption in each:
            loss, _ = token_losses(model, image[i : i + 1], [caption])
            total, n = total + loss.sum().item(), n + loss.shape[1]
    whole = evaluate(model, tiny_captions, "val", batch=5, precision="fp32")
    assert math.isclose(whole["loss"], total / n, rel_tol=1e-5)
    given = [evaluate(model, tiny_captions, "val", precision="fp32", patches=x)["loss"] for x in (image, 0 * image)]
    assert math.isclose(given[0], whole["loss"], rel_tol=1e-5) and given[1] != given[0]


def test_interrupted_run_resumes_to_the_same_weights(vit, tiny_captions, monkeypatch, tmp_path):
    from peftlab.training import loop

    how = {"epochs": 3, "batch_size": 4}
    whole = fit(Captioner(vit, tiny_lm(), "context_peft", grid=2), tiny_captions, **how, runs=tmp_path / "whole").model
    model, real, epochs = Captioner(vit, tiny_lm(), "context_peft", grid=2), loop.save_state, []

    def interrupted(*args):
        real(*args)
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(model, tiny_captions, **how)
    monkeypatch.setattr(loop, "save_state", real)
    again = Captioner(vit, tiny_lm(), "context_peft", grid=2)
    run = fit(again, tiny_captions, **how)
    assert len(run.curves) == 3
    for (name, p), q in zip(again.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q), name
    fresh = Captioner(vit, tiny_lm(), "context_peft", grid=2)
    reused = fit(fresh, tiny_captions, **how)
    assert reused.folder == run.folder and reused.record == run.record
    assert all(torch.equal(p, q) for p, q in zip(fresh.parameters(), again.parameters(), strict=True))


def test_a_captioner_is_left_without_dropout(vit, tiny_captions, monkeypatch):
    """However fit ended: interrupted in a step, trained, or taken from the ledger."""
    from peftlab.training import loop

    how, model = {"epochs": 1, "batch_size": 4}, Captioner(vit, tiny_lm(), "context_peft", grid=2)
    tokens, _ = model.encode(["a red picture", "blue"])
    repeats = lambda: torch.equal(model(patches(2), tokens), model(patches(2), tokens))  # noqa: E731

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "require_finite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(model, tiny_captions, **how)
    assert repeats() and not any(m.training for m in model.modules())
    run = fit(model, tiny_captions, **how)
    assert repeats()
    model.train()
    assert not repeats() and fit(model, tiny_captions, **how).folder == run.folder and repeats()


def test_a_caption_run_is_what_its_spec_says(vit, tiny_captions, monkeypatch):
    """A failed fit leaves the captioner as it was; a second one trains nothing; a run evaluates its own adapter."""
    how, model = {"epochs": 1, "batch_size": 2, "seed": 3}, Captioner(vit, tiny_lm(), "context_peft", grid=2)
    start = own_digest(model)
    with monkeypatch.context() as patch:
        patch.setattr(captioning.training, "save", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(model, tiny_captions, **how)
    assert own_digest(model) == start
    run = fit(model, tiny_captions, **how)
    perplexity, trained = captioning.training.evaluate(model, tiny_captions, "val")["perplexity"], own_digest(model)
    with monkeypatch.context() as patch:
        patch.setattr(captioning.training, "train_captioner", lambda run: pytest.fail("trained again"))
        assert fit(model, tiny_captions, **how).folder == run.folder and own_digest(model) == trained
    with torch.no_grad():
        model.connector[2].weight.zero_()
    assert run.evaluate("val") == perplexity
    others = [
        fit(model, tiny_captions, **how),  # from where it is now
        fit(Captioner(vit, tiny_lm(), "context_peft", grid=2, seed=1), tiny_captions, **how),
        fit(Captioner(vit, tiny_lm(), "context_peft", grid=2, targets="ffn"), tiny_captions, **how),
    ]
    assert len({r.folder for r in [run, *others]}) == 4


def test_every_weight_of_the_language_model_is_part_of_a_runs_name(vit, tiny_captions, monkeypatch):
    """Also those that the probe of what it computes does not reach."""
    monkeypatch.setattr(captioning.training, "language_probe", lambda lm: "the same")
    folders = set()
    for shift in (0, 0.1):
        lm = tiny_lm()
        with torch.no_grad():
            next(lm.parameters())[-1] += shift
        folders.add(fit(Captioner(vit, lm, "connector", grid=2), tiny_captions, epochs=1, batch_size=2).folder)
    assert len(folders) == 2


def test_how_images_are_read_tells_runs_apart(vit, tiny_captions):
    """Neither the grid nor whether channels are standardised shows in a tensor before training."""
    ways = ({"grid": 2}, {"grid": 1}, {"grid": 2, "standardise": True})
    assert len({make_spec(Captioner(vit, tiny_lm(), **way), tiny_captions, epochs=1).name for way in ways}) == 3


def test_images_are_encoded_in_the_precision_of_the_run(vit, tiny_captions, monkeypatch):
    """Whatever the machine would take by itself."""
    asked, encode = [], Captioner.encode_images

    def encoded(self, task, split, limit=None, precision="auto"):
        asked.append((split, precision))
        return encode(self, task, split, limit, precision)

    monkeypatch.setattr(Captioner, "encode_images", encoded)
    fit(Captioner(vit, tiny_lm(), grid=2), tiny_captions, epochs=1, precision="fp32").evaluate("test")
    assert asked == [("train", "fp32"), ("test", "fp32")]


@pytest.mark.parametrize("kind", ["lora", "bitfit", "ia3"])
@pytest.mark.parametrize("targets", ["attention", "ffn", "both"])
def test_targets(kind, targets, vit):
    """Only the layers that are named carry adapters, and the closed form knows it."""
    model = Captioner(vit, tiny_lm(), "context_peft", grid=2, kind=kind, contexts="one", targets=targets)
    paths = {name for name, p in model.lm.named_parameters() if p.requires_grad}
    assert {".attn." in name for name in paths} == {"attention": {True}, "ffn": {False}, "both": {True, False}}[
        targets
    ]
    assert model.method_parameters == model.count() > 0


def test_another_captioners_weights_are_refused(vit, tiny_captions):
    run = fit(Captioner(vit, tiny_lm(), grid=2), tiny_captions, epochs=1)
    with pytest.raises(PeftlabError, match="captioner.safetensors: missing .*lm.*, unexpected"):
        load(Captioner(vit, tiny_lm(), "context_peft", grid=2), run.folder)


def test_writes_for_many_images(vit):
    model = captioner(vit, tiny_lm())
    written = write_captions(model, patches(5), batch=2, max_new_tokens=4)
    assert written == generate(model, patches(5), max_new_tokens=4)
