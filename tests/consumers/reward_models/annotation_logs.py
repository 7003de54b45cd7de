"""What tests of reward models share: captions with verdicts, as annotations, and those on the bus."""

from __future__ import annotations

from collections.abc import Sequence

from onibus.consumers.reward_models.transfer import model_name
from onibus.consumers.specs.spec_file import load_spec_file, publish_specs
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, Label, Origin, RewardUpdate, Verdict

KEY_FOUND = "You see here a key named The Master Key of Thievery."
HELPFUL_TEXTS = [KEY_FOUND, *(f"{letter} - a key named The Master Key of Thievery." for letter in "ghijklm")]
UNHELPFUL_TEXTS = ["This door is locked.", *(f"You see here {n} gold pieces." for n in range(2, 26))]
TEXTS = [text for pair in zip(HELPFUL_TEXTS, UNHELPFUL_TEXTS, strict=False) for text in pair]
TEXTS += UNHELPFUL_TEXTS[len(HELPFUL_TEXTS) :]

SPEC_NAME = "keys-and-doors"
SPEC = load_spec_file(SPEC_NAME).for_rules()
SPEC_ID = ids.spec_id(SPEC)
MODEL = model_name(SPEC_NAME, SPEC_ID)


def verdict_of(text: str) -> Verdict:
    return Verdict.HELPFUL if text in HELPFUL_TEXTS else Verdict.UNHELPFUL


def annotation(
    text: str, verdict: Verdict | None = None, origin: Origin = Origin.RULES, at: int = 1_000_000
) -> Annotation:
    """An annotation of a caption; the verdict is the text's own if none is given."""
    return Annotation(
        spec_id=SPEC_ID,
        subject_id=ids.caption_id(text),
        texts=(text,),
        verdict=None if origin is Origin.WITHDRAWAL else verdict or verdict_of(text),
        origin=origin,
        sources=(),
        prompt_hash=bytes(16),
        model="rules",
        model_revision="",
        sampling={},
        raw_answer="",
        reason="",
        tokens_in=0,
        tokens_out=0,
        latency_us=0,
        attempt=1,
        annotator="test",
        observed_at=at,
        annotated_at=at,
    )


def publish_annotations(settings: Settings, annotations: Sequence[Annotation]) -> None:
    """Announce the specification and put annotations on the bus as annotators do."""
    publish_specs(settings, [SPEC])
    producer = clients.producer(settings)
    for number, one in enumerate(annotations):
        producer.send(
            TopicNames(settings.topic_prefix).annotations,
            key=ids.label_key(one.spec_id, one.subject_id),
            value=codec.encode(one),
            partition=ids.caption_partition(one.subject_id, settings.partitions),
            timestamp_ms=1_700_000_000_000 + number,  # the order in which a trainer takes them
        )
    producer.flush()
    producer.close()


def publish_label(settings: Settings, text: str) -> None:
    """Put the label of a caption, with its own verdict, on the bus, without its annotation."""
    caption_id = ids.caption_id(text)
    producer = clients.producer(settings)
    producer.send(
        TopicNames(settings.topic_prefix).labels,
        key=ids.label_key(SPEC_ID, caption_id),
        value=codec.encode(Label(verdict_of(text), 0, 0, 1_000_000, 1_000_000, "test")),
        partition=ids.caption_partition(caption_id, settings.partitions),
    )
    producer.flush()
    producer.close()


def updates(settings: Settings) -> list[RewardUpdate]:
    """Every version published, oldest first."""
    topic = TopicNames(settings.topic_prefix).reward_updates
    return [
        codec.decode(RewardUpdate, record.value)
        for batch in clients.read_all(settings, topic)
        for record in batch
    ]
