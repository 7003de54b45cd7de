"""Judges that do not change while a run lasts: a frozen ranking model, or the similarity to a goal."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from onibus.consumers.reward_models.model_file import ModelFileError, read_model_file
from onibus.consumers.reward_models.publisher import newest_version
from onibus.consumers.reward_models.transfer import WholeFile
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions
from onibus.learner.rewards.formulas import SpecReward
from onibus.learner.rewards.score_to_reward import shape_of
from onibus.learner.rewards.scores import ModelInUse, ModelScores
from onibus.learner.rewards.similarity import SimilarityToGoal, embedding
from onibus.schemas import ids


def fix_judges(settings: Settings, scores: ModelScores, options: LearnOptions) -> dict[str, SpecReward]:
    """Have the judge of ``motif`` or ``similarity`` score; the parts of the reward, by name.

    Raises:
        OnibusError: there is no such model, embedding or specification.
    """
    if options.reward == "motif":
        assert options.motif_model is not None
        spec_id = use_frozen_model(settings, scores, options.motif_model)
        return {options.motif_model: SpecReward(spec_id, options.specs[0].coefficient)}
    return use_similarity(scores, options)


def check_judges(settings: Settings, options: LearnOptions) -> None:
    """Find out before the run starts whether :func:`fix_judges` will work.

    Raises:
        OnibusError: it will not.
    """
    if options.kind.is_frozen:
        fix_judges(settings, ModelScores(shape_of(options), ranks=options.kind.compares), options)


def use_frozen_model(settings: Settings, scores: ModelScores, model: str) -> bytes:
    """Have a ranking model score, as it is now; returns the id of the spec that it learned from.

    Args:
        model: path of a model file, or the name of a model on the bus.

    Raises:
        OnibusError: there is none, or it is no ranking model.
    """
    whole = _from_file(Path(model)) if Path(model).exists() else _from_bus(settings, model)
    try:
        spec_id = bytes.fromhex(read_model_file(whole.data).provenance.spec_id)
    except ModelFileError as error:
        raise OnibusError(f"--motif-model {model}: {error}; give a file of onibus replay train") from error
    if not scores.take(spec_id, whole, time.time()):
        raise OnibusError(
            f"--motif-model {model} is not a ranking model of this onibus (the line above says how it "
            "differs); train one with: onibus replay train --spec NAME-pairs"
        )
    return spec_id


def use_similarity(scores: ModelScores, options: LearnOptions) -> dict[str, SpecReward]:
    """Have the similarity to each spec's goal score; the parts of the reward, by name.

    Raises:
        OnibusError: a spec is not known, or the embedding is not there.
    """
    embed = embedding(options.embedding)
    found = {}
    for share in options.specs:
        spec = load_spec_file(share.name).for_model(f"similarity: {embed.name}")
        spec_id = ids.spec_id(spec)
        model = ModelInUse(
            f"similarity-{share.name}", 0, sha256(embed.name.encode()).hexdigest(), 0, time.time()
        )
        scores.use(spec_id, SimilarityToGoal(spec.goal, embed), model)
        found[share.name] = SpecReward(spec_id, share.coefficient, share.name)
    return found


def _from_file(path: Path) -> WholeFile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OnibusError(f"cannot read --motif-model {path}: {error.strerror}; correct the path") from error
    return WholeFile(path.name, 1, data, sha256(data).digest())


def _from_bus(settings: Settings, model: str) -> WholeFile:
    whole = newest_version(settings, model)
    if whole is None:
        raise OnibusError(
            f"--motif-model {model}: there is no such file, and no such model on the bus; give the path of a "
            "model file, or a name that onibus status lists"
        )
    return whole
