"""A training of a running server is watched, and drawn, from copies of what was stored."""

import io

import anyio
import pytest

from flow_nexus_neural.__main__ import main
from flow_nexus_neural.cli import stored_source, watch
from flow_nexus_neural.cli.plot import Asked, plot_stored
from flow_nexus_neural.cli.watch import PlainScreen, RichScreen, follow, screen_for
from flow_nexus_neural.errors import NotTrained
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.simulated import world

PNG = b"\x89PNG\r\n\x1a\n"
POINT = {"round": 3, "train_loss": 0.5, "val_loss": None, "accuracy": None, "seconds": 0.25}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_round_is_shown_once_while_a_server_trains_and_the_end_ends_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(watch, "PAUSE_S", 0.05)
    monkeypatch.setattr(stored_source, "POLL_S", 0.05)
    state = tmp_path / "state"
    settings, out, status = Settings(state_dir=state), io.StringIO(), None
    async with world(state) as w:
        cluster = await w.cluster(2)
        with pytest.raises(NotTrained, match="no training to watch"):
            await follow(settings, cluster, PlainScreen(out))
        await w.start(cluster, epochs=8, patience=0, federated=False)
        with anyio.fail_after(HANG_S):
            assert await follow(settings, "sim", PlainScreen(out)) == 0
        status = await w.done(cluster)
        history = (await w.engine.history(cluster)).rounds
    first, *rounds, last = out.getvalue().splitlines()
    assert first == f"training {status.training.training_id} of cluster {cluster}"
    assert len(rounds) == len(history) == 8
    for line, point in zip(rounds, history, strict=True):
        assert line.startswith(f"round {point.round}/8  train loss {point.train_loss:.4f}  ")
    assert last.startswith(f"completed after 8 of 8 rounds; accuracy {status.global_accuracy:.3f}")

    # Drawn by the command too, and never over a file that is there.
    picture, asked = tmp_path / "curve.png", ["x", "--state-dir", str(state), "clusters", "show"]
    for words, expected, said in (
        ([], 0, "Training " + status.training.training_id + ", completed"),
        ([], 1, "exists"),
        (["--overwrite", "--kind", "confusion"], 0, "class"),
        (
            ["--overwrite", "--kind", "topology"],
            0,
            "engine - worker-1: not known whether it works",
        ),
        (["--overwrite", "--kind", "latency"], 1, "neural_cluster_plot with kind latency"),
    ):
        monkeypatch.setattr("sys.argv", [*asked, cluster, "--plot", str(picture), *words])
        assert await anyio.to_thread.run_sync(main) == expected
        printed = capsys.readouterr()
        assert said in printed.out + printed.err
        assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (None, "add --plot file"),
        ("{here}/a.jpg", "end it in .png or .svg"),
        ("{here}/nowhere/a.png", "no folder"),
        ("{here}/state/a.png", "in the state directory"),
        ("{here}/a.png", "cluster_not_found"),
    ],
)
def test_a_picture_that_cannot_be_drawn_leaves_nothing(tmp_path, capsys, path, said):
    settings = Settings(state_dir=tmp_path / "state")
    (tmp_path / "state").mkdir(mode=0o700)
    place = path and path.format(here=tmp_path)
    assert plot_stored(settings, Asked("dnc_nothing", place)) == 1
    assert said in capsys.readouterr().err.lower()
    assert not [*tmp_path.rglob("a.*")]


def test_an_unknown_cluster_is_an_error_that_says_what_to_do(tmp_path, capsys):
    assert watch.watch(Settings(state_dir=tmp_path), "dnc_nothing") == 1
    assert "neural_cluster_init" in capsys.readouterr().err


def test_an_interrupted_watch_says_so_without_a_traceback(tmp_path, capsys, monkeypatch):
    async def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "follow", interrupted)
    assert watch.watch(Settings(state_dir=tmp_path), "dnc_nothing") == 130
    printed = capsys.readouterr()
    assert "the training is not touched" in printed.err
    assert "Traceback" not in printed.err


def test_a_terminal_gets_a_bar_and_a_pipe_lines_of_what_was_measured():
    out = io.StringIO()
    with screen_for(out) as screen:
        assert isinstance(screen, PlainScreen)
        screen.round(POINT, 9, 12.4)
    assert out.getvalue() == ("round 3/9  train loss 0.5000  0.25 s  about 12 s of rounds left\n")
    pytest.importorskip("rich")
    terminal = Terminal()
    with screen_for(terminal) as screen:
        assert isinstance(screen, RichScreen)
        screen.round(POINT, 9, 12.4)
        screen.say("[red]completed[/red]")
    shown = terminal.getvalue()
    assert "3/9" in shown
    assert "about 12 s of rounds left" in shown
    assert "[red]completed[/red]" in shown, "what is said is no markup"
