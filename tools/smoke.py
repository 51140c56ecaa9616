"""Does this installation of effnet_tf work? Trains, exports and classifies on tiny data.

    python tools/smoke.py

Runs the installed commands (effnet-train, effnet-export) of the Python it is started with, in
a temporary folder far from any checkout, and prints the versions it ran with. About a minute.
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
    from effnet_tf import EfficientNetB0, load_model
    model = EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=5)
    images = numpy.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    model.save("b0.keras")
    numpy.testing.assert_array_equal(model(images), load_model("b0.keras")(images))
    """)

TRAIN = ("effnet-train", "--recipe", "smoke", "--epochs", "1", "--batch_size", "8", "--holdout",
         "0.3", "--dataset", "folder", "--data_dir", "photos", "--workdir", "run")
EXPORT = ("effnet-export",)
STEPS = (
    ("write some photos", ("python", "-c", PHOTOS)),
    ("train", TRAIN),
    ("resume", TRAIN),
    ("export a SavedModel", (*EXPORT, "saved_model", "--workdir", "run", "--out", "saved")),
    ("export TFLite, 8-bit weights", (*EXPORT, "tflite", "--workdir", "run", "--quantize",
                                      "weights8", "--out", "weights8.tflite")),
    ("export TFLite, all integers", (*EXPORT, "tflite", "--workdir", "run", "--quantize", "int8",
                                     "--out", "int8.tflite")),
    ("classify with the SavedModel", (*EXPORT, "classify", "saved", "photos/red/0.jpg")),
    ("classify with TFLite", (*EXPORT, "classify", "int8.tflite", "photos/green/1.jpg")),
    ("inspect", (*EXPORT, "inspect", "int8.tflite")),
    ("build, save and load B0", ("python", "-c", KERAS)),
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
        [bin_folder / command[0], *command[1:]], cwd=folder, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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
