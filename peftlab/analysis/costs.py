"""What a method costs on a backbone: parameters, arithmetic, memory, time, bytes on disk.

One table, the cost card: a row a method, units in the column names. Everything is measured on the tuned model itself.
"""

import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..backbones.preprocess import input_size
from ..backbones.types import Merged, ViT
from ..common.errors import NotMergeable, PeftlabError
from ..common.progress import progress
from ..methods import FAMILIES, METHODS, Method, PeftModel, attach, create_method
from ..methods.core.model import fits
from ..training.checkpointing import checkpointing
from ..training.loop import parameter_groups
from ..training.precision import computing, explicit_attention, pick_device, pick_precision

MIB = 2**20
LARGEST_BATCH = 100_000  # images
Inputs: TypeAlias = Shaped[Tensor, "batch ..."]  # images, or whatever the model reads


def objective(model: nn.Module, x: Inputs, y: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The scalar that training minimises: the method's own loss, or cross-entropy for a model that is not ours."""
    logits = model(x)
    return model.loss(logits, y)["loss"] if isinstance(model, PeftModel) else F.cross_entropy(logits.float(), y)


def flops(model: nn.Module, x: Inputs) -> tuple[int, int]:
    """(forward, forward and backward) floating point operations for some images.

    Matrix products and convolutions, a multiplication and an addition each counted as one; element-wise work, which
    takes time but next to no arithmetic, is left out, as is usual.

    >>> flops(nn.Linear(12, 2), torch.zeros(1, 12))  # 12 x 2 products and sums, as many for the gradient of the weight
    (48, 96)
    """
    # Explicit, for older FlopCounterModes count the fused CPU kernel as 0.
    with explicit_attention(model), FlopCounterMode(display=False) as forward, torch.no_grad():
        model(x)
    with explicit_attention(model), FlopCounterMode(display=False) as both:
        objective(model, x, torch.zeros(len(x), dtype=torch.long, device=x.device)).backward()
    model.zero_grad(set_to_none=True)
    return forward.get_total_flops(), both.get_total_flops()


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """{address: bytes} of the memory behind some tensors; views share theirs."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def activation_bytes(model: nn.Module, x: Inputs, y: Int64[Tensor, " batch"], precision: str = "fp32") -> int:
    """Activation memory: what autograd keeps from the forward to the backward pass, weights and images left out.

    In bf16 the converted weights count: they are kept for the backward pass, too.

    >>> layer = nn.Linear(4, 2)
    >>> activation_bytes(nn.Sequential(nn.ReLU(), layer), torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    196
    """
    known: dict[int, int] = _storages([*model.parameters(), *model.buffers(), x, y])
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept.update(_storages([tensor]))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with computing(model, x.device, precision):
            loss = objective(model, x, y)  # alive until here, so that no address is used twice
    del loss
    return sum(size for address, size in kept.items() if address not in known)


class PeakBytes(TorchDispatchMode):
    """Follows the memory of every tensor that is made while it is active; `highest` is the peak in bytes.

    The CPU has no torch.cuda.max_memory_allocated. Work space inside of a kernel is not seen.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live, self.now, self.highest = dict(_storages(known)), 0, 0

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.live or size == 0:
            return
        self.live[address] = size
        self.now += size
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self._gone, address)

    def _gone(self, address: int) -> None:
        self.now -= self.live.pop(address)


def training_step(
    model: nn.Module,
    x: Inputs,
    y: Int64[Tensor, " batch"],
    objective: Callable[[nn.Module, Tensor, Tensor], Tensor] = objective,
    precision: str = "fp32",
) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """(a function that makes one step of AdamW on one batch, its optimizer)."""
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=1e-4), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing(model, x.device, precision):
            loss = objective(model, x, y)
        loss.backward()
        optimizer.step()

    return step, optimizer


def peak_bytes(model: nn.Module, x: Inputs, y: Int64[Tensor, " batch"], precision: str = "fp32") -> int:
    """The highest memory of a training step: weights, optimizer state, activations, gradients."""
    step, optimizer = training_step(model, x, y, precision=precision)
    step()  # makes the optimizer's state
    state = [t for values in optimizer.state.values() for t in values.values() if isinstance(t, torch.Tensor)]
    optimizer.zero_grad(set_to_none=True)
    known = [*model.parameters(), *model.buffers(), *state, x, y]
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)  # also for what else is there, such as another stage
        step()
        made = torch.cuda.max_memory_allocated(x.device) - before
    else:
        with PeakBytes(known) as memory:
            step()
        made = memory.highest
    return made + sum(_storages(known).values())


def seconds(work: Callable[[], Any], device: torch.device, at_least: float = 0.1) -> float:
    """Median time of a call, over as many as fit into `at_least` seconds but three or more, after one to warm up."""
    work()
    wait = torch.cuda.synchronize if device.type == "cuda" else torch.mps.synchronize if device.type == "mps" else None
    times: list[float] = []
    while sum(times) < at_least or len(times) < 3:
        began = time.perf_counter()
        work()
        if wait:
            wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def disk_bytes(model: PeftModel) -> int:
    """Size of the saved adapter with its head."""
    with TemporaryDirectory() as folder:
        return sum(file.stat().st_size for file in model.save(folder).iterdir())


