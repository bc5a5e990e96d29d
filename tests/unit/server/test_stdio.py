"""What is written to the client: whole, in order, and nothing lost, also where a writer is cancelled."""

import contextlib
import os
import threading
from io import TextIOWrapper
from select import PIPE_BUF

import anyio
import pytest

from flow_nexus_neural.server.stdio import _Output, written_at_once

WRITERS, LINES, LONG = 6, 30, "x" * 20_000


class Client:
    """Reads a pipe to its end in a thread, once it is let."""

    def __init__(self):
        self._read_fd, self.write_fd = os.pipe()
        self.text = ""
        self.may_read = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        self.may_read.wait()
        with os.fdopen(self._read_fd, encoding="utf-8") as file:
            self.text = file.read()

    def output(self):
        return _Output(TextIOWrapper(os.fdopen(self.write_fd, "wb"), encoding="utf-8"))


async def test_every_line_of_many_writers_arrives_once_whole_and_in_its_writers_order():
    client = Client()
    output = client.output()

    async def writer(name):
        for number in range(LINES):
            await output.write(f"{name} {number} {LONG}\n")
            await output.flush()

    async with anyio.create_task_group() as group:
        for name in range(WRITERS):
            group.start_soon(writer, name)
        client.may_read.set()
    await output.aclose()
    client.thread.join()
    lines = [line.split(" ") for line in client.text.splitlines()]
    assert {rest for _, _, rest in lines} == {LONG}
    for name in range(WRITERS):
        assert [int(n) for who, n, _ in lines if who == str(name)] == list(range(LINES))


async def test_a_client_that_does_not_read_holds_the_writer_up():
    client = Client()
    output = client.output()
    done = anyio.Event()

    async def writer():
        for _ in range(LINES):
            await output.write(LONG + "\n")
            await output.flush()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(writer)
        await anyio.wait_all_tasks_blocked()
        assert not done.is_set()  # more than a pipe holds
        client.may_read.set()
    await output.aclose()
    client.thread.join()
    assert client.text == (LONG + "\n") * LINES


async def test_what_a_cancelled_writer_left_goes_out_with_the_next():
    client = Client()
    output = client.output()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await output.write("first\n")
        await output.flush()
    assert scope.cancelled_caught
    client.may_read.set()
    await output.write("second\n")
    await output.flush()
    await output.aclose()
    client.thread.join()
    assert client.text == "first\nsecond\n"


async def test_what_the_pipe_has_room_for_takes_no_thread():
    client = Client()
    output = client.output()

    def refuse(_):
        raise AssertionError("a thread was used")

    output._send = refuse
    for number in range(3):
        await output.write(f"{number} {'x' * 100}\n")
        await output.flush()
    client.may_read.set()
    await output.aclose()
    client.thread.join()
    assert [line.split(" ")[0] for line in client.text.splitlines()] == ["0", "1", "2"]


@pytest.mark.parametrize("read", [False, True])
def test_no_more_is_written_at_once_than_the_pipe_has_room_for(read):
    read_fd, write_fd = os.pipe()
    try:
        os.set_blocking(write_fd, False)
        held = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                held += os.write(write_fd, b"f" * PIPE_BUF)
        os.set_blocking(write_fd, True)  # a write of more than it has room for would hang
        room = len(os.read(read_fd, held)) if read else 0
        done = written_at_once(write_fd, memoryview(b"d" * (held + PIPE_BUF)))
        assert done == room
    finally:
        os.close(read_fd)
        os.close(write_fd)
