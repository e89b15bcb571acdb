"""The ELM neuron as a system, its synapses, and what its claims measure with."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell import catalog
from timecell.claims import Trial, load_claims, quick
from timecell.claims.terms import read_terms, terms_file
from timecell.data.containers import Schema, Sequences
from timecell.data.synthetic.spikes import motifs
from timecell.errors import InputError
from timecell.network_system import FittedNetwork
from timecell.synapses.branched import BranchSynapses
from timecell.system import Run
from timecell.systems.spiking.claims import elm_neuron
from timecell.systems.spiking.claims.elm_neuron import (
    ADDER,
    GATED,
    Recorded,
    adding,
    elm,
    linear_nonlinear,
    recorded,
    tcn,
    train_on_spikes,
)
from timecell.systems.spiking.elm_neuron import ElmNeuron
from timecell.tasks import Classify

# --- synapses ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12))
def test_every_input_reaches_a_branch_and_windows_are_equally_wide(inputs, branches):
    synapses = BranchSynapses(inputs, branches, weight=1.0)
    reached = synapses(torch.eye(inputs))  # [input, branch]
    assert (reached.sum(1) >= 1).all() and (reached.sum(0) == synapses.window).all()


def test_a_branch_reads_its_window_with_its_own_weights():
    synapses = BranchSynapses(6, 2, window=4)
    with torch.no_grad():
        synapses.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    x = torch.randn(3, 7, 6)
    first = x[..., [0, 1, 2, 3]] @ torch.tensor([1.0, 2, 3, 4])
    second = x[..., [3, 4, 5, 0]] @ torch.tensor([5.0, 6, 7, 8])
    torch.testing.assert_close(synapses(x), torch.stack([first, second], -1))


def test_weights_cannot_inhibit():
    synapses = BranchSynapses(5, 2)
    torch.nn.init.normal_(synapses.weight)
    y = synapses(torch.eye(5))
    assert (synapses.weight < 0).any() and (y >= 0).all()
    y.sum().backward()
    assert ((synapses.weight.grad != 0) == (synapses.weight > 0)).all()


@pytest.mark.parametrize(("window", "found"), [(2, "2"), (9, "9")])
def test_windows_that_leave_inputs_out_are_refused(window, found):
    with pytest.raises(InputError, match=rf"(?s)window.*{found}.*3.*8"):
        BranchSynapses(8, 3, window=window)
    with pytest.raises(InputError, match="widths"):
        BranchSynapses(8, 0)


# --- the system -------------------------------------------------------------------------------------------------------


def early_or_late(samples=60, steps=40):
    """One spike on each of four channels; what differs is whether channel 0 or channel 1 comes first."""
    rng, label = np.random.default_rng(0), np.arange(samples) % 2
    x = np.zeros((samples, steps, 4), np.uint8)
    for i, k in enumerate(label):
        times = np.sort(rng.choice(steps - 5, 2, replace=False))
        x[i, times[k], 0] = x[i, times[1 - k], 1] = 1
        x[i, rng.integers(steps), 2] = x[i, rng.integers(steps), 3] = 1
    return Sequences.of(x, label)


def test_it_learns_an_order_in_time_and_comes_back_from_a_folder(tmp_path):
    data, system = early_or_late(), ElmNeuron(memories=6, branches=4, tau_max=40.0)
    fitted = system.fit(data, data, Classify("last"), Run(updates=80, device="cpu"))
    prediction = fitted.predict(data)
    assert (prediction.predicted == data.target).mean() > 0.9
    fitted.save(tmp_path)
    again = FittedNetwork.load(tmp_path)
    assert again.system == system
    np.testing.assert_array_equal(again.predict(data).probabilities, prediction.probabilities)


def test_the_walk_finds_it_and_it_streams():
    system = catalog.load_system("elm-neuron")
    assert isinstance(system, ElmNeuron) and system.card.n == 17
    net = system.build(Schema("sequences", ("a", "b", "c")), 2).double()
    x = torch.randn(2, 15, 3, dtype=torch.float64)
    whole, end = net(x)
    state, outputs = None, []
    for t in range(15):
        y, state = net.step(x[:, t], state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), whole)
    torch.testing.assert_close(state["1"].m, end["1"].m)


def test_time_constants_reach_from_one_step_to_tau_max():
    net = ElmNeuron(memories=5, tau_max=81.0).build(Schema("sequences", ("a", "b")), 2)
    torch.testing.assert_close(net[1].tau_m, torch.tensor([1.0, 3, 9, 27, 81]))


# --- what the claims measure with -------------------------------------------------------------------------------------


def test_the_target_is_the_sum_of_two_patterns():
    data = adding(30, seed=2, part=1)
    first, second = (motifs(5, steps=50, samples=30, seed=14 + k, template_seed=2).data for k in range(2))
    assert (data.target == first.target + second.target).all() and data.schema.classes == tuple("012345678")
    np.testing.assert_array_equal(data[7], np.concatenate([first[7], second[7]]))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_what_the_claims_say():
    schema = Schema("sequences", tuple(map(str, range(20))))
    adder, lstm = (parameters(s.build(schema, 9)) for s in (ADDER, GATED))
    assert adder <= lstm <= 1.1 * adder
    cell, convolutions = parameters(elm(128)), parameters(tcn(128))
    assert cell < 1000 and 7.5 < convolutions / cell < 8.5


def test_in_a_control_trials_have_the_spikes_of_others_of_their_part(monkeypatch):
    monkeypatch.setattr(elm_neuron, "BATCH", 3)
    shown, control = (recorded(Trial(1, quick=True, control=c)) for c in (False, True))
    for a, b in zip(shown, control):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(b.spikes, a.spikes[[2, 0, 1]])


def linear_cells(trials=60, steps=400, inputs=6):
    """A cell that is just what the control takes it for: filters of each input and a logistic function."""
    rng = np.random.default_rng(0)
    x = (rng.random((trials, steps, inputs)) < 0.1).astype(np.int8)
    weight, drive, trace = rng.normal(0, 1.0, inputs), np.zeros((trials, steps)), np.zeros((trials, inputs))
    for t in range(steps):
        trace = np.exp(-1 / 15) * trace + x[:, t]
        drive[:, t] = trace @ weight
    spikes = (rng.random(drive.shape) < 1 / (1 + np.exp(4 - drive))).astype(np.uint8)
    return [Recorded(x[at], spikes[at]) for at in np.split(np.arange(trials), [30, 40])], drive[40:]


def test_the_linear_nonlinear_control_is_a_good_one():
    parts, drive = linear_cells()
    measured = linear_nonlinear(Trial(0), *parts)
    assert parts[2].auc(drive) - 0.01 < measured.value < parts[2].auc(drive) + 0.01


def test_the_area_under_the_curve():
    spikes = np.array([[0, 1, 0, 1]])
    seen = Recorded(np.zeros((1, 4, 1), np.int8), spikes)
    assert seen.auc(spikes) == 1.0 and seen.auc(np.zeros((1, 4))) == 0.5 and seen.auc(np.array([[2, 3, 4, 5]])) == 0.75


def test_training_keeps_the_best_weights_on_validation_trials(monkeypatch):
    monkeypatch.setattr(elm_neuron, "LOOK", 1)
    monkeypatch.setattr(elm_neuron, "BATCH", 4)
    (train, valid, _), _ = linear_cells()
    torch.manual_seed(0)
    net, scores, auc = elm(8), [], Recorded.auc
    train, valid = (Recorded(np.pad(part.x, ((0, 0), (0, 0), (0, 2))), part.spikes) for part in (train, valid))
    monkeypatch.setattr(Recorded, "auc", lambda self, a: scores.append(auc(self, a)) or scores[-1])
    best = train_on_spikes(net, train, valid, lr=0.3, updates=12, seed=0)
    assert best == max(scores) and len(scores) == 12 and scores[-1] != max(scores)
    assert auc(valid, valid.answers(net)) == best


def test_the_claims_run_and_have_their_terms():
    claims = load_claims("elm-neuron")
    for name, claim in claims.items():
        assert set(read_terms(terms_file(catalog.find("elm-neuron")), name).margins) == set(claim.margins)
    assert set(quick(claims["beyond_filters"])) == {"ELM", "filters"}
