"""Emit the row grain: steps whose units mix inside a sample (products, sums over units, softmax, a history).

The kernel walks a *group* of samples through time; each value is a `Lanes` (see `lanes.py`), so a line of source is
the equation of one sample. What happens within an instant is written by `nests.py`; here is the walk: over groups, over
time, and what is read and written at each step. Blame of a parameter is added up for each sample; where it is an outer
product at every step (the weight of a product), the two factors are written down instead, and torch multiplies them once
at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import fx

from timecell.fuse.emit import Program
from timecell.fuse.nests import Nests, flat, indented, shape_of, tidy
from timecell.fuse.trace import Step, blame_of, results

LANES = 16  # samples in a group: one vector register of float32 where registers are wide


def emit_forward(step: Step, graph: fx.Graph, dtype: torch.dtype) -> Program:
    """Source of the loop forward in time, for a step that mixes units."""
    tidy(step, graph)
    y, *after = results(graph)
    body = Nests(step, graph, (y, *after), dtype)
    for node in after:  # a next state is whole before any state is overwritten
        body.keep(node)
    inputs = [n for n in body.reads if n in step.inputs]
    for name in inputs:
        body.arrays[name] = (f"in_{name}", f"x_{name}")
    for name in step.states:
        body.arrays[name] = (f"s_{name}", f"at_{name}")
    body.compute()
    with body.nest(shape_of(y)) as i:
        body.line(f"store(y, now_y + {flat(shape_of(y), i)}, where(on, {body.at(y, i)}, ZERO))")
    for number, (name, node) in enumerate(zip(step.states, after)):
        shape = shape_of(node)
        with body.nest(shape) as i:
            place = flat(shape, i)
            body.line(f"value = where(on, {body.at(node, i)}, load(s_{name}, at_{name} + {place}))")
            body.line(f"store(s_{name}, at_{name} + {place}, value)")
            body.line(f"if keep[{number}]:")
            body.line(f"    store(k_{name}, course_{name} + {math.prod(shape)} + {place}, value)")
    sizes = {n: math.prod(shape_of(node)) for n, node in body.placeholders.items()}
    where = [f"at_{n} = group * {sizes[n]}" for n in step.states]
    moving = [f"x_{n} = (group * steps + t) * {sizes[n]}" for n in inputs]
    moving += [f"now_y = (group * steps + t) * {math.prod(shape_of(y))}"]
    moving += [f"course_{n} = (group * (steps + 1) + t) * {sizes[n]}" for n in step.states]
    takes = [f"in_{n}" for n in inputs] + body.given_names + ["c", "y"]
    takes += [f"s_{n}" for n in step.states] + [f"k_{n}" for n in step.states]
    kinds = ["A1"] * len(takes)
    out = math.prod(shape_of(y))
    tail = [f"for i in range({out}):", f"    store(y, (group * steps + t) * {out} + i, ZERO)"]
    for number, name in enumerate(step.states):
        tail += [
            f"if keep[{number}]:",
            f"    for i in range({sizes[name]}):",
            f"        store(k_{name}, (group * (steps + 1) + t + 1) * {sizes[name]} + i, load(s_{name}, at_{name} + i))",
        ]
    text = f"""
