"""Keeping a net: the same numbers from the folder, refusals that name the part, damage that is never overlooked."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import timecell as tc
from timecell.cell import Cell
from timecell.errors import DataError, InputError
from timecell.neurons import FastSigmoid
from timecell.pretrained import PLAIN, read_folder
from timecell.testing import walk

CELLS = list(walk(Cell))


@pytest.fixture(autouse=True)
def plain():
    """What is kept does not depend on how it runs, and nothing needs to be compiled."""
    with tc.fuse.backend("plain"):
        yield


class Scaled(tc.Cell):
    """A cell of a user, made of a cell, a number and a tensor."""

    def __init__(self, inner, scale, *, shift=None):
        super().__init__()
        self.inner, self.scale, self.shift = inner, scale, shift

    def forward(self, x, state=None, *, lengths=None):
        y, state = self.inner(x * self.scale, state, lengths=lengths)
        return (y if self.shift is None else y + self.shift), state


def same(net, again, x):
    net.eval()
    assert not again.training
    with torch.no_grad():
        y, state = net(x)
        y2, state2 = again(x)
    one, other = tc.state.flatten(state), tc.state.flatten(state2)
    return torch.equal(y, y2) and one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_cell_comes_back(cell, dtype, tmp_path):
    net = cell.example().to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.rand_like(p) / 8)
    net.save_pretrained(tmp_path / "net")
    again = cell.from_pretrained(tmp_path / "net")
    assert same(net, again, torch.rand(2, 6, 4, dtype=dtype))
    assert [(n, p.dtype, p.requires_grad) for n, p in net.named_parameters()] == [
        (n, p.dtype, p.requires_grad) for n, p in again.named_parameters()
    ]


EXAMPLES = {
    nn.Sequential: lambda: nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU())),
    nn.Flatten: lambda: nn.Flatten(2, -1),
    nn.Unflatten: lambda: nn.Unflatten(1, (2, 2)),
    nn.Linear: lambda: nn.Linear(4, 3, bias=False),
    nn.Embedding: lambda: nn.Embedding(5, 3, padding_idx=1, max_norm=2.0),
    nn.Conv1d: lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False),
    nn.Conv2d: lambda: nn.Conv2d(4, 6, (3, 1), padding="same", groups=2, padding_mode="circular"),
    nn.Conv3d: lambda: nn.Conv3d(4, 6, 1, stride=(1, 2, 1)),
    **{
        c: lambda c=c: c(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False)
        for c in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    },
    **{
        c: lambda c=c: c(3, stride=2, padding=1, ceil_mode=True)
        for c in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
    },
    **{c: lambda c=c: c(2) for c in (nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d)},
    **{c: lambda c=c: c((2, 3)) for c in (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)},
    nn.Upsample: lambda: nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
    **{
        c: lambda c=c: c(4, eps=1e-3, momentum=0.3, affine=False)
        for c in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    },
    **{
        c: lambda c=c: c(4, eps=1e-3, affine=True, track_running_stats=True)
        for c in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    },
    nn.LayerNorm: lambda: nn.LayerNorm((2, 4), eps=1e-3, bias=False),
    nn.GroupNorm: lambda: nn.GroupNorm(2, 4, eps=1e-3, affine=False),
    nn.RMSNorm: lambda: nn.RMSNorm(4, eps=1e-3, elementwise_affine=False),
    **{c: lambda c=c: c(0.3) for c in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)},
    nn.LeakyReLU: lambda: nn.LeakyReLU(0.3),
    nn.PReLU: lambda: nn.PReLU(4, init=0.1),
    nn.ELU: lambda: nn.ELU(0.3),
    nn.GELU: lambda: nn.GELU(approximate="tanh"),
    nn.Softplus: lambda: nn.Softplus(2.0, 10.0),
    nn.Hardtanh: lambda: nn.Hardtanh(-2.0, 3.0),
    nn.Softmax: lambda: nn.Softmax(-1),
    nn.LogSoftmax: lambda: nn.LogSoftmax(-1),
}


@pytest.mark.parametrize("kind", PLAIN, ids=lambda c: c.__name__)
def test_every_plain_module_comes_back(kind, tmp_path):
    """What `extra_repr` prints, the attributes and the tensors are those of the module that was kept."""
    module = EXAMPLES.get(kind, kind)()
    tc.Sequential(module).save_pretrained(tmp_path)
    again = tc.Sequential.from_pretrained(tmp_path)[0]
    assert repr(again) == repr(module.eval())
    plain = [{k: v for k, v in vars(m).items() if not k.startswith("_")} for m in (module, again)]
    assert plain[0] == plain[1]
    assert module.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values()))


def test_a_deep_net_with_options_tensors_and_classes_of_ones_own(tmp_path):
    net = tc.Sequential(
        nn.Linear(3, 4),
        tc.Residual(tc.Recurrent(tc.LIF(4, surrogate=FastSigmoid(7.0)), nn.Linear(4, 4, bias=False))),
        tc.Parallel(tc.Delayed(4, 2, max_delay=5), nn.Sequential(nn.Linear(4, 2), nn.Tanh()), merge="cat"),
        nn.BatchNorm1d(4),
        Scaled(tc.LeakyIntegrator(4, tau=torch.tensor([2.0, 3, 4, 5])), 0.5, shift=torch.rand(4)),
    )
    net(torch.rand(8, 5, 3))  # moves the statistics of the batch norm
    net.save_pretrained(tmp_path)
    assert same(net, tc.Sequential.from_pretrained(tmp_path, classes=(Scaled,)), torch.rand(2, 9, 3))
    assert tc.Cell.from_pretrained(tmp_path, (Scaled,))[1][0].neuron.surrogate == FastSigmoid(7.0)
    with pytest.raises(InputError, match=r"Scaled.*\n.*classes=\(Scaled,\)"):
        tc.Sequential.from_pretrained(tmp_path)
    assert "classes=(Scaled,)" in (tmp_path / "README.md").read_text()


def test_what_changed_since_is_kept(tmp_path):
    net = tc.Sequential(tc.Delayed(3, 4, max_delay=6), nn.BatchNorm1d(4), tc.LIF(4, learn=("tau",)))
    net[0].sigma = 0.125
    net[0].harden()
    net[1].momentum = 0.5
    net[2].tau_raw.requires_grad_(False)
    net.save_pretrained(tmp_path)
    again = tc.Sequential.from_pretrained(tmp_path)
    assert again[0].hard and again[0].sigma == 0.125 and again[1].momentum == 0.5
    assert {n for n, p in again.named_parameters() if not p.requires_grad} == {"0.delay", "2.tau_raw"}
    assert torch.equal(again[0].train().taps(), net[0].train().taps())


def test_exchanged_children_are_kept_as_they_are(tmp_path):
    net = tc.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net._modules["1"] = nn.LayerNorm(4)
    net.save_pretrained(tmp_path)
    assert same(net, tc.Sequential.from_pretrained(tmp_path), torch.rand(2, 5, 3))


def test_keeping_and_reading_leave_random_numbers_alone(tmp_path):
    net = tc.Sequential(nn.Linear(3, 4))
    before = torch.random.get_rng_state()
    net.save_pretrained(tmp_path)
    tc.Sequential.from_pretrained(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_card_says_what_it_is(tmp_path):
    tc.Sequential(nn.Linear(3, 4), tc.LIF(4, learn=("tau",))).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert all(part in text for part in ("Sequential", "17 trainable", "| 0.weight | [4, 3] | float32 | yes |", "LIF"))


class Polynomial(tc.Cell):
    """Arguments without names."""

    def __init__(self, *coefficients, shift=0.0):
        super().__init__()
        self.coefficients, self.shift = coefficients, shift

    def forward(self, x, state=None, *, lengths=None):
        return sum(c * (x + self.shift) ** k for k, c in enumerate(self.coefficients)), None


def test_arguments_without_names(tmp_path):
    Polynomial(1.0, -2.0, 3.0, shift=0.5).save_pretrained(tmp_path)
    assert same(Polynomial(1.0, -2.0, 3.0, shift=0.5), Polynomial.from_pretrained(tmp_path), torch.rand(1, 2, 3))


class Nameless(tc.Sequential):
    def __init__(self, n, *modules):
        super().__init__(*modules)


def tied():
    net = tc.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    return net


def hooked():
    net = tc.Sequential(nn.Linear(3, 3))
    net[0].register_forward_hook(lambda *_: None)
    return net


def grown():
    net = Scaled(nn.Identity(), 1.0)
    net.extra = nn.Linear(2, 2)
    return net


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: tc.Sequential(tc.Parallel(nn.Tanh(), nn.ReLU(), merge=lambda ys: ys[0])), ["net.0(merge)", "lambda"]),
        (lambda: tc.Sequential(nn.Tanh(), tc.Residual(nn.PixelShuffle(2))), ["net.1.0", "PixelShuffle"]),
        (lambda: Scaled(tc.LIF(3), {1, 2}), ["net(scale)", "{1, 2}"]),
        (lambda: Nameless(3, nn.Tanh()), ["net", "Nameless"]),
        (tied, ["net.1.weight", "shared"]),
        (hooked, ["net.0", "hook"]),
        (grown, ["net.extra", "nothing"]),
    ],
    ids=["function", "unknown module", "set", "constructor", "tied", "hook", "grown"],
)
def test_what_cannot_be_described_is_refused_and_named(make, names, tmp_path):
    with pytest.raises(InputError) as error:
        make().save_pretrained(tmp_path / "net")
    assert all(n in str(error.value) for n in names), str(error.value)
    assert not (tmp_path / "net").exists()


@dataclass(frozen=True)
class Steep:
    """A surrogate of a user."""

    slope: float = 3.0

    def primitive(self, x):
        return torch.sigmoid(self.slope * x)

    def derivative(self, x):
        s = torch.sigmoid(self.slope * x)
        return self.slope * s * (1 - s)


def test_options_of_ones_own(tmp_path):
    tc.Sequential(tc.LIF(3, surrogate=Steep(5.0))).save_pretrained(tmp_path)
    assert tc.Cell.from_pretrained(tmp_path, (Steep,))[0].surrogate == Steep(5.0)
    with pytest.raises(InputError, match="Steep"):
        tc.Cell.from_pretrained(tmp_path)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    tc.Sequential(nn.Linear(3, 4), tc.LIF(4)).save_pretrained(tmp_path)
    return tmp_path


def edited(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_missing_files(kept):
    with pytest.raises(DataError, match=r"nowhere.config\.json"):
        tc.Cell.from_pretrained(kept / "nowhere")
    (kept / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors"):
        tc.Cell.from_pretrained(kept)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_cut_files(kept, name):
    content = (kept / name).read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        (kept / name).write_bytes(content[:size])
        with pytest.raises(DataError, match=name):
            tc.Cell.from_pretrained(kept)


def test_one_changed_bit_of_the_weights(kept):
    content = bytearray((kept / "model.safetensors").read_bytes())
    content[-3] ^= 4
    (kept / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors.*SHA-256"):
        tc.Cell.from_pretrained(kept)


def test_weights_of_another_net(kept, tmp_path):
    tc.Sequential(nn.Linear(3, 5), tc.LIF(5)).save_pretrained(tmp_path / "other")
    (kept / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"model\.safetensors"):
        tc.Cell.from_pretrained(kept)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda c: c.pop("network"), ["config.json", "no network"]),
        (lambda c: c["network"]["children"]["0"]["arguments"].update(in_features=5), ["model.safetensors", "0.weight"]),
        (lambda c: c["network"]["children"]["0"]["arguments"].update(width=5), ["config.json.0", "width"]),
        (lambda c: c["network"]["children"]["1"]["arguments"].update(tau=-1.0), ["config.json.1", "LIF(tau)"]),
        (lambda c: c["network"]["children"]["1"]["arguments"].update(tau={"tensor": "x"}), ["config.json.1.tau", "'x'"]),
        (lambda c: c.update(changed={"0": {"bias_": 3}}), ["config.json", "0.bias_"]),
        (lambda c: c.pop("changed"), ["config.json", "changed"]),
        (lambda c: c.update(sha256=None), ["model.safetensors"]),
    ],
)  # fmt: skip
def test_a_changed_config_is_refused_with_its_place(kept, change, names):
    edited(kept, change)
    with pytest.raises(DataError) as error:
        tc.Cell.from_pretrained(kept)
    assert all(n in str(error.value) for n in names), str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "timecell.files.write_whole",
        "timecell.nowhere.X",
        "timecell.cli.main",
        "timecell.combine.containers.os",
        "torch.nn.Module",
        "X",
        7,
    ],
)
def test_a_file_names_no_code_to_run(kept, name):
    edited(kept, lambda c: c["network"].update(module=name))
    with pytest.raises(InputError, match=str(name)):
        tc.Cell.from_pretrained(kept)


def test_a_net_of_another_class(kept):
    with pytest.raises(DataError, match=r"a Sequential.*a LIF"):
        tc.LIF.from_pretrained(kept)


def test_a_name_that_is_a_file(tmp_path):
    (tmp_path / "net").write_text("")
    with pytest.raises(InputError, match="a file"):
        tc.LIF(3).save_pretrained(tmp_path / "net")


def test_the_folder_can_be_read_by_others(kept):
    config, tensors = read_folder(kept)
    assert config["network"]["module"] == "timecell.combine.Sequential"
    assert sorted(tensors) == ["0.bias", "0.weight", "1.tau_value", "1.threshold_value"]
