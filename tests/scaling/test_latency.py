"""scaling/latency.py, operators.py, measuring.py: tables of operators, and what they predict."""

import dataclasses
import json
import math

import pytest

import effnet_tf
from effnet_tf import scaling, variants
from effnet_tf.scaling import __main__ as program
from effnet_tf.scaling import latency, measuring
from effnet_tf.scaling.operators import Operator, operators_of_network
from effnet_tf.variants import resolve
from tests.scaling import enumeration

RATE = 1e-7  # ms per unit of work


def table_of(base="b0", rate=RATE, context=1.0, fetching=0.0):
    """A device on which every operator takes time in proportion to its work."""
    wanted = measuring.wanted_operators(variants.find_variant(base))
    times = {operator: rate * operator.work for operator in wanted}
    return latency.Table("a device", 1, "float32", times, context, fetching)


def work(variant):
    return sum(operator.work for operator in operators_of_network(resolve(variant)))


def _read_by_convolutions(model):
    """(side, channels) of the map that each full convolution of a file reads."""
    from effnet_tf.export.tflite import flatbuffer

    graph = model.subgraphs[0]
    kinds = flatbuffer.operator_names(model)
    read = [each.inputs[0] for kind, each in zip(kinds, graph.operators) if kind == "CONV_2D"]
    shapes = [graph.tensors[number].shape for number in read]
    return [(int(shape[1]), int(shape[3])) for shape in shapes]


class TestOperators:
    def test_of_a_small_network(self, tiny_variants):
        """The stem, a block that expands nothing, and the head, each by hand."""
        found = list(operators_of_network(resolve("tinier", num_classes=10)))

        def plain(kind, filters, side):
            return Operator(kind, 1, 1, filters, filters, side)

        swish = [plain("LOGISTIC", 8, 16), plain("MUL", 8, 16)]
        excitation = [
            plain("MEAN", 8, 16),
            Operator("CONV_2D", 1, 1, 8, 2, 1),
            plain("LOGISTIC", 2, 1),
            plain("MUL", 2, 1),
            Operator("CONV_2D", 1, 1, 2, 8, 1),
            plain("LOGISTIC", 8, 1),
            plain("MUL", 8, 16),
        ]
        last_block = [
            Operator("DEPTHWISE_CONV_2D", 3, 1, 8, 8, 16),
            *swish,
            *excitation,
            Operator("CONV_2D", 1, 1, 8, 8, 16),
            plain("ADD", 8, 16),
        ]
        head = [
            Operator("CONV_2D", 1, 1, 8, 16, 16),
            plain("LOGISTIC", 16, 16),
            plain("MUL", 16, 16),
            plain("MEAN", 16, 16),
            Operator("FULLY_CONNECTED", 1, 1, 16, 10, 1),
        ]
        assert found[:3] == [Operator("CONV_2D", 3, 2, 3, 8, 32), *swish]
        assert found[-len(last_block + head) :] == last_block + head

    @pytest.mark.parametrize(
        "name", ["b0", "lite3", "edgetpu-s", "mobilenet_v1", "mobilenet_v3_large", "resnet50"]
    )
    def test_convolutions_have_the_networks_multiply_adds(self, name):
        kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        total = sum(op.work for op in operators_of_network(resolve(name)) if op.kind in kinds)
        assert total == effnet_tf.cost(name).multiply_adds

    @pytest.mark.parametrize(
        "name, width",
        [("tinier", 1), ("b0", 1), ("lite0", 1), ("mobilenet_v3_small", 1), ("resnet50", 0.25)],
    )
    def test_files_are_of_these_operators(self, name, width, tiny_variants):
        from effnet_tf.export.tflite import flatbuffer, interpreter, operator_files

        row = dataclasses.replace(variants.find_variant(name), width_coefficient=width)
        operators = list(operators_of_network(resolve(row, resolution=32)))
        data = operator_files.file_of_all(operators, 32)
        kinds = [operator.kind for operator in operators]
        assert flatbuffer.operator_names(flatbuffer.read(data)) == kinds
        wanted = [(op.side, op.input_filters) for op in operators if op.kind == "CONV_2D"]
        assert _read_by_convolutions(flatbuffer.read(data)) == wanted
        run = interpreter.open_file(data)
        run.invoke()
        assert run.get_output_details()[0]["shape"].tolist() == [1, 1000]

    @pytest.mark.slow  # 20 s each
    @pytest.mark.parametrize("name", ["b0", "lite0"])
    def test_exported_files_are_of_these_operators(self, name, tmp_path):
        from effnet_tf.export.tflite import flatbuffer

        row = enumeration.variant(variants.VARIANTS[name], "compound", -6)
        model = effnet_tf.model_fn(row, 10, input_shape=(64, 64, 3))
        path = tmp_path / "net.tflite"
        effnet_tf.export.to_tflite(model, str(path), quantize="none")
        graph = flatbuffer.read(path.read_bytes())
        found = flatbuffer.operator_names(graph)
        wanted = [
            op.kind for op in operators_of_network(resolve(row, resolution=64, num_classes=10))
        ]
        # The pixels' mean at one end, the softmax at the other.
        assert found == ["SUB", *wanted, "SOFTMAX"]


