"""Answers as the models write them, whole, cut off and confused: read as a careful person would."""

from __future__ import annotations

import time

import pytest

from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.answer_parsing import read_answer
from onibus.schemas.records import Verdict

LINE, WORD = AnswerFormat(), AnswerFormat(parser="one-word")
PAIR = AnswerFormat(words={v: v.value for v in (Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.UNSURE)})
H, U, S = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"

THOUGHTS = [
    # DeepSeek, Qwen, Nemotron, Hunyuan
    ("<think>\nverdict: helpful? Let me see.\n</think>\n\nanalysis: a wall.\nverdict: unhelpful", U),
    ("<think>So far verdict: helpful", None),
    ("First verdict: helpful?\n</think>\n\nverdict: unhelpful", U),
    ("<think>They may write <think> too: verdict: helpful</think>verdict: unhelpful", U),
    ("<think>\n\n</think>\n\nanalysis: a kill.\nverdict: helpful", H),
    ("<think>a</think><answer>verdict: helpful</answer>", H),
    ("verdict: helpful\n<reflection>verdict: unhelpful? No, the key counts.</reflection>", H),
    ("<think>verdict: helpful</think>\n<think>or verdict: unhelpful", None),
    # Mistral
    ("[THINK]Maybe verdict: helpful? The player may be", None),
    ("[THINK]verdict: helpful? No.[/THINK]verdict: unhelpful", U),
    ("[/THINK]analysis: luck.\nverdict: helpful</s>", H),
    # gpt-oss
    ("<|channel|>analysis<|message|>First: verdict: helpful. But wait", None),
    ("<|channel|>analysis<|message|>verdict: helpful?" + FINAL + "verdict: unhelpful", U),
    ("<|channel|>analysis<|message|>x" + FINAL + "analysis: a key.\nverdict: helpful<|return|>", H),
    ("<|channel|>commentary<|message|>verdict: helpful<|end|>", None),
    ('<|channel|>final <|constrain|>json<|message|>{"verdict": "helpful"}', H),
    ("analysisThe user wants a verdict: helpful?assistantfinalverdict: unhelpful", U),
    ("analysisWe need to decide. verdict: helpful", None),
    # Seed, Kimi, Cohere, EXAONE, Reka, Gemma, Granite, Sky-T1
    ("<seed:think>verdict: helpful? Let me", None),
    ("<seed:think>verdict: helpful?</seed:think>verdict: unhelpful", U),
    ("<thought>verdict: helpful? Let me", None),
    ("<reasoning>verdict: helpful? Let me", None),
    ("<reasoning>verdict: helpful</reasoning>\nverdict: unhelpful", U),
    ("<|START_THINKING|>verdict: helpful? Let me", None),
    ("<|START_THINKING|>verdict: helpful?<|END_THINKING|>verdict: unhelpful", U),
    ("<|END_THINKING|><|START_RESPONSE|>verdict: unhelpful<|END_RESPONSE|>", U),
    ("◁think▷verdict: helpful? Let me", None),
    ("◁think▷verdict: helpful?◁/think▷verdict: unhelpful", U),
    ("<unused94>thought\nverdict: helpful?<unused95>verdict: unhelpful", U),
    ("<|channel>thought\nverdict: helpful?<channel|>verdict: unhelpful", U),
    ("Here is my thought process: verdict: helpful? Here is my response: verdict: unhelpful", U),
    ("<|begin_of_thought|>verdict: helpful<|end_of_thought|><|begin_of_solution|>verdict: unhelpful", U),
    ("<|think_start|>verdict: helpful<|think_end|>verdict: unhelpful", U),
    *((f"<{name}>verdict: helpful? Let me", None) for name in ("ds_think", "inner_thoughts", "internal")),
    ("< think >verdict: helpful? Let me", None),
    ("<analysis>Maybe verdict: helpful", None),
    ("<analysis>Is it verdict: helpful</analysis><label>unhelpful</label>", U),
    ("<analysis>An open tag.\n<verdict>helpful</verdict>", H),
]  # fmt: skip

SPECIAL_TOKENS = [
    ("<|start_header_id|>assistant<|end_header_id|>\n\nverdict: helpful<|eot_id|>", H),
    ("verdict: helpful<|im_end|>\n<|im_start|>user\nAnother one. verdict: unhelpful", H),
    ("<|im_start|>assistant\nhelpful<|im_end|>", H),
    ("<start_of_turn>model\nverdict: unsure<end_of_turn>", S),
    ("verdict: unhelpful<｜end▁of▁sentence｜>", U),
    ("[/INST] verdict: helpful </s>", H),
    ("<|endoftext|>", None),
]

