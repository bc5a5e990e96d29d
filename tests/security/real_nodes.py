"""What the tests of real nodes and the zygote they start have in common."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.security import (
    attacks_on_files,
    attacks_on_kernel,
    attacks_on_network,
    attacks_on_processes,
    attacks_on_resources,
)
from tests.security.attack import Attack
from tests.security.stage import Stage

ANSWER_CHARACTERS = 48

_NEEDS_MORE_THAN_ITS_SOCKET = {
    "devices-type_into_a_terminal",
    "files-open_relative_to_a_directory_descriptor",
    "files-reopen_an_own_descriptor_for_writing",
    "leaks-find_further_descriptors",
    "leaks-send_a_descriptor_to_the_engine",
    "leaks-use_a_leaked_descriptor",
    "memory-steal_a_descriptor_by_pidfd",
    "privilege-join_a_namespace",
    "resources-write_into_a_memory_file",
    "signals-signal_by_pidfd",
}
_ON_GRANTED_MEMORY = ("data set", "neighbours", "seal")
ATTACKS_OF_A_NODE: list[Attack] = [
    attack
    for module in (
        attacks_on_files,
        attacks_on_processes,
        attacks_on_network,
        attacks_on_kernel,
        attacks_on_resources,
    )
    for attack in module.ATTACKS
    if attack.id not in _NEEDS_MORE_THAN_ITS_SOCKET
    and not any(words in attack.name for words in _ON_GRANTED_MEMORY)
]


def loaded_modules() -> str:
    return str(len(sys.modules))


def _compile(stage: Stage) -> None:
    import torch

    torch.compile(lambda x: x + 1)(torch.ones(2))


def _load_data_with_workers(stage: Stage) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    list(DataLoader(TensorDataset(torch.ones(4)), num_workers=1))


def _share_tensor(stage: Stage) -> None:
    import torch

    torch.ones(4).share_memory_()


def _save_to_a_path(stage: Stage) -> None:
    import torch

    torch.save(torch.ones(4), "/tmp/tensor")  # noqa: TID251 - the attempt is the test


WORK_THAT_MUST_FAIL: dict[str, Callable[[Stage], object]] = {
    "torch.compile": _compile,
    "data loader with workers": _load_data_with_workers,
    "share_memory_": _share_tensor,
    "torch.save to a path": _save_to_a_path,
    "subprocess": lambda stage: subprocess.run(["true"], check=True),
    "thread": lambda stage: threading.Thread(target=int).start(),
    "open a file": lambda stage: Path("/etc/hostname").read_text(),
    "import a module": lambda stage: __import__("wave"),
}
