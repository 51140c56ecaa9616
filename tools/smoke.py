"""Does this installation of effnet_tf work? Trains, exports and classifies on tiny data.

    python tools/smoke.py

Runs the installed commands (effnet-train, effnet-export) of the Python it is started with, in
a temporary folder far from any checkout, and prints the versions it ran with. Two minutes.
"""

import importlib.metadata
import pathlib
import platform
import subprocess
import sys
import tempfile
import textwrap

PACKAGES = ("tensorflow", "keras", "numpy", "h5py", "keras-cv", "tensorflow-datasets", "protobuf")

PHOTOS = textwrap.dedent("""
    import pathlib
    import numpy, tensorflow as tf
    for number, name in enumerate(("red", "green")):
        folder = pathlib.Path("photos", name)
        folder.mkdir(parents=True)
        for index in range(12):
            image = numpy.random.default_rng(index).integers(0, 120, (40, 48, 3))
            image[..., number] += 120
            (folder / f"{index}.jpg").write_bytes(tf.io.encode_jpeg(image.astype("uint8")).numpy())
    """)

KERAS = textwrap.dedent("""
    import numpy
    from effnet_tf import CompoundScaling, load_model, model_fn
    model = model_fn(CompoundScaling().variant(-8), num_classes=5, input_shape=(32, 32, 3))
    images = numpy.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    model.save("small.keras")
    numpy.testing.assert_array_equal(model(images), load_model("small.keras")(images))
    """)

# Long enough to learn something: the int8 file of a network that answers the same to every image
# fails its check.
TRAIN = (
    "effnet-train",
    "--recipe",
    "smoke",
    "--epochs",
    "8",
    "--batch_size",
    "4",
    "--ema_decay",
    "0.5",
    "--holdout",
    "0.3",
    "--dataset",
    "folder",
    "--data_dir",
    "photos",
    "--workdir",
    "run",
)
STEPS = (
    ("write some photos", ("python", "-c", PHOTOS)),
    ("train", TRAIN),
    ("export a SavedModel", ("effnet-export", "saved_model", "--workdir", "run", "--out", "saved")),
    (
        "export a TFLite file of integers",
        (
            "effnet-export",
            "tflite",
            "--workdir",
            "run",
            "--quantize",
            "int8",
            "--out",
            "int8.tflite",
        ),
    ),
    ("classify with the SavedModel", ("effnet-export", "classify", "saved", "photos/red/0.jpg")),
    ("classify with TFLite", ("effnet-export", "classify", "int8.tflite", "photos/red/0.jpg")),
    ("build, save and load a Keras model", ("python", "-c", KERAS)),
)


def version(name: str) -> str:
    """Returns the version of an installed distribution; tensorflow has several names."""
    names = [name]
    if name == "tensorflow":
        names += ["tensorflow-cpu", "tensorflow-tpu"]
    for each in names:
        try:
            return importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "missing"


def run(title: str, command: tuple[str, ...], folder: str) -> None:
    """Runs a command of this Python's environment; one that fails ends the smoke test."""
    bin_folder = pathlib.Path(sys.executable).parent
    finished = subprocess.run(
        [bin_folder / command[0], *command[1:]],
        cwd=folder,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if finished.returncode:
        print(finished.stdout[-4000:])
        sys.exit(f"{title}: failed with exit code {finished.returncode}.")
    print(f"  {title}: good", flush=True)


def main() -> None:
    """Takes all steps."""
    found = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {found}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for title, command in STEPS:
            run(title, command, folder)


if __name__ == "__main__":
    main()
