"""catalog/: which networks are listed, by which figures, and what `models` prints."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.catalog import conditions, listing, program
from tests.test_plots import colours

ROOT = pathlib.Path(__file__).parents[2]


def names(*arguments, **options):
    return [each.name for each in effnet_tf.list_models(*arguments, **options)]


def run(*words):
    program.main(program.parse(["models", *words]))


class TestList:
    def test_every_variant_with_what_it_costs(self):
        found = effnet_tf.list_models()
        assert [each.name for each in found] == [row.name for row in variants.VARIANTS.values()]
        for each in found:
            counted = effnet_tf.cost(each.name)
            assert (each.params, each.multiply_adds, each.activation_bytes) == (
                counted.trainable_params,
                counted.multiply_adds,
                counted.activation_bytes,
            )

    def test_published_accuracies_best_first(self):
        (b0,) = [each for each in effnet_tf.list_models() if each.name == "b0"]
        assert list(b0.top1.items())[0] == ("noisy-student", 78.8) and b0.best_top1 == 78.8
        assert {"advprop": 77.6, "baseline": 76.7}.items() <= b0.top1.items()

    def test_tflite_sizes_are_near_those_of_real_files(self):
        """docs/export.md has the sizes of B0's files."""
        text = (ROOT / "docs" / "export.md").read_text()
        (b0,) = [each for each in effnet_tf.list_models() if each.name == "b0"]
        for kind, estimated in (
            ("none", b0.tflite_float32_bytes),
            ("weights8", b0.tflite_weights8_bytes),
        ):
            measured = float(re.search(rf"\| `{kind}` \|.*?\| (\S+) MB", text)[1])
            assert estimated / 1e6 == pytest.approx(measured, rel=0.02)

    def test_no_size_of_a_kind_that_export_refuses(self):
        """CondConv's kernels are no constants of 8 bits: tests/export/test_condconv.py."""
        found = effnet_tf.list_models()
        missing = [each.name for each in found if each.tflite_weights8_bytes is None]
        assert missing == [row.name for row in variants.CONDCONVS.values()]
        assert not set(missing) & set(names({"tflite": ">0"}))
        assert set(missing) == set(names(sort="tflite")[-3:]) == set(names(sort="-tflite")[-3:])

    def test_conditions(self):
        assert names({"params": "<6M", "top1": ">=77"}) == [
            each.name
            for each in effnet_tf.list_models()
            if each.params < 6e6 and (each.best_top1 or 0) >= 77
        ]
        assert names({"pixels": "=224"}) == names({"pixels": ">=224"}, sort=None)[:0] + [
            row.name for row in variants.VARIANTS.values() if row.resolution == 224
        ]
        assert names({"multiply_adds": "400M"}) == names({"multiply_adds": "<=400M"}) != []

    def test_weights(self):
        assert set(names(weights="advprop")) == set(variants.ACCURACIES["advprop"])
        assert all(
            list(each.top1) == ["lite-pytorch"]
            for each in effnet_tf.list_models(weights="lite-pytorch")
        )

    def test_order(self):
        assert names(weights="advprop", sort="top1") == [f"b{n}" for n in range(8, -1, -1)]
        assert names(weights="advprop", sort="-top1") == [f"b{n}" for n in range(9)]
        assert names(weights="advprop", sort="-params")[0] == "b8"
        params = [each.params for each in effnet_tf.list_models(sort="params")]
        assert params == sorted(params)

    def test_a_network_without_published_accuracy(self, monkeypatch):
        row = variants.VARIANTS["b0"]
        monkeypatch.setitem(variants.VARIANTS, "mine", type(row)("mine", 1.0, 1.0, 224, 0.2))
        assert names(sort="top1")[-1] == names(sort="-top1")[-1] == "mine"
        assert "mine" not in names({"top1": ">0.001"}) and "mine" in names({"params": "6M"})
        assert "mine" not in names(weights="advprop")

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(conditions={"parms": "6M"}), "no figure 'parms'. Did you mean params"),
            (dict(conditions={"params": "<lots"}), "'<lots' is not a condition: give <, <=,"),
            (dict(sort="top5"), "no figures 'top5'. Did you mean top1"),
            (dict(weights="imagnet"), "no published weights 'imagnet'. Did you mean imagenet"),
        ],
    )
    def test_what_is_wrong_is_told(self, arguments, message):
        with pytest.raises(InputError, match=re.escape(message)):
            effnet_tf.list_models(**arguments)


