"""Operations: the stated rules against counts by hand and by brute force."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timecell import ELM, GRU, LIF, Circuit, Delayed, LeakyIntegrator, Recurrent, Sequential, State, fuse, param
from timecell.combine import Every, Ticks
from timecell.data import Batch
from timecell.errors import InputError
from timecell.layers import CausalConv
from timecell.lens import PRICES, Prices, operations, synaptic_operations
from timecell.memory import Reservoir
from timecell.synapses.linear import Linear


def by_path(done):
    return {work.path: work for work in done.layers}


def test_two_layers_with_chosen_spikes():
    """Two samples of three steps; 3 inputs -> 4 units -> 2 outputs; every number here was counted by hand.

    Sample 0 has 3 spikes, sample 1 has 1: 12 and 4 accumulates in the first layer. Its weights are 1, so that a step
    with two spikes lifts all four units over the threshold (1.5) and no other does: 4 spikes in sample 0, none in
    sample 1, times a fan-out of 2.
    """
    net = Sequential(nn.Linear(3, 4, bias=False), LIF(4, tau=1.0, threshold=1.5), nn.Linear(4, 2), LeakyIntegrator(2))
    nn.init.ones_(net[0].weight)
    x = torch.zeros(2, 3, 3)
    x[0, 0, 0] = x[0, 2, 1] = x[0, 2, 2] = x[1, 1, 0] = 1
    done = operations(net, Batch(x))
    work = by_path(done)
    assert work["0"].acs.tolist() == [12, 4]
    assert work["2"].acs.tolist() == [8, 0]
    assert (done.macs, done.acs) == (0, (12 + 4 + 8) / 2)
    assert work["1"].updates.tolist() == [12, 12] and work["3"].updates.tolist() == [6, 6]
    assert done.updates == 18
    assert done.picojoules() == pytest.approx(12 * 0.9)
    assert done.picojoules(Prices(mac=7, ac=2, update=1)) == 12 * 2 + 18


def test_small_convolution_by_hand():
    """One spike in a corner of 3 x 3 and one in the middle, kernel 2 x 2, two maps: a corner meets 1 place, the middle 4."""
    x = torch.zeros(1, 1, 1, 3, 3)
    x[..., 0, 0] = 1
    assert operations(Sequential(nn.Conv2d(1, 2, 2)), Batch(x)).acs == 1 * 2
    x[..., 1, 1] = 1
    assert operations(Sequential(nn.Conv2d(1, 2, 2)), Batch(x)).acs == (1 + 4) * 2
    assert operations(Sequential(nn.Conv2d(1, 2, 2, padding=1)), Batch(x)).acs == (4 + 4) * 2
    assert operations(Sequential(nn.Conv2d(1, 2, 2)), Batch(0.5 * x)).macs == (1 + 4) * 2


@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_fan_out_of_a_convolution_is_exact(kernel, stride, padding, dilation, groups, seed):
    """Against a count of every (output place, input place) pair, one spike at a time."""
    layer = nn.Conv1d(4, 6, kernel, stride, padding, dilation, groups)
    spikes = (torch.rand(4, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    places = (8 + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    expected = sum(
        6 // groups
        for channel, at in spikes.nonzero().tolist()
        for out, tap in itertools.product(range(places), range(kernel))
        if out * stride - padding + tap * dilation == at
    )
    assert operations(Sequential(layer), Batch(spikes[None, None])).acs == expected


def test_analogue_inputs_are_multiplied_and_spikes_are_not():
    layer = Sequential(nn.Linear(3, 10))
    assert operations(layer, Batch(torch.tensor([[[0.0, 1.0, 1.0]]]))).acs == 20
    for x in ([0.0, 0.5, 1.0], [0.0, 1.0, 2.0], [0.0, -1.0, 1.0]):
        done = operations(layer, Batch(torch.tensor([[x]])))
        assert (done.macs, done.acs) == (20, 0)


def test_one_analogue_value_makes_a_layer_analogue_for_all_samples():
    done = operations(Sequential(nn.Linear(2, 3)), Batch(torch.tensor([[[1.0, 1.0]], [[0.0, 0.5]]])))
    assert done.layers[0].macs.tolist() == [6, 3]


def test_padding_and_batch_mates_do_not_count():
    torch.manual_seed(0)
    net = Sequential(
        nn.Linear(4, 6), LIF(6, threshold=0.1), Recurrent(LIF(6, threshold=0.1), nn.Linear(6, 6)),
        Delayed(6, 5, max_delay=2), GRU(5, 3), nn.Linear(3, 2), LeakyIntegrator(2), Ticks(nn.Linear(2, 2), 3),
        Every(2, Sequential(nn.Linear(2, 2), LIF(2))),
    )  # fmt: skip
    lengths = torch.tensor([7, 2, 4])
    x = (torch.rand(3, 7, 4) < 0.5).float() * (torch.arange(7) < lengths[:, None])[..., None]
    together = operations(net, Batch(x, lengths=lengths))
    for i, length in enumerate(lengths.tolist()):
        alone = by_path(operations(net, Batch(x[i : i + 1, :length])))
        for work in together.layers:
            for name in ("macs", "acs", "updates"):
                assert getattr(work, name)[i] == getattr(alone[work.path], name)[0], (work.path, name)


def test_the_recurrent_synapse_carries_the_spikes_of_the_step_before():
    torch.manual_seed(0)
    net = Sequential(Recurrent(LIF(5, threshold=0.3), nn.Linear(5, 5, bias=False)))
    x = torch.rand(2, 9, 5)
    spikes, _ = net(x)
    assert spikes.any()
    assert by_path(operations(net, Batch(x)))["0.synapse"].acs.tolist() == (spikes[:, :-1].sum((1, 2)) * 5).tolist()


def test_torchs_recurrent_layers_use_every_weight_at_every_step():
    done = operations(Sequential(GRU(4, 3)), Batch(torch.zeros(2, 5, 4)))
    assert (done.macs, done.acs) == (5 * (4 + 3) * 9, 0)


def test_the_net_runs_as_it_is_used_and_stays_as_it_was():
    net = Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9), nn.Linear(3, 2)).train()
    mean = net[0].running_mean.clone()
    assert operations(net, Batch(torch.rand(2, 4, 3))).macs == 4 * 6
    assert net.training and torch.equal(net[0].running_mean, mean)


def test_the_sum_is_what_a_report_says():
    torch.manual_seed(0)
    net = Sequential(nn.Linear(4, 6), LIF(6, threshold=0.1), nn.Linear(6, 2))
    batch = Batch(torch.rand(3, 7, 4))
    done = operations(net, batch)
    assert synaptic_operations(net, batch) == done.macs + done.acs > 0
    assert sum(w["macs"] + w["acs"] for w in done.to_dict()["layers"]) == pytest.approx(done.macs + done.acs)


def test_weights_without_a_rule_are_never_left_out_in_silence():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return x @ self.kernel

    net, batch = Sequential(Own(), nn.Linear(3, 2)), Batch(torch.rand(2, 4, 3))
    done = operations(net, batch)
    assert done.uncounted == ("0",) and done.macs == 4 * 6
    assert synaptic_operations(net, batch) is None
    with pytest.raises(InputError, match=r"operations.uncounted: found layers without a rule: 0"):
        done.picojoules()


def test_a_sample_without_steps_does_nothing():
    done = operations(Sequential(nn.Linear(3, 2)), Batch(torch.ones(2, 4, 3), lengths=torch.tensor([0, 4])))
    assert done.layers[0].acs.tolist() == [0, 24]


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="batch: found no samples"):
        operations(Sequential(nn.Linear(3, 2)), Batch(torch.rand(0, 4, 3)))


def test_the_prices_are_those_of_the_table():
    assert (PRICES["float32, 45 nm"].mac, PRICES["float32, 45 nm"].ac) == (pytest.approx(4.6), 0.9)
    assert (PRICES["int8, 45 nm"].mac, PRICES["int8, 45 nm"].ac) == (pytest.approx(0.23), 0.03)


def test_a_causal_convolution_meets_all_of_its_taps():
    """Two spikes, 5 outputs, 3 taps; cut in two, it is the same work."""
    layer, x = Sequential(CausalConv(2, 5, kernel=3, dilation=2)), torch.zeros(1, 6, 2)
    x[0, 0, 1] = x[0, 5, 0] = 1
    assert operations(layer, Batch(x)).acs == 2 * 5 * 3
    assert operations(layer, Batch(x[:, :3])).acs + operations(layer, Batch(x[:, 3:])).acs == 2 * 5 * 3


def test_a_reservoir_uses_every_weight_at_every_step():
    """4 steps of 3 inputs into 10 units that listen to 2 each: 4 (3 * 10 + 10 * 2); its readout of 10 to 1 comes on top."""
    net = Sequential(Reservoir(3, 10, connections=2, bias_scaling=0.1), nn.Linear(10, 1))
    done = operations(net, Batch(torch.ones(2, 4, 3)))
    assert by_path(done)["0"].macs.tolist() == [200, 200]
    assert by_path(done)["1"].macs.tolist() == [40, 40]
    assert (done.uncounted, done.acs) == ((), 0)


def test_a_circuit_multiplies_in_every_product_that_is_summed():
    """3 branches, 5 hidden units, 4 memories: 5 * 3 + 5 * 4 + 4 * 5 in the mixing network, and 4 units updated."""
    done = operations(Sequential(ELM(3, 5, 4)), Batch(torch.zeros(2, 7, 3)))
    assert by_path(done)["0"].macs.tolist() == [7 * 55] * 2
    assert by_path(done)["0"].updates.tolist() == [7 * 4] * 2
    assert done.uncounted == ()


def test_a_circuit_that_the_engine_cannot_look_into_is_not_counted():
    captured = torch.ones(3)

    class Biased(Circuit):
        axes = ("units",)
        shapes = {"x": ("units",), "v": ("units",)}
        v: State
        w = param(0.2, per=("units", "units"))

        @staticmethod
        def dynamics(x, s, p):
            v = torch.tanh(p.w @ s.v + x + captured)
            return v, s._replace(v=v)

    with fuse.backend("plain"):
        done = operations(Sequential(Biased(3)), Batch(torch.zeros(2, 4, 3)))
    assert done.uncounted == ("0",) and done.macs == 0


def test_spikes_through_the_activity_driven_product_are_counted_like_others():
    torch.manual_seed(0)
    x = (torch.rand(2, 9, 40) < 0.02).float()
    assert operations(Sequential(Linear(40, 7)), Batch(x)).acs == x.sum().item() * 7 / 2
