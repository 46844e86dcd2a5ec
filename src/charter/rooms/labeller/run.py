"""The labeller of AI feedback where no large model is at hand (the feedback model of Bai 2022b, section 4.1).

An encoder learns which of two replies is better under a principle, from pairs whose order programs or people know:

    loss = -log sigma(score(principle, better) - score(principle, worse))

Most pairs come under two opposing principles, so that only whoever reads the principle gets below log 2.
"""

from __future__ import annotations

from torch.nn import functional as F

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.learn.loop import Loop
from charter.ground.learn.step import autocast, backward
from charter.ground.model.sentence_encoder import encoder_folder
from charter.ground.settings.seed import derive_seed
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
    reader = PrincipleReader.start(
        encoder_folder(settings.encoder), settings.rank, out.device, out.precision, settings.untaught
    )
    learners = {"encoder": (reader.encoder, settings.lr), "head": (reader.head, settings.head_lr)}
    loop = Loop(learners, settings, out, settings.weight_decay)
    if not loop.done:
        reader.fit_head([*measured, *written], derive_seed(out.seed, "fit"))
    with loop.over("labeller", len(steps)) as remaining:
        for number in remaining:
            lessons = steps[number]
            with autocast(out.device, out.precision):
                gaps_N = reader.head(*reader.read(lessons)).float()
            loss = backward(-F.logsigmoid(gaps_N).mean())
            rates = loop.update(number, loss, [lesson.id for lesson in lessons])
            right = float((gaps_N > 0).float().mean())
            row = {"pairs": len(lessons), "loss": loss, "batch_accuracy": right, **rates}
            loop.end(number, reader.tokens, row, loss=loss, accuracy=right)
    reader.save(out.path)
    out.counts({"measured": len(measured), "written": len(written), "steps": len(steps)})
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/pair")
