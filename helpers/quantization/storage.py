"""Stores quantized weights in one safetensors file: packed codes, and the scales and settings to restore them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.quantization.packing import level_pairs, look_up_pairs, pack, pack_pairs, unpack
from helpers.quantization.pruning import magnitude_mask
from helpers.quantization.quantizers import (
    affine,
    blocks,
    check_weights,
    double_dequantize,
    double_quantize,
    e2m1_code,
    fp4_code,
    k_means,
    nf4_code,
    symmetric,
    to_code_book,
)
from helpers.runtime import UserError, choose

ENTRY = "quantized"  # the metadata entry with each matrix's method, shape and settings
HEADS = ("head.", "lm_head.", "classifier.")

CODES = {"nf4": nf4_code, "fp4": fp4_code, "e2m1": e2m1_code}


@dataclass(frozen=True)
class Stored:
    """One quantized tensor, with everything that a file needs to restore it.

    settings: may hold "padding", the number of zeros after the last weight that fill its block.
    """

    method: str
    shape: tuple[int, ...]
    settings: dict[str, int]
    tensors: dict[str, Tensor]

    def restore(self) -> Tensor:
        """Return the dequantized weights: float32, in the original shape."""
        choose("method", self.method, RESTORE)
        return RESTORE[self.method](self).flatten()[: math.prod(self.shape)].reshape(self.shape)

    @property
    def numbers(self) -> int:
        """The number of codes: one per weight, and those of the padding."""
        return math.prod(self.shape) + self.settings.get("padding", 0)

    def codes(self, bits: int) -> Tensor:
        """Return the unpacked codes: (numbers,)."""
        return unpack(self.tensors["codes"], bits, self.numbers)


@dataclass(frozen=True)
class Technique:
    """A way to store weights in fewer bits: `technique(weights)` returns a `Stored`."""

    name: str
    bits: float
    store: Callable[[Tensor], Stored] = field(repr=False)

    def __call__(self, weights: Tensor) -> Stored:
        return self.store(weights)


def uniform(
    bits: int,
    block_size: int | str | None = None,
    zero_point: bool = False,
    quantizer: Callable[..., tuple[Tensor, Tensor, Tensor]] = affine,
) -> Technique:
    """Return a technique with equally spaced levels: symmetric, or affine with a zero point.

    quantizer: quantizer(weights, bits, block_size), a function like `affine` that is used with a zero point.
    """
    top = 2 ** (bits - 1) - 1

    def store(weights: Tensor) -> Stored:
        filled, settings = _filled(weights, block_size)
        if zero_point:
            codes, scale, zero = quantizer(filled, bits, block_size)
            tensors = {"codes": pack(codes, bits), "scale": scale, "zero": zero.to(torch.uint8)}
        else:
            codes, scale = symmetric(filled, bits, block_size)
            tensors = {"codes": pack(codes + top, bits), "scale": scale}
        settings |= {"bits": bits}
        return Stored("affine" if zero_point else "symmetric", tuple(weights.shape), settings, tensors)

    named: dict[object, str] = {None: "one scale", "channel": "a scale per channel"}
    where = named.get(block_size, f"blocks of {block_size}")
    return Technique(f"{'affine' if zero_point else 'symmetric'}, {where}", bits, store)


def code_book(kind: str = "nf4", block_size: int = 64, double: bool = False) -> Technique:
    """Return a technique with the levels of NF4, FP4 or E2M1; with `double`, it quantizes the scales to 8 bits."""
    choose("kind", kind, CODES)

    def store(weights: Tensor) -> Stored:
        filled, settings = _filled(weights, block_size)
        codes, scale = to_code_book(filled, CODES[kind](), block_size)
        tensors = {"codes": pack_pairs(codes), "scale": scale}
        if double:
            small, outer, mean = double_quantize(scale)
            tensors |= {"scale": small.to(torch.uint8), "outer": outer, "mean": mean}
        settings |= {"block_size": block_size}
        return Stored(f"{kind}_double" if double else kind, tuple(weights.shape), settings, tensors)

    return Technique(kind.upper() + (" + double quantization" if double else ""), 4, store)


def clustered(bits: int, steps: int = 10) -> Technique:
    """Return a k-means technique, which stores an index per weight and one code book per tensor."""

    def store(weights: Tensor) -> Stored:
        codes, centres = k_means(weights, bits, steps)
        tensors = {"codes": pack(codes, bits), "centres": centres}
        return Stored("clusters", tuple(weights.shape), {"bits": bits}, tensors)

    return Technique("k-means", bits, store)


def pruned(sparsity: float) -> Technique:
    """Return a technique that sets the smallest weights to zero; it stores a bit mask and the rest in float32."""

    def store(weights: Tensor) -> Stored:
        mask = magnitude_mask(weights, sparsity)
        kept = blocks(weights).flatten()[mask.flatten()]
        return Stored("pruned", tuple(weights.shape), {}, {"codes": pack(mask, 1), "kept": kept})

    return Technique(f"pruned to {sparsity:.0%} zeros", 1 + 32 * (1 - sparsity), store)


def _filled(weights: Tensor, block_size: int | str | None) -> tuple[Tensor, dict[str, int]]:
    """Pad the weights with zeros to whole blocks, as bitsandbytes does; return them and the setting "padding"."""
    count = check_weights(weights).numel()
    if not isinstance(block_size, int) or block_size < 1 or not count % block_size:
        return weights, {}
    padding = -count % block_size
    return torch.nn.functional.pad(weights.flatten(), (0, padding)), {"padding": padding}


def _uniform(stored: Stored) -> Tensor:
    bits, scale = stored.settings["bits"], stored.tensors["scale"]
    zero = stored.tensors.get("zero", torch.tensor(2 ** (bits - 1) - 1))
    return (stored.codes(bits).reshape(len(scale), -1) - zero.float()) * scale


def _code_book(stored: Stored) -> Tensor:
    scale = stored.tensors["scale"]
    if "outer" in stored.tensors:
        scale = double_dequantize(scale.long(), stored.tensors["outer"], stored.tensors["mean"])
    levels = look_up_pairs(stored.tensors["codes"], _pairs(stored.method.removesuffix("_double")), stored.numbers)
    return levels.reshape(len(scale), -1).mul_(scale)  # in place, because new memory costs more time than the product


@cache
def _pairs(kind: str) -> Tensor:
    return level_pairs(CODES[kind]())  # cached, because it takes half of the time for a small matrix


def _clusters(stored: Stored) -> Tensor:
    return stored.tensors["centres"][stored.codes(stored.settings["bits"])]


def _pruned(stored: Stored) -> Tensor:
    mask, kept = stored.codes(1).bool(), stored.tensors["kept"]
    if int(mask.sum()) != len(kept):
        raise UserError(f"{int(mask.sum())} weights are marked as kept, but the file has {len(kept)}.")
    weights = torch.zeros(len(mask))
    weights[mask] = kept
    return weights


RESTORE: dict[str, Callable[[Stored], Tensor]] = {
    "symmetric": _uniform,
    "affine": _uniform,
    "nf4": _code_book,
    "fp4": _code_book,
    "e2m1": _code_book,
    "nf4_double": _code_book,
    "fp4_double": _code_book,
    "e2m1_double": _code_book,
    "clusters": _clusters,
    "pruned": _pruned,
}


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights to quantize, name -> matrix: all except vectors (biases, norms) and the head."""
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.dim() >= 2 and not name.startswith(HEADS)
    }


