"""faces.py: what is done once a package has been imported."""

import importlib
import sys
import threading

import pytest

from effnet_tf import faces


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Writes packages that can be imported; forgets them, and all finders, afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])

    def write(name, text=""):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


class TestAfterImport:
    def test_at_once_if_it_is_there(self):
        calls = []
        faces.after_import("sys", lambda: calls.append(1))
        assert calls == [1]

    def test_once_and_when_it_is_complete(self, packages):
        packages("ours_a", "value = 7")
        calls = []
        finders = [*sys.meta_path]
        faces.after_import("ours_a", lambda: calls.append(sys.modules["ours_a"].value))
        assert importlib.util.find_spec("ours_a") is not None and calls == []
        importlib.import_module("ours_a")
        assert calls == [7] and sys.meta_path == finders
        del sys.modules["ours_a"]
        importlib.import_module("ours_a")
        assert calls == [7]

    @pytest.mark.parametrize("first", ["ours_inner", "ours_outer"])
    def test_packages_that_import_each_other(self, packages, first):
        packages("ours_outer", "import ours_inner\nready = True")
        packages("ours_inner", "import ours_outer\nready = True")
        calls = []

        def note():
            calls.append([sys.modules[name].ready for name in ("ours_outer", "ours_inner")])

        faces.after_import("ours_inner", note, together_with=["ours_outer"])
        importlib.import_module(first)
        assert calls == [[True, True]]

    def test_the_other_alone_is_not_enough(self, packages):
        packages("ours_b")
        packages("ours_c")
        calls = []
        faces.after_import("ours_b", lambda: calls.append(1), together_with=["ours_c"])
        importlib.import_module("ours_c")
        assert calls == []
        importlib.import_module("ours_b")
        assert calls == [1]

    def test_an_import_that_fails_is_as_it_was_and_may_be_repeated(self, packages):
        packages("ours_d", "raise ImportError('broken')")
        calls = []
        faces.after_import("ours_d", lambda: calls.append(1))
        with pytest.raises(ImportError, match="broken"):
            importlib.import_module("ours_d")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("ours_nowhere")
        assert calls == []
        packages("ours_d", "mended = True")
        importlib.import_module("ours_d")
        assert calls == [1]

    def test_in_many_threads_it_is_done_once(self, packages):
        packages("ours_e", "import time\ntime.sleep(0.05)")
        calls = []
        faces.after_import("ours_e", lambda: calls.append(1))
        threads = [
            threading.Thread(target=importlib.import_module, args=["ours_e"]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls == [1]


class TestRegisterWithKeras:
    @pytest.fixture
    def keras(self, packages, monkeypatch):
        """Writes a package called keras, on some backend, that can be imported anew."""

        def write(backend):
            monkeypatch.delitem(sys.modules, "keras", raising=False)
            packages("keras", f"class backend:\n    backend = staticmethod(lambda: {backend!r})")
            packages("ours_layers")

        return write

    def test_with_keras_the_modules_are_imported(self, keras):
        keras("tensorflow")
        faces.register_with_keras("ours_layers")
        assert "ours_layers" not in sys.modules
        importlib.import_module("keras")
        assert "ours_layers" in sys.modules

    def test_on_another_backend_nothing_happens(self, keras):
        keras("jax")
        faces.register_with_keras("ours_layers")
        importlib.import_module("keras")
        assert "ours_layers" not in sys.modules

    def test_a_module_that_fails_leaves_keras_alone(self, keras):
        keras("tensorflow")
        faces.register_with_keras("ours_nowhere")
        with pytest.warns(UserWarning, match="could not register .* 'ours_nowhere'"):
            importlib.import_module("keras")
        assert "keras" in sys.modules
