"""Random play for the judge's lessons: captions as the game says them, the same again from the same seed."""

from onibus.producers.nethack.random_play import random_captions


def test_the_same_arguments_give_the_same_captions_another_seed_others() -> None:
    found = random_captions(["keyroom-s5", "score"], 1_500, seed=3)
    assert found == sorted(set(found))
    assert "This door is locked." in found or any("key" in caption for caption in found)
    assert len(found) > 40
    assert random_captions(["keyroom-s5", "score"], 1_500, seed=3) == found
    assert random_captions(["keyroom-s5", "score"], 1_500, seed=4) != found
