"""Diagnosis: nets with each known illness, and healthy ones in which nothing is found."""

import copy
import json
import math

import pytest
import torch
from torch import nn

import timecell as tc
from timecell import GRU, LIF, AdaptiveLIF, Delayed, LeakyIntegrator, Recurrent, Sequential
from timecell.combine import Bidirectional, Every, Loop, Ticks
from timecell.data import Batch
from timecell.errors import InputError
from timecell.lens import Limits, diagnose
from timecell.lens.illnesses import half_width
from timecell.lens.observation import observe
from timecell.neurons import ATan
from timecell.tasks import Classify

LOSS, LAST = Classify().loss, Classify("last").loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    x = (torch.rand(16, 100, 12, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    return Batch(x, torch.arange(16) % 3)


def net(readout=20.0, **lif):
    return Sequential(
        nn.Linear(12, 24), nn.BatchNorm1d(24), LIF(24, **lif), nn.Linear(24, 3), LeakyIntegrator(3, tau=readout)
    )


def illnesses(net, batch, loss=LOSS, **limits):
    return {(f.illness, f.place) for f in diagnose(net, batch, loss, Limits(**limits)).findings}


# --- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [LOSS, LAST, None])
def test_a_healthy_net_yields_nothing(batch, loss):
    found = diagnose(net(), batch, loss)
    assert found.findings == ()
    assert "Nothing is wrong" in str(found)
    assert (found.loss is None) == (loss is None)


def test_healthy_nets_of_other_kinds(batch):
    lengths = torch.arange(16) * 5 + 25
    ragged = Batch(batch.x * (torch.arange(100) < lengths[:, None])[..., None], batch.target, lengths)
    delayed = Sequential(
        Delayed(12, 16, max_delay=9), nn.BatchNorm1d(16), LIF(16, tau=2.0), Delayed(16, 3, max_delay=9)
    )
    gated = Sequential(GRU(12, 8), nn.Linear(8, 3))
    recurrent = Sequential(
        nn.Linear(12, 16), nn.BatchNorm1d(16), Recurrent(AdaptiveLIF(16), nn.Linear(16, 16)), nn.Linear(16, 3)
    )
    for healthy in (delayed, gated, recurrent):
        assert illnesses(healthy, ragged) == set()


def test_vital_signs_are_those_of_the_run(batch):
    sick = net(threshold=3.0).eval()
    spikes, _ = Sequential(*list(sick)[:3])(batch.x)
    signs = {h.path: h for h in diagnose(sick, batch, LOSS).layers}["2"]
    assert signs.rate == pytest.approx(spikes.mean().item())
    assert signs.silent == (spikes.sum((0, 1)) == 0).float().mean()


def test_blame_is_the_gradient_with_respect_to_the_input_by_steps_before_the_end(batch):
    """A leaky readout whose last output is the loss: at k steps before the end exactly (1 - 1/tau)^k."""
    lengths = torch.tensor([100, 60] * 8)
    leak = Sequential(LeakyIntegrator(12, tau=4.0))
    found = diagnose(
        leak,
        Batch(batch.x, lengths=lengths),
        lambda y, b, _: y[torch.arange(16), b.lengths - 1, 0].sum(),
        Limits(fading=0),
    )
    blame = found.layers[0].blame
    assert len(blame) == 100
    assert blame[:50] == pytest.approx([0.75**k for k in range(50)], rel=1e-4)


# --- illnesses --------------------------------------------------------------------------------------------------------


def test_a_threshold_too_high(batch):
    found = diagnose(net(threshold=50.0), batch, LOSS)
    dead = found.findings[0]
    assert (dead.illness, dead.place, dead.value) == ("dead layer", "2 (LIF)", 1.0)
    assert "the threshold is 50" in dead.message and "threshold" in dead.remedy


def test_a_few_units_too_quiet(batch):
    sick = net()
    sick[1].weight.data[:18] = 0
    sick[1].bias.data[:18] = -1
    (finding,) = diagnose(sick, batch).findings
    assert (finding.illness, finding.value, finding.limit) == ("silent units", 0.75, 0.5)
    assert "75%" in finding.message
    assert illnesses(sick, batch, None, silent=0.8) == set()


def test_a_bias_too_large(batch):
    sick = net()
    nn.init.constant_(sick[1].bias, 5.0)
    (finding,) = diagnose(sick, batch).findings
    assert (finding.illness, finding.place, finding.value) == ("saturated units", "2 (LIF)", 1.0)
    assert "bias" in finding.remedy


def test_a_memory_too_short_for_a_long_sequence(batch):
    sick = net(tau=1.1, readout=1.1)
    (finding,) = [f for f in diagnose(sick, batch, LAST).findings if "gradient" in f.illness]
    assert (finding.illness, finding.place) == ("vanishing gradient", "4 (LeakyIntegrator)")
    assert finding.value < finding.limit == 1e-4
    assert "time constant" in finding.remedy
    assert "vanishing gradient" not in {i for i, _ in illnesses(sick, batch, LOSS)}  # every step has a say of its own


class Growing(tc.Neuron):
    v: tc.State
    gain = tc.param(1.1, learn=False)

    @staticmethod
    def dynamics(x, s, p):
        v = p.gain * s.v + x
        return v, s._replace(v=v)


def test_a_state_that_explodes_and_its_gradient(batch):
    sick = Sequential(nn.Linear(12, 8), Growing(8, gain=1.2), nn.Linear(8, 3))
    found = illnesses(sick, batch, LAST)
    assert found == {("exploding state", "1 (Growing)"), ("exploding gradient", "1 (Growing)")}
    assert illnesses(Sequential(nn.Linear(12, 8), Growing(8, gain=0.95), nn.Linear(8, 3)), batch, LAST) == set()


def test_the_place_of_a_weight_that_is_not_a_number(batch):
    sick = net()
    sick[3].weight.data[1, 2] = math.nan
    (finding,) = diagnose(sick, batch, LOSS).findings
    assert (finding.illness, finding.place, finding.value) == ("not finite", "3 (Linear)", 1)
    assert "from step 0 of sample 0 on" in finding.message and "its weight holds 1 such numbers" in finding.message


def test_the_place_and_step_of_an_overflow(batch):
    class Overflow(tc.Cell):
        def forward(self, x, state=None, *, lengths=None):
            y = x.clone()
            y[5, 42:, 1] = math.inf
            return y, None

    sick = Sequential(nn.Linear(12, 3), Overflow(), nn.Linear(3, 3), LeakyIntegrator(3))
    (finding,) = diagnose(sick, batch, LOSS).findings
    assert finding.place == "1 (Overflow)" and "from step 42 of sample 5 on" in finding.message


def test_a_number_that_a_spike_hides(batch):
    """NaN >= threshold is False: the spikes look fine, the membrane is not."""
    sick = net()
    sick[2].tau_value.fill_(math.nan)
    (finding,) = diagnose(sick, batch, LOSS).findings
    assert finding.place == "2 (LIF)" and "from step 0" in finding.message


def test_inputs_that_are_not_finite(batch):
    batch.x[3, 7, 2] = math.nan
    (finding,) = diagnose(net(), batch, LOSS).findings
    assert finding.place == "the input" and "x[3, 7, 2] is nan" in finding.message


def test_a_loss_and_a_gradient_that_are_not_finite(batch):
    (finding,) = diagnose(net(), batch, lambda y, *_: (y * 0).sum().log() * 0).findings
    assert finding.place == "the loss"
    (finding,) = diagnose(net(), batch, lambda y, *_: (y * 0).square().sum().sqrt()).findings
    assert finding.place.startswith("the gradient of")


@pytest.mark.parametrize(("alpha", "illness"), [(1000.0, "surrogate too narrow"), (0.01, "surrogate too wide")])
def test_a_surrogate_that_does_not_fit_the_membrane(batch, alpha, illness):
    found = diagnose(net(surrogate=ATan(alpha)), batch).findings
    assert [(f.illness, f.place) for f in found] == [(illness, "2 (LIF)")]
    assert f"{half_width(ATan(alpha)):.3g}" in found[0].message


def test_half_width_of_the_arctangent_is_exact():
    assert half_width(ATan(2.0)) == pytest.approx(1 / math.pi, rel=0.01)


def test_blame_that_does_not_reach_a_layer(batch):
    class Wall(nn.Module):
        def forward(self, x):
            return x.detach()

    sick = Sequential(nn.Linear(12, 8), Wall(), nn.Linear(8, 3))
    assert illnesses(sick, batch) == {("no gradient", "0 (Linear)")}
    assert illnesses(Sequential(nn.Linear(12, 3), Wall()), batch) == {("no gradient", "0 (Linear)")}
    faint = Sequential(nn.Linear(12, 8), nn.Linear(8, 3))
    nn.init.constant_(faint[1].weight, 1e-9)
    assert illnesses(faint, batch) == {("vanishing with depth", "0 (Linear)")}


# --- manners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
def test_the_net_is_looked_at_in_its_mode_and_left_as_it_was(batch, mode):
    patient = Sequential(nn.Dropout(0.5), *net()).train(mode)
    before = copy.deepcopy(patient.state_dict())
    torch.manual_seed(0)
    diagnose(patient, batch, LOSS)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert drawn == torch.rand(1)
    assert all(m.training == mode for m in patient.modules())
    assert all(torch.equal(v, before[k]) for k, v in patient.state_dict().items())
    assert all(p.grad is None for p in patient.parameters()) and not batch.x.requires_grad


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("cell", [Bidirectional, Ticks, Every, Loop, Recurrent])
def test_every_container_can_be_looked_into(cell, ragged):
    lengths = torch.tensor([24, 8, 1]) if ragged else None
    seen = diagnose(cell.example(), Batch(torch.rand(3, 24, 4), lengths=lengths), lambda y, *_: y.square().sum())
    assert seen.loss > 0 and seen.layers


def test_a_loop_is_seen_step_by_step():
    """The blame at the input of a leaky unit in a loop without feedback is that of the unit alone."""
    feedback = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(feedback.weight)
    unit, lengths = LeakyIntegrator(4, tau=3.0), torch.tensor([12, 5])
    batch = Batch(torch.rand(2, 12, 4), lengths=lengths)

    def last(y, b, _):
        return y[torch.arange(2), b.lengths - 1].sum()

    alone = diagnose(Sequential(unit), batch, last).layers[0].blame
    layers = {h.path: h for h in diagnose(Recurrent(unit, feedback), batch, last).layers}
    assert layers["neuron"].blame == pytest.approx(alone, rel=1e-5)


def test_units_of_feature_maps_are_maps():
    maps = Sequential(nn.Conv2d(1, 4, 3, padding=1), LIF((4, 1, 1), threshold=0.2))
    nn.init.constant_(maps[0].weight, 1.0)
    x = torch.zeros(2, 20, 1, 6, 6)
    x[..., 0, 0] = 1  # only a corner is ever reached
    assert diagnose(maps, Batch(x)).layers[1].silent == 0


def test_json_holds_everything(batch):
    found = diagnose(net(threshold=50.0), batch, LOSS)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["findings"][0]["illness"] == "dead layer"
    assert len(document["layers"]) == 5 and len(document["layers"][2]["blame"]) == 100
    assert "dead layer: 2 (LIF)" in str(found) and "Remedy:" in repr(found)


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match=r"batch.x: found shape \[0, 4, 12\]"):
        diagnose(net(), Batch(torch.rand(0, 4, 12)))


def test_observation_keeps_the_courses(batch):
    layers = {layer.path: layer for layer in observe(net(), batch, LOSS).layers}
    assert layers["2"].states["v"].shape == layers["2"].output.shape == (16, 100, 24)
    assert layers["2"].remembers and not layers["0"].remembers
    assert layers["3"].gradients["weight"].shape == (3, 24)
