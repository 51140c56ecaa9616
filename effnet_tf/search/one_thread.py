"""How does a process that trains small networks keep to one core?"""


def use_one_thread() -> None:
    """Has TensorFlow use one thread, unless there is a GPU; before anything is computed.

    Several threads for one small network only wait for each other, and searches train several
    networks beside each other: digits at 8 pixels took 2.5 seconds of the processor instead of
    6.5 per training. Results do not depend on how many processes there are.
    """
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(1)
