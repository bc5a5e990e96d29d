"""The words that go with the numbers: what is protected from whom, and what is not."""

UNIT = "client: all training rows of one worker, whose shard stays the same during the training"
OUTSIDE = (
    "losses, metrics and the number of rounds in status, which are measured without noise",
    "rows held out for validation, calibration and test: they choose the best round, weights and thresholds",
    "scaling of columns, class names and class_weight balanced, which are computed from all training rows",
    "how many rows of which class each worker has, who took part when, and how long it took",
    "the engine and, under proof-of-learning, verifying nodes: they see single updates or rows",
    "trainings of this data set without privacy, in other state directories, or on altered copies",
)
