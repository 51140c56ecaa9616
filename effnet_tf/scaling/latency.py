"""How long will a network take, by a table of what its operators took on some device?

The prediction is a sum over the operators. One that was measured counts as it was; of another the
time per unit of work (a multiply-add, a number) is taken from the nearest ones of its kind, in the
logarithms of channels and side: that rate changes slowly, while times span five decades. What a
network adds to the times of its operators alone is two numbers, fitted to whole networks.
"""

import dataclasses
import functools
import heapq
import json
import math
from collections.abc import Sequence

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line
from effnet_tf.scaling.operators import Operator, operators_of, operators_of_network
from effnet_tf.variants import Convolution, Network

NEIGHBOURS = 4
MOST_BYTES = 1 << 24  # of a file with a table
DTYPES = ("float32",)
# The fields of the file beside the operators.
ABOUT = ("device", "threads", "dtype", "context", "fetching")


@dataclasses.dataclass(frozen=True)
class Table:
    """Measured times of operators; see `to_json` and `read_table`.

    Attributes:
        device: where they were measured.
        threads: that an operator ran on.
        dtype: of the files, one of `DTYPES`.
        milliseconds_of: the operators, and what one run of each took, alone.
        context: how many times as long they take in a network, where each has the caches to share
            with its neighbours' maps.
        fetching: milliseconds that a million weights cost besides: alone an operator finds them
            in a cache, and in a network they have been driven out of it.
    """

    device: str
    threads: int
    dtype: str
    milliseconds_of: dict[Operator, float] = dataclasses.field(hash=False, compare=False)
    context: float = 1.0
    fetching: float = 0.0

    def milliseconds(self, convolutions: Sequence[Convolution], skip: bool, side: int) -> float:
        """Returns the milliseconds of a part of a network; see `operators_of`."""
        return sum(self.predict(each) for each in operators_of(convolutions, skip, side))

    def of_network(self, network: Network) -> float:
        """Returns the milliseconds of a network for one image."""
        return sum(self.predict(operator) for operator in operators_of_network(network))

    def predict(self, operator: Operator) -> float:
        """Returns the milliseconds of one operator in a network.

        Raises:
            InputError: none of its kind, kernel and strides was measured.
        """
        milliseconds = self.milliseconds_of.get(operator)
        if milliseconds is None:
            milliseconds = self._interpolated(operator)
        return milliseconds * self.context + operator.weights / 1e6 * self.fetching

    @functools.cached_property
    def _by_kind(self):
        """{(kind, kernel, strides): [(place, logarithm of the milliseconds per work)]}."""
        found = {}
        for operator, milliseconds in self.milliseconds_of.items():
            row = _place(operator), math.log(milliseconds / operator.work)
            found.setdefault(operator[:3], []).append(row)
        return found

    @functools.lru_cache(maxsize=1 << 16)  # noqa: B019  a table lives as long as its program
    def _interpolated(self, operator):
        rows = self._by_kind.get(operator[:3])
        if rows is None:
            kind, kernel_size, strides = operator[:3]
            raise InputError(
                f"The table of '{self.device}' has no {kind} of kernel {kernel_size} and strides "
                f"{strides}: measure one on it for this base, with `measure --base`."
            )
        place = _place(operator)
        distances = [(math.dist(place, other), rate) for other, rate in rows]
        near = heapq.nsmallest(NEIGHBOURS, distances)
        weights = [1 / (distance + 1e-6) ** 2 for distance, _ in near]
        rates = sum(weight * rate for weight, (_, rate) in zip(weights, near))
        return operator.work * math.exp(rates / sum(weights))

    def to_json(self) -> str:
        """Returns the table as JSON, an operator per line."""
        about = {name: getattr(self, name) for name in ABOUT}
        rows = [
            json.dumps({**operator._asdict(), "milliseconds": milliseconds})
            for operator, milliseconds in self.milliseconds_of.items()
        ]
        lines = ",\n    ".join(rows)
        return f'{json.dumps(about)[:-1]}, "operators": [\n    {lines}\n]}}\n'


def _place(operator):
    numbers = (operator.input_filters, operator.filters, operator.side)
    return [math.log2(number) for number in numbers]


def read_table(path: str) -> Table:
    """Reads a file that `python -m effnet_tf.scaling measure` has written.

    Raises:
        InputError: there is none, or it is not such a file; says what is wrong in it.
    """
    try:
        content = json.loads(local_files.read(path, MOST_BYTES))
        return _table(content)
    except OSError as error:
        raise InputError(f"The table '{path}' cannot be read: {first_line(error)}.") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"'{path}' is not a table of latencies ({first_line(error)}): `python -m "
            "effnet_tf.scaling measure --out FILE.json` writes one."
        ) from error


def _table(content):
    unknown = set(content) - {*ABOUT, "operators"}
    if unknown:
        raise ValueError(f"it has no field {sorted(unknown)[0]!r}")
    if content["dtype"] not in DTYPES:
        raise ValueError(f"its dtype is {content['dtype']!r}, and not {' or '.join(DTYPES)}")
    rows = dict(_row(row) for row in content["operators"])
    if not rows:
        raise ValueError("it has no operators")
    context, fetching = _positive(content["context"], "context"), float(content["fetching"])
    if not 0 <= fetching < math.inf:
        raise ValueError(f"fetching is {fetching}, and no number from 0 on")
    threads = int(content["threads"])
    return Table(str(content["device"]), threads, content["dtype"], rows, context, fetching)


def _row(row):
    row = dict(row)
    milliseconds = row.pop("milliseconds")
    operator = Operator(**row)
    if not all(isinstance(size, int) and size > 0 for size in operator[1:]):
        raise ValueError(f"{operator} has a size that is no whole number above 0")
    return operator, _positive(milliseconds, str(operator))


def _positive(number, where):
    if not 0 < float(number) < math.inf:
        raise ValueError(f"{where} is {number}, and no number above 0")
    return float(number)
