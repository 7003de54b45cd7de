"""What a model wrote for the reader: its answer without its thoughts, and without tokenizers' special tokens.

Most servers take thoughts and special tokens away; one that is set up for another model leaves them in.
"""

from __future__ import annotations

import re

_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
"""Start of a message of gpt-oss ("harmony"); the reader's stand on the channel ``final``."""
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_CHANNELS = re.compile(r"analysis(?=[A-Z]).*?(?:assistantfinal(.*)|$)", re.DOTALL)
"""The same from a server that has removed the special tokens only."""

_NAME = (
    r"(?:\w+:)?(?:\w*(?:think|thought|reasoning|reflection|scratch_?pad|rationale|monologue)\w*|cot|internal)"
)
_THOUGHTS = re.compile(
    rf"""
      (?P<close> [<◁]\s*/\s*{_NAME}\s*[>▷] | <\|(?:/|end_(?:of_)?){_NAME}\|> | <\|{_NAME}_end\|>
               | \[/THINK\] | <unused95> | <channel\|> | Here\ is\ my\ response: )
    | (?P<open> [<◁]\s*{_NAME}(?:\s[^<>▷]*)?[>▷] | <\|{_NAME}\|>
              | \[THINK\] | <unused94>(?:thought)? | <\|channel>\s*thought | Here\ is\ my\ thought\ process: )
    """,
    re.IGNORECASE | re.VERBOSE,
)

_ROLE = re.compile(
    r"(?:<\|(?:im_start|start|start_header_id|header_start)\|>|<start_of_turn>)\s*(?:assistant|model)\b"
    r"(?:<\|(?:end_header_id|header_end|im_sep|message)\|>)?"
)
_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|eot|eom_id|end|return|endoftext|end_of_text|end_of_turn|eos|end_of_sentence"
    r"|END_RESPONSE|END_OF_TURN_TOKEN|user|observation)\|>|<(?:/s|eos|end_of_turn)>|\[EOS\]"
    r"|<\|end▁of▁sentence\|>|\n[^\S\n]*(?:Human|User)[^\S\n]*:",
    re.IGNORECASE,
)
_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:bos|pad|eos|unk)>|<(?:start|end)_of_turn>|<unused\d+>|\[/?INST\]|\[BOS\]"
)


def without_thoughts(text: str) -> str:
    """``text`` without its thoughts; what comes after thoughts that were cut off is empty.

    Thoughts end at their closing mark. Without an opening one (some servers take it into the prompt) they
    are all that stands before; without a closing one, all that stands after.
    """
    channels = list(_CHANNEL.finditer(text))
    if channels:
        return _final_message(text, channels)
    if bare := _BARE_CHANNELS.match(text):
        return bare.group(1) or ""
    kept, position, is_thought = "", 0, False
    for mark in _THOUGHTS.finditer(text):
        if mark["open"] and not is_thought:
            kept += text[position : mark.start()]
        elif mark["close"] and not is_thought:
            kept = ""
        is_thought = bool(mark["open"])
        position = mark.end()
    return kept if is_thought else kept + text[position:]


def without_special_tokens(text: str) -> str:
    """The first turn of ``text`` that holds anything, without the tokens that mark turns."""
    text = _ROLE.sub("\n", text)
    turns = (_SPECIAL.sub("", turn) for turn in _TURN_END.split(text))
    return next((turn for turn in turns if turn.strip()), "")


def _final_message(text: str, channels: list[re.Match[str]]) -> str:
    final = ""
    for start in channels:
        if start.group(1) == "final":
            end = _MESSAGE_END.search(text, start.end())
            final = text[start.end() : end.start() if end else len(text)]
    return final
