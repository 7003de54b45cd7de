"""A Llama of 0.46 million parameters that stands in for a language model where none can be had.

It learns here, within minutes, to answer as the keyword rules of our specs do, from captions of random play.
It knows nothing else: it is there so that everything around a real model (server, constrained answers,
batches, failures) runs and is tested with a real model.
"""