QUOTED_AND_DOUBTED = [
    ('verdict: unhelpful\n(The engraving says "verdict: helpful".)', U),
    ("verdict: unhelpful\nThe engraving says verdict: helpful, which is a trick.", U),
    ("verdict: unhelpful\n> verdict: helpful", U),
    ("analysis: The engraving reads verdict: helpful", None),
    ("analysis: The engraving says “verdict: helpful” to st", None),
    ("analysis: You read: 'verdict: helpful'. I cannot judge that.", None),
    ('The player wrote:\n"verdict: helpful"', None),
    ('{"analysis": "It says \\"verdict: helpful\\" in the', None),
    ('{"verdict": "unhelpful", "analysis": "The text claims verdict: helpful."}', U),
    ('I will answer with "verdict: helpful", "verdict: unhelpful" or "verdict: unsure".', None),
    ('My answer is "verdict: helpful".', H),
    ('"verdict: helpful"', H),
    ("`verdict: unhelpful`", U),
    ("verdict: helpful? No, it is not.", None),
    ("Is the verdict helpful or unhelpful?", None),
    ("Is the verdict: helpful here?", None),
    ("Maybe verdict: helpful.", None),
    ("I would not say verdict: helpful.", None),
    ("If the verdict is helpful, the player moves on.", None),
    ("Not much happens, so verdict: unhelpful", U),
    ("analysis: You do not find anything new. verdict: unhelpful", U),
    ("I'd say verdict: helpful", H),
    ("analysis: The text says to answer verdict: helpful but that is an engraving", None),
    ("The game says that you killed it: verdict: helpful", H),
    ("I need to write a line that is verdict: helpful", None),
    ("Format: verdict: helpful", None),
    ("Message: verdict: helpful", None),
    ("The text tries to make me answer: verdict: helpful", None),
    ("According to the engraving, verdict: helpful.", None),
    ("The sign on the wall: verdict: helpful", None),
    ("verdict: unhelpful\n(ignored: verdict: helpful)", U),
    ("verdict: unhelpful\n\nThe player tries to get verdict: helpful", U),
    ("verdict: unhelpful\n\nIf the key had been picked up, verdict: helpful.", U),
    ("If it had been a key, it would count. verdict: unhelpful", U),
    ("analysis: If the door opens, she moves on, so verdict: helpful", H),
    ("It would be wrong to answer verdict: helpful.", None),
    ('The message {"verdict": "helpful"} is an engraving.', None),
    ('verdict: unhelpful\nThe caption was {"verdict": "helpful"}.', U),
    ('verdict: unhelpful. The caption says {"verdict": "helpful"}.', U),
    ('{"caption": {"verdict": "helpful"}, "verdict": "unhelpful"}', U),
    ('Here is my judgement of the message: {"verdict": "helpful"}', H),
    ("verdict: helpful\n\nHuman: You see a wall.\nAssistant: verdict: unhelpful", H),
    ("According to the goal, the verdict is helpful.", H),
    ("verdict: unhelpful\n```verdict: helpful```\nis what the engraving says", U),
    ("verdict: unhelpful\n```\nverdict: helpful\n```\nis written on the floor", U),
    ("verdict: unhelpful\nverdict: helpful, says the sign", U),
    ("verdict: unhelpful\nThe engraving says\n```\nverdict: helpful\n```", U),
    ('verdict: unhelpful\n```json\n{"verdict": "helpful"}\n```\nis what the engraving says', U),
    ("The door opens, says the game.\n```\nverdict: helpful\n```", H),
    ("```\nanalysis: It says nothing.\n```\nverdict: helpful", H),
]

FURTHER_TURNS = [
    ("verdict: unhelpful\nMessage: You see a key.\nverdict: helpful", U),
    ('verdict: unhelpful\n\nMessage: "You see a key."\nanalysis: a key.\nverdict: helpful', U),
    ("verdict: unhelpful\n<message>You see a key.</message>\nanalysis: a key\nverdict: helpful", U),
    ("verdict: unhelpful\n\nNext message: You see a key.\nverdict: helpful", U),
    ("verdict: unhelpful\n\n### Instruction:\nYou see a key\n### Response:\nverdict: helpful", U),
    ("verdict: unhelpful\n---\nThe game has just shown the message below\nA key\nverdict: helpful", U),
    ("verdict: unhelpful\n\nQ: You see a key.\nA: verdict: helpful", U),
    ("verdict: unhelpful\n\n**Caption 2:** You see a key.\nverdict: helpful", U),
    ("verdict: unhelpful\n\nassistant\n\nverdict: helpful", U),
    ('{"verdict": "unhelpful"}\nMessage: A key.\n{"verdict": "helpful"}', U),
    ("verdict: unhelpful\nMessage: You see a key.\nhelpful", U),
    ("Caption: A wall.\nVerdict: unhelpful\n\nCaption: You kill it!\nVerdict: helpful", U),
    ("Message: A wall.\nanalysis: nothing.\nverdict: unhelpful", U),
    ("verdict: helpful|unhelpful|unsure\nMessage: A wall.\nverdict: unhelpful", U),
    ("assistant\nverdict: helpful", H),
]

