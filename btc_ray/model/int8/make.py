"""The int8 form of a bundle, made and compared with fp32 at the end of a training, where this machine can compute with it."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor

from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.engine import Choice
from btc_ray.model.engines.folding import fold
from btc_ray.model.int8.form import LEAST_IMAGES, Int8Network, agreement, agreement_in_words
from btc_ray.model.int8.quantise import quantise
from btc_ray.progress import say

CROPS = 64  # to find steps and weights by; 192 took three times as long and did no better
BATCH = 8


def int8_form(
    bundle: Bundle,
    state: Mapping[str, Tensor],
    pixels: np.ndarray,
    learned: np.ndarray,
    held_out: np.ndarray,
    exact: np.ndarray,
    *,
    seed: int,
) -> tuple[Int8Network, dict[str, Any]] | None:
    """The network in 8 bits and the record of its agreement; None, said aloud, where OpenVINO or VNNI is missing, or
    images to try it on.

    Args:
        bundle: classes, temperature and flips of the one to come.
        state: of the trained network.
        pixels: uint8 (N, H, W), all crops.
        learned: int64, which of them it learned from, one of each group of copies.
        held_out: int64 (M,), which are for validation, and `exact` (M, classes), their probabilities in fp32.
    """
    if len(held_out) < LEAST_IMAGES:
        say(
            f"No int8 form: it would have to be tried on {LEAST_IMAGES} validation images at least, and there are {len(held_out)}."
        )
        return None
    if find_spec("openvino") is None:
        say("No int8 form: OpenVINO is not installed here (pip install 'btc-ray[cpu]').")
        return None
    from btc_ray.model.engines.openvino_engine import OpenVINOEngine, has_int8

    if not has_int8():
        say("No int8 form: this machine's CPU has no VNNI instructions to try it with.")
        return None
    say("Making the int8 form …")
    arrays = {name: tensor.detach().float().cpu().numpy() for name, tensor in state.items()}
    chosen = np.random.default_rng(seed).permutation(len(learned))[:CROPS]
    network = quantise(fold(arrays, mean=bundle.mean, std=bundle.std), pixels[np.sort(learned[chosen])])
    engine = OpenVINOEngine(bundle, arrays, Choice(engine="openvino", device="cpu", precision="int8"), int8=network)
    found = [engine.probabilities(pixels[held_out[start : start + BATCH]]) for start in range(0, len(held_out), BATCH)]
    record = agreement(exact, np.concatenate(found))
    say(f"int8: {agreement_in_words(record)}")
    return network, record
