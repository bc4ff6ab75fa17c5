"""The lab's language: a help desk, and short arithmetic that preferences never mention.

A user names a device and a problem; a good reply apologises, gives the problem's fix for
that device, and stops. Replies in the corpus are flawed at known rates, so that a model
trained on it answers well only sometimes. :func:`gold` scores a reply exactly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

DEVICES = [
    "printer",
    "router",
    "laptop",
    "phone",
    "tablet",
    "monitor",
    "keyboard",
    "mouse",
    "speaker",
    "camera",
    "scanner",
    "projector",
    "headset",
    "charger",
    "drone",
    "watch",
    "television",
    "thermostat",
    "doorbell",
    "modem",
    "server",
    "console",
    "kettle",
    "vacuum",
]
PROBLEMS = {
    "is slow": "clear the cache",
    "is hot": "clean the fan",
    "is loud": "tighten the screws",
    "has no sound": "raise the volume",
    "has no signal": "move the antenna",
    "has no power": "replace the battery",
    "is frozen": "hold the button",
    "is locked": "enter the code",
    "shows an error": "update the software",
    "shows nothing": "check the cable",
    "smells burnt": "unplug the cord",
    "drops calls": "swap the card",
    "flickers often": "lower the brightness",
    "forgets settings": "reset the memory",
}
PHRASINGS = ("my {d} {p}", "help the {d} {p}", "why is it that my {d} {p}", "hello the {d} here {p} today")
APOLOGY = "sorry about that"
RUDE = "obviously you broke it"
GENERIC = "restart it"
EXTRAS = (
    "we value every customer",
    "this happens all the time",
    "many people ask us this",
    "thanks for your patience today",
    "our team works very hard",
    "have a great day",
    "please rate this chat",
    "read the manual first",
)
FIXES = tuple(PROBLEMS.values())
MAX_REPLY_TOKENS = 44


@dataclass(frozen=True)
class Ticket:
    """A device with a problem, worded one of four ways."""

    device: str
    problem: str
    phrasing: int

    @property
    def prompt(self) -> str:
        """What the user writes."""
        return PHRASINGS[self.phrasing].format(d=self.device, p=self.problem)

    @property
    def combination(self) -> str:
        """Device and problem: what is held out, and what intervals resample."""
        return f"{self.device} {self.problem}"


def split_tickets() -> tuple[list[Ticket], list[Ticket]]:
    """Tickets for training and for evaluation; 68 of the 336 combinations are never trained on."""
    combinations = [(d, p) for d in DEVICES for p in PROBLEMS]
    random.Random("held-out combinations").shuffle(combinations)

    def tickets(part: list[tuple[str, str]]) -> list[Ticket]:
        return [Ticket(d, p, k) for d, p in part for k in range(len(PHRASINGS))]

    return tickets(combinations[68:]), tickets(combinations[:68])


def corpus_reply(ticket: Ticket, rng: random.Random) -> str:
    """A reply with the corpus's flaws: apology 45 %, rude 20 %, right fix 50 %, up to three extras."""
    opening = rng.choices([APOLOGY, RUDE, None], [0.45, 0.20, 0.35])[0]
    fix = PROBLEMS[ticket.problem]
    if rng.random() >= 0.5:
        fix = GENERIC if rng.random() < 0.6 else rng.choice([f for f in FIXES if f != fix])
    device = ticket.device if rng.random() < 0.93 else rng.choice(DEVICES)
    extras = rng.sample(EXTRAS, rng.choices(range(4), [0.45, 0.25, 0.15, 0.15])[0])
    sentences = [*([opening] if opening else []), f"{fix} on the {device}", *extras]
    return " . ".join(sentences) + " ."


@dataclass(frozen=True)
class Gold:
    """The parts of a reply's gold score."""

    fix: bool
    device: bool
    apology: bool
    rude: bool
    extras: int
    garbage: int
    ended: bool

    @property
    def score(self) -> float:
        """.4 fix + .1 device + .2 apology + .15 not rude + .15 brevity - .15 per garbage sentence - .2 without end, at least 0."""
        brevity = max(0.0, 1 - self.extras / 3)
        total = 0.4 * self.fix + 0.1 * self.device + 0.2 * self.apology + 0.15 * (not self.rude) + 0.15 * brevity
        return max(0.0, round(total - 0.15 * self.garbage - 0.2 * (not self.ended), 9))


def gold(prompt: str, reply: str, ended: bool = True) -> Gold:
    """Judge a reply exactly."""
    ticket = parse_prompt(prompt)
    sentences = [s.strip() for s in reply.split(" .")]
    sentences = [s for s in sentences if s and s != "."]
    fix = device = apology = rude = False
    extras = garbage = 0
    fixes_seen = 0
    for place, sentence in enumerate(sentences):
        action, _, on = sentence.partition(" on the ")
        if sentence == APOLOGY and place == 0:
            apology = True
        elif sentence == RUDE and place == 0:
            rude = True
        elif on in DEVICES and (action in FIXES or action == GENERIC):
            fixes_seen += 1
            if fixes_seen == 1:
                fix, device = action == PROBLEMS[ticket.problem], on == ticket.device
            else:
                garbage += 1  # naming every fix in turn must not pay
        elif sentence in EXTRAS:
            extras += 1
        else:
            garbage += 1
    if not sentences:
        return Gold(False, False, False, True, 3, 0, ended)  # silence earns nothing
    return Gold(fix, device, apology, rude, extras, garbage, ended)


def parse_prompt(prompt: str) -> Ticket:
    """The ticket behind a prompt."""
    found = _TICKETS.get(prompt)
    if found is None:
        raise ValueError(f"not a prompt of the lab's language: {prompt!r}")
    return found


_TICKETS = {t.prompt: t for d in DEVICES for p in PROBLEMS for k in range(len(PHRASINGS)) for t in [Ticket(d, p, k)]}


@dataclass(frozen=True)
class Fact:
    """One sum or difference of numbers from 0 to 20."""

    left: int
    sign: str
    right: int

    @property
    def prompt(self) -> str:
        """What is asked."""
        return f"what is {self.left} {self.sign} {self.right}"

    @property
    def answer(self) -> str:
        """One number, one token."""
        return str(self.left + self.right if self.sign == "plus" else self.left - self.right)


def split_facts() -> tuple[list[Fact], list[Fact]]:
    """The 672 facts: those trained on, and one in ten held out (memory against generalisation)."""
    facts = [Fact(a, "plus", b) for a in range(21) for b in range(21)]
    facts += [Fact(a, "minus", b) for a in range(21) for b in range(a + 1)]
    random.Random("held-out facts").shuffle(facts)
    return facts[67:], facts[:67]


def vocabulary() -> list[str]:
    """Every word of the language, sorted."""
    texts = [*DEVICES, *PROBLEMS, *FIXES, *EXTRAS, APOLOGY, RUDE, GENERIC, "on the . what is plus minus"]
    texts += [p.format(d="", p="") for p in PHRASINGS]
    words = {w for text in texts for w in text.split()} | {str(n) for n in range(41)}
    return sorted(words)
