"""A model as one ONNX graph, written from the plans: scaling, every serving network and the combination."""
