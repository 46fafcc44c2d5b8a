"""What counts as a word for BLEU and CIDEr. Perfect and wrong captions: tests/tasks/test_captions.py."""

import unicodedata

import pytest

from peftlab.captioning import caption_scores
from peftlab.captioning.metrics import _plain
from peftlab.common.errors import PeftlabError


def test_words_are_letters_of_any_script():
    pytest.importorskip("pycocoevalcap")
    assert _plain("Zwei Hüte, 2 Straßen!") == "zwei hüte 2 straßen"
    assert _plain("Маленький мальчик") == "маленький мальчик" and _plain("हिन्दी में।") == "हिन्दी में"
    assert _plain("It's snake_case: 3.5") == "it's snake case 3 5"
    said = "die mädchen mögen schöne bücher"
    assert caption_scores([unicodedata.normalize("NFD", said)], [[said]])["BLEU-4"] == pytest.approx(1)
    assert caption_scores(["die mutchen magen schane becher"], [[said]])["BLEU-4"] < 1e-3


def test_references_without_a_word_are_refused():
    pytest.importorskip("pycocoevalcap")
    for nothing in ([], ["...", ""]):
        with pytest.raises(PeftlabError, match="no reference of image 1 has a word in it"):
            caption_scores(["a dog", "a cat"], [["a dog"], nothing])
