"""Typed records, one class for each Avro schema in ``schemas/avro``.

Field names and meanings are those of the ``.avsc`` files, which document each field; a test keeps the
two in step. Times are integers: microseconds since the epoch, UTC. Ids are ``bytes`` of fixed size
(see :mod:`onibus.schemas.ids`). Records are frozen: a record that was read is a fact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """An answer of a language model, of rules or of a person."""

    UNHELPFUL = "unhelpful"
    HELPFUL = "helpful"
    UNSURE = "unsure"
    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


class Origin(StrEnum):
    """Who gave an answer."""

    LLM = "llm"
    RULES = "rules"
    HUMAN = "human"
    WITHDRAWAL = "withdrawal"


class Kind(StrEnum):
    """What a specification asks for: a verdict on one caption, or a comparison of two."""

    JUDGE_ONE = "judge_one"
    COMPARE_TWO = "compare_two"


@dataclass(frozen=True, slots=True)
class CaptionObserved:
    """One caption that a rollout worker saw; key on ``captions``: the caption id."""

    text: str
    task: str
    run: str
    worker: int
    environment: int
    episode: int
    step: int
    policy_version: int
    observed_at: int
    captioner: str = "message"


@dataclass(frozen=True, slots=True)
class Label:
    """The verdict in force for one subject under one specification; key: spec id + subject id."""

    verdict: Verdict
    caption_partition: int
    caption_offset: int
    observed_at: int
    annotated_at: int
    annotator: str
    confidence: float | None = None
    leader: bytes | None = None


@dataclass(frozen=True, slots=True)
class CaptionOffset:
    """Place of a record on the captions topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """Everything about one answer: the question, who answered, what came back, what it cost."""

    spec_id: bytes
    subject_id: bytes
    texts: tuple[str, ...]
    verdict: Verdict | None
    origin: Origin
    sources: tuple[CaptionOffset, ...]
    prompt_hash: bytes
    model: str
    model_revision: str
    sampling: dict[str, str]
    raw_answer: str
    reason: str
    tokens_in: int
    tokens_out: int
    latency_us: int
    attempt: int
    annotator: str
    observed_at: int
    annotated_at: int
    tokens_are_estimated: bool = False
    usd: float | None = None
    probability: float | None = None
    was_waiting: bool = False
    was_flipped: bool = False
    said: Verdict | None = None

    @classmethod
    def unasked(
        cls,
        spec_id: bytes,
        subject_id: bytes,
        texts: tuple[str, ...],
        verdict: Verdict | None,
        origin: Origin,
        annotator: str,
        observed_at: int,
        annotated_at: int,
        *,
        reason: str = "",
        sources: tuple[CaptionOffset, ...] = (),
    ) -> Annotation:
        """One for which no model was asked: a person's, or a program's."""
        return cls(
            spec_id, subject_id, texts, verdict, origin, sources, prompt_hash=bytes(16), model="",
            model_revision="", sampling={}, raw_answer="", reason=reason, tokens_in=0, tokens_out=0,
            latency_us=0, attempt=1, annotator=annotator, observed_at=observed_at, annotated_at=annotated_at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation that stands before the prompt; ``content`` is a template over goal."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class AnnotationSpec:
    """A way of asking; its id hashes all of it but ``name`` and ``created_at``."""

    name: str
    goal: str
    kind: Kind
    template: str
    parser: str
    model: str
    model_revision: str
    sampling: dict[str, str] = field(default_factory=dict)
    created_at: int = 0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class RewardModelChunk:
    """A piece of one version of a reward model's weights (one safetensors file, cut)."""

    model: str
    version: int
    chunk: int
    chunks: int
    data: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class RewardUpdate:
    """What one version of a reward model is: enough to train it again bit for bit."""

    model: str
    version: int
    architecture: str
    spec_ids: tuple[bytes, ...]
    seed: int
    annotation_offsets: dict[str, int]
    gradient_steps: int
    threads: int
    torch_version: str
    metrics: dict[str, float]
    normalisation: dict[str, float]
    weights_sha256: bytes
    trained_at: int
    processor: str = ""
    onibus: str = ""
    gpu: str = ""
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class LearnedAnnotation:
    """What of an annotation a reward model learns from, and where on the log it stands."""

    partition: int
    offset: int
    subject_id: bytes
    texts: tuple[str, ...]
    verdict: Verdict | None
    origin: Origin
    annotated_at: int


@dataclass(frozen=True, slots=True)
class LearnedBlock:
    """Annotations that a reward model has learned from; key: model name + block number."""

    model: str
    number: int
    previous: bytes
    annotation_offsets: dict[str, int]
    annotations: tuple[LearnedAnnotation, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be worked on, with the reason."""

    source_topic: str
    source_partition: int
    source_offset: int
    component: str
    reason: str
    attempts: int
    spec_id: bytes | None
    original_key: bytes | None
    original_value: bytes | None
    failed_at: int


@dataclass(frozen=True, slots=True)
class EpisodeFinished:
    """One whole episode: its seeds and actions play it again exactly."""

    run: str
    worker: int
    environment: int
    episode: int
    task: str
    seed_core: int
    seed_disp: int
    seed_level: int
    max_episode_steps: int
    actions: bytes
    checksum: int
    extrinsic_return: float
    intrinsic_return: float | None
    score: float
    depth: int
    experience_level: int
    gold: int
    turns: int
    steps: int
    end: str
    cause_of_death: str
    policy_version: int
    started_at: int
    finished_at: int
    nle_version: str
    caption_checksum: int | None
    task_version: int = 0
    action_set: str = ""
    character: str = ""
    success: bool | None = None
    scout: int | None = None
    kills: int | None = None
    progression: float | None = None
    plugin: str = ""
    action_format: str = ""
    statistics: dict[str, float] = field(default_factory=dict)
    captioner: str = "message"


Record = (
    CaptionObserved
    | Label
    | Annotation
    | AnnotationSpec
    | RewardModelChunk
    | RewardUpdate
    | LearnedBlock
    | DeadLetter
    | EpisodeFinished
)
