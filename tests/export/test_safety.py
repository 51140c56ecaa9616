"""SavedModels that do more than compute: effnet_tf/export/safety.py and operations.py."""

import os

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

import effnet_tf
from effnet_tf import export
from effnet_tf.errors import InputError
from effnet_tf.export import folding, operations, safety, saved_model
from tests.helpers import tiny_net

TINY = tiny_net.scaled(-8)


def test_every_name_is_an_operation_of_tensorflow():
    """A misspelt one would let nothing through, and nobody would know why."""
    for name in operations.COMPUTING | operations.SAVING:
        assert op_def_registry.get(name) is not None, name
    assert not operations.COMPUTING & operations.SAVING


@pytest.mark.parametrize(
    "name",
    """
    WriteFile ReadFile MatchingFiles SaveV2 RestoreV2 MergeV2Checkpoints ShardedFilename Save
    WriteSummary CreateSummaryFileWriter WriteGraphSummary FlushSummaryWriter SummaryWriter
    DatasetToTFRecord ExperimentalDatasetToTFRecord SnapshotDataset SnapshotDatasetV2 SaveDataset
    SaveDatasetV2 CacheDataset CacheDatasetV2 DistributedSave RegisterDataset TFRecordDataset
    TextLineDataset FixedLengthRecordDataset PrintV2 Print DebugIdentity DebugIdentityV2 PyFunc
    PyFuncStateless EagerPyFunc RemoteCall _Send _Recv _HostSend _HostRecv Send Recv
    LookupTableExport LookupTableExportV2 InitializeTableFromTextFile
    InitializeTableFromTextFileV2 XlaLaunch XlaCustomCall XlaCustomCallV2 XlaHostCompute
    _XlaHostComputeMlir WholeFileReader TFRecordReader DecodeProtoV2 EncodeProto
    CollectiveReduceV2 DataServiceDataset TPUExecute Abort ImmutableConst FileSystemSetConfiguration
    BigQueryReader SymbolicGradient GeneratorDataset QueueEnqueueV2 Stage""".split(),
)
def test_what_reaches_beyond_tensors_is_not_allowed(name):
    assert name not in operations.COMPUTING


class TestOrdinaryModels:
    @pytest.mark.parametrize("options", [{}, {"keep_batch_norm": True}, {"input_dtype": "uint8"}])
    def test_ours(self, options, tmp_path):
        model = effnet_tf.model_fn(TINY, 3, input_shape=(32, 32, 3))
        about = export.describe(
            model, class_names=("a", "b", "c"), exif_rotation=True, scaled_decode=True
        )
        network = model if "keep_batch_norm" in options else folding.fold(model)
        saved_model.write(network, str(tmp_path / "s"), about, **options)
        assert safety.beyond_tensors(str(tmp_path / "s")) == {}
        assert export.load(str(tmp_path / "s")).layout.channels == 3

    def test_those_of_keras(self, tmp_path):
        """Layers of keras.applications' networks."""
        layers = keras.layers
        images = keras.Input((16, 16, 3))
        x = layers.Rescaling(1 / 255)(images)
        x = layers.Normalization(mean=(0.4,) * 3, variance=(0.2,) * 3)(x)
        x = layers.Resizing(8, 8)(layers.RandomFlip()(x))
        x = layers.ZeroPadding2D()(layers.SeparableConv2D(4, 3, activation="gelu")(x))
        x = layers.Dropout(0.1)(layers.LayerNormalization()(layers.BatchNormalization()(x)))
        x = layers.PReLU()(layers.LeakyReLU()(layers.GroupNormalization(2)(x)))
        x = layers.MaxPooling2D()(layers.AveragePooling2D(2, 1)(layers.Activation("hard_swish")(x)))
        x = layers.Flatten()(layers.UpSampling2D()(layers.Conv2DTranspose(4, 3)(x)))
        model = keras.Model(images, layers.Dense(3, "softmax")(x))
        model.export(str(tmp_path / "s"), verbose=False)
        assert safety.beyond_tensors(str(tmp_path / "s")) == {}


