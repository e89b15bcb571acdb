"""Time paths whose weights remember what they did: blame need not go back in time, because traces come forward.

`PresynapticTrace` remembers what came in to a synapse, one number an input; `TracePair` also when its unit was ready to
fire, one number a unit; `Eligibility` remembers what each weight did to its unit, K + 1 numbers a weight and sample,
which is more, and right for units of any kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.cell import Neuron
from timecell.credit.layers import Layer, Synapse, channels_last, leak, ones, patches, per_sample, readout_leak
from timecell.credit.time_paths import (
    Blame,
    Instantaneous,
    Kept,
    Response,
    Sources,
    at_least_one,
    blamed,
    by_autograd,
    fed_back,
    response,
)
from timecell.credit.updates import Factors
from timecell.errors import InputError
from timecell.fuse.jacobian import Jacobian, jacobian
from timecell.neurons.integrator import LeakyIntegrator
from timecell.state import detach, map_state


@dataclass(frozen=True)
class PresynapticTrace(Instantaneous):
    """A low-pass filter of what came in, with the leak of the unit it came in to (OTTT: Xiao et al., 2022).

        a_t = leak a_{t-1} + pre_t          dL/dW = sum over t of  (blame of the unit's input at t) a_t

    Biases see a constant 1 that is filtered alike. It is the exact path in time of units whose only memory is a leaky
    membrane and whose reset carries no blame; what a reset does to later steps is left out.

    Attributes:
        steps: length of a stretch: speed against memory; the gradient is the same.
        decay: the leak, in [0, 1]; None: of each layer's own units (0 for a layer without time).
    """

    traced: ClassVar[bool] = True
    decay: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay is not None:
            _check_share("PresynapticTrace(decay)", self.decay)

    def run(self, layer: Layer, drive: Tensor, pre: Tensor, kept: Kept, lengths: Tensor | None) -> Response:
        """See `TimePath.run`."""
        y, state, back, pull = by_autograd(layer, drive, kept.state, lengths, self.carry)
        decay = leak(layer.cell) if self.decay is None else self.decay
        sources = [source for source in (pre, ones(pre), back) if source is not None]
        before = kept.traces or [torch.zeros_like(source[:, 0]) for source in sources]
        traced = [_low_pass(source, trace, decay) for source, trace in zip(sources, before)]
        seen = Sources(traced[0], traced[2] if back is not None else None, traced[1])
        traces = tuple(trace[:, -1] for trace in traced)
        return Response(y, Kept(state, traces), lambda blame: blamed(layer, pull(blame), seen))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(
            name, found=value, expected="a share in [0, 1]", remedy="1 - 1/tau for a time constant of tau steps"
        )


def _low_pass(x: Float[Tensor, "B t ..."], trace: Float[Tensor, "B ..."], decay: float) -> Float[Tensor, "B t ..."]:
    """trace_t = decay trace_{t-1} + x_t."""
    traces = []
    for x_t in x.unbind(1):
        trace = decay * trace + x_t
        traces.append(trace)
    return torch.stack(traces, 1)


@dataclass(frozen=True)
class TracePair(Instantaneous):
    """A trace of what came in and one of when the unit was ready to fire (S-TLLR, TESS: Apolinario & Roy, 2025).

        psi_t = dy_t/dx_t                              readiness: the slope of the unit's own step, by its surrogate
        q_t   = decay_pre q_{t-1} + pre_t              h_t = decay_post h_{t-1} + psi_t
        dL/dW = sum over t of  m_t ( causal psi_t q_t + acausal h_{t-1} pre_t )        m_t: blame of the outputs at t

    The first part pairs an input with a unit that is ready after it, the second with one that was ready before it, as
    the two sides of STDP do. Both decays are free and need not be the unit's leak. With ``acausal=0`` and decays of 0
    this is `Instantaneous`. Layers without units and leaky readouts have no readiness; they learn by `Instantaneous`.

    Attributes:
        steps: length of a stretch: speed against memory; the gradient is the same.
        decay_pre, decay_post: share of each trace that one step leaves, in [0, 1].
        causal, acausal: weights of the two parts; the second may be negative.
        last: how many steps at the end of a sequence are blamed; None: all.
    """

    traced: ClassVar[bool] = True
    decay_pre: float = 0.5
    decay_post: float = 0.2
    causal: float = 1.0
    acausal: float = 1.0
    last: int | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "last")
        for name in ("decay_pre", "decay_post"):
            _check_share(f"TracePair({name})", getattr(self, name))

    def weights(self, steps: int) -> Float[Tensor, "T"] | None:
        """1 for the last steps, 0 before."""
        return None if self.last is None else (torch.arange(steps) >= steps - self.last).double()

    def run(self, layer: Layer, drive: Tensor, pre: Tensor, kept: Kept, lengths: Tensor | None) -> Response:
        """See `TimePath.run`."""
        if layer.neuron is None or isinstance(layer.neuron, LeakyIntegrator):
            return Instantaneous().run(layer, drive, pre, kept, lengths)
        _checked(layer)
        sent = drive.detach().requires_grad_()
        with torch.enable_grad():  # traces go on through steps that are not blamed
            y, state = response(layer, sent, kept.state, lengths, self.carry)
        (ready,) = torch.autograd.grad(y, sent, torch.ones_like(y), retain_graph=True)
        came = [source for source in (pre, ones(pre), fed_back(layer, y, kept.state)) if source is not None]
        before = kept.traces or [torch.zeros_like(source[:, 0]) for source in (*came, ready)]
        traced = [_low_pass(source, trace, self.decay_pre) for source, trace in zip(came, before)]
        readiness = _low_pass(ready, before[-1], self.decay_post)
        earlier = torch.cat([before[-1][:, None], readiness[:, :-1]], 1)
        own = layer.parameters((layer.cell,))

        def pull(blame: Tensor) -> Blame:
            if own:
                torch.autograd.backward(y, blame, inputs=own)
            delta = torch.cat([self.causal * blame * ready, self.acausal * blame * earlier], 1)
            seen, one, *back = (torch.cat(both, 1) for both in zip(traced, came))
            return Blame(blame * ready, blamed(layer, delta, Sources(seen, back[0] if back else None, one)).weights)

        traces = tuple(trace[:, -1] for trace in (*traced, readiness))
        return Response(y.detach(), Kept(detach(state), traces), pull)


@dataclass(frozen=True)
class Eligibility(Instantaneous):
    """What each weight did to its unit, carried forward by the unit's own Jacobian (e-prop: Bellec et al., 2020).

        eps_t = ds_t/ds_{t-1} eps_{t-1} + ds_t/dx_t pre_t           what the weight did to the unit's state
        e_t   = dy_t/ds_{t-1} eps_{t-1} + dy_t/dx_t pre_t           what it did to the unit's output
        f_t   = kappa f_{t-1} + e_t                                 the same, as a leaky readout sees it
        dL/dW = sum over t of  (blame of the output at t) f_t

    kappa is the leak of the net's last cell if that is a `LeakyIntegrator`, else 0. The parameters of the units have
    traces of the same kind. Left out is what a unit does to units at later steps. So with `Backprop` in space the
    gradient is exact if nothing above the layer, and no recurrent synapse, has a memory, a leaky readout excepted: for
    one hidden layer of units of any kind. A reset that carries blame is part of the Jacobian and does not matter.

    Memory is B x out x in x (K + 1) numbers a layer, and `steps` times B x out x in more while a slice is blamed.

    Attributes:
        steps: length of a stretch; there is nothing to gain from long ones.
    """

    traced: ClassVar[bool] = True
    steps: int = 1

    def run(self, layer: Layer, drive: Tensor, pre: Tensor, kept: Kept, lengths: Tensor | None) -> Response:
        """See `TimePath.run`."""
        kappa = readout_leak(layer)
        if layer.neuron is None and not kappa:
            return Instantaneous().run(layer, drive, pre, kept, lengths)
        neuron, sent = _checked(layer), drive.detach()
        at = jacobian(neuron)
        inputs = _inputs(layer, pre, sent)
        past = kept.state or _start(layer, neuron, sent, inputs.shape[-1])
        slopes, outputs, filtered = [], [], []
        for t, (sent_t, inputs_t) in enumerate(zip(sent.unbind(1), inputs.unbind(1))):
            if layer.back is not None:
                inputs_t = torch.cat([inputs_t, past.y], -1)
                sent_t = sent_t + layer.back(past.y).detach()
            now = at(sent_t, past.state)
            after = _step(layer, past, now, inputs_t, kappa)
            if lengths is not None:
                alive = t < lengths
                after = map_state(
                    lambda new, old, alive=alive: torch.where(per_sample(alive, new), new, old), after, past
                )
                now = now._replace(y=now.y * per_sample(alive, now.y))
            past = after
            slopes.append(now.dy_dx)
            outputs.append(now.y)
            filtered.append(past.filtered)

        def pull(blame: Tensor) -> Blame:
            weights = _blamed(layer, neuron, blame, torch.stack(filtered, 1), inputs.shape[-1] - 1)
            return Blame(blame * torch.stack(slopes, 1), weights)

        return Response(torch.stack(outputs, 1), Kept(past), pull)


class _Past(NamedTuple):
    """What a layer knows of its past. A *column* is what a unit's state may owe something to: each input of its synapse,
    the constant input of its bias, each input of its recurrent synapse, each parameter of the unit.

    Attributes:
        state: of the units, each [B, ..., N].
        y: [B, ..., N] their last output.
        did: [B, ..., out, K, columns] what each column did to the state.
        filtered: [B, ..., out, columns] what it did to the output, as a leaky readout sees it.
    """

    state: tuple[Tensor, ...]
    y: Tensor
    did: Tensor
    filtered: Tensor


def _checked(layer: Layer) -> Neuron:
    """The units of a layer that `Eligibility` can follow."""
    if layer.neuron is None or layer.after:
        found = f"{type(layer.after[-1]).__name__} behind a synapse" if layer.after else "a synapse without units"
        raise InputError(
            f"net[{layer.name}]", found=found,
            expected="synapses that feed units directly: an eligibility is of one weight and one unit",
            remedy="put other modules in front of the synapse; or use credit.OTTT or BPTT",
        )  # fmt: skip
    return layer.neuron


def _inputs(layer: Layer, pre: Tensor, sent: Tensor) -> Float[Tensor, "B t ... columns"]:
    """The columns that do not depend on the units' past: what comes in to the synapse, and the bias's 1."""
    one = torch.ones_like(channels_last(layer.synapse, sent)[..., :1])
    return one if layer.synapse is None else torch.cat([patches(layer.synapse, pre), one], -1)


def _start(layer: Layer, neuron: Neuron, sent: Tensor, columns: int) -> _Past:
    """At rest, nothing has done anything yet."""
    first = sent[:, 0]
    columns += len(neuron.params) + (0 if layer.back is None else first.shape[-1])
    outputs = channels_last(layer.synapse, first, axis=1)
    did = outputs.new_zeros(*outputs.shape, len(neuron.states), columns)
    state = tuple(neuron.initial_state(len(sent), sent))
    return _Past(state, torch.zeros_like(first), did, did.new_zeros(*outputs.shape, columns))


def _step(layer: Layer, past: _Past, now: Jacobian, inputs: Float[Tensor, "B ... columns"], kappa: float) -> _Past:
    """One instant of the equations of `Eligibility`, for all columns."""
    dy_dx, dy_ds, dy_dp, ds_dx, ds_ds, ds_dp = (channels_last(layer.synapse, d, axis=1) for d in now[2:])
    to_state = torch.cat([ds_dx[..., None] * inputs[..., None, None, :], ds_dp], -1)
    to_output = torch.cat([dy_dx[..., None] * inputs[..., None, :], dy_dp], -1)
    did = torch.einsum("...kl,...lc->...kc", ds_ds, past.did) + to_state
    output = torch.einsum("...l,...lc->...c", dy_ds, past.did) + to_output
    return _Past(now.state, now.y, did, kappa * past.filtered + output)


def _blamed(
    layer: Layer,
    neuron: Neuron,
    blame: Float[Tensor, "B t ..."],
    did: Float[Tensor, "B t ... out columns"],
    inputs: int,
) -> list[tuple[Synapse, Factors, Factors]]:
    """The factors of each synapse; the parameters of the units get their gradients at once."""
    delta = channels_last(layer.synapse, blame)
    back = blame.shape[-1] if layer.back is not None else 0
    pre, one, before, parameters = did.split([inputs, 1, back, len(neuron.params)], -1)
    for column, name in enumerate(neuron.params):
        value = getattr(neuron, name)
        if value.requires_grad:
            owed = (delta * parameters[..., column]).sum((0, 1))
            units = owed.T.reshape(blame.shape[2:]) if isinstance(layer.synapse, nn.Conv2d) else owed
            torch.autograd.backward(value.expand(units.shape), units)
    synapses: list[tuple[Synapse | None, Tensor]] = [(layer.synapse, pre), (layer.back, before)]
    return [(s, Factors(delta, p), Factors(delta, one)) for s, p in synapses if s is not None]