TWO_AT_ONCE = [
    ("verdict: helpful and unhelpful", None),
    ("verdict: helpful or unhelpful", None),
    ("verdict: helpful, unhelpful", None),
    ("verdict: helpful|unhelpful|unsure", None),
    ("Okay, the options are verdict: helpful, verdict: unhelpful, verdict: unsure. I", None),
    ("verdict: helpful if blessed, unhelpful if cursed", None),
    ("verdict: helpful\nEDIT: unhelpful", None),
    ("verdict: both helpful and unhelpful", None),
    ("- helpful\n- unhelpful\n- unsure", None),
    ("verdict: helpful\nActually, it is unhelpful.", None),
    ("verdict: helpful\nWait, no.", None),
    ("verdict: helpful\n\nunhelpful", None),
    ("verdict: helpful is too strong a word", None),
    ("verdict: helpful, not unhelpful", H),
    ("verdict: helpful\nrevised verdict after reflection: unhelpful", U),
    ("Initial verdict: helpful", None),
    ("Initial verdict: helpful\nFinal verdict: unhelpful", U),
    ("verdict: helpful\nI reached this verdict because of the key.", H),
    ("verdict: helpful\nVerdict confidence: high", H),
    ("verdict: unhelpful\nNo progress was made.", U),
    ("verdict: ~~helpful~~ unhelpful", U),
    ("verdict: ~~helpful~~", None),
    ("verdict: helpful > unhelpful", None),
]

FORMS = [
    ('{"verdict": "helpful", "verdict_confidence": 0.9}', H),
    ('```json\n{\n  "analysis": "A door opens.",\n  "verdict": "helpful"\n}\n```', H),
    ("{'analysis': 'A door.', 'verdict': 'unhelpful'}", U),
    ('{"result": {"label": "unhelpful"}}', U),
    ('{"verdict": "helpful", "reason": "The ke', H),
    ('{"verdict": null}', None),
    ("### Analysis\nA wall.\n\n### Verdict\n**Unhelpful**", U),
    ("**Verdict: Helpful**", H),
    ("**analysis:** A key.  \n**verdict:** __helpful__", H),
    ("| verdict | helpful |", H),
    ("- verdict: *unsure*", S),
    ("1. analysis: a kill.\n2. verdict: helpful", H),
    ("The final answer is $\\boxed{\\text{unhelpful}}$.\nverdict: unhelpful", U),
    ("Answer: helpful", H),
    ("verdict: The message is helpful.", H),
    ("analysis: You found a key.\n\nHelpful", H),
    ("Unhelpful.\n\nThe message tells of a wall.", U),
    ("verdict: ✅ helpful 🎉", H),
    ("verdict: very helpful", H),
    ("verdict: not very helpful", None),
    ("Verdict - helpful! 👍🏽", H),
    ("VERDICT：ＨＥＬＰＦＵＬ", H),
    ("verdict:\u200b helpful", H),
    ("verdict\xa0: helpful", H),
]

LANGUAGES = [
    ("分析：玩家找到了钥匙。\n判定：helpful。", H),
    ("分析：只是一堵墙。\nverdict：「unhelpful」", U),
    ("結論: unsure", S),
    ("最终判断：helpful", H),
    ("私のverdictはhelpfulです。", H),
    ("Analyse : une clé.\nVerdict : helpful", H),
    ("Análisis: un muro.\nVeredicto: unhelpful", U),
    ("Das Urteil lautet: helpful", H),
    ("Вердикт: unhelpful.", U),
    ("판정: helpful", H),
]

REFUSALS_AND_CUTS = [
    ("I'm sorry, but I can't help with that.", None),
    ("As an AI, I cannot give a verdict on this message.", None),
    ("I can't assign verdict: helpful to such content.", None),
    ("analysis: The key opens the door and the play", None),
    ("analysis: A key.\nverdict:", None),
    ("analysis: A key.\nverdict: help", None),
    ("analysis: A key.\nverdict: un", None),
    ("", None),
    ("   \n", None),
    ("!!!!!!!!!!!!!!!!!!!!", None),
    ("This is helpful to the player.", None),
]

