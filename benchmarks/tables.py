"""What do the figures say, as tables? Writes those of README.md and of docs/.

    python benchmarks/tables.py

Each table stands between `<!-- table: NAME ... -->` and `<!-- end -->` in a page; the figures
come from the JSON files beside this program, from `effnet_tf.cost` and from the publishers'
accuracies. tests/test_documents.py compares. No TensorFlow.
"""

import itertools
import json
import pathlib
import re
import statistics
from typing import Any

import effnet_tf
from effnet_tf.variants.accuracies import published_top1

HERE = pathlib.Path(__file__).resolve().parent
PAGES = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md")))
# The weights whose accuracy stands for a variant: the first that were published for it.
WEIGHTS = ("imagenet", "autoaugment", "advprop", "noisy-student")
_PLACE = re.compile(r"(<!-- table: (\w+)[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def figures(name: str) -> Any:
    """Returns the content of a JSON file of this folder."""
    return json.loads((HERE / f"{name}.json").read_text())


def markdown(header: tuple, rows: list) -> str:
    """Returns a table in Markdown, a line per row."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def top1(variant: str) -> str:
    """Returns what was published for a variant, in percent."""
    for weights in WEIGHTS:
        accuracy = published_top1(weights, variant)
        if accuracy is not None:
            return f"{accuracy:.1f}"
    return "–"


def variants() -> str:
    """Every released variant: pixels, parameters, multiply-adds, published accuracy."""
    rows = []
    for variant in effnet_tf.variants.EFFICIENTNETS.values():
        name, cost = variant.name, effnet_tf.cost(variant)
        rows.append(
            (
                name,
                str(variant.resolution),
                f"{cost.trainable_params / 1e6:.1f}",
                f"{cost.multiply_adds / 1e9:.2f}",
                top1(name),
            )
        )
    return markdown(("Variant", "Pixels", "Parameters, M", "Multiply-adds, G", "Top-1, %"), rows)


def variants_v2() -> str:
    """The same of EfficientNetV2, with the accuracy of weights that saw ImageNet-21k before."""
    rows = []
    for constructor, variant in effnet_tf.variants.EFFICIENTNETS_V2.items():
        name, cost = variant.name, effnet_tf.cost(variant)
        accuracies = (published_top1(each, name) for each in ("imagenet", "imagenet21k-ft1k"))
        rows.append(
            (
                f"`{name}`",
                f"`{constructor}`",
                str(variant.resolution),
                f"{cost.trainable_params / 1e6:.1f}",
                f"{cost.multiply_adds / 1e9:.2f}",
                *("–" if accuracy is None else f"{accuracy:.1f}" for accuracy in accuracies),
            )
        )
    header = ("Variant", "Constructor", "Pixels", "Parameters, M", "Multiply-adds, G")
    return markdown((*header, "Top-1, %", "with ImageNet-21k"), rows)


PIPELINES = {
    "ours": "effnet_tf",
    "libjpeg": "only libjpeg-turbo's decoding of the same crops",
    "original": "the original TPU pipeline",
    "tf_models": "tf-models",
    "flax": "flax' ImageNet example",
    "keras_cv": "keras_cv's layers",
}


def input_pipeline() -> str:
    """CPU time per image of several pipelines, as a ratio to ours."""
    rows = {row["name"]: row for row in figures("input_pipeline")["rows"]}
    found = []
    for name, title in PIPELINES.items():
        cells = [_ratio(rows.get(key)) for key in (name, f"{name}_randaugment")]
        found.append((title, *cells))
    return markdown(("", "without a policy", "with RandAugment(2, 10)"), found)


def _ratio(row):
    if row is None:
        return "–"
    if row["ratio"] == 1:
        return f"1 ({row['microseconds'] / 1000:.1f} ms)"
    return f"{row['ratio']:.2f}"


def tpu_step() -> str:
    """Device memory, bytes and FLOPs of a step on one replica, as the TPU's compiler sees them."""
    rows, theirs = [], {}
    for row in _tpu_rows("step"):
        found = row["figures"]
        step = f"{row['network']}, {row['images']} images, {row['precision']}"
        if row["form"] == "keras.applications":
            theirs[step] = found
        rows.append((step, _form(row["form"]), *_of_step(found, theirs.get(step, found))))
    header = ("Step", "Network of", "Memory, MiB", "Bytes moved, GB", "TFLOP")
    return markdown(header, rows)


def tpu_largest() -> str:
    """How many images a chip holds at most."""
    rows, theirs = [], {}
    for row in _tpu_rows("largest"):
        found, step = row["figures"], f"{row['network']}, {row['precision']}"
        most, text = found["largest"], str(found["largest"])
        if row["form"] == "keras.applications":
            theirs[step] = most
        elif step in theirs:
            text += f" ({most / theirs[step]:.2f})"
        each = [
            f"{found[key] / most / 1e9:.2f}" if key in found else "–"
            for key in ("flops", "bytes_accessed")
        ]
        rows.append((step, _form(row["form"]), text, *each))
    header = ("Step", "Network of", "Images on a chip, at most", "GFLOP an image", "GB an image")
    return markdown(header, rows)


def _tpu_rows(kind):
    return [row for row in figures("tpu_step")["rows"] if row["kind"] == kind]


def tpu_forecast() -> str:
    """Device memory of our steps: what the TPU's compiler assigns, and what the planner counts."""
    rows = []
    for row in _tpu_rows("step"):
        if row["form"] == "keras.applications" or "refused" in row["figures"]:
            continue
        dtype = row["precision"].removeprefix("mixed_")
        how = {"batch_size": row["images"], "dtype": dtype, "remat": row["form"]}
        counted = effnet_tf.cost(row["network"], **how).training_bytes / 2**20
        compiler = row["figures"]["total_mib"]
        error = f"{counted:,.0f} ({100 * (counted / compiler - 1):+.0f} %)"
        step = f"{row['network']}, {row['images']} images, {dtype}"
        rows.append((step, f"`{row['form']}`", f"{compiler:,.0f}", error))
    return markdown(("Step", "--remat", "Compiler, MiB", "Forecast, MiB"), rows)


def _form(form):
    if form == "keras.applications":
        return form
    return f"effnet_tf, --remat {form}"


def _of_step(found, theirs):
    """Yields figures of a step, with their ratio to those of keras.applications."""
    if "refused" in found:
        yield from ("does not fit", "–", "–")
        return
    cells = (("total_mib", 1, ",.0f"), ("bytes_accessed", 1e9, ".1f"), ("flops", 1e12, ".3f"))
    for key, unit, form in cells:
        text = format(found[key] / unit, form)
        if found is not theirs and key in theirs:
            text += f" ({found[key] / theirs[key]:.2f})"
        yield text


def planner_memory() -> str:
    """Memory that the planner counts, beside what the TPU's compiler reports."""
    rows = []
    for row in figures("planner_memory")["rows"]:
        sides = [_counted(row[step]) for step in ("train", "eval")]
        rows.append((row["network"], *sides))
    header = (
        "Network",
        "training: compiler, counted, error",
        "inference: compiler, counted, error",
    )
    return markdown(header, rows)


def _counted(step):
    return f"{step['compiler_mib']:,.0f} MiB, {step['counted_mib']:,.0f}, {step['error']:+.0%}"


KINDS = {
    "assembled": "of the same operators, timed at once",
    "exported": "exported, timed over half an hour",
}


def latency_prediction() -> str:
    """How far predicted latencies are from those of files that were timed."""
    rows = []
    for kind, title in KINDS.items():
        found = figures("latency_prediction")[kind]
        errors = [f"{found['median_error']:.1%}", f"{found['worst_error']:.1%}"]
        rows.append((f"{len(found['rows'])} {title}", *errors, f"{found['median_bias']:+.1%}"))
    return markdown(("Files", "median error", "worst error", "predicted - timed, median"), rows)


def export_size() -> str:
    """A SavedModel of B0, ours and that of keras.applications."""
    rows = []
    for row in figures("export_size")["rows"]:
        sides = [f"{row[side]:.2f} {row['unit']}" for side in ("ours", "theirs")]
        rows.append((row["name"], *sides, f"{row['ratio']['median']:.2f}"))
    return markdown(("", "effnet_tf", "keras.applications", "ratio"), rows)


def training_step() -> str:
    """The speed and memory of a training step on a CPU, beside keras.applications."""
    return _steps(lambda run: not _has_torch(run))


def training_step_torch() -> str:
    """The same beside timm's network, too."""
    return _steps(_has_torch)


def _has_torch(run):
    return any(row["who"].startswith("timm") for row in run["rows"])


def _steps(wanted):
    rows = []
    for run in filter(wanted, figures("training_step")):
        title = f"{run['variant']}, {run['size']} pixels, {run['batch']} images"
        theirs, *others = run["rows"]
        rows.append((title, "keras.applications", "1", f"1 ({theirs['mib']:,.0f} MiB)"))
        for row in others:
            low, middle, high = (1 / row["time"][name] for name in ("high", "median", "low"))
            speed = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            if run["rounds"] == 1:
                speed = f"{middle:.2f}"
            rows.append((title, f"`{row['who']}`", speed, f"{row['memory']['median']:.2f}"))
    return markdown(("Step", "Network", "speed", "memory"), rows)


def start() -> str:
    """CPU seconds until something happens, both forms beside keras.applications."""
    rows: dict[str, list[str]] = {}
    for row in figures("start")["rows"]:
        cells = rows.setdefault(row["step"], [row["step"], f"{row['theirs']:.2f} s"])
        cells.append(f"{row['ours']:.2f} s, {_spread(row['ratio'])}")
    header = ("", "keras.applications", "`model_fn`, of blocks", "the drop-in constructor")
    return markdown(header, list(rows.values()))


def _spread(ratio):
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def start_programs() -> str:
    """How long what does next to nothing takes, by the clock."""
    rows = []
    for row in figures("start")["programs"]:
        imports = "yes" if row["imports_tensorflow"] else "no"
        rows.append((f"`{row['program']}`", f"{row['seconds']:.2f} s", imports))
    return markdown(("", "Time", "imports TensorFlow"), rows)


def inference() -> str:
    """The time of a call in each form, as a ratio to that of keras.applications."""
    found: dict[str, list[str]] = {}
    settings = []
    for row in figures("inference")["rows"]:
        setting = f"images: {row['images']}, threads: {row['threads']}"
        if setting not in settings:
            settings.append(setting)
        found.setdefault(row["form"], [row["form"]]).append(_spread(row["ratio"]))
    return markdown(("", *settings), list(found.values()))


NETWORKS = {"b0": "swish and SE", "lite0": "Lite"}
WAYS = ("TFLiteConverter", "effnet_tf")


def int8() -> str:
    """What int8 costs two small networks, as they are and with rescaled channels."""
    rows = figures("int8")["rows"]
    found = []
    for variant, network in NETWORKS.items():
        for stressed in (False, True):
            chosen = [
                row
                for row in rows
                if row["variant"] == variant and (row["stress_seed"] is not None) == stressed
            ]
            cells = [_mean([row for row in chosen if row["how"] == way]) for way in WAYS]
            stress = "rescaled" if stressed else "none"
            found.append((network, stress, *cells, f"{chosen[0]['float_top1']:.1%}"))
    return markdown(("Network", "Stress", *WAYS, "float top-1"), found)


def _mean(rows):
    mean = {
        name: statistics.mean(row[name] for row in rows)
        for name in ("sqnr_db", "agreement", "top1")
    }
    return f"{mean['sqnr_db']:.1f} dB, {mean['agreement']:.1%}, {mean['top1']:.1%}"


def finetune() -> str:
    """Accuracies of fine-tuning and from scratch, and what other rates make of the former."""
    held = figures("finetune")
    epochs = sorted({row["epochs"] for row in held["rows"]})
    found = []
    for name, number in itertools.product(held["tasks"], epochs):
        rows = [row for row in held["rows"] if (row["task"], row["epochs"]) == (name, number)]
        if rows:
            task = held["tasks"][name]
            images = f"{len(task['photographs'])} classes of {task['tiles']}"
            found.append((images, str(number), *_starts(rows), _rates(rows)))
    header = ("Images", "Epochs", "From scratch", "`finetune`", "At 1/4, 1/2, 1, 2, 4 of its rate")
    return markdown(header, found)


def _starts(rows):
    """Yields what was learned from scratch, and by fine-tuning."""
    for start in ("from scratch", "finetune"):
        chosen = [row for row in rows if row["start"] == start and row["rate_factor"] == 1]
        found = [100 * row["accuracy"] for row in chosen]
        if found:
            yield f"{statistics.mean(found):.1f} % ({min(found):.1f} to {max(found):.1f})"
        else:
            yield "–"


def _rates(rows):
    """What fine-tuning with the first seed learned at each rate."""
    chosen = [row for row in rows if row["start"] == "finetune" and row["seed"] == 0]
    if len(chosen) < 2:
        return "–"
    chosen.sort(key=lambda row: row["rate_factor"])
    return ", ".join(f"{100 * row['accuracy']:.1f}" for row in chosen)


def lite_weights() -> str:
    """What each form keeps of Google's Lite networks, and how long an image takes."""
    rows, found = figures("lite_weights")["rows"], []
    for form in dict.fromkeys(row["form"] for row in rows):
        chosen = [row for row in rows if row["form"] == form]
        found.append((form, *map(_kept, chosen)))
    return markdown(("", *dict.fromkeys(row["variant"] for row in rows)), found)


def _kept(row):
    noise = "equal"
    if row["sqnr_db"] is not None:
        noise = f"{row['sqnr_db']:.1f} dB"
    return f"{noise}, {row['agreement']:.1%}, {row['milliseconds']:.1f} ms"


def rounding() -> str:
    """What 8-bit weights, and int8 files, keep of Google's Lite networks."""
    rows, found = figures("rounding")["rows"], []
    variants = dict.fromkeys(row["variant"] for row in rows)
    for way in dict.fromkeys(row["way"] for row in rows):
        by_variant = {row["variant"]: row for row in rows if row["way"] == way}
        found.append((way, *(_rounded(by_variant.get(variant)) for variant in variants)))
    return markdown(("", *variants), found)


def _rounded(row):
    if row is None:
        return "–"
    return f"{row['sqnr_db']:.1f} dB, {row['agreement']:.1%}, {row['cpu_seconds']:.0f} s"


def _error(found: list | None) -> str:
    """An error, or a difference of two, in percent, with its interval."""
    if found is None:
        return "–"
    mean, low, high = found
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def scaling_study() -> str:
    """Errors of every network of the study, the best on the fold of the choice first."""
    found = figures("scaling_study")
    roles: dict[str, list[str]] = {}
    for role, name in found["roles"].items():
        roles.setdefault(name, []).append(role)
    rows = []
    for row in found["candidates"]:
        part = ", ".join(roles.get(row["name"], []))
        factors = [f"{row['depth']:g}", f"{row['width']:g}", str(row["side"])]
        cost = [f"{row['times_base']:.2f}", f"{row['params']:,}"]
        measured = [_error(row[when]) for when in ("choice", "short", "long")]
        rows.append((part, *factors, *cost, *measured))
    medians = [f"{median:.2f}" for median in found["median"].values()]
    rows.append(("drawn at random, median", *["–"] * 6, *medians))
    epochs = found["epochs"]
    lengths = [f"{epochs[length]} epochs" for length in ("short", "long")]
    header = ("", "Depth", "Width", "Pixels", "Cost", "Parameters", "Choice", *lengths)
    return markdown(header, rows)


def scaling_study_pairs() -> str:
    """How much larger the errors of the rivals are than that of the chosen network."""
    found = figures("scaling_study")
    rows = [
        (role, found["roles"][role].removeprefix("digits-"), *map(_error, row.values()))
        for role, row in found["against"].items()
    ]
    lengths = [f"after {found['epochs'][length]} epochs" for length in ("short", "long")]
    return markdown(("Rival", "Network", *lengths), rows)


def architecture_search() -> str:
    """The best network of each search, as the search saw it and trained again."""
    held = figures("architecture_search")
    rows = [("the base", "–", "–", *_trained_again(held["base"]))]
    for row in held["searches"]:
        name = f"{row['sampler']}, seed {row['seed']}"
        best = f"{row['best']} of {row['trials']}"
        rows.append((name, best, f"{row['searched']:.3f}", *_trained_again(row)))
    for sampler, gain in held["gains"].items():
        searched, again = [_gain(gain[kind]) for kind in ("searched", "again")]
        rows.append((f"{sampler} − random", "", searched, "", "", again))
    header = ("Search", "Best trial", "Its reward there", "Multiply-adds")
    return markdown((*header, "Accuracy, trained again", "Reward, trained again"), rows)


def _trained_again(row):
    multiply_adds = f"{row['multiply_adds'] / 1000:,.0f} k"
    if "reward" not in row:  # the search is not complete
        return multiply_adds, "–", "–"
    accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['margin']:.1f} %"
    return multiply_adds, accuracy, f"{row['reward']:.3f}"


