"""What is left out of outputs."""

import pytest

from peftlab.workbook.page.clean import strip_progress


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("\r  0%|          | 0/5 [00:00<?, ?it/s]\r100%|####| 5/5 [00:01<00:00, 3.1it/s, loss=0.3]\r      \r", ""),
        (" 50%|#####     | 5/10 [00:00<00:00]/x.py:3: UserWarning: foo\nnext\n", "/x.py:3: UserWarning: foo\nnext\n"),
        ("\r  0%|          | 0/2 [00:00<?, ?run/s]\n\x1b[A\r   \r", ""),
        ("steps: 12it [00:01, 9.8it/s]\nhello\n", "hello\n"),
        ("accuracy 50% | table | 3\n\n[12:30] fine\n", "accuracy 50% | table | 3\n\n[12:30] fine\n"),
    ],
)
def test_strip_progress(raw, clean):
    assert strip_progress(raw) == clean