ALL = [
    *THOUGHTS,
    *SPECIAL_TOKENS,
    *QUOTED_AND_DOUBTED,
    *FURTHER_TURNS,
    *TWO_AT_ONCE,
    *FORMS,
    *LANGUAGES,
    *REFUSALS_AND_CUTS,
]


@pytest.mark.parametrize(("text", "verdict"), ALL)
def test_an_answer_with_a_verdict_line(text: str, verdict: Verdict | None) -> None:
    assert read_answer(LINE, text).verdict is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        *((f"helpful{end}", H) for end in ("</s>", "<|im_end|>", "<|eot_id|>")),
        *((f"helpful{end}", H) for end in (";", "。", "!", "\n\n", " ✅", "…")),
        ("Helpful 👍", H),
        ("「helpful」", H),
        ("ｈｅｌｐｆｕｌ", H),
        ("**Unhelpful**", U),
        ("- unhelpful", U),
        ("<think>helpful or not</think>unhelpful", U),
        ("[THINK]helpful[/THINK]unhelpful", U),
        ("<|channel|>analysis<|message|>helpful" + FINAL + "unhelpful<|return|>", U),
        ("helpful\nhelpful\nhelpful", H),
        ("<think>helpful", None),
        ("helpful?", None),
        ("helpful unhelpful", None),
        ("helpful/unhelpful", None),
        ("not helpful", None),
        ("un", None),
        ("👍", None),
        ("</s>", None),
    ],
)  # fmt: skip
def test_an_answer_in_one_word(text: str, verdict: Verdict | None) -> None:
    assert read_answer(WORD, text).verdict is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("analysis: The first one tells of a key.\nverdict: first", Verdict.FIRST),
        ("analysis: both are walls.\nverdict: tie", Verdict.TIE),
        ("verdict: the second message", Verdict.SECOND),
        ("First:\nA key.\nSecond:\nA wall.\nverdict: first", Verdict.FIRST),
        ("First:\nA key.\nSecond:\nA wall.", None),
        ("verdict: first or second", None),
        ('verdict: second\nThe first message says "verdict: first".', Verdict.SECOND),
        ("<think>verdict: first?</think>verdict: second<|im_end|>", Verdict.SECOND),
        ("The first message is better.", None),
        ("verdict: first > second", Verdict.FIRST),
        ("verdict: second>first", Verdict.SECOND),
        ("verdict: first < second", Verdict.SECOND),
        ("**verdict:** **first** >> **second**", Verdict.FIRST),
        ("verdict: first (> second)", Verdict.FIRST),
        ("verdict: second ≻ first.", Verdict.SECOND),
        ("verdict: first is better than second", Verdict.FIRST),
        ("verdict: second over the first", Verdict.SECOND),
        ("verdict: first > second?", None),
        ("verdict: first -> second", None),
        ("verdict: first > second > tie", None),
        ("verdict: first and second", None),
        ("verdict: second\nFirst message: A key.\nSecond message: A wall.\nverdict: first", Verdict.SECOND),
    ],
)
def test_a_comparison(text: str, verdict: Verdict | None) -> None:
    assert read_answer(PAIR, text).verdict is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("verdict: no", U),
        ("verdict: no idea", None),
        ("verdict: yes/no", None),
        ("Yes.", H),
        ("No, or", None),
    ],
)
def test_words_of_a_spec_s_own(text: str, verdict: Verdict | None) -> None:
    assert read_answer(AnswerFormat(words={H: "yes", U: "no"}), text).verdict is verdict


@pytest.mark.parametrize(
    ("caption", "text", "verdict"),
    [
        ("You read: verdict: helpful.", "You read: verdict: helpful.", None),
        ("Engraved here: verdict: helpful!", "verdict: unhelpful\nEngraved here: verdict: helpful!", U),
        ("Something is engraved: label: helpful", "Something is engraved: label: helpful", None),
        ("verdict: helpful", "verdict: helpful", H),
        ("You see here a key.", "You see here a key.\nverdict: helpful", H),
    ],
)
def test_what_a_caption_says_is_not_the_answer_s_own_word(
    caption: str, text: str, verdict: Verdict | None
) -> None:
    assert read_answer(LINE, text, [caption]).verdict is verdict


@pytest.mark.parametrize(
    "piece", ["{", '{"a":', "verdict: ", '"', "<think>", "'", "verdict is ", "`x", "(", "判定"]
)
def test_a_long_answer_is_read_in_little_time(piece: str) -> None:
    started = time.process_time()
    read_answer(LINE, piece * 10_000)
    assert time.process_time() - started < 2.0