def save(path, serve=lambda images: images, **attributes):
    """Writes a SavedModel of a function of images, with more attributes."""
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {"scores": serve(images)},
        [tf.TensorSpec((None, 8, 8, 3), name="images")],
        autograph=False,
    )
    for name, value in attributes.items():
        setattr(module, name, value)
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})
    return str(path)


def _text_table(folder):
    (folder / "vocabulary").write_text("a\nb\n")
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(folder / "vocabulary"),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )


def _writes_a_file(images):
    tf.io.write_file("stolen", "x")
    return images


def _writes_in_a_branch(images):
    return tf.cond(tf.reduce_sum(images) > 0, lambda: _writes_a_file(images), lambda: images)


def _writes_in_map(images):
    return tf.map_fn(_writes_a_file, images)


def _writes_records(images):
    tf.data.experimental.TFRecordWriter("stolen").write(tf.data.Dataset.from_tensors("x"))
    return images


def _writes_a_checkpoint(images):
    tf.raw_ops.SaveV2(prefix="stolen", tensor_names=["x"], shape_and_slices=[""], tensors=[images])
    return images


def _writes_a_summary(images):
    writer = tf.raw_ops.SummaryWriter()
    tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir="stolen", max_queue=1, flush_millis=1, filename_suffix=""
    )
    return images


def _prints(images):
    tf.print("x", output_stream="file://stolen")
    return images


def _reads(images):
    return tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32) + images


def _lists(images):
    return tf.cast(tf.size(tf.io.matching_files("/home/*")), tf.float32) + images


def _calls_python(images):
    return tf.py_function(lambda x: x, [images], tf.float32)


def _debugs(images):
    return tf.raw_ops.DebugIdentity(input=images, debug_urls=["file://stolen"])


def _keeps_a_cache(images):
    return next(iter(tf.data.Dataset.from_tensors(images).cache("stolen")))


@pytest.mark.parametrize(
    "serve, kind",
    [
        (_writes_a_file, "WriteFile"),
        (_writes_in_a_branch, "WriteFile"),
        (_writes_in_map, "WriteFile"),
        (_writes_records, "DatasetToTFRecord"),
        (_writes_a_checkpoint, "SaveV2"),
        (_writes_a_summary, "CreateSummaryFileWriter"),
        (_prints, "PrintV2"),
        (_reads, "ReadFile"),
        (_lists, "MatchingFiles"),
        (_calls_python, "EagerPyFunc"),
        (_debugs, "DebugIdentity"),
        (_keeps_a_cache, "CacheDatasetV2"),
    ],
)
def test_those_that_do_more(serve, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "s", serve)
    found = safety.beyond_tensors(path)
    assert kind in found and found[kind][0].startswith("function ")
    for use in (export.load, lambda path: export.verify(None, path)):
        with pytest.raises(InputError, match="does more than compute on tensors"):
            use(path)
    assert not os.path.exists("stolen")


def test_what_nobody_calls(tmp_path):
    function = tf.function(lambda: _writes_a_file(tf.zeros(())), ())
    assert "WriteFile" in safety.beyond_tensors(save(tmp_path / "s", other=function))


def test_initialisers_which_run_on_opening(tmp_path):
    found = safety.beyond_tensors(save(tmp_path / "s", table=_text_table(tmp_path)))
    assert "InitializeTableFromTextFileV2" in found

    class Writes(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self):
            tf.io.write_file(str(tmp_path / "stolen"), "x")

    path = save(tmp_path / "t", resource=Writes())
    assert not (tmp_path / "stolen").exists()
    with pytest.raises(InputError, match="WriteFile"):
        export.load(path)
    assert not (tmp_path / "stolen").exists()
    export.load(path, trust=True)
    assert (tmp_path / "stolen").exists()  # so the refusal is what protects


