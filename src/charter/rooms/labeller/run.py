"""The labeller of AI feedback where no large model is at hand (the feedback model of Bai 2022b, section 4.1).

An encoder learns which of two replies is better under a principle, from pairs whose order programs or people know:

    loss = -log sigma(score(principle, better) - score(principle, worse))

Measured pairs come under principles for and against a trait, so that only whoever reads the principle gets below log 2.
Each step words the principles anew: a few wordings a trait would be learnt by heart. From a share of the principles
the traits are hidden, so that the encoder also learns to place them beside replies, which serves untaught principles.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.learn.loop import Loop
from charter.ground.learn.step import autocast, backward
from charter.ground.model.sentence_encoder import encoder_folder
from charter.rooms.labeller.lessons import batches, read_lessons
from charter.rooms.labeller.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a reader of principles (config.json, model.safetensors, tokenizer.json), counts.json."""
    measured, written = read_lessons(inputs)
    if not measured and not written:
        raise CharterError(
            "there is nothing to learn: give lessons (a step of `principles`) or written pairs with rows"
        )
    steps = batches(measured, written, settings, out.seed)
    reader = PrincipleReader.start(encoder_folder(settings.encoder), settings.cosine, out.device, out.precision)
    traits_NR, states_ND = reader.differences([*measured, *written])
    learners = {"encoder": (reader.taught, settings.lr), "head": (reader.head, settings.head_lr)}
    loop = Loop(learners, settings, out, settings.weight_decay)
    with loop.over("labeller", len(steps)) as remaining:
        for number in remaining:
            step = steps[number]
            numbers = [n for asked in step for n in asked.lessons]
            decided_by = [place for place, asked in enumerate(step) for _ in asked.lessons]
            shown_N1 = torch.tensor([[float(not step[place].hidden)] for place in decided_by], device=out.device)
            with autocast(out.device, out.precision):
                principles_ND = reader.principles([asked.principle for asked in step])[decided_by]
                gaps_N = reader.head.train()(principles_ND, traits_NR[numbers] * shown_N1, states_ND[numbers]).float()
            # each principle counts the same, however many pairs it decides
            share_N = torch.tensor([1 / len(step[place].lessons) for place in decided_by], device=out.device)
            loss = backward(-(F.logsigmoid(gaps_N) * share_N).sum() / len(step))
            rates = loop.update(number, loss, [asked.principle for asked in step])
            right = float((gaps_N > 0).float().mean())
            row = {"pairs": len(numbers), "loss": loss, "batch_accuracy": right, **rates}
            loop.end(number, reader.tokens, row, loss=loss, accuracy=right)
    reader.save(out.path)
    out.counts({"measured": len(measured), "written": len(written), "steps": len(steps)})
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/pair")