def trained_stages(model: PeftModel, x: Inputs, y: Int64[Tensor, " batch"]) -> list[PeftModel]:
    """The models that training a method passes through, as they are trained: two where the method has two stages.

    The model itself is the last, and begun in place on what an untrained first stage is, so that all that stays frozen
    in the second is frozen.
    """
    first = model.method.first()
    earlier = [] if first is None else [attach(model.backbone, first, model.num_classes)]
    before = earlier[0].vit if earlier else model.backbone
    model.method, still_frozen = model.method.begin(model.vit, before, [(x, y)])
    for p in still_frozen:
        p.requires_grad_(False)
    return [*earlier, model]


def plainest(model: PeftModel) -> Merged:
    """The merged model; the tuned one where its method, or its backbone without some biases, makes that impossible."""
    try:
        return model.merge()
    except NotMergeable:
        return model.vit


def costs(
    backbone: ViT,
    method: Method,
    num_classes: int = 10,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    precision: str = "auto",
    gradient_checkpointing: bool = False,
) -> dict[str, Any]:
    """One row of the cost card as a dict; see `cost_card`. Raises PeftlabError for sizes that mean nothing."""
    where = pick_device(device)
    precision = pick_precision(precision, where)
    if not 1 <= batch_size <= LARGEST_BATCH:
        raise PeftlabError(f"batch_size is {batch_size}, but must lie between 1 and {LARGEST_BATCH}")
    model = attach(backbone.to(where), method, num_classes)
    x = torch.randn(batch_size, 3, *input_size(model.vit), generator=torch.Generator().manual_seed(0)).to(where)
    y = torch.arange(batch_size, device=where) % num_classes
    parameters, head_parameters = model.method_parameters, model.head_parameters
    trained = trained_stages(model, x, y)
    inference = inference_costs(model, x[:1], precision)
    with ExitStack() as checkpointed:
        for each in trained:
            checkpointed.enter_context(checkpointing(each.vit, gradient_checkpointing))
        training = training_costs(trained, x, y, precision)
    return {
        "family": method.family,
        "parameters": parameters,
        "head_parameters": head_parameters,
        "disk_kib": disk_bytes(model) / 1024,
        **training,
        **inference,
        "precision": precision,
        **({"gradient_checkpointing": True} if gradient_checkpointing else {}),
    }


def inference_costs(model: PeftModel, x: Inputs, precision: str) -> dict[str, Any]:
    """What a forward pass takes; see `cost_card`. A merged model is gone afterwards: training holds none in memory."""
    final = plainest(model)
    with torch.inference_mode(), computing(final, x.device, precision):
        latency = seconds(lambda: final(x), x.device)
    return {"latency_ms": 1000 * latency, "merged": final is not model.vit}


def training_costs(
    trained: list[PeftModel], x: Inputs, y: Int64[Tensor, " batch"], precision: str
) -> dict[str, float]:
    """What a step of training costs, over the models that training passes through; see `cost_card`."""
    arithmetic = [flops(each, x[:1]) for each in trained]
    steps = [training_step(each, x, y, precision=precision)[0] for each in trained]
    return {
        "gflops_forward": arithmetic[-1][0] / 1e9,
        "gflops_training": statistics.mean(both for _, both in arithmetic) / 1e9,
        "activation_mib": max(activation_bytes(each, x, y, precision) for each in trained) / MIB,
        "peak_mib": max(peak_bytes(each, x, y, precision) for each in trained) / MIB,
        "step_ms": 1000 * statistics.mean(seconds(step, x.device) for step in steps),
    }


def cost_card(
    backbone: ViT,
    methods: Iterable[str] | Mapping[str, Method] | None = None,
    num_classes: int = 10,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    precision: str = "auto",
    gradient_checkpointing: bool = False,
) -> pd.DataFrame:
    """What each method costs on a backbone; a row a method, ordered by family.

    methods: names, or {label: Method} for options other than the defaults; None: all that go on the backbone.
    precision: of times and memory, "auto", "fp32" or "bf16", and gradient_checkpointing: of the training step; see
    `Recipe`. GFLOPs are for one image, steps and memory for a batch, nothing cached.
    Where a method has two stages, parameters count the tensors of both, memory is that of the larger one, and
    gflops_training and step_ms are the mean over both, as if they were equally long. latency_ms: one image through the
    merged model, or through the tuned one where merging is impossible. Times are medians taken one method after
    another; for ratios take steps in turns, as benchmarks/ do.
    """
    if not isinstance(methods, Mapping):
        made = {name: create_method(name) for name in methods or METHODS}
        methods = {name: each for name, each in made.items() if methods or fits(backbone, each)}
    ordered = sorted(methods.items(), key=lambda item: FAMILIES.index(item[1].family))
    with progress(ordered, desc="costs", unit="method") as bar:  # which goes before an error is printed
        how = (num_classes, batch_size, device, precision, gradient_checkpointing)
        rows = [{"method": label} | costs(backbone, m, *how) for label, m in bar]
    return pd.DataFrame(rows).set_index("method")
