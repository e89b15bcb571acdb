"""`timemaster`: a picture becomes words, words are judged, and a user's own sequences go in."""

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.credit.fine_tune import UNSAID
from timecell.data.containers import Schema, Sequences
from timecell.data.scaling import scale_of
from timecell.data.synthetic.shapes import shapes
from timecell.errors import InputError
from timecell.network_system import FittedNetwork
from timecell.networks.speaker import SILENT
from timecell.system import Run
from timecell.systems.series.answer_language import END, FACTS, MARKS, Judge, facts, misled, vocabulary, written
from timecell.systems.series.timemaster import TimeMaster, answers, taught
from timecell.tasks import Classify, Forecast

CLAIMS = load_claims("timemaster")
SMALL = TimeMaster(supervised=0.7, lr=1e-2, size=16, layers=1, height=6, width=16, group=4, batch=16)


def levels(n=90, seed=0):
    """Two classes told apart by where the line ends; samples of 6 to 12 steps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    ends = [np.linspace(0, 4 * k - 2, rng.integers(6, 13)) for k in label]
    x = [np.stack([line, rng.normal(size=len(line))], 1) + 0.1 for line in ends]
    return Sequences.of([v.astype(np.float32) for v in x], label, classes=("goes down", "up"))


def net_and_questions(system=SMALL, classes=("a", "b", "c", "d")):
    data = shapes(8, steps=24)
    with seeded(0):
        net = system.build(Schema("sequences", ("x",), classes), len(classes))
    return net, *system.questions(net, scale_of(data), data)


# --- words ---------------------------------------------------------------------------------------------------------------


def test_the_written_answer_is_worth_the_most():
    judge = Judge(("sine", "saw"))
    first = len(MARKS)
    truth = np.array([[first + 9, first, first + 4, first + 8], [first + 10, first + 2, first + 3, first + 6]])
    said = torch.from_numpy(written(truth))
    assert judge.text(said[0]).split("</think>")[0] == "<think> rising steady "
    assert judge(said, torch.from_numpy(truth)).tolist() == [1.5, 1.5]
    assert judge(said, torch.from_numpy(truth).flip(0)).tolist() == pytest.approx([0.1, 0.1])
    cut = torch.cat([said[:, :4], torch.full((2, 9), SILENT)], 1)
    assert judge(cut, torch.from_numpy(truth)).tolist() == [0.0, 0.0]
    assert all(word in vocabulary(("sine", "saw")) for kind in FACTS for word in kind)


def test_facts_are_of_the_signal():
    t = np.linspace(0, 1, 80)[:, None]

    def words(x):
        return [kind[i] for kind, i in zip(FACTS, facts(x))]

    assert words(np.sin(2 * np.pi * t)) == ["falling", "slow", "narrow"], "a sine falls from its first to its last half"
    assert words(np.cos(2 * np.pi * 2 * t)) == ["level", "steady", "narrow"]
    assert words(2 * np.cos(2 * np.pi * 8 * t) - 3 * t) == ["falling", "quick", "wide"]


def test_a_teacher_is_wrong_as_often_as_told():
    _, _, true = net_and_questions(TimeMaster())
    true = np.repeat(true, 500, 0)
    wrong = misled(true, classes=4, share=0.25, seed=0)
    assert np.abs((wrong != true).mean(0) - 0.25).max() < 0.03
    kinds = [set(range(17, 21)), {8, 9, 10}, {11, 12, 13}, {14, 15, 16}]
    assert all(set(wrong[:, c]) == kind for c, kind in enumerate(kinds))
    assert (misled(true, classes=4, share=0.0, seed=0) == true).all()


# --- the net -------------------------------------------------------------------------------------------------------------


def test_only_the_answer_is_taught_and_each_place_is_asked_for_the_next_word():
    _, asked, true = net_and_questions()
    rows = taught(asked, true)
    P, said = asked.shape[1], written(true)
    assert (rows.target[:, : P - 1] == UNSAID).all() and (rows.target[:, P - 1 :] == said).all()
    assert (rows.x[:, P:, 0] == rows.target[:, P - 1 : -1]).all(), "it reads what it was to say before"
    assert rows.target[0, -1] == END and len(rows.select(np.array([1, 2]))) == 2


def test_probabilities_of_answers_are_those_they_were_drawn_with():
    net, asked, _ = net_and_questions()
    prompt = torch.from_numpy(asked)
    torch.manual_seed(0)
    said = net.speaker.sample(prompt, group=3)
    assert said.shape[0] == 24 and ((said == SILENT) | ((said >= 0) & (said < 21))).all()
    log_p = net.speaker.log_p(prompt, said)
    assert (log_p[said == SILENT] == 0).all() and (log_p[said != SILENT] < 0).all()
    whole = torch.cat([prompt.repeat_interleave(3, 0), net.speaker.rows(said[:, :-1], prompt)], 1)
    logits = net.speaker(whole)[0][:, asked.shape[1] - 1 :].log_softmax(-1)
    expected = logits.gather(2, said.clamp(min=0)[..., None])[..., 0].masked_fill(said == SILENT, 0.0)
    torch.testing.assert_close(log_p, expected, rtol=1e-4, atol=1e-4)


def test_after_its_end_an_answer_is_silent():
    net, asked, _ = net_and_questions()
    torch.manual_seed(0)
    said = net.speaker.sample(torch.from_numpy(asked), group=8)
    for row in said.tolist():
        if END in row:
            assert set(row[row.index(END) + 1 :]) <= {SILENT}
        else:
            assert SILENT not in row
    greedy = [net.speaker.sample(torch.from_numpy(asked), 1, greedy=True) for _ in range(2)]
    assert torch.equal(*greedy)


def test_an_answer_of_the_wrong_form_says_nothing():
    net, _, _ = net_and_questions()
    y, _ = net(torch.randn(3, 24, 1))
    assert y.shape == (3, 24, 4) and (y == 0).all(), "an untrained net babbles"


# --- as a system ---------------------------------------------------------------------------------------------------------


def test_it_learns_sequences_of_ones_own(tmp_path):
    task, data, unseen = Classify(), levels(160), levels(60, 2)
    fitted = SMALL.fit(data, levels(40, 1), task, Run(updates=100, device="cpu"))
    assert task.score(fitted.predict(unseen), unseen).value > 0.9
    assert fitted.report["updates"] == 100 and fitted.report["format_rate"] == 1.0
    assert {row["stage"] for row in fitted.report["history"]} == {"imitation", "rewards"}
    said = answers(fitted, unseen)
    named = [{"goes down": 0, "up": 1}[answer["class"]] for answer in said]
    assert (fitted.predict(unseen).predicted == named).all()
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == SMALL
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    data, run = levels(40), Run(updates=6, device="cpu")
    whole = SMALL.fit(data, data, Classify(), run)
    SMALL.fit(data, data, Classify(), Run(updates=6, device="cpu", folder=tmp_path))
    again = SMALL.fit(data, data, Classify(), Run(updates=6, device="cpu", folder=tmp_path, resume=True))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def test_it_says_what_it_accepts():
    schema = levels().schema
    assert SMALL.accepts(schema, Classify()) is None
    assert SMALL.accepts(Schema("series", ("x",)), Forecast()) == "it can classify; the task is forecast"
    assert "nothing to see" in SMALL.accepts(Schema("sequences", ("x",), ("a", "b"), lengths=(2, 9)), Classify())
    assert "marks" in SMALL.accepts(Schema("sequences", ("x",), ("<a>", "b"), lengths=(9, 9)), Classify())
    with pytest.raises(InputError, match="timemaster: found it can classify"):
        SMALL.fit(levels(), levels(), Forecast(), Run(updates=1))
    with pytest.raises(InputError, match="strip: found 5 of 48 columns"):
        TimeMaster(strip=5)
    with pytest.raises(InputError, match=r"supervised: found 1\.5"):
        TimeMaster(supervised=1.5)


def test_a_model_of_others_in_its_place(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=64, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "backbone")
    system = TimeMaster(backbone=str(tmp_path / "backbone"), adapt="lora", width=16, height=4, group=2, batch=8)
    data = levels(20)
    fitted = system.fit(data, data, Classify(), Run(updates=2, device="cpu"))
    fitted.save(tmp_path / "model")
    again = FittedNetwork.load(tmp_path / "model")
    assert np.array_equal(again.predict(data).probabilities, fitted.predict(data).probabilities)


# --- its claims ----------------------------------------------------------------------------------------------------------


def test_the_card():
    assert catalog.read_card(catalog.find("timemaster")) == TimeMaster.card
    assert (TimeMaster.card.n, TimeMaster.card.family) == (31, "series")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_the_first_claim_has_its_terms():
    terms = read_terms(terms_file(catalog.find("timemaster")), "rewards_after_imitation")
    assert set(terms.margins) == set(CLAIMS["rewards_after_imitation"].margins)
