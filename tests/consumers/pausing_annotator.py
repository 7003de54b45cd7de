"""An annotator that pauses at a given step of a given transaction until a line comes on its input.

Arguments: name, step, number of the transaction (from 1). Settings come from the environment. Prints
"paused".
"""

import sys
import threading

from onibus.consumers.annotator.loop import AnnotatorProcess
from onibus.infra.process.logs import set_up_logging
from onibus.infra.settings import load_settings
from tests.consumers.annotating import membership, rules_specs


def main() -> None:
    name, step, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    seen = 0

    def on_step(reached: str) -> None:
        nonlocal seen
        seen += reached == step
        if reached == step and seen == number:
            print("paused", flush=True)
            sys.stdin.readline()

    set_up_logging()
    settings = load_settings()
    specs, model = rules_specs()
    process = AnnotatorProcess(settings, specs, model, membership(settings, name, 20), on_step)
    process.run(threading.Event())


if __name__ == "__main__":
    main()
