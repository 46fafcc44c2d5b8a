"""What a method is, in words: its options with their texts, and its equation beside the code that computes it."""


def source(name): ...
