"""Detection and segmentation heads of keras_cv on the drop-in networks."""

import keras
import numpy as np
import pytest

import effnet_tf

pytestmark = [
    pytest.mark.slow,  # minutes of tracing
    # The heads leave the last convolution and its batch norm out.
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .'top_conv/kernel'"),
    pytest.mark.filterwarnings("ignore:Exception encountered when calling RetinaNet.call"),
]

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
# What keras_cv asks a backbone for: the last layer of each stride.
LEVELS = {
    "P1": "block1a_project_bn",
    "P2": "block2b_add",
    "P3": "block3b_add",
    "P4": "block5c_add",
    "P5": "block7a_project_bn",
}
BOXES = {
    "boxes": np.array([[[10, 10, 20, 20]]] * 2, "float32"),
    "classes": np.ones((2, 1), "float32"),
}


def deeplab(models, backbone):
    model = models.DeepLabV3Plus(num_classes=3, backbone=backbone)
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return model, np.zeros((2, 64, 64, 1))


def retina(models, backbone):
    model = models.RetinaNet(num_classes=3, bounding_box_format="xywh", backbone=backbone)
    model.compile(
        classification_loss="focal", box_loss="smoothl1", optimizer="adam", jit_compile=False
    )
    return model, BOXES


def yolo(models, backbone):
    model = models.YOLOV8Detector(
        num_classes=3, bounding_box_format="xywh", backbone=backbone, fpn_depth=1
    )
    model.compile(
        classification_loss="binary_crossentropy",
        box_loss="ciou",
        optimizer="adam",
        jit_compile=False,
    )
    return model, BOXES


@pytest.mark.parametrize("head", [deeplab, retina, yolo])
def test_a_public_head_trains(head):
    models = pytest.importorskip("keras_cv").models
    keras.utils.set_random_seed(0)
    backbone = effnet_tf.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 64, 3))
    backbone.pyramid_level_inputs = LEVELS
    model, targets = head(models, backbone)
    kernel = backbone.get_layer("block4a_expand_conv").kernel
    before = kernel.numpy()
    history = model.fit(IMAGES, targets, batch_size=2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert not np.array_equal(before, kernel)
