"""Chat completions as they come: what of a body is the answer, and what it took."""

from __future__ import annotations

from typing import Any

from onibus.consumers.language_models.ask_until_readable import Reply
from onibus.consumers.language_models.failure_kinds import NoCompletionError, storable
from onibus.consumers.specs.probabilities import likeliest_of

_MALFORMED = (LookupError, TypeError, AttributeError)
"""What a body of another shape than a completion's leads to."""
_MOST_TOKENS = 2**31 - 1
_CUT = ("length", "max_tokens")
_FILTERED = "content_filter"


def reply_of(completion: Any, latency_us: int) -> Reply:
    """The reply in a completion's body.

    Raises:
        NoCompletionError: the body is no completion.
    """
    try:
        return _reply(completion["choices"][0], completion.get("usage"), latency_us)
    except _MALFORMED as error:
        raise NoCompletionError(f"the answer is not a completion: {str(completion)[:200]}") from error


def _reply(choice: Any, usage: Any, latency_us: int) -> Reply:
    finish_reason = choice.get("finish_reason")
    # A plain completion has its text in place of a message.
    message = {"content": choice["text"]} if "text" in choice else choice.get("message")
    if message is None and finish_reason == _FILTERED:
        message = {}  # some filters take all of it away
    refusal = message.get("refusal") or ""
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    thoughts = thoughts if isinstance(thoughts, str) else str(thoughts)
    text = _text(message.get("content")) or refusal
    if not text.strip() and thoughts:
        # A server that took all of it for thoughts, though the model came to its end; else they were cut off.
        text, thoughts = (thoughts if finish_reason == "stop" else f"<think>{thoughts}"), ""
    tokens_out = _tokens(usage, "completion_tokens")
    return Reply(
        storable(text),
        _tokens(usage, "prompt_tokens") or None,  # no prompt has none
        None if not tokens_out and (text or thoughts) else tokens_out,
        latency_us,
        is_refusal=bool(refusal) or finish_reason == _FILTERED,
        is_cut=finish_reason in _CUT,
        thoughts=thoughts,
        likeliest=_likeliest(choice.get("logprobs")),
    )


def _likeliest(logprobs: Any) -> dict[str, float] | None:
    """Log-probabilities of the likeliest first tokens, in the form of a chat's or of a plain completion.

    None of another form: the answer is paid for, and is no better if it is asked for again.
    """
    try:
        if isinstance(first := logprobs.get("content"), list):
            found = [(token["token"], token["logprob"]) for token in first[0]["top_logprobs"]]
        else:
            found = list(logprobs["top_logprobs"][0].items())
        return likeliest_of((storable(token), logarithm) for token, logarithm in found) or None
    except _MALFORMED:
        return None


def _text(content: Any) -> str:
    """The words of a message: some servers send them in parts, of which thoughts are another kind."""
    if not isinstance(content, list):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _tokens(usage: Any, name: str) -> int | None:
    """What was counted, if it can be a count: an answer is none the worse for a server that miscounts."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_TOKENS:
        return None
    return count