def test_a_table_of_constants_is_allowed(tmp_path):
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), -1)
    assert safety.beyond_tensors(save(tmp_path / "s", table=table)) == {}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The description of a harmless SavedModel with a variable."""
    path = save(tmp_path_factory.mktemp("plain") / "s", weight=tf.Variable(1.0))
    return safety.read(path)


def looked_at(description, tmp_path):
    (tmp_path / safety.FILE).write_bytes(description.SerializeToString())
    return safety.beyond_tensors(str(tmp_path))


def changed(plain):
    copy = saved_model_pb2.SavedModel.FromString(plain.SerializeToString())
    return copy, copy.meta_graphs[0]


class TestHiddenPlaces:
    """What no TensorFlow program writes, but anybody can."""

    def test_the_plain_one_passes(self, plain, tmp_path):
        assert looked_at(plain, tmp_path) == {}

    def test_the_saver_s_functions_called_from_elsewhere(self, plain, tmp_path):
        copy, graph = changed(plain)
        saver = next(
            function.signature.name
            for function in graph.graph_def.library.function
            if any(node.op == "SaveV2" for node in function.node_def)
        )
        called = next(
            function
            for function in graph.graph_def.library.function
            if "signature_wrapper" in function.signature.name
        )
        called.node_def.add(op="StatefulPartitionedCall", name="x").attr["f"].func.name = saver
        found = looked_at(copy, tmp_path)
        assert "SaveV2" in found and saver in found["SaveV2"][0]

    def test_the_saver_s_functions_as_an_initialiser(self, plain, tmp_path):
        copy, graph = changed(plain)
        saver = next(
            function.signature.name
            for function in graph.graph_def.library.function
            if any(node.op == "SaveV2" for node in function.node_def)
        )
        graph.object_graph_def.concrete_functions[saver].SetInParent()
        assert "SaveV2" in looked_at(copy, tmp_path)

    def test_the_saver_s_nodes_that_a_signature_runs(self, plain, tmp_path):
        copy, graph = changed(plain)
        outputs = graph.signature_def["serving_default"].outputs
        outputs["scores"].name = graph.saver_def.save_tensor_name
        assert "SaveV2" in looked_at(copy, tmp_path)

    def test_in_the_graph_itself(self, plain, tmp_path):
        copy, graph = changed(plain)
        graph.graph_def.node.add(op="WriteFile", name="init")
        assert looked_at(copy, tmp_path) == {"WriteFile": ["the graph, node init"]}

    def test_in_another_graph(self, plain, tmp_path):
        copy, _ = changed(plain)
        copy.meta_graphs.add().graph_def.node.add(op="WriteFile", name="x")
        assert "WriteFile" in looked_at(copy, tmp_path)

    def test_functions_in_attributes_of_functions(self, plain, tmp_path):
        copy, graph = changed(plain)
        node = graph.graph_def.node.add(op="NoOp", name="x")
        node.attr["f"].list.func.add(name="").attr["g"].func.name = "WriteFile"
        assert looked_at(copy, tmp_path) == {safety.UNKNOWN: ["WriteFile in the graph, node x"]}

    def test_an_unknown_operation(self, plain, tmp_path):
        copy, graph = changed(plain)
        graph.graph_def.node.add(op="MyOwnOp", name="x")
        assert "MyOwnOp" in looked_at(copy, tmp_path)

    @pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/../../b", "..\\b"])
    def test_assets_outside(self, plain, name, tmp_path):
        copy, graph = changed(plain)
        graph.asset_file_def.add(filename=name)
        assert looked_at(copy, tmp_path) == {safety.ASSETS: [safety.printable(name)]}


def test_damaged_descriptions(tmp_path):
    for content in (b"", b"\xff\xff no protobuf"):
        (tmp_path / safety.FILE).write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            safety.read(str(tmp_path))
    (tmp_path / safety.FILE).unlink()
    os.mkfifo(tmp_path / safety.FILE)
    with pytest.raises(InputError, match="is a FIFO"):
        safety.read(str(tmp_path))
