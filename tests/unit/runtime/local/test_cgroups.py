"""Version 2 of control groups, on a model of the kernel's rules; version 1 is tried on the real one."""

import os
import shutil

import pytest

from flow_nexus_neural.runtime.local import cgroups
from flow_nexus_neural.runtime.local.cgroups import GroupLimits, Hierarchy, NodeGroup, hierarchies

WANTED = frozenset({"memory", "cpu", "pids"})
FILES = {
    "memory": ("memory.max", "memory.swap.max", "memory.events"),
    "cpu": ("cpu.weight",),
    "pids": ("pids.max",),
}
LIMITS = GroupLimits(memory_mb=512, nodes=8)
ZYGOTE = 7_000_001
STRANGER = 7_000_002


class Kernel:
    """Directories that behave like version 2's: controllers come from above, and not beside processes."""

    def __init__(self, home, monkeypatch):
        self.home = home
        self.populate(home, offered=WANTED)
        monkeypatch.setattr(cgroups, "_write", self.write)
        monkeypatch.setattr(cgroups, "_remove", self.remove)
        monkeypatch.setattr("pathlib.Path.mkdir", lambda place: self.make(place))  # noqa: PLW0108  # binds
        monkeypatch.setattr(
            cgroups, "hierarchies", lambda: [Hierarchy(version=2, controllers=WANTED, home=home)]
        )

    def populate(self, place, offered):
        (place / "cgroup.procs").write_text("")
        (place / "cgroup.subtree_control").write_text("")
        (place / "cgroup.controllers").write_text(" ".join(offered))
        for name in offered:
            for file in FILES[name]:
                (place / file).write_text("max")

    def make(self, place):
        os.mkdir(place)
        self.populate(place, offered=self.words(place.parent / "cgroup.subtree_control"))

    def words(self, file):
        return file.read_text().split()

    def write(self, file, text):
        if not file.exists():
            raise FileNotFoundError(file)
        if file.name == "cgroup.procs":
            if self.words(file.parent / "cgroup.subtree_control"):
                raise OSError(16, "processes beside controllers")
            self.move(text, file)
        elif file.name == "cgroup.subtree_control":
            self.switch(file, text)
        else:
            file.write_text(text)

    def move(self, pid, target):
        for procs in self.home.rglob("cgroup.procs"):
            procs.write_text("\n".join(word for word in self.words(procs) if word != pid))
        target.write_text("\n".join([*self.words(target), pid]))

    def switch(self, file, text):
        enabled = set(self.words(file))
        for word in text.split():
            if word[0] == "+" and self.words(file.parent / "cgroup.procs"):
                raise OSError(16, "controllers beside processes")
            enabled = enabled | {word[1:]} if word[0] == "+" else enabled - {word[1:]}
        file.write_text(" ".join(enabled))

    def remove(self, place):
        if not place.exists():
            return True
        if self.words(place / "cgroup.procs"):
            return False
        shutil.rmtree(place)
        return True

    @property
    def groups(self):
        return sorted(place.name.split("-")[3] for place in self.home.iterdir() if place.is_dir())


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return Kernel(tmp_path, monkeypatch)


def put(kernel, *pids):
    (kernel.home / "cgroup.procs").write_text("\n".join(str(pid) for pid in pids))


def create():
    return NodeGroup.create(LIMITS, ours=(os.getpid(), ZYGOTE))


def test_alone_in_a_delegated_group_the_server_makes_room_and_limits_its_nodes(kernel):
    put(kernel, os.getpid(), ZYGOTE)
    group = create()
    assert kernel.groups == ["nodes", "server"]
    assert kernel.words(kernel.home / "cgroup.procs") == []
    group.add(ZYGOTE)
    assert group.limits_on(ZYGOTE) == {
        "version": 2,
        "memory_mb": 512,
        "cpu_percent": 25,
        "processes": 24,
    }
    assert group.limits_on(os.getpid()) is None
    (counter,) = group.kill_counters
    assert counter.read_text() == "max"
    assert (counter.parent / "memory.swap.max").read_text() == "0"


def test_closing_puts_everything_back(kernel):
    put(kernel, os.getpid(), ZYGOTE)
    group = create()
    group.add(ZYGOTE)
    assert not group.close()  # it lives
    kernel.move(str(ZYGOTE), kernel.home / next(kernel.home.glob("*server*")) / "cgroup.procs")
    assert group.close()
    assert kernel.groups == []
    assert kernel.words(kernel.home / "cgroup.subtree_control") == []
    assert set(kernel.words(kernel.home / "cgroup.procs")) == {str(os.getpid()), str(ZYGOTE)}
    assert group.close()


def test_beside_a_stranger_nothing_is_moved_and_there_is_no_group(kernel):
    put(kernel, os.getpid(), STRANGER)
    assert create() is None
    assert kernel.groups == []
    assert kernel.words(kernel.home / "cgroup.procs") == [str(os.getpid()), str(STRANGER)]


def test_where_controllers_are_handed_down_already_nobody_moves(kernel):
    put(kernel, os.getpid(), STRANGER)
    (kernel.home / "cgroup.subtree_control").write_text(" ".join(WANTED))
    assert create() is not None
    assert kernel.groups == ["nodes"]


def test_a_refusal_half_way_leaves_everything_as_it_was(kernel, monkeypatch):
    put(kernel, os.getpid(), ZYGOTE)

    def refuse(file, text):
        if file.name == "pids.max":
            raise PermissionError(13, "no")
        kernel.write(file, text)

    monkeypatch.setattr(cgroups, "_write", refuse)
    assert create() is None
    assert kernel.groups == []
    assert set(kernel.words(kernel.home / "cgroup.procs")) == {str(os.getpid()), str(ZYGOTE)}


@pytest.mark.parametrize(
    ("own", "given_mb", "allowed"),
    [("max", 512, 512 << 20), (str(1 << 30), None, 3 << 28), (str(1 << 30), 4096, 4096 << 20)],
)
def test_the_total_is_as_set_or_three_quarters_of_our_own(kernel, own, given_mb, allowed):
    put(kernel, os.getpid())
    (kernel.home / "memory.max").write_text(own)
    (file,) = NodeGroup.create(GroupLimits(given_mb, nodes=1), ours=(os.getpid(),)).kill_counters
    assert (file.parent / "memory.max").read_text() == str(allowed)


MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {sys}/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /box/1 {sys}/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 /other {sys}/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / {sys}/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / {sys}/unified rw,relatime - cgroup2 cgroup2 rw
"""
MEMBERSHIPS = """\
9:name=systemd:/user
8:pids:/box/1
4:memory:/box/1/inner
1:cpu,cpuacct:/
0::/user
"""


def test_hierarchies_are_found_where_they_are_mounted(tmp_path):
    (tmp_path / "mountinfo").write_text(MOUNTS.format(sys=tmp_path))
    (tmp_path / "cgroup").write_text(MEMBERSHIPS)
    (tmp_path / "unified/user").mkdir(parents=True)
    (tmp_path / "unified/user/cgroup.controllers").write_text("pids hugetlb")
    assert hierarchies(tmp_path) == [
        Hierarchy(1, frozenset({"cpu"}), tmp_path / "cpu,cpuacct"),
        Hierarchy(1, frozenset({"memory"}), tmp_path / "memory/inner"),
        Hierarchy(2, frozenset({"pids"}), tmp_path / "unified/user"),
    ]


def test_without_proc_there_is_no_hierarchy(tmp_path):
    assert hierarchies(tmp_path / "nothing") == []
