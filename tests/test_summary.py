"""A net at a glance: what `summary` says, and that it leaves no trace."""

import copy
import json

import pytest
import torch
from torch import nn

from timecell import GRU, LIF, Delayed, LeakyIntegrator, Recurrent, Residual, Sequential
from timecell.errors import InputError
from timecell.summary import summary
from timecell.watch import over_time
from timecell.work import Meter, uncounted


def rows(net, x=None):
    return {row.path: row for row in summary(net, x).rows}


@pytest.fixture
def net():
    return Sequential(
        Delayed(5, 6, max_delay=3),
        nn.BatchNorm1d(6),
        LIF(6, learn=("tau",)),
        Residual(nn.Linear(6, 6), LIF(6)),
        Recurrent(LIF(6), nn.Linear(6, 6, bias=False)),
        GRU(6, 4),
        nn.Dropout(0.5),
        nn.Linear(4, 2),
        LeakyIntegrator(2),
    )


# --- what it says -----------------------------------------------------------------------------------------------------


def test_shapes_states_and_parameters_of_every_layer(net):
    found = rows(net, torch.rand(3, 7, 5))
    assert found[""].output == found["8"].output == ("B", "T", 2)
    assert {p: r.output for p, r in found.items() if r.output != ("B", "T", 6)} == {
        "": ("B", "T", 2), "5": ("B", "T", 4), "5.rnn": ("B", "T", 4), "6": ("B", "T", 4), "7": ("B", "T", 2),
        "8": ("B", "T", 2),
    }  # fmt: skip
    assert found["0"].states == {"x": ("B", 3, 5)}
    assert found["4"].states == {"y": ("B", 6)}
    assert found["4.neuron"].states == {"v": ("B", 6)}
    assert found["5"].states == {"h": ("B", 4)}
    assert (found["0"].trainable, found["2"].trainable, found["2"].fixed) == (60, 1, 1)
    assert found["5.rnn"].trainable == 3 * 4 * (6 + 4) + 2 * 3 * 4


def test_totals_are_those_of_the_net(net):
    found = summary(net, torch.rand(3, 7, 5))
    assert found.trainable == sum(p.numel() for p in net.parameters())
    assert found.fixed == 1 + 2 + 2 + 1
    assert found.state == 15 + 6 + 6 + 6 + 6 + 4 + 2
    assert found.macs == sum(row.macs for row in found.rows)


def test_operations_a_step_are_counted_by_hand():
    x = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])  # three spikes in two steps
    found = rows(Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), x)
    assert (found["0"].macs, found["0"].acs) == (0.0, 3 * 4 / 2)
    assert (found["1"].macs, found["1"].acs) == (4 * 5, 0.0)


def test_without_an_input_only_what_is_known(net):
    found = summary(net)
    assert found.trainable == summary(net, torch.rand(2, 3, 5)).trainable
    assert (found.state, found.macs, found.input) == (None, None, None)
    assert {row.output for row in found.rows} == {None}
    assert rows(net)["2"].states == {"v": None}
    assert "MAC" not in str(found)


def test_a_shared_parameter_counts_once_and_a_frozen_one_is_fixed():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    found = summary(nn.Sequential(first, second, nn.Linear(3, 1).requires_grad_(False)))
    assert (found.trainable, found.fixed) == (9, 4)


def test_convolutional_net():
    net = Sequential(nn.Conv2d(1, 4, 3), LIF((4, 1, 1)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    found = rows(net, torch.rand(2, 5, 1, 8, 8))
    assert found["0"].output == ("B", "T", 4, 6, 6)
    assert found["1"].states == {"v": ("B", 4, 6, 6)}
    assert found["4"].output == ("B", "T", 2)


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (1, 4), (4, 1), (3, 3), (4, 4), (6, 4)])
def test_shapes_are_right_whatever_the_batch(net, batch, steps):
    outputs = {p: r.output for p, r in rows(net, torch.rand(batch, steps, 5)).items()}
    assert outputs == {p: r.output for p, r in rows(net, torch.rand(3, 7, 5)).items()}


