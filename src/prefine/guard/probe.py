"""Responses to a few prompts while a model trains, beside its responses before."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from prefine.evaluation.answers import Answered, AnswerFile
from prefine.evaluation.degeneration import ends_in_loop, repeated_ngrams, words
from prefine.evaluation.judge import Judge, compare
from prefine.evaluation.questions import Question
from prefine.preferences.reasoning import split_reasoning


class Probe:
    """Prompts, how responses are sampled, and the judge that compares responses, where there is one.

    Args:
        max_new_tokens, temperature, seed, batch_size: of sampling.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        judge: Judge | None = None,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        self.questions, self.judge = list(questions), judge
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.seed, self.batch_size = seed, batch_size

    def respond(self, model: Any, tokenizer: Any, name: str) -> AnswerFile:
        """The model's responses as it is now; its mode and its cache are as before afterwards."""
        from prefine.generation.engine import Failure, Request, Sampling
        from prefine.generation.generate import TransformersEngine

        sampling = Sampling(self.max_new_tokens, self.temperature)
        was_training, cache = model.training, getattr(model.config, "use_cache", None)
        model.eval()
        model.config.use_cache = True
        try:
            engine = TransformersEngine(model, tokenizer, self.batch_size)
            requests = [Request(q.prompt, q.seed(self.seed, 0), q.tools) for q in self.questions]
            found = dict(engine.answers(requests, sampling))
        finally:
            model.train(was_training)
            model.config.use_cache = cache
        given = {q.key: found[place] for place, q in enumerate(self.questions)}
        return self.file(name, {key: [a.text, a.ended] for key, a in given.items() if not isinstance(a, Failure)})

    def file(self, name: str, texts: Mapping[str, Sequence[Any]]) -> AnswerFile:
        """Responses as judges take them, from each prompt's text and whether it ended."""
        answered = [Answered(q, (texts[q.key][0],), (texts[q.key][1],)) for q in self.questions if q.key in texts]
        return AnswerFile(name, name, answered, [q.key for q in self.questions if q.key not in texts])

    @staticmethod
    def texts(file: AnswerFile) -> dict[str, list[Any]]:
        """What :meth:`file` takes."""
        return {a.question.key: [a.answers[0], a.ended[0]] for a in file.answered}

    def win_rate(self, base: AnswerFile, tuned: AnswerFile) -> Any:
        """The judge's win rate of tuned over base, an :class:`prefine.evaluation.interval.Interval`."""
        from prefine.evaluation.contest import judge_comparisons
        from prefine.evaluation.count import count

        assert self.judge is not None
        comparisons, _ = compare(base, tuned, lambda a: a.question.key)
        with tempfile.TemporaryDirectory() as folder:
            judged = judge_comparisons(comparisons, self.judge, ("base", "tuned"), Path(folder), lambda done: None)
        return count(judged.file).verdict.win_rate

    def signs(self, base: AnswerFile, tuned: AnswerFile) -> dict[str, float]:
        """How the responses changed: shares that loop, are empty, end; repeated 4-grams; lengths; the win rate where there is a judge."""
        before, after = self.texts(base), self.texts(tuned)
        both = [(before[key], after[key]) for key in before if key in after]
        if not both:
            return {}
        olds, news = [old for old, _ in both], [new for _, new in both]
        lengths = [mean(len(words(split_reasoning(text)[1])) for text, _ in side) for side in (olds, news)]

        def change(of: Any) -> float:
            return float(mean(of(*new) for new in news) - mean(of(*old) for old in olds))

        found = {
            "probe/loops_change": change(lambda text, ended: float(ends_in_loop(text))),
            "probe/repetition_change": change(lambda text, ended: repeated_ngrams(text)),
            "probe/empty_change": change(lambda text, ended: float(not split_reasoning(text)[1].strip())),
            "probe/ended_change": change(lambda text, ended: float(bool(ended))),
            "probe/length_ratio": lengths[1] / max(lengths[0], 1.0),
            "probe/num_prompts": float(len(both)),
        }
        if self.judge is not None:
            win = self.win_rate(base, tuned)
            found |= {"probe/win_rate": win.estimate, "probe/win_rate_low": win.low, "probe/win_rate_high": win.high}
        return found
