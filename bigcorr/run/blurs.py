"""All blurs of a question, stage by stage: what they read in common is read once.

Each blur asks for its stages in its own order; here those of the same name are run together, as far
as the plan found room to keep what is read. What a stage does is in `blur_job`.
"""

from __future__ import annotations

from collections.abc import Generator

from bigcorr.run.blur_job import Blur, one_blur
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import Pool
from bigcorr.run.plan import Plan
from bigcorr.run.progress import Progress
from bigcorr.run.question import PairsQuestion
from bigcorr.run.stages import Section, StageAsked, run_stages

Running = Generator[StageAsked, tuple[list[Section], int], Blur]

OF_BLOCKS = ("pairs", "shifts")
"""Stages of canonical blocks; the others are of regions."""


def all_blurs(
    asked: PairsQuestion,
    plan: Plan,
    pool: Pool,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[Blur]:
    """The sums of every blur, in the order in which they were asked for."""
    running: dict[int, Running] = {}
    wanted: dict[int, StageAsked] = {}
    finished: dict[int, Blur] = {}

    def go_on(index: int, answer: tuple[list[Section], int] | None) -> None:
        try:
            blur = running[index]
            wanted[index] = next(blur) if answer is None else blur.send(answer)
        except StopIteration as stop:
            del running[index]
            finished[index] = stop.value

    for index, sigma in enumerate(asked.sigmas):
        prefix = f"blur-{index}-" if asked.many_sigmas else ""
        running[index] = one_blur(asked, sigma, plan, progress, prefix)
        go_on(index, None)
    while wanted:
        name = next(iter(wanted.values())).name
        held = plan.held_blocks if name.startswith(OF_BLOCKS) else plan.held_regions
        # Without room for what is read, each goes by itself.
        alike = [index for index, stage in wanted.items() if stage.name == name]
        for part in [alike] if held else [[index] for index in alike]:
            stages = [wanted.pop(index) for index in part]
            answers = run_stages(
                pool, stages, held_bytes=held, checkpoint=checkpoint, progress=progress
            )
            for index, answer in zip(part, answers, strict=True):
                go_on(index, answer)
    return [finished[index] for index in range(len(asked.sigmas))]
