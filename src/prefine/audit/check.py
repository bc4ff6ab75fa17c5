"""What the audit looks for: one table, from which help, reports and the docs are drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SHOWN_ROWS = 20
Grade = Literal["fix", "look", "fine"]


USUAL_ROW = {"prompt": "Which animal is this?", "chosen": "That is a heron.", "rejected": "Some bird or other."}


@dataclass(frozen=True)
class Case:
    """Rows in which a check finds its fault: what the docs show is what the tests run.

    Attributes:
        rows: what differs from :data:`USUAL_ROW`, or whole rows of single responses.
        times: how often each row comes, one after the other; ``{i}`` in it counts.
    """

    rows: tuple[Mapping[str, Any], ...]
    times: int = 1

    def written(self) -> list[dict[str, Any]]:
        """The rows in full."""
        return [
            {key: value.replace("{i}", str(i)) if isinstance(value, str) else value for key, value in whole.items()}
            for row in self.rows
            for whole in [dict(row) if "completion" in row else USUAL_ROW | dict(row)]
            for i in range(self.times)
        ]

    def __str__(self) -> str:
        shown = "; then ".join(
            ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in row.items()) for row in self.rows
        )
        return shown if self.times == 1 else f"{shown} ({self.times} times each)"


def _row(**fields: Any) -> Case:
    return Case((fields,))


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        sees: what it looks at. why: what harm it does. case: rows with it, or words where rows alone do not show it.
        fix: what to do. look, fix_at: shares of rows above which it is worth a look, and must be fixed; graded: what decides instead.
    """

    name: str
    sees: str
    why: str
    case: Case | str
    fix: str
    look: float = 0.0
    fix_at: float = 1.1
    graded: str = ""

    @property
    def example(self) -> str:
        """The case as text."""
        return str(self.case)


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
        _row(chosen="Yes.", rejected="yes"),
        "drop them: prefine data filter --drop equal-normalised",
        fix_at=0.05,
    ),
    Check(
        "templated",
        "marks of chat templates inside the text: <|im_start|> and all of that form, [INST], <start_of_turn>, </s>, ### Instruction:, "
        "GPT4 Correct User:, USER: ... ASSISTANT:, Human: ... Assistant:",
        "the chat template is applied a second time around them, so that the model learns marks within marks",
        _row(prompt="<|im_start|>user\nhello<|im_end|>"),
        "give the text without its marks, or as messages",
        fix_at=0.05,
    ),
    Check(
        "prompt-repeated",
        "a response that begins with its whole prompt or the prompt's last message; case, punctuation and a label before it aside",
        "the model learns to repeat the question; log-probs of the repeated part drown the difference",
        _row(prompt="What is 2+2?", chosen="What is 2+2? It is 4."),
        "cut the prompt off the responses; where both sides repeat it, the columns hold whole conversations",
        fix_at=0.05,
    ),
    Check(
        "control-characters",
        "control codes, zero-width spaces, marks and overrides of direction in Latin text, soft hyphens, private characters, "
        "letters under piles of accents, and other characters that are not seen",
        "they cost tokens, break terminals and pages, and are learned",
        _row(chosen="hello\x00"),
        "clean the text, or drop the rows",
        fix_at=0.05,
    ),
    Check(
        "broken-text",
        "text that was decoded wrongly, as ftfy tells it: U+FFFD, 'Ã©' for é, 'â€™' for an apostrophe, whatever the wrong encoding",
        "the model learns the garbage",
        _row(chosen="donâ€™t"),
        "read the source as UTF-8 again, or mend it with ftfy",
        fix_at=0.05,
    ),
    Check(
        "secrets",
        "keys and tokens of some forty issuers by the forms they document, private keys, JWTs, passwords in URLs, random values given to "
        "names like api_key; the finding says where, never what",
        "a trained model can say them",
        _row(chosen="Use postgres://ana:c0rrect-h0rse@db.mena.net/shop"),
        "revoke them and drop the rows",
        fix_at=0.0,
    ),
    Check(
        "personal-data",
        "e-mail addresses (not of example.com), telephone numbers (not free ones), postal addresses of some countries, cards, accounts and "
        "national numbers that pass their check digits or are called by their name, dates of birth that are called so, addresses of "
        "the public internet and of network cards; names of people are not looked for",
        "a trained model can say them; the law may forbid it",
        _row(prompt="Write to jo.lee@mena.net for me"),
        "mask or drop the rows, unless they are invented",
        look=0.002,
    ),
    Check(
        "looping-answer",
        "a response that says a phrase over and over in a row, anywhere in it, or a line or a sentence for half of its length",
        "a chosen one teaches looping",
        _row(chosen="I see. I see. I see. I see. I see."),
        "drop rows whose chosen response loops",
        fix_at=0.05,
    ),
    Check(
        "chosen-refuses",
        "a chosen response that refuses in its first sentences while the rejected one does not, or a wanted one that does; English and "
        "fifteen other languages",
        "many of them make the model refuse; few are often wrong labels",
        _row(chosen="I'm sorry, but I can't help with that."),
        "look at some; where the prompt is harmless, drop them",
        look=0.05,
    ),
    Check(
        "reversed-scores",
        "a chosen response with a lower score than the rejected one",
        "the label is turned round, or the score is one where less is better; without scores nothing in single rows tells a turned label",
        _row(score_chosen=2, score_rejected=7),
        "exchange chosen and rejected; where all are reversed, ask whether less is better",
        fix_at=0.05,
    ),
]
SET_CHECKS = [
    Check(
        "dropped",
        "rows that could not be used at all, by reason",
        "what is dropped is not trained on",
        _row(chosen="That is a heron.", rejected="That is a heron."),
        "look at the reasons; prefine data convert --rejected FILE keeps the rows",
        look=0.01,
        fix_at=0.2,
    ),
    Check(
        "repeated-pair",
        "the same prompt with the same two responses again",
        "it counts twice, and leaks between training and evaluation when split by row",
        Case((USUAL_ROW, USUAL_ROW)),
        "prefine data dedup",
        look=0.001,
        fix_at=0.2,
    ),
    Check(
        "conflicting-labels",
        "the same prompt with A over B in one row and B over A in another",
        "the two cancel; many of them mean that labels are noise",
        Case((USUAL_ROW, USUAL_ROW | {"chosen": USUAL_ROW["rejected"], "rejected": USUAL_ROW["chosen"]})),
        "drop both, or ask more people",
        fix_at=0.02,
    ),
    Check(
        "near-duplicate-prompts",
        "prompts that share half of their words and pairs of neighbours (MinHash, 64 hashes); of prompts below ten words, runs of five",
        "templates with a slot filled in weigh more than their worth, and leak between training and evaluation",
        Case(
            tuple(
                {"prompt": f"Write a cheerful poem of four lines about {animal} in the garden, for a child of six"}
                for animal in ("cats", "two dogs")
            )
        ),
        "prefine data dedup --near 0.5; split by group",
        look=0.005,
    ),
    Check(
        "eval-overlap",
        "prompts that are in the evaluation data too, exactly or nearly",
        "the verdict then measures memory",
        _row(prompt="Name three rivers of Europe."),
        "prefine data split keeps a prompt on one side; drop these rows",
        fix_at=0.0,
    ),
    Check(
        "one-sided-labels",
        "how many single responses are wanted and how many unwanted",
        "of one kind alone nothing is learned of what sets them apart; a rare kind has no weight",
        Case(({"prompt": "Which animal is this?", "completion": "That is heron {i}.", "label": True},), 20),
        "add responses of the other kind; prefine kto --balance-labels weighs the rarer one up",
        graded="worth a look where one kind has up to 5 %, must be fixed where it has none",
    ),
    Check(
        "length-shortcut",
        "how well a judge that sees only length predicts the label",
        "the model learns length instead of quality; a win rate then rewards it",
        Case(({"chosen": "That is a heron of the marshes, number {i}.", "rejected": "A bird {i}."},), 200),
        "add pairs in which the shorter one wins; train with ld_alpha or simpo; judge with length control",
        graded="worth a look where that judge is surely right, or surely wrong, on over 65 % of at least 100 pairs",
    ),
    Check(
        "first-word-shortcut",
        "how well a judge that sees only the response's first word predicts the label, learned on half of the pairs and tried on the other",
        "the model learns the opening",
        Case(({"chosen": "Sure, bird {i}.", "rejected": "Some bird {i}."},), 400),
        "look at the words; vary openings, or drop pairs that differ by them alone",
        graded="worth a look where that judge is surely right on over 65 % of at least 100 pairs",
    ),
    Check(
        "mark-shortcut",
        "how well the presence of a list, bold text, a heading, code, an emoji, an exclamation mark or a refusal predicts the label",
        "the model learns the decoration",
        Case(({"chosen": "- heron {i}\n- stork", "rejected": "A heron {i} or a stork"},), 200),
        "add pairs that break the rule, or strip the mark from both sides",
        graded="worth a look where a mark that over 5 % of pairs differ in surely wins, or loses, over 65 % of at least 100",
    ),
    Check(
        "word-probe",
        "how well a linear judge of words (logistic regression on the difference of their counts) predicts the label on held-out pairs",
        "a few words then stand for the preference",
        Case(({"chosen": "Let us delve into bird {i}.", "rejected": "Let us look at bird {i}."},), 400),
        "look at the words: topic words are fine, tics are not",
        graded="worth a look where that judge is surely right on over 75 % of held-out pairs",
    ),
    Check(
        "turned-part",
        "whether length or a mark (list, bold, code, ...) surely wins in one tenth of the rows and surely loses in another",
        "chosen and rejected were exchanged in a part, or two sources disagree; rows exchanged here and there show in nothing but scores",
        Case(
            (
                {"chosen": "It is a heron of the marshes, {i}.", "rejected": "A bird {i}."},
                {"chosen": "Some bird {i}.", "rejected": "It is a bittern of the reeds, {i}."},
            ),
            150,
        ),
        "read pairs of both parts; exchange the columns of the one that is wrong",
        graded="worth a look where it surely wins over 55 % in one part and surely loses over 55 % in another",
    ),
]
TOKEN_CHECKS = [
    Check(
        "too-long",
        "pairs that max_length or max_prompt_length would drop or truncate",
        "what is truncated is not learned; a truncated response has no end",
        "12 % of responses are truncated at 1,024 tokens",
        "raise --max-length to what keeps 99 %, or drop long rows on purpose",
        look=0.01,
        fix_at=0.2,
    ),
    Check(
        "cut-difference",
        "pairs whose responses differ only after the truncation",
        "they train with no gradient at all",
        "both responses share their first 600 tokens, and 500 fit",
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
        "a response that is a tool call, and a template that knows no tools",
        "give a model or a template that writes these parts (prefine data show --model M --tokens), or drop the parts",
        fix_at=0.0,
    ),
    Check(
        "boundary-merge",
        "prompts whose last token would merge with the response's first one",
        "prompt and response are then tokenised otherwise in training than in use",
        _row(prompt="Which animal is this? ", chosen="balba", rejected="kila"),
        "end prompts without white space, begin responses with it",
        look=0.002,
    ),
    Check(
        "doubled-begin",
        "prompts that begin with two begin-of-text tokens",
        "the template writes one and the tokenizer adds another",
        _row(prompt="<s>Which animal is this?"),
        "take the begin token out of the text or the template",
        fix_at=0.0,
    ),
    Check(
        "missing-end",
        "templated responses without an end-of-turn token (it is added, but the template should write it)",
        "a model that never sees the end does not stop",
        "the template ends with the response's text",
        "mend the template",
        look=0.01,
    ),
    Check(
        "empty-after-template",
        "responses that the template turns into nothing",
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
        "responses that the model would never give teach little; pairs it ranks right teach nothing",
        "the base ranks 74 % right; 6 % of chosen responses lie 3 nats/token below the median",
        "make pairs of the model's own responses, or train on the chosen ones first (sft)",
    ),
]
CHECKS: dict[str, Check] = {c.name: c for c in (*ROW_CHECKS, *SET_CHECKS, *TOKEN_CHECKS, *POLICY_CHECKS)}


def grade(check: Check, count: int, of: int) -> Grade:
    """The grade of a count by the check's shares."""
    share = count / of if of else 0.0
    return "fix" if count and share > check.fix_at else "look" if count and share > check.look else "fine"