def example_matrix(model: nn.Module, block_size: int = 64) -> tuple[str, Tensor]:
    """Return the name and the first rows, on the CPU, of the first matrix outside the embeddings.

    The number of rows is the largest whose weights fill whole blocks of both 64 and `block_size`, so that lessons can
    compare the blocks with bitsandbytes'.

    Raises:
        UserError: when the matrix has too few rows to fill whole blocks.
    """
    name, weights = next((name, matrix.cpu()) for name, matrix in matrices(model).items() if "embed" not in name)
    step = math.lcm(64, block_size) // math.gcd(math.lcm(64, block_size), weights[0].numel())
    rows = len(weights) // step * step
    if not rows:
        raise UserError(
            f"block_size is {block_size}, but {name} of shape {tuple(weights.shape)} has fewer weights; use 64."
        )
    return name, weights[:rows]


def compress(model: nn.Module, technique: Technique) -> dict[str, Stored]:
    """Apply a technique to every matrix of a model: returns name -> `Stored`."""
    return {name: technique(weights) for name, weights in matrices(model).items()}


def write(path: Path, model: nn.Module, stored: Mapping[str, Stored]) -> int:
    """Write a model to a file, with the weights in `stored` quantized; return the file's size in bytes.

    All other parameters are written unchanged.
    """
    unknown = sorted(set(stored) - set(dict(model.named_parameters())))
    if unknown:
        raise UserError(f'The model has no weight "{unknown[0]}".')
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parts = stored[name].tensors if name in stored else {"": parameter.detach()}
        for part, value in parts.items():
            tensors[f"{name}:{part}" if part else name] = value.cpu().contiguous()
    header = {name: [one.method, list(one.shape), one.settings] for name, one in stored.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={ENTRY: json.dumps(header)})
    return path.stat().st_size


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of `write` and dequantize its weights: returns name -> tensor.

    Raises:
        UserError: when the file is missing, is not safetensors (such as a pickle), or was not written by `write`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(ENTRY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is not a dictionary
    except FileNotFoundError:
        raise UserError(f"{Path(path).name} is missing.") from None
    except SafetensorError as error:
        raise UserError(f"{Path(path).name} is not a safetensors file ({error}); pickles are not read.") from None
    if header is None:
        raise UserError(f"{Path(path).name} does not say how its weights were quantized.")
    found = {name: value for name, value in tensors.items() if ":" not in name}
    for name, (method, shape, settings) in header.items():
        parts = {key.split(":", 1)[1]: value for key, value in tensors.items() if key.split(":", 1)[0] == name}
        found[name] = Stored(method, tuple(shape), settings, parts).restore()
    return found


@torch.no_grad()
def load(path: Path, model: nn.Module) -> nn.Module:
    """Copy the weights of a file into `model`, in place.

    Raises:
        UserError: when the file belongs to another architecture.
    """
    weights, parameters = read(path), dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name not in weights:
            raise UserError(f'{Path(path).name} holds no "{name}": it belongs to another model.')
        if weights[name].shape != parameter.shape:
            shapes = f"{tuple(weights[name].shape)} there, {tuple(parameter.shape)} here"
            raise UserError(f'"{name}" has another shape in {Path(path).name} ({shapes}): it belongs to another model.')
        parameter.copy_(weights[name])
    return model
