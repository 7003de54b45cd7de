"""Reading verdicts: what models write, and what must not be taken for a verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.answer_parsing import read_answer
from onibus.schemas.records import Verdict

LINE, WORD = AnswerFormat(), AnswerFormat(parser="one-word")
H, U, S = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("analysis: A kill gives experience.\nverdict: helpful", H),
        ("analysis: nothing.\nverdict: unhelpful\n", U),
        ("Verdict: UNSURE.", S),
        ("**Verdict:** `helpful`", H),
        ('"verdict": "unhelpful"', U),
        ("verdict - helpful", H),
        ("helpful", H),
        (" 'Unhelpful'. ", U),
        ("<think>verdict: helpful? no…</think>\nverdict: unhelpful", U),
        ("verdict: helpful\nOn second thought:\nverdict: unhelpful", U),
        ("The message is not helpful at all.", None),
        ("It is helpful.", None),
        ("verdict: perhaps", None),
        ("verdict: helpful\nverdict: no idea", None),
        ("analysis: it was cut off right he", None),
        ("", None),
        ("verdict:", None),
        ("verdict: not-helpful", None),
        # ONI's way: knowledge, analysis, label
        ("knowledge: Newts are weak.\nanalysis: A kill.\nlabel: helpful", H),
        ("<knowledge>…</knowledge>\n<analysis>…</analysis>\n<label>unhelpful</label>\nHope it helps!", U),
        ("<verdict>helpful</verdict> Thank you.", H),
        ("I would label this message helpful.\nverdict: unhelpful", U),
        ("verdict: helpful (I label this with some doubt)", H),
        # as models write
        ("## Verdict\n\n**Helpful**", H),
        ("**Analysis**: luck.\n**Verdict**: *unsure*", S),
        ('{"analysis": "A door.", "verdict": "helpful"}', H),
        ('```json\n{"verdict":"unhelpful"}\n```', U),
        ("The verdict is: helpful.", H),
        ("The verdict is not helpful.", None),
        ("verdict: [helpful]", H),
        ("Verdict → helpful", H),
        ("verdict： unhelpful", U),
        ("verdict: $\\boxed{\\text{helpful}}$", H),
        ("verdict: helpful/unhelpful", None),
        ("verdict: helpful or unhelpful", None),
        ("[unhelpful]", U),
        ("Okay, it was luck: verdict: helpful?</think>\n\nverdict: unhelpful", U),
        ("<think>So the verdict: helpful? Let me", None),
        ("<thinking>verdict: unhelpful</thinking>helpful", H),
        ("verdict: helpfully", None),
        ("My conviction: helpful", None),
    ],
)
def test_verdict_lines(text: str, verdict: Verdict | None) -> None:
    assert read_answer(LINE, text).verdict is verdict


def test_the_reason_is_kept() -> None:
    reading = read_answer(LINE, "Analysis: The newt gave experience. \nverdict: helpful")
    assert reading.reason == "The newt gave experience."
    as_json = read_answer(LINE, '{"analysis": "A door.", "verdict": "helpful"}')
    assert as_json.reason.startswith("A door.")
    assert read_answer(LINE, "<analysis>A kill.</analysis><label>helpful</label>").reason == "A kill."


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("helpful", H), ("Unhelpful.\n", U), ("verdict: helpful", None), ("helpful indeed", None), ("", None)],
)
def test_one_word(text: str, verdict: Verdict | None) -> None:
    assert read_answer(WORD, text).verdict is verdict


def test_a_spec_may_have_its_own_words() -> None:
    own = AnswerFormat(words={H: "yes", U: "no"})
    assert read_answer(own, "verdict: Yes").verdict is H
    assert read_answer(own, "verdict: helpful").verdict is None


@given(st.text())
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    assert read_answer(LINE, text).verdict in (H, U, S, None)