@njit(types.void({", ".join([*kinds, "L1", "L1", *["types.intp"] * 3])}), **LOOP)
def forward({", ".join(takes)}, lengths, keep, steps, group0, group1):
{body.prelude()}    for group in range(group0, group1):
{indented(where, 8)}        last = longest(lengths, group)
        for t in range(last):
            on = running(lengths, group, t)
{indented(moving, 12)}{indented(body.lines, 12)}        for t in range(last, steps):  # after the last sample's end: silence, and the state stays
{indented(tail, 12)}"""
    return body.program(f"{step.name} forward", text, (*inputs, *step.states), ("y", *step.states))


def emit_adjoint(
    step: Step, graph: fx.Graph, dtype: torch.dtype, learn: Sequence[bool], recorded: Sequence[bool]
) -> Program:
    """Source of the loop backward in time; arguments as in `emit.emit_adjoint`."""
    tidy(step, graph)
    outs = results(graph)
    n_in, n_s = len(step.inputs), len(step.states)
    b_x, b_s = outs[:n_in], outs[n_in : n_in + n_s]
    b_p = [(p, o) for p, o, need in zip(step.params, outs[n_in + n_s :], learn) if need]
    body = Nests(step, graph, (*b_x, *b_s, *(o for _, o in b_p)), dtype)
    for node in b_s:  # blame of the state is whole before it replaces the blame it came from
        body.keep(node)
    reads = [n for n in body.reads if n in step.inputs or n in step.states]
    for name in reads:
        body.arrays[name] = (f"in_{name}" if name in step.inputs else f"s_{name}", f"at_{name}")
    body.arrays[blame_of()] = ("blame", "now_y")
    for name, r in zip(step.states, recorded):
        body.arrays[blame_of(name)] = (f"g_{name}", f"end_{name}")
        if r:
            body.plus[blame_of(name)] = (f"r_{name}", f"trace_{name}")
    body.compute()
    for name, node in zip(step.inputs, b_x):
        shape = body.argument_shape(name)
        with body.nest(shape) as i:
            body.line(f"store(b_{name}, blame_{name} + {flat(shape, i)}, where(on, {body.at(node, i)}, ZERO))")
    given_params, moving_factors = list[str](), list[str]()
    for name, node in b_p:
        shape = body.argument_shape(name)
        factors = body.factors(node)
        if factors:
            for side, (length, value) in zip(("left", "right"), factors):
                given_params.append(f"{side}_{name}")
                moving_factors.append(f"to_{side}_{name} = (group * steps + t) * {length}")
                with body.nest((length,)) as i:
                    place = f"to_{side}_{name} + {flat((length,), i)}"
                    body.line(f"store({side}_{name}, {place}, where(on, {value(i[0])}, ZERO))")
            continue
        given_params.append(f"b_{name}")
        with body.nest(shape) as i:
            place = f"group * {math.prod(shape)} + {flat(shape, i)}"
            body.line(f"store(b_{name}, {place}, load(b_{name}, {place}) + where(on, {body.at(node, i)}, ZERO))")
    for name, node in zip(step.states, b_s):
        shape = body.argument_shape(name)
        with body.nest(shape) as i:
            place = f"end_{name} + {flat(shape, i)}"
            body.line(f"value = {body.at(node, i)} if carry else spread(scratch, ZERO)")  # else it stays in its instant
            body.line(f"store(g_{name}, {place}, where(on, value, load(g_{name}, {place})))")
    size = {n: math.prod(body.argument_shape(n)) for n in step.arguments}
    out = math.prod(body.argument_shape(blame_of()))
    fixed = [f"end_{n} = group * {size[n]}" for n in step.states]
    moving = [f"at_{n} = (group * steps + t) * {size[n]}" for n in reads if n in step.inputs]
    moving += [f"at_{n} = (group * (steps + 1) + t) * {size[n]}" for n in reads if n in step.states]
    moving += [f"now_y = (group * steps + t) * {out}"]
    moving += [f"trace_{n} = (group * steps + t) * {size[n]}" for n, r in zip(step.states, recorded) if r]
    moving += [f"blame_{n} = (group * steps + t) * {size[n]}" for n in step.inputs] + moving_factors
    silent = [
        line
        for n in step.inputs
        for line in (f"for i in range({size[n]}):", f"    store(b_{n}, (group * steps + t) * {size[n]} + i, ZERO)")
    ] or ["pass"]
    takes = [body.arrays[n][0] for n in reads] + ["blame"] + [f"r_{n}" for n, r in zip(step.states, recorded) if r]
    gives = [f"b_{n}" for n in step.inputs] + [f"g_{n}" for n in step.states] + given_params
    kinds = ["A1"] * (len(takes) + len(body.given) + 1 + len(gives))
    text = f"""
@njit(types.void({", ".join([*kinds, "L1", "types.boolean", *["types.intp"] * 3])}), **LOOP)
def adjoint({", ".join([*takes, *body.given_names, "c", *gives])}, lengths, carry, steps, group0, group1):
{body.prelude()}    for group in range(group0, group1):
{indented(fixed, 8)}        last = longest(lengths, group)
        for t in range(last, steps):
{indented(silent, 12)}        for t in range(last - 1, -1, -1):
            on = running(lengths, group, t)
{indented(moving, 12)}{indented(body.lines, 12)}"""
    return body.program(f"{step.name} adjoint", text, tuple(reads), tuple(gives))
