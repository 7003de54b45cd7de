"""onibus: reinforcement learning with a language model's judgement as reward, streamed over Kafka.

The folders of the repository are the packages here: ``onibus.producers`` is ``producers/``, and so on.
Nothing else can be imported after an installation.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