def _gain(each):
    pairs, mean, half = each
    if not pairs:
        return "–"
    if half is None:
        return f"{mean:+.3f} (1 pair)"
    return f"{mean:+.3f} ± {half:.3f} ({pairs} pairs)"


TABLES = {
    "architecture_search": architecture_search,
    "finetune": finetune,
    "variants": variants,
    "variants_v2": variants_v2,
    "input_pipeline": input_pipeline,
    "tpu_step": tpu_step,
    "tpu_forecast": tpu_forecast,
    "tpu_largest": tpu_largest,
    "training_step": training_step,
    "training_step_torch": training_step_torch,
    "start": start,
    "start_programs": start_programs,
    "inference": inference,
    "export_size": export_size,
    "planner_memory": planner_memory,
    "latency_prediction": latency_prediction,
    "int8": int8,
    "lite_weights": lite_weights,
    "rounding": rounding,
    "scaling_study": scaling_study,
    "scaling_study_pairs": scaling_study_pairs,
}


def filled(text: str) -> str:
    """Returns a page with its tables as the figures are now."""
    return _PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def main() -> None:
    """Writes the tables of every page that has some."""
    for page in PAGES:
        text = page.read_text()
        if filled(text) != text:
            page.write_text(filled(text))
            print(f"{page.relative_to(HERE.parent)}: tables written anew")


if __name__ == "__main__":
    main()
