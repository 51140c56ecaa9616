"""Do Keras' own tests of keras.applications pass with our constructors in their place?

The file keras/src/applications/applications_test.py, as the installed Keras brings it. Not of it:
`test_application_base`, which downloads weights and a photograph, and channels_first, which
ours refuses.
"""

import importlib.util
import re

import pytest
from keras.src.applications import efficientnet, efficientnet_v2

import effnet_tf

NAMES = [
    *(f"EfficientNetB{number}" for number in range(8)),
    *(f"EfficientNetV2{name}" for name in ("B0", "B1", "B2", "B3", "S", "M", "L")),
]
TESTS = (
    "test_application_notop_variable_input_channels",
    "test_application_notop_custom_input_shape",
    "test_application_notop_custom_input_tensor",
    "test_application_pooling",
    "test_application_classifier_activation",
)


@pytest.fixture(scope="module")
def tests_of_keras():
    """Their class of tests, read while keras.applications' names were ours."""
    spec = importlib.util.find_spec("keras.src.applications.applications_test")
    if spec is None:
        pytest.skip("this Keras comes without its tests")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            theirs = efficientnet_v2 if "V2" in name else efficientnet
            patch.setattr(theirs, name, getattr(effnet_tf, name))
        # A mark of theirs that our options for pytest do not know.
        patch.setitem(vars(pytest.mark), "requires_trainable_backend", lambda each: each)
        spec.loader.exec_module(module)
    assert effnet_tf.EfficientNetB3 in [row[0] for row in module.MODEL_LIST]
    yield module.ApplicationsTest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The constants of variant .* are for RGB")
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", NAMES)
def test_passes_with_ours(tests_of_keras, name, test):
    method = f"{test}_{name}_channels_last"
    known = [each for each in dir(tests_of_keras) if re.fullmatch(f"{test}.*{name}.*last.*", each)]
    assert known == [method]
    tests_of_keras.setUpClass()
    tests_of_keras(method).debug()
    tests_of_keras.tearDownClass()
