"""The rounds of trainings for other tools: files always, TensorBoard or MLflow if asked for."""