@pytest.mark.parametrize(
    "text, figure, holds",
    [
        ("<6M", 6e6, False),
        ("<=6M", 6e6, True),
        ("6M", 6e6, True),
        (">6M", 6e6, False),
        (" >= 8Gi ", 2**33, True),
        ("=224", 224, True),
        ("<6M", None, False),
    ],
)
def test_a_condition(text, figure, holds):
    assert conditions.parse_condition(text).holds(figure) == holds


class TestProgram:
    def test_a_line_for_each(self, capsys):
        run()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:2] == ["network", "pixels"]
        assert [line.split()[0] for line in lines[1:-2]] == names()
        assert "78.8 noisy-student, 77.6 advprop" in lines[1]
        assert "estimated" in lines[-1] and "nothing was measured here" in lines[-1]

    def test_a_size_that_there_is_not_is_a_dash(self, capsys):
        run("condconv-b0-4e")
        header, row, _, notes, *_ = capsys.readouterr().out.splitlines()
        assert row.split()[-3:-1] == ["-", "77.8"] and "has no file of 8 bits" in notes
        run("b0")
        assert "CondConv" not in capsys.readouterr().out

    def test_json_is_all_of_it(self, capsys):
        run("--params", "<6M", "--sort", "top1", "--json")
        found = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in found] == names({"params": "<6M"}, sort="top1")
        assert found[0].keys() == set(listing.Listed.__dataclass_fields__)

    def test_the_parts_of_one_add_up(self, capsys):
        run("B3")
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split() for line in lines if re.match(r"(stem|block|head)", line)]
        counted = effnet_tf.cost("b3")
        assert sum(int(row[-1].replace(",", "")) for row in rows) == counted.multiply_adds
        assert sum(int(row[-2].replace(",", "")) for row in rows) == counted.params
        assert len(rows) == len(effnet_tf.blocks("b3")) + 2
        (block,) = [line for line in lines if line.startswith("block2a ")]
        assert "1x1x144 dw3x3/2 se6 1x1x32" in block and "150 -> 75" in block

    def test_what_mixes_kernels_is_no_classifier(self, capsys):
        run("condconv-b0-8e")
        assert "block7a  route8 1x1x1152 dw3x3" in capsys.readouterr().out

    @pytest.mark.parametrize("name", ["lite0", "edgetpu-s"])
    def test_the_parts_of_every_family(self, name, capsys):
        run(name)
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split() for line in lines if re.match(r"(stem|block|head)", line)]
        total = sum(int(row[-1].replace(",", "")) for row in rows)
        assert total == effnet_tf.cost(name).multiply_adds

    def test_the_picture(self, tmp_path, capsys):
        run("--plot", str(tmp_path / "family.png"))
        assert f"Drew {tmp_path / 'family.png'}" in capsys.readouterr().out
        assert len(colours(tmp_path / "family.png")) > 5

    @pytest.mark.parametrize(
        "words, message",
        [
            (["--top1", ">99"], "No network meets these conditions"),
            (["b3", "--sort", "top1"], "Give either a network, or conditions"),
            (["b33"], "no variant 'b33'. Did you mean b3"),
            (["--plot", "family.jpg"], "must end with .png"),
        ],
    )
    def test_what_is_wrong_is_told(self, words, message):
        with pytest.raises(InputError, match=re.escape(message)):
            run(*words)

    def test_without_tensorflow(self):
        code = (
            "import sys; sys.modules['tensorflow'] = None\n"
            "import effnet_tf; print(len(effnet_tf.list_models()))\n"
            "from effnet_tf.catalog import program; program.main(program.parse(['x', 'b0']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True
        )
        assert done.returncode == 0 and done.stdout.startswith(f"{len(variants.VARIANTS)}\n")
