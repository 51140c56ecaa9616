"""How does a model become a TFLite file: fences tf.lite and flatbuffers."""
