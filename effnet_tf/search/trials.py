"""What is one trial of an architecture: a network in, its accuracies out, and never twice?

A job says all that the result depends on: the network, the digest of the images, how it is
trained, with which seeds. Its hash is the name of the file that keeps the result, so that whoever
comes to the same network again, in this search or in another one of the same folder, reads it.
"""

import dataclasses
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line
from effnet_tf.search.one_thread import use_one_thread
from effnet_tf.search.processes import ForkServer, Running
from effnet_tf.search.settings import Settings
from effnet_tf.variants import Variant, find_variant

MOST_BYTES = 1 << 20  # of a result
VALIDATION, TEST = "validation", "test"
PARTS = 5  # one of so many parts of the training images is what trials are judged by
_SLOW = ("effnet_tf.search.proxy", "effnet_tf.search.images")  # to import

Job = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """Images that a process of its own has read, and left in a file for the others.

    Attributes:
        path: of the file, a .npz.
        about: what `read_images` returned.
    """

    path: str
    about: Mapping[str, Any]


class Trials:
    """Evaluates networks, each in a process of its own.

    Args:
        folder: where results are kept; other workers may use it, too.
        data: the images.
        training: values of `Settings`; those left out have their defaults.
        seeds: trainings of each network.
        latency: whether a TFLite file of the network's operators is timed as well.
        server: which starts the processes.
    """

    def __init__(
        self,
        folder: str,
        data: Data,
        training: Mapping[str, Any],
        seeds: int = 1,
        latency: bool = False,
        server: ForkServer | None = None,
    ):
        self._folder, self._data = folder, data
        self._server = server or fork_server()
        self._fixed = {"training": dataclasses.asdict(Settings(**training)), "latency": latency}
        self._seeds = seeds
        os.makedirs(folder, exist_ok=True)

    def job(self, variant: Variant, part: str = VALIDATION, first_seed: int = 0) -> Job:
        """Returns all that the result of a network depends on.

        Args:
            variant: the network, whose name makes no difference.
            part: "validation": trained on four fifths of the training images, judged by the rest;
                "test": trained on all of them, judged by the images that the data set holds out.
            first_seed: of the trainings.
        """
        seeds = list(range(first_seed, first_seed + self._seeds))
        row = dataclasses.asdict(dataclasses.replace(variant, name="searched"))
        return {
            "variant": row,
            "images": self._data.about["digest"],
            "part": part,
            "seeds": seeds,
            **self._fixed,
        }

    def kept(self, job: Job) -> dict[str, Any] | None:
        """Returns the result of a job that was done before, None if it was not."""
        path = self._path(job)
        try:
            return json.loads(local_files.read(path, MOST_BYTES))["result"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The result '{path}' cannot be read ({first_line(error)}): delete it, and it is "
                "computed again."
            ) from error

    def start(self, job: Job) -> Running:
        """Starts a job; its result is that of `evaluate`."""
        return self._server.start(evaluate, job, self._data.path)

    def keep(self, job: Job, result: Mapping[str, Any]) -> None:
        """Keeps the result of a job, with the job; errors as of `local_files.write`."""
        text = json.dumps({"job": job, "result": result}, indent=1) + "\n"
        # Two workers may have done the same job, and must not write to one file.
        mine = os.path.join(self._folder, f".{uuid.uuid4().hex}")
        local_files.write(mine, text.encode("utf-8"))
        os.replace(mine, self._path(job))

    def _path(self, job):
        return os.path.join(self._folder, f"{key_of(job)}.json")


def key_of(job: Job) -> str:
    """Returns the hash of a job, 16 hexadecimal digits."""
    text = json.dumps(job, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def fork_server() -> ForkServer:
    """Returns a server of processes that have TensorFlow and the proxy imported."""
    return ForkServer(_SLOW)


# --- in processes of their own ----------------------------------------------------------------


def prepare(server: ForkServer, path: str, dataset: str, side: int, **place: Any) -> Data:
    """Reads a data set into a file, in a process of its own: the worker needs no TensorFlow.

    Args:
        server: of `fork_server`.
        path: of the file, a .npz.
        dataset: and the other arguments are those of `images.load`.
        side: of the images, in pixels.
        **place: `data_dir`, `holdout`, `train_split` and `eval_split`.

    Raises:
        InputError: the data set cannot be used.
    """
    return Data(path, server.start(read_images, path, dataset, side, place).result())


def read_images(path: str, dataset: str, side: int, place: Mapping[str, Any]) -> dict[str, Any]:
    """Writes images to a file; returns what is known of them: see `prepare`."""
    from effnet_tf.search import images

    found = images.load(dataset, side, **place)
    write_images(found, path)
    test = int(found.held_out.sum())
    return {
        "name": found.name,
        "classes": len(found.class_names),
        "train": len(found.labels) - test,
        "test": test,
        "digest": found.digest(),
    }


def write_images(images: Any, path: str) -> None:
    """Writes `Images` to a .npz file."""
    np.savez(path, **{each.name: getattr(images, each.name) for each in dataclasses.fields(images)})


def evaluate(job: Job, path: str) -> dict[str, Any]:
    """Trains the network of a job.

    Args:
        job: of `Trials.job`.
        path: of the images.

    Returns:
        {"accuracies": in [0, 1], of each seed; "seconds": of the processor; "latency_ms": of one
        image, where the job asks for it}.
    """
    from effnet_tf.search import proxy

    start = time.process_time()
    use_one_thread()
    _rewrite_no_graph()
    variant = find_variant(json.dumps(job["variant"]))
    images = _of_part(_images(path), job["part"])
    settings = Settings(**job["training"])
    accuracies = proxy.train(variant, images, job["seeds"], settings)
    result = {"accuracies": [float(each) for each in accuracies]}
    if job["latency"]:
        result["latency_ms"] = _milliseconds(variant)
    return {**result, "seconds": round(time.process_time() - start, 2)}


def _rewrite_no_graph():
    """Rewriting the graph takes 3 seconds of the processor, and saves a tenth of each step."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def _images(path):
    from effnet_tf.search.images import Images

    with np.load(path) as file:
        return Images(
            str(file["name"]),
            tuple(str(name) for name in file["class_names"]),
            file["pixels"],
            file["labels"],
            file["held_out"],
        )


def _of_part(images, part):
    """Returns the images with those held out that a part of the search is judged by."""
    if part == TEST:
        return images
    seen = ~images.held_out  # what is held out here, no trial sees
    only = dataclasses.replace(
        images,
        pixels=images.pixels[seen],
        labels=images.labels[seen],
        held_out=images.held_out[seen],
    )
    return only.fold(0, PARTS)


def _milliseconds(variant):
    """Returns what a TFLite file of the network's operators takes here, on one thread."""
    from effnet_tf.export.tflite import operator_files
    from effnet_tf.scaling.operators import operators_of_network
    from effnet_tf.variants import resolve

    network = resolve(variant)
    data = operator_files.file_of_all(operators_of_network(network), network.side)
    return operator_files.milliseconds_of(data)