class TestTable:
    def test_what_was_measured_counts_as_it_was(self):
        table = table_of(context=1.5)
        b0 = resolve("b0")
        assert table.of_network(b0) == pytest.approx(1.5 * RATE * work("b0"), rel=1e-9)
        kernels = sum(
            math.prod(each.kernel_shape) for each in b0.convolutions()
        )  # whose numbers have to be fetched
        cold = table_of(fetching=2.0).of_network(b0)
        assert cold == pytest.approx(RATE * work("b0") + 2.0 * kernels / 1e6, rel=1e-9)

    def test_what_was_not_is_between_its_neighbours(self):
        low, high = Operator("CONV_2D", 1, 1, 8, 16, 32), Operator("CONV_2D", 1, 1, 8, 64, 32)
        between = Operator("CONV_2D", 1, 1, 8, 32, 32)
        table = latency.Table("x", 1, "float32", {low: 2e-6 * low.work, high: 8e-6 * high.work})
        # In the middle, by logarithms: so is the time per multiply-add.
        assert table.predict(between) == pytest.approx(4e-6 * between.work, rel=1e-4)
        near = between._replace(filters=56)
        assert 6e-6 * near.work < table.predict(near) < 8e-6 * near.work

    def test_another_kernel_is_refused(self):
        table = table_of()
        with pytest.raises(effnet_tf.InputError, match="no DEPTHWISE_CONV_2D of kernel 7"):
            table.predict(Operator("DEPTHWISE_CONV_2D", 7, 1, 8, 8, 8))

    def test_the_file_is_what_was_written(self, tmp_path):
        table, path = table_of(context=1.25, fetching=0.5), tmp_path / "table.json"
        path.write_text(table.to_json())
        again = scaling.read_table(str(path))
        assert again == table and again.milliseconds_of == table.milliseconds_of

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda content: content.pop("operators"), "'operators'"),
            (lambda content: content.pop("device"), "'device'"),
            (lambda content: content.update(operators=[]), "no operators"),
            (lambda content: content.update(dtype="int8"), "dtype is 'int8'"),
            (lambda content: content.update(phone=1), "no field 'phone'"),
            (lambda content: content.update(context=0), "context is 0"),
            (lambda content: content.update(fetching=-1), "fetching is -1"),
            (lambda content: content["operators"][0].update(side=0), "a size"),
            (lambda content: content["operators"][0].update(width=3), "width"),
            (lambda content: content["operators"][0].update(milliseconds=-1), "no number above 0"),
            (lambda content: content["operators"][0].update(milliseconds="x"), "could not convert"),
        ],
    )
    def test_a_file_that_is_none_is_refused(self, tmp_path, change, message):
        content, path = json.loads(table_of("lite0").to_json()), tmp_path / "table.json"
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(effnet_tf.InputError, match=f"is not a table of latencies .*{message}"):
            scaling.read_table(str(path))

    def test_no_file(self, tmp_path):
        with pytest.raises(effnet_tf.InputError, match="cannot be read: .*No such file"):
            scaling.plan(latency_ms=5, table=str(tmp_path / "none.json"))


class TestPlans:
    @pytest.mark.parametrize("strategy, start, end", [("compound", -1.8, 1.2), ("width", 0.6, 1.6)])
    def test_equal_to_looking_at_every_network(self, strategy, start, end):
        everything = enumeration.networks(variants.VARIANTS["b0"], strategy, start, end)
        for milliseconds in (25.0, 41.0, 70.0):
            wanted = max(
                cost.multiply_adds
                for cost, row in everything
                if RATE * work(row) <= milliseconds * (1 + 1e-12)
            )
            (plan,) = scaling.plan(latency_ms=milliseconds, table=table_of(), strategy=strategy)
            assert plan.cost.multiply_adds == wanted
            assert plan.latency_ms == pytest.approx(RATE * work(plan.variant), rel=1e-6)
            assert plan.slack["latency_ms"] == milliseconds - plan.latency_ms >= 0

    def test_with_other_targets_and_free_axes(self):
        targets = dict(latency_ms=45.0, params=6e6)
        plans = scaling.plan(free="d,w", table=table_of(), **targets)
        assert len(plans) == 3
        assert all(min(plan.slack.values()) >= 0 for plan in plans)
        (compound,) = scaling.plan(table=table_of(), **targets)
        assert plans[0].cost.multiply_adds >= compound.cost.multiply_adds

    def test_a_table_without_a_target_is_only_told(self):
        (plan,) = scaling.plan(multiply_adds="600M", table=table_of())
        assert plan.latency_ms == pytest.approx(RATE * work(plan.variant), rel=1e-6)
        assert set(plan.slack) == {"multiply_adds"}


