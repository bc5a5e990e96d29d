"""Real data sets that scikit-learn brings along; nothing is downloaded."""

import numpy as np

from flow_nexus_neural.data.table import Column, Table, matrix_columns, table_from
from flow_nexus_neural.errors import DatasetNotFound, NotAvailable

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def load_bundled(name: str) -> tuple[Table, str, str]:
    """Load one of scikit-learn's own data sets.

    Returns:
        The table, the name of its label column, and a sentence on its source.

    Raises:
        DatasetNotFound: If the name is none of them.
        NotAvailable: If scikit-learn is not installed.
    """
    if name not in NAMES:
        raise DatasetNotFound(
            f"scikit-learn brings no data set '{name}'",
            hint="names: " + ", ".join(f"sklearn:{known}" for known in NAMES),
        )
    try:
        import sklearn
        from sklearn import datasets
    except ImportError:
        raise NotAvailable(
            f"sklearn:{name} needs scikit-learn, which is not installed",
            hint="pip install scikit-learn, or give the data inline or as a file",
        ) from None
    loaded = getattr(datasets, f"load_{name}")()
    inputs = np.asarray(loaded.data, dtype=np.float64)
    names = [str(feature) for feature in loaded.feature_names]
    columns: dict[str, Column] = matrix_columns(inputs, names)
    columns["target"] = np.asarray(loaded.target, dtype=np.float64)
    source = f"scikit-learn {sklearn.__version__} load_{name}"
    return table_from(columns, f"sklearn:{name}"), "target", source
