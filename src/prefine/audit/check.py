"""What the audit looks for: one table, from which help, reports and the docs are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SHOWN_ROWS = 20
Grade = Literal["fix", "look", "fine"]


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        sees: what it looks at. why: what harm it does. example: what it looks like. fix: what to do.
        look, fix_at: shares of rows above which it is worth a look, and must be fixed.
    """

    name: str
    sees: str
    why: str
    example: str
    fix: str
    look: float = 0.0
    fix_at: float = 1.1


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        count, of: rows found among rows looked at.
        rows: their numbers, where single rows were found.
        detail: one sentence with the numbers that matter.
    """

    name: str
    grade: Grade
    count: int
    of: int
    detail: str
    rows: tuple[int, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **{"check": self.name, "grade": self.grade, "count": self.count, "of": self.of},
            **{"share": self.count / self.of if self.of else 0.0, "detail": self.detail, "rows": list(self.rows[:SHOWN_ROWS])},
        }


ROW_CHECKS = [
    Check(
        "equal-normalised",
        "chosen and rejected that differ only in case, white space or punctuation at the ends",
        "the pair teaches nothing but noise",
        "'Yes.' against 'yes'",
        "drop them: prefine data filter --drop equal-normalised",
        fix_at=0.05,
    ),
    Check(
        "templated",
        "chat marks inside the text: <|im_start|>, [INST], ### Instruction:, <|eot_id|>, Human: ... Assistant:",
        "the chat template is applied a second time around them, so that the model learns marks within marks",
        "prompt: '<|im_start|>user\\nhello<|im_end|>'",
        "give the text without its marks, or as messages",
        fix_at=0.05,
    ),
    Check(
        "prompt-repeated",
        "an answer that begins with its whole prompt",
        "the model learns to repeat the question; log-probs of the repeated part drown the difference",
        "chosen: 'What is 2+2? It is 4.'",
        "cut the prompt off the answers; where both sides repeat it, the columns hold whole conversations",
        fix_at=0.05,
    ),
    Check(
        "control-characters",
        "control codes, zero-width spaces and text-direction overrides",
        "they cost tokens, break terminals and pages, and are learnt",
        "'hello\\x00'",
        "clean the text, or drop the rows",
        fix_at=0.05,
    ),
    Check(
        "broken-text",
        "text that was decoded wrongly: U+FFFD, 'Ã©' for é, 'â€™' for an apostrophe",
        "the model learns the garbage",
        "'donâ€™t'",
        "read the source as UTF-8 again, or mend it with ftfy",
        fix_at=0.05,
    ),
    Check(
        "secrets",
        "what looks like a key or a token: AWS, GitHub, Slack, OpenAI, Google, private keys, JWTs",
        "a trained model can say them",
        "'AKIA................'",
        "revoke them and drop the rows",
        fix_at=0.0,
    ),
    Check(
        "personal-data",
        "e-mail addresses, telephone numbers, card numbers that pass their check digit, social security numbers",
        "a trained model can say them; the law may forbid it",
        "'j***@example.com'",
        "mask or drop the rows, unless they are invented",
        look=0.002,
    ),
    Check(
        "looping-answer",
        "an answer that repeats a line or a phrase over and over",
        "a chosen one teaches looping",
        "'I see. I see. I see. I see. I see.'",
        "drop rows whose chosen answer loops",
        fix_at=0.05,
    ),
    Check(
        "chosen-refuses",
        "a chosen answer that refuses while the rejected one does not",
        "many of them make the model refuse; few are often wrong labels",
        "chosen: 'I'm sorry, but I can't help with that.'",
        "look at some; where the prompt is harmless, drop them",
        look=0.05,
    ),
]
SET_CHECKS = [
    Check(
        "dropped",
        "rows that could not be used at all, by reason",
        "what is dropped is not trained on",
        "chosen equals rejected; an answer is empty",
        "look at the reasons; prefine data convert --rejected FILE keeps the rows",
        look=0.01,
        fix_at=0.2,
    ),
    Check(
        "repeated-pair",
        "the same prompt with the same two answers again",
        "it counts twice, and leaks between training and evaluation when split by row",
        "row 12 is row 3",
        "prefine data dedup",
        look=0.001,
        fix_at=0.2,
    ),
    Check(
        "conflicting-labels",
        "the same prompt with A over B in one row and B over A in another",
        "the two cancel; many of them mean that labels are noise",
        "row 12 says the opposite of row 3",
        "drop both, or ask more people",
        fix_at=0.02,
    ),
    Check(
        "near-duplicate-prompts",
        "prompts that share most of their word triples (MinHash, 64 hashes, estimate at least 0.7)",
        "templates with a slot filled in weigh more than their worth, and leak between training and evaluation",
        "'Write a poem about cats' and 'Write a poem about dogs' with the same long frame",
        "prefine data dedup --near 0.7; split by group",
        look=0.005,
    ),
    Check(
        "eval-overlap",
        "prompts that are in the evaluation data too, exactly or nearly",
        "the verdict then measures memory",
        "row 12 of training is row 3 of evaluation",
        "prefine data split keeps a prompt on one side; drop these rows",
        fix_at=0.0,
    ),
    Check(
        "length-shortcut",
        "how well a judge that sees only length predicts the label",
        "the model learns length instead of quality; a win rate then rewards it",
        "chosen is longer in 71 % of pairs",
        "add pairs in which the shorter one wins; train with ld_alpha or simpo; judge with length control",
    ),
    Check(
        "first-word-shortcut",
        "how well a judge that sees only the answer's first word predicts the label, learnt on half of the pairs and tried on the other",
        "the model learns the opening",
        "'Sure' begins 60 % of chosen and 5 % of rejected answers",
        "look at the words; vary openings, or drop pairs that differ by them alone",
    ),
    Check(
        "mark-shortcut",
        "how well the presence of a list, bold text, a heading, code, an emoji, an exclamation mark or a refusal predicts the label",
        "the model learns the decoration",
        "the answer with a list wins in 80 % of the pairs where one has it",
        "add pairs that break the rule, or strip the mark from both sides",
    ),
    Check(
        "word-probe",
        "how well a linear judge of words (logistic regression on the difference of their counts) predicts the label on held-out pairs",
        "a few words then stand for the preference",
        "'delve', 'certainly' separate chosen from rejected",
        "look at the words: topic words are fine, tics are not",
    ),
]
TOKEN_CHECKS = [
    Check(
        "too-long",
        "pairs that max_length or max_prompt_length would drop or cut",
        "what is cut is not learnt; a cut answer has no end",
        "12 % of answers are cut at 1,024 tokens",
        "raise --max-length to what keeps 99 %, or drop long rows on purpose",
        look=0.01,
        fix_at=0.2,
    ),
    Check(
        "cut-difference",
        "pairs whose answers differ only after the cut",
        "they train with no gradient at all",
        "both answers share their first 600 tokens, and 500 fit",
        "raise --max-length, or drop them",
        fix_at=0.02,
    ),
    Check(
        "template-refuses",
        "rows that the chat template cannot write",
        "training drops them",
        "a role that the template does not know; a system message where there is no place for one",
        "drop the rows, or give a template that writes these roles",
        fix_at=0.0,
    ),
    Check(
        "template-leaves-out",
        "rows of which the chat template leaves something out: a role, a tool call, reasoning, the tools",
        "training drops them: what the data says would not be what is trained on",
        "an answer that is a tool call, and a template that knows no tools",
        "give a model or a template that writes these parts (prefine data show --model M --tokens), or drop the parts",
        fix_at=0.0,
    ),
    Check(
        "boundary-merge",
        "prompts whose last token would merge with the answer's first one",
        "prompt and answer are then tokenised otherwise in training than in use",
        "prompt ends with a space, answer begins with a word",
        "end prompts without white space, begin answers with it",
        look=0.002,
    ),
    Check(
        "doubled-begin",
        "prompts that begin with two begin-of-text tokens",
        "the template writes one and the tokenizer adds another",
        "'<s><s>[INST]'",
        "take the begin token out of the text or the template",
        fix_at=0.0,
    ),
    Check(
        "missing-end",
        "templated answers without an end-of-turn token (it is added, but the template should write it)",
        "a model that never sees the end does not stop",
        "the template ends with the answer's text",
        "mend the template",
        look=0.01,
    ),
    Check(
        "empty-after-template",
        "answers that the template turns into nothing",
        "nothing to learn, or the template drops a role",
        "tool messages in a template without tools",
        "give a template that writes these roles",
        fix_at=0.0,
    ),
]
POLICY_CHECKS = [
    Check(
        "off-policy",
        "the base model's mean log-prob a token of chosen and rejected, and the share of pairs it ranks right already",
        "answers that the model would never give teach little; pairs it ranks right teach nothing",
        "the base ranks 74 % right; 6 % of chosen answers lie 3 nats a token below the median",
        "make pairs of the model's own answers, or train on the chosen ones first (sft)",
    ),
]
CHECKS: dict[str, Check] = {c.name: c for c in (*ROW_CHECKS, *SET_CHECKS, *TOKEN_CHECKS, *POLICY_CHECKS)}


def grade(check: Check, count: int, of: int) -> Grade:
    """The grade of a count by the check's shares."""
    share = count / of if of else 0.0
    return "fix" if count and share > check.fix_at else "look" if count and share > check.look else "fine"
