"""How far is a TFLite file from another: in its logits, layer by layer, and in time?"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from effnet_tf.export.tflite import flatbuffer, interpreter

SECONDS_OF_TIMING = 2.0
Network = tuple[Callable[[np.ndarray], object], tuple[int, ...]]


def sqnr(exact: np.ndarray, other: np.ndarray) -> float:
    """Returns the SQNR of (N, C) logits in dB; inf if they are equal, NaN if one is not finite."""
    exact, noise = (centred(np.asarray(values, "float64")) for values in (exact, other - exact))
    power = np.square(noise).sum()
    if power == 0:
        return np.inf
    return 10 * np.log10(np.square(exact).sum() / power)


def centred(logits: np.ndarray) -> np.ndarray:
    """Takes each image's mean off logits (N, C), which a softmax does not see."""
    if logits.shape[-1] == 1:
        return logits
    return logits - logits.mean(-1, keepdims=True)


def logits_of(data: bytes, images: np.ndarray) -> np.ndarray:
    """Returns the logits (N, C) that the bytes of a .tflite file give for images."""
    return interpreter.Classifier(data, [flatbuffer.logits(flatbuffer.read(data))])(images)[1]


def latencies(data: list[bytes], threads: int = 1, seconds: float | None = None) -> list[float]:
    """Times files in turns, which a machine that is busy with other things disturbs alike.

    Args:
        data: list of the bytes of .tflite files.
        threads: of each.
        seconds: for all rounds together, by default 2; there are at least 5.

    Returns:
        The median seconds per image of the first file, then for each other one the median
        ratio of its time to the first one's.
    """
    if seconds is None:
        seconds = SECONDS_OF_TIMING
    runs = [interpreter.Classifier(file, threads=threads) for file in data]
    return in_turns([(run, run.shape) for run in runs], seconds)


def in_turns(networks: Sequence[Network], seconds: float) -> list[float]:
    """As `latencies`, of any networks: functions of images (N, H, W, C) and these shapes."""
    runs = [run for run, _ in networks]
    pixels = [np.random.default_rng(0).integers(0, 256, shape) for _, shape in networks]
    rounds, end = [], None
    while end is None or len(rounds) < 5 or time.monotonic() < end:
        times = [_seconds_per_image(run, images) for run, images in zip(runs, pixels)]
        if end is None:  # the first round warms up
            end = time.monotonic() + seconds
        else:
            rounds.append(times)
    times = np.array(rounds)
    return [
        float(value)
        for value in (np.median(times[:, 0]), *np.median(times[:, 1:] / times[:, :1], axis=0))
    ]


def _seconds_per_image(run, images):
    start = time.perf_counter()
    run(images)
    return (time.perf_counter() - start) / len(images)


def layers(exact: bytes, other: bytes, images: np.ndarray) -> dict[str, float]:
    """Returns {operator: SQNR of its result in dB} of a file against the float32 one.

    Errors of earlier operators count. Operators go by the name of their result, which the
    quantizer keeps.
    """
    numbers = [_results(flatbuffer.read(data)) for data in (exact, other)]
    names = [name for name in numbers[0] if name in numbers[1]]
    runs = []
    for data, found in zip((exact, other), numbers):
        runs.append(interpreter.Classifier(data, [found[name] for name in names]))
    noise, signal = np.zeros(len(names)), np.zeros(len(names))
    for start in range(0, len(images), runs[0].batch):
        batch = images[start : start + runs[0].batch]
        exact_values, other_values = (run(batch)[1:] for run in runs)
        for number, (true, value) in enumerate(zip(exact_values, other_values)):
            noise[number] += np.square(value - true, dtype="float64").sum()
            signal[number] += np.square(true, dtype="float64").sum()
    found = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-15 * signal + 1e-30))
    return {short_name(name): round(float(value), 2) for name, value in zip(names, found)}


def _results(model):
    """Returns {name of an operator's result: number of its tensor}, without the probabilities."""
    graph = model.subgraphs[0]
    skipped = {int(number) for number in graph.outputs} | {int(graph.inputs[0])}
    return {
        flatbuffer.name(graph.tensors[operator.outputs[0]].name): int(operator.outputs[0])
        for operator in graph.operators
        if int(operator.outputs[0]) not in skipped
    }


def short_name(name: str) -> str:
    """Returns "block2a_dwconv_activation/Sigmoid" for the converter's name of a tensor."""
    parts = name.split(";")[0].split("/")
    return "/".join(part.removesuffix("_1") for part in (parts[1:] or parts))
