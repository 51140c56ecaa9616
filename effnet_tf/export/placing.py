"""What is said where a file did not get to its place?"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from effnet_tf.errors import SaveError, first_line
from effnet_tf.export import staging
from effnet_tf.export.tolerances import VerificationError
from effnet_tf.isolated import WorkerError


@contextlib.contextmanager
def placed(path: str, mark: str | None = None) -> Iterator[str]:
    """As `staging.staged`; what goes wrong says that nothing was written.

    Args:
        path: as for `staging.staged`.
        mark: as for `staging.staged`.

    Raises:
        InputError: as `staging.staged`.
        VerificationError: raised inside.
        WorkerError: raised inside.
        SaveError: instead of an error of the file system inside.
    """
    try:
        with staging.staged(path, mark) as temporary:
            yield temporary
    except VerificationError as error:
        raise VerificationError(f"{error}\nNothing was written to {path}.") from error
    except WorkerError as error:
        sentence = f"{error}\nNothing was written to {path}."
        raise WorkerError(sentence, error.reason) from error
    except (OSError, tf.errors.OpError) as error:  # a full disk, or one that is gone
        raise SaveError(
            f"'{path}' cannot be written: {first_line(error)}. What was there is as it was."
        ) from error