class TestMeasure:
    @pytest.fixture
    def base(self, tmp_path, tiny_variants):
        path = str(tmp_path / "tinier.json")
        variants.save_variant(variants.VARIANTS["tinier"], path)
        return path

    def run(self, *arguments):
        program.main(program.parse(["scaling", "measure", *arguments]))

    def test_here(self, base, tmp_path, capsys, monkeypatch):
        from effnet_tf.export.tflite import operator_files

        monkeypatch.setattr(operator_files, "_LOOP", 0)  # a glance is enough
        monkeypatch.setattr(operator_files, "_ROUNDS", 1)
        out = tmp_path / "here.json"
        self.run("--base", base, "--out", str(out), "--device", "this")
        table = scaling.read_table(str(out))
        wanted = measuring.wanted_operators(variants.find_variant(base))
        assert table.device == "this" and list(table.milliseconds_of) == wanted
        assert "tinier takes" in capsys.readouterr().out

    def test_elsewhere(self, base, tmp_path):
        """On a phone where an operator takes 20.5 us, and networks half as long again and more."""
        folder, out = tmp_path / "phone", tmp_path / "phone.json"
        common = ["--base", base, "--out", str(out)]
        self.run(*common, "--write_operators", str(folder))
        networks = measuring.wanted_networks(variants.find_variant(base))
        wanted = measuring.wanted_operators(variants.find_variant(base))
        files = sorted(path.stem for path in folder.glob("*.tflite"))
        assert len(files) == len(wanted) + len(networks) and not out.exists()
        took = dict.fromkeys(files, 20.5)
        for name, network in networks.items():
            operators = list(operators_of_network(network))
            weights = sum(each.weights for each in operators)
            took[name] = 1.5 * 20.5 * len(operators) + 0.25e-3 * weights
        for name, microseconds in took.items():
            (folder / f"{name}.log").write_text(
                "INFO: count=50 first=19 curr=20 min=18 max=30 avg=20.5 std=1\n"
                "INFO: Inference timings in us: Init: 12345, First inference: 51, "
                f"Warmup (avg): 24.1, Inference (avg): {microseconds:.9e}\n"
            )
        self.run(*common, "--logs", str(folder), "--device", "Pixel", "--threads", "4")
        table = scaling.read_table(str(out))
        assert (table.device, table.threads) == ("Pixel", 4)
        assert set(table.milliseconds_of.values()) == {0.0205}
        assert (table.context, table.fetching) == pytest.approx((1.5, 0.25), rel=1e-5)
        for name, network in networks.items():
            assert table.of_network(network) == pytest.approx(took[name] / 1e3, rel=1e-5)
        with pytest.raises(effnet_tf.InputError, match="another base than b0"):
            self.run("--out", str(out), "--logs", str(folder))
        (folder / "operator_0001.log").write_text("Failed to allocate tensors!")
        with pytest.raises(effnet_tf.InputError, match="operator_0001.log' says no"):
            self.run(*common, "--logs", str(folder))

    def test_weights_that_cost_nothing(self):
        """Or less: such a fit would be noise."""
        assert measuring._fitted([(0.5, 0.1), (0.5, 0.2), (0.5, 0.4)]) == pytest.approx((2, 0))
        assert measuring._fitted([(0.4, 0.1), (0.6, 0.4)])[1] == 0
        assert measuring._fitted([(0.5, 0.0)]) == (2, 0)

    def test_refuses(self, tmp_path):
        with pytest.raises(effnet_tf.InputError, match="takes a folder of --write_operators"):
            self.run("--out", str(tmp_path / "a.json"), "--logs", str(tmp_path))
        with pytest.raises(effnet_tf.InputError, match="threads is 0"):
            self.run("--out", str(tmp_path / "a.json"), "--threads", "0")

    def test_an_operator_takes_longer_where_there_is_more_to_do(self):
        from effnet_tf.export.tflite import operator_files

        little, much = (
            operator_files.milliseconds_of(
                operator_files.file_of(Operator("CONV_2D", 1, 1, filters, filters, 16))
            )
            for filters in (8, 256)
        )
        assert 0 < little < much < math.inf
