"""The tokenizer of the embedded language model: one token a word or punctuation mark."""

import re
from collections.abc import Iterable, Sequence

from ..common.errors import PeftlabError

BOS, EOS = "<bos>", "<eos>"


class WordTokenizer:
    """words: all that the model knows, in the order of their numbers; number 0 begins a text, 1 ends it.

    >>> tokenizer = WordTokenizer(["a", "red", "cube"])
    >>> tokenizer.encode("A red cube")
    [2, 3, 4]
    >>> tokenizer.decode([0, 2, 4, 1])
    'a cube'
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = (BOS, EOS, *words)
        self.number = {word: i for i, word in enumerate(self.words)}
        self.bos, self.eos = 0, 1

    def encode(self, text: str) -> list[int]:
        """Text -> list of token numbers, without begin and end. Raises PeftlabError for a word it does not know."""
        words = split_words(text)
        unknown = sorted({word for word in words if word not in self.number})
        if unknown:
            raise PeftlabError(
                f"the embedded language model knows {len(self.words) - 2} words, and not {', '.join(unknown[:5])} of "
                f"{text!r}. It is made for synthetic scenes; load a Hugging Face model for other captions"
            )
        return [self.number[word] for word in words]

    def decode(self, tokens: Sequence[int]) -> str:
        """Token numbers -> text; begin and end are left out."""
        return " ".join(self.words[t] for t in tokens if t > 1)


def split_words(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text, in order.

    >>> split_words("A red cube, a Sphere.")
    ['a', 'red', 'cube', ',', 'a', 'sphere', '.']
    """
    return re.findall(r"[a-z]+|[^\sa-z]", text.lower())