def test_a_lone_cell():
    (row,) = summary(LIF(4), torch.rand(2, 3, 4)).rows
    assert (row.path, row.kind, row.output, row.states) == ("", "LIF", ("B", "T", 4), {"v": ("B", 4)})


class Users(nn.Module):
    """Someone's own module: it mixes time, pools it, and returns no state."""

    def __init__(self):
        super().__init__()
        self.first, self.mix, self.head = nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.mix(self.first(x))[0].mean(1))


def test_a_module_that_is_no_cell():
    found = rows(Users(), torch.rand(2, 7, 3))
    assert [found[p].output for p in ("first", "mix", "head", "")] == [
        ("B", "T", 4), ("B", "T", 5), ("B", 2), ("B", 2),
    ]  # fmt: skip
    assert found["mix"].macs == 4 * 5 * (4 + 5)
    assert found["head"].macs == pytest.approx(5 * 2 / 7)


def test_weights_without_a_rule_are_said_to_be_unknown():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return x @ self.kernel

    found = summary(Sequential(Own(), nn.Linear(3, 2)), torch.rand(2, 4, 3))
    assert (found.rows[1].macs, found.macs, found.acs) == (None, None, None)
    assert found.rows[2].macs == 6
    assert "?" in str(found)
    assert (
        uncounted(Sequential(nn.LayerNorm((2, 2)), LIF((4, 1, 1), tau=torch.full((4, 1, 1), 9.0), learn=("tau",))))
        == ()
    )


def test_bad_inputs_are_named(net):
    for x in (torch.rand(3), "x", torch.rand(0, 3, 5)):
        with pytest.raises(InputError, match=r"summary\(x\).*expected a tensor \[B, T, ...\]"):
            summary(net, x)


# --- no trace ---------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Draws, and counts its calls in a buffer, whatever the mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + torch.rand_like(x)


def test_it_leaves_no_trace(net):
    net.add_module("9", Counting())
    net.train()[3].eval()
    modes, before = [m.training for m in net.modules()], copy.deepcopy(net.state_dict())
    torch.manual_seed(0)
    summary(net, torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(1)))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert drawn == torch.rand(1)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_a_net_that_fails_is_left_as_it_was(net):
    net.train()
    with pytest.raises(InputError, match=r"Delayed\(x\)"):
        summary(net, torch.rand(3, 7, 99))
    assert net.training and not any(m._forward_hooks for m in net.modules())


# --- how it prints ----------------------------------------------------------------------------------------------------


def test_text_html_and_json_say_the_same(net):
    found = summary(net, torch.rand(3, 7, 5))
    text, page = str(found), found._repr_html_()
    assert repr(found) == text
    assert max(map(len, text.splitlines())) <= 120
    for name in ("4 Recurrent", "neuron LIF", "[B, T, 6]", "MAC/step", f"{found.trainable:,}"):
        assert name in text and name in page
    assert len(text.splitlines()) == len(found.rows) + 2 == page.count("<tr>")
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["total"]["trainable"] == found.trainable
    assert document["rows"][0]["output"] == ["B", "T", 2]


def test_names_are_escaped():
    class Bold(nn.Identity):
        pass

    Bold.__name__ = "<b>[red]"
    found = summary(Sequential(Bold()))
    assert "&lt;b&gt;[red]" in found._repr_html_() and "<b>[red]" in str(found)


# --- the ground -------------------------------------------------------------------------------------------------------


def test_instants_that_exist_find_their_way_back():
    lengths = torch.tensor([1, 3])
    course = over_time([torch.arange(1.0, 5.0)], False, 2, 3, lengths)
    assert course.tolist() == [[1, 0, 0], [2, 3, 4]]
    assert over_time([torch.ones(5)], False, 2, 3, lengths) is None


def test_a_meter_says_what_it_cannot_tell_apart():
    meter = Meter()
    meter.note("a", nn.Linear(2, 2), torch.ones(5, 2), torch.ones(5, 2))
    meter.close(batch=2, steps=3)
    assert meter.lost == {"a"} and meter.works() == ()
