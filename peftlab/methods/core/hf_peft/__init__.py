"""Methods to and from HF peft's adapter format. Needs the extra: pip install 'peftlab[hf]'.

HF peft sees timm's fused qkv as one layer, so what we keep apart for q, k and v is written as one; each file says how.
The function is the same in both directions, the number of stored parameters may grow.
"""

from .transfer import export_hf, import_hf

__all__ = ["export_hf", "import_hf"]
