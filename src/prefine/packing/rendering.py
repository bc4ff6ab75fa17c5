"""Messages to text by a chat template, with the proof that what the messages say is in the text.

A template may leave out what it does not know: a role, a call, reasoning, the tools. So each shape of conversation is
rendered once with stand-ins, a word of its own for every part, and every word must be found again, those of the prompt in
the prompt and those of the answer in the answer. Where some are missing, other ways to write the same are tried: contents as
parts, arguments as text, a developer as the system. What cannot be written is refused, by name. A template that decides by
content (one that cuts out what precedes ``</think>``) is found row by row.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefine.errors import ConfigError, DataError, ModelError, PrefineError
from prefine.packing.limited import LETTERS, limited, raises_to_powers
from prefine.preferences.reasoning import has_channels, split_reasoning
from prefine.preferences.records import Message

Messages = tuple[Message, ...]
Tools = Sequence[Any] | None
TRANSCRIPT_ROLES = {
    **{"user": "\n\nHuman:", "assistant": "\n\nAssistant:", "system": "\n\nSystem:", "developer": "\n\nSystem:"},
}
THINK = re.compile(r"</?think>")


RESERVED = (
    "messages",
    "conversation",
    "tools",
    "tokenize",
    "add_generation_prompt",
    "continue_final_message",
    "return_dict",
    "chat_template",
)


def read_template_kwargs(given: Any) -> dict[str, Any]:
    """What a chat template is given beside the messages: an object, or text as ``{"enable_thinking": false}`` or ``enable_thinking=false``.

    Raises:
        ConfigError: neither, or a name that is taken.
    """
    if isinstance(given, str):
        text = given.strip()
        try:
            given = json.loads(text) if text.startswith("{") else dict(_named(word) for word in text.split())
        except ValueError as error:
            raise ConfigError(
                f'chat_template_kwargs is {text!r}; expected name=value, or an object as {{"enable_thinking": false}}', code="PF-C03"
            ) from error
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"chat_template_kwargs is {given!r}; expected names with values", code="PF-C03")
    taken = [name for name in given if name in RESERVED]
    if taken:
        raise ConfigError(f"chat_template_kwargs: {taken[0]} is given by the data, not by an option")
    return given


def _name_of(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "the tokenizer")


def _named(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(word)
    try:
        return name, json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except ValueError:
        return name, value


class LeftOut(DataError):
    """A conversation that cannot be written whole; ``reason`` is short, and equal for equal cases."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def refused(self) -> bool:
        """Whether the template raised, not only left something out."""
        return self.reason.startswith("the chat template refuses")


@dataclass(frozen=True)
class Piece:
    """Part of an answer's text, and whether the model is to learn it: its own turns are, a user's or a tool's are not."""

    text: str
    trained: bool = True


@dataclass(frozen=True)
class Rendered:
    """A prompt's text and each answer's, in pieces where turns of others lie between the model's own."""

    prompt: str
    answers: tuple[tuple[Piece, ...], ...]


# ---- other ways to write the same

Rewrite = Callable[[Message], Message]


def _developer_as_system(message: Message) -> Message:
    return message | {"role": "system"} if message.get("role") == "developer" else message


def _parts(message: Message) -> Message:
    return message | {"content": [{"type": "text", "text": message["content"]}]} if isinstance(message.get("content"), str) else message


def _arguments_as_text(message: Message) -> Message:
    def one(call: Any) -> Any:
        arguments = call["function"].get("arguments")
        return call | {"function": call["function"] | {"arguments": json.dumps(arguments, ensure_ascii=False)}}

    return message | {"tool_calls": [one(c) for c in message["tool_calls"]]} if message.get("tool_calls") else message


def _no_content(message: Message) -> Message:
    return message | {"content": None} if message.get("tool_calls") and not message.get("content") else message


def _short_ids(message: Message) -> Message:
    """Ids of nine characters, as Mistral's templates want them."""

    def short(name: Any) -> str:
        return "".join(c for c in str(name) if c.isalnum())[-9:].rjust(9, "0")

    if message.get("tool_calls"):
        calls = [call | {"id": short(call.get("id", place))} for place, call in enumerate(message["tool_calls"])]
        return message | {"tool_calls": calls}
    return message | {"tool_call_id": short(message.get("tool_call_id", 0))} if message.get("role") == "tool" else message


def _reasoning_as(field: str) -> Rewrite:
    """Reasoning under another field's name too."""
    return lambda message: message | {field: message["reasoning_content"]} if message.get("reasoning_content") else message


def _reasoning_inside(message: Message) -> Message:
    if not message.get("reasoning_content"):
        return message
    kept = {k: v for k, v in message.items() if k != "reasoning_content"}
    return kept | {"content": f"<think>\n{message['reasoning_content']}\n</think>\n\n{message.get('content') or ''}"}


def _system_in_question(messages: list[Message]) -> list[Message]:
    """The system's message before the last question, where Mistral's templates write it as long as no answer follows."""
    places = [i for i, m in enumerate(messages) if m.get("role") == "user"]
    if not places or messages[0].get("role") != "system":
        return messages
    out = list(messages[1:])
    at = places[-1] - 1
    out[at] = out[at] | {"content": f"{messages[0]['content']}\n\n{out[at]['content']}"}
    return out


def _system_in_first(messages: list[Message]) -> list[Message]:
    """The system's message before the first question."""
    first = next((i for i, m in enumerate(messages) if m.get("role") != "system"), 0)
    texts = [m.get("content") for m in messages[: first + 1]]
    if not first or messages[first].get("role") != "user" or not all(isinstance(text, str) for text in texts):
        return messages
    return [messages[first] | {"content": "\n\n".join(map(str, texts))}, *messages[first + 1 :]]


IN_QUESTION = "the system's message written into the last question, where the template has it when it asks"
IN_FIRST = "the system's message written before the first question, since the template has no place of its own for it"
OF_SYSTEM: dict[str, Callable[[list[Message]], list[Message]]] = {IN_QUESTION: _system_in_question, IN_FIRST: _system_in_first}
REWRITES: dict[str, Rewrite] = {
    "a developer's message written as the system's": _developer_as_system,
    "contents written as parts": _parts,
    "reasoning given as 'thinking'": _reasoning_as("thinking"),
    "reasoning given as 'reasoning'": _reasoning_as("reasoning"),
    "arguments of calls written as text": _arguments_as_text,
    "calls without a content": _no_content,
    "ids of calls cut to nine characters": _short_ids,
    "reasoning written inside the content": _reasoning_inside,
}
TOLD = (
    "a developer's message written as the system's",
    IN_QUESTION,
    IN_FIRST,
    "reasoning written inside the content",
    "ids of calls cut to nine characters",
)
"""Rewrites that change what the model sees; the others are only another name for the same."""


@dataclass(frozen=True)
class Plan:
    """What a shape of conversation needs: rewrites, in order, or the reason why it cannot be written."""

    rewrites: tuple[str, ...] = ()
    reason: str = ""
    thoughts_dropped: bool = False

    def apply(self, prompt: Messages, answer: Messages = ()) -> list[Message]:
        """The messages as the template is given them."""
        asked, said = list(prompt), list(answer)
        for name in self.rewrites:
            if name in OF_SYSTEM:
                asked = OF_SYSTEM[name](asked)
            else:
                asked, said = ([REWRITES[name](m) for m in part] for part in (asked, said))
        return [*asked, *said]


# ---- stand-ins


def article(word: str) -> str:
    """``a`` or ``an``."""
    return "an" if word[:1] in "aeiou" else "a"


class _Stand:
    """Makes a conversation of a shape, every part a word of its own, and knows what each word stands for."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def word(self, part: str) -> str:
        """A new word for a part."""
        word = f"zq{len(self.words):04d}kx"
        self.words[word] = part
        return word

    def words_in(self, message: Message) -> list[str]:
        """The words that a message made here holds."""
        text = json.dumps(message, ensure_ascii=False, default=str)
        return [word for word in self.words if word in text]

    def message(self, message: Message) -> Message:
        """A message like this one."""
        role = str(message.get("role"))
        out = dict(message)
        if message.get("content"):
            usual = "a tool's result" if role == "tool" else f"{article(role)} {role}'s message" if role in TRANSCRIPT_ROLES else ""
            out["content"] = self.word(usual or f"messages of the role {role[:20]!r}")
        if message.get("reasoning_content"):
            out["reasoning_content"] = self.word("reasoning")
        if message.get("tool_calls"):
            out["tool_calls"] = [self.call(call) for call in message["tool_calls"]]
        return out

    def call(self, call: Any) -> Any:
        """A call like this one."""
        function = call["function"]
        made = function | {"name": self.word("a tool call")}
        if isinstance(function.get("arguments"), dict):
            made["arguments"] = self.values(function["arguments"])
        elif function.get("arguments"):
            made["arguments"] = self.word("a tool call's arguments")
        return call | {"function": made}

    def values(self, value: Any) -> Any:
        """Arguments like these: names and texts are words."""
        if isinstance(value, dict):
            return {self.word("a tool call's arguments"): self.values(v) for v in value.values()}
        if isinstance(value, list):
            return [self.values(v) for v in value]
        return self.word("a tool call's arguments") if isinstance(value, str) and value else value

    def tool(self, tool: Any) -> Any:
        """A function's schema like this one."""
        if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
            return tool
        return tool | {"function": self.schema(tool["function"])}

    def schema(self, value: dict[str, Any]) -> dict[str, Any]:
        """The function's name, description and parameters are words; what else there is stays."""
        out: dict[str, Any] = {}
        for key, inner in value.items():
            if key in ("name", "description") and isinstance(inner, str) and inner:
                out[key] = self.word("the tools")
            elif key == "parameters" and isinstance(inner, dict):
                out[key] = self.parameters(inner)
            else:
                out[key] = inner
        return out

    def parameters(self, value: dict[str, Any]) -> dict[str, Any]:
        """A function's parameters: their names and descriptions are words; what is nested in them stays."""
        out: dict[str, Any] = {}
        for key, inner in value.items():
            if key == "properties" and isinstance(inner, dict):
                names = {name: self.word("the tools") for name in inner}
                out[key] = {names[name]: self.described(v) for name, v in inner.items()}
                if isinstance(value.get("required"), list):
                    out["required"] = [names.get(name, name) for name in value["required"]]
            elif key != "required" or "required" not in out:
                out[key] = inner
        return out

    def described(self, value: Any) -> Any:
        """A parameter's schema, its description a word."""
        told = isinstance(value, dict) and isinstance(value.get("description"), str) and value["description"]
        return value | {"description": self.word("the tools")} if told else value


def _skeleton(value: Any) -> Any:
    """What two values of arguments or schemas have in common where they are of one shape."""
    if isinstance(value, dict):
        return tuple((k if k in SCHEMA_WORDS else "*", _skeleton(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(_skeleton(v) for v in value)
    return type(value).__name__ if value else repr(value)


SCHEMA_WORDS = {"type", "function", "name", "description", "parameters", "properties", "required", "items", "enum"}


def _shape(messages: Messages) -> tuple[Any, ...]:
    return tuple(
        m.get("role") if len(m) == 2 and m.get("content") else (m.get("role"), tuple((k, _skeleton_of(k, v)) for k, v in m.items()))
        for m in messages
    )


def _skeleton_of(key: str, value: Any) -> Any:
    return _skeleton(value) if key == "tool_calls" else bool(value)


MOST_PLANS = 2000
"""Shapes whose plans are kept: data whose every row has tools of its own would fill the memory."""


# ---- rendering


class Renderer:
    """Writes conversations by a tokenizer's chat template, or as a plain transcript where it has none.

    Args:
        template_kwargs: what the template is given beside the messages; a row's own come over them.

    Attributes:
        notes: what was written otherwise than it stands, by count.
    """

    def __init__(self, tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.template_kwargs = dict(template_kwargs or {})
        self.template = getattr(tokenizer, "chat_template", None)
        self.notes: Counter[str] = Counter()
        self._plans: dict[Any, Plan] = {}
        self._channels = self.template is not None and has_channels(tokenizer)

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template."""
        return self.template is not None

    def render(
        self, prompt: Messages, answers: Sequence[Messages], tools: Tools = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> Rendered:
        """Prompt and answers as text; the prompt's text ends where every answer's begins.

        Raises:
            LeftOut: the template refuses the conversation, or leaves out part of it.
        """
        kwargs = self.template_kwargs | dict(template_kwargs or {})
        if not self.has_template:
            return self._transcript(prompt, answers, tools)
        if self._channels:
            prompt, *answers = (tuple(map(_thought_apart, messages)) for messages in (prompt, *answers))
        plans = [self._plan(prompt, answer, tools, kwargs) for answer in answers or [()]]
        head, wholes, notes = self._aligned(plans, prompt, answers, tools, kwargs)
        thoughts_dropped = _check_words(prompt, head, in_prompt=True)
        for answer, pieces in zip(answers, wholes, strict=True):
            _check_words(answer, "".join(p.text for p in pieces))
        notes |= {name for plan in plans for name in plan.rewrites if name in TOLD}
        if thoughts_dropped or any(plan.thoughts_dropped for plan in plans):
            notes.add("reasoning of earlier turns left out of the prompt, as the chat template does")
        self.notes.update(sorted(notes))
        return Rendered(head, tuple(wholes))

    # ---- text

    def _text(self, messages: Sequence[Message], generation_prompt: bool, tools: Tools, kwargs: Mapping[str, Any]) -> str:
        options: dict[str, Any] = dict(kwargs)
        if tools:
            options["tools"] = list(tools)
        given = list(messages)
        if raises_to_powers(str(self.tokenizer.chat_template)):
            raise ModelError(f"the chat template of {_name_of(self.tokenizer)} computes powers (**), which may never end; give another")
        try:
            with limited(f"the chat template of {_name_of(self.tokenizer)}"):
                text = str(self.tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=generation_prompt, **options))
        except PrefineError:
            raise
        except Exception as error:  # the template's author's
            said = " ".join(str(error).split())[:120] or type(error).__name__
            raise LeftOut(f"the chat template refuses the roles {_roles(messages)}: {said}") from error
        if len(text) > LETTERS and len(text) > 100 * len(repr(given)):
            raise ModelError(
                f"the chat template of {_name_of(self.tokenizer)} writes {len(text):,} characters of {len(repr(given)):,}; give another"
            )
        return text

    def _aligned(
        self, plans: Sequence[Plan], prompt: Messages, answers: Sequence[Messages], tools: Tools, kwargs: Mapping[str, Any]
    ) -> tuple[str, list[tuple[Piece, ...]], set[str]]:
        """The prompt's text, cut to what every answer's conversation begins with; the answers' pieces; what there is to say of it."""
        head = self._text(plans[0].apply(prompt), True, tools, kwargs)
        notes: set[str] = set()
        if not answers:
            return head, [], notes
        wholes = [self._whole(plan, prompt, answer, head, tools, kwargs, notes) for plan, answer in zip(plans, answers, strict=True)]
        cut = min(_common(head, whole) for whole, _ in wholes)
        if cut < len(head):
            cut = self._token_boundary(head, [whole for whole, _ in wholes], cut)
            notes.add(f"the generation prompt's {head[cut:]!r} is not what the conversation goes on with: prompts end before it")
            head = head[:cut]
        out = []
        for whole, ends in wholes:
            bounds = [len(head), *ends]
            pieces = [Piece(whole[a:b], place % 2 == 0) for place, (a, b) in enumerate(itertools.pairwise(bounds)) if b > a]
            out.append(tuple(pieces))
        return head, out, notes

    def _whole(
        self, plan: Plan, prompt: Messages, answer: Messages, head: str, tools: Tools, kwargs: Mapping[str, Any], notes: set[str]
    ) -> tuple[str, list[int]]:
        """A whole conversation's text, and where the model's turns end and begin again, the last end included."""
        messages = plan.apply(prompt, answer)
        asked = len(messages) - len(answer)
        whole = self._text(messages, False, tools, kwargs)
        if len(answer) == 1:
            content = messages[-1].get("content")
            text = content if isinstance(content, str) else content[0]["text"] if content else ""
            after = whole[_common(head, whole) :]
            if "</think>" in text and any(part.strip() not in after for part in THINK.split(text)):
                whole = self._framed(messages, text, tools, kwargs)
                notes.add("responses put in as they stand, since the chat template cuts out what precedes </think>")
            return whole, [len(whole)]
        bounds: list[int] = []
        for place in range(asked, len(messages)):
            if messages[place].get("role") != "assistant":
                continue
            start = head if place == asked else self._text(messages[:place], True, tools, kwargs)
            done = whole if place == len(messages) - 1 else self._text(messages[: place + 1], False, tools, kwargs)
            begin = _common(start, whole)
            if begin < len(start):
                begin = self._token_boundary(start, [whole], begin)
            end = begin + _overlap(done[_common(start, done) :], whole[begin:])
            if end == begin:  # a turn that the last one ends otherwise than those before it
                end = self._token_boundary(whole, [done], _common(whole, done))
            if (bounds and begin < bounds[-1]) or end <= begin:
                raise LeftOut("the chat template writes a response's earlier turns otherwise once others follow")
            bounds += [begin, end]
        return whole, bounds[1:]

    def _framed(self, messages: list[Message], text: str, tools: Tools, kwargs: Mapping[str, Any]) -> str:
        """The conversation with its last content put in as it stands: some templates cut the reasoning out of every turn."""
        stand = "zqlastkx"
        content = messages[-1]["content"]
        framed = messages[-1] | {"content": stand if isinstance(content, str) else [{"type": "text", "text": stand}]}
        whole = self._text([*messages[:-1], framed], False, tools, kwargs)
        if whole.count(stand) != 1:
            raise LeftOut("the chat template leaves out what precedes </think>")
        return whole.replace(stand, text)

    def _token_boundary(self, head: str, wholes: Sequence[str], cut: int) -> int:
        """The last place not after ``cut`` at which all texts end a token, and have had the same tokens."""
        try:
            first, *rest = [self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) for text in (head, *wholes)]
        except NotImplementedError:  # a slow tokenizer does not tell where its tokens stand
            return cut
        same = min(_common(first["input_ids"], other["input_ids"]) for other in rest)
        ends = [0, *(end for _, end in first["offset_mapping"])]
        while same and ends[same] > cut:
            same -= 1
        return int(ends[same])

    # ---- plans

    def _plan(self, prompt: Messages, answer: Messages, tools: Tools, kwargs: Mapping[str, Any]) -> Plan:
        key = (_shape(prompt), _shape(answer), _skeleton(tools or ()), repr(sorted(kwargs.items())) if kwargs else "")
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            found = self._plans[key] = self._make_plan(prompt, answer, tools, kwargs)
        if found.reason:
            raise LeftOut(found.reason)
        return found

    def _make_plan(self, prompt: Messages, answer: Messages, tools: Tools, kwargs: Mapping[str, Any]) -> Plan:
        stand = _Stand()
        asked = tuple(stand.message(m) for m in prompt)
        in_prompt = len(stand.words)
        said = tuple(stand.message(m) for m in answer)
        in_answer = len(stand.words)
        offered = [stand.tool(t) for t in tools] if tools else None
        words = list(stand.words)
        prompt_words, answer_words = [*words[:in_prompt], *words[in_answer:]], words[in_prompt:in_answer]
        optional = _droppable(asked)
        own = {w for m in said if m.get("role") == "assistant" for w in stand.words_in(m)}
        best: tuple[int, Plan] | None = None
        error = ""
        for rewrites in self._candidates((*asked, *said)):
            try:
                if IN_QUESTION in rewrites and not self._asks_alike(rewrites, asked, offered, kwargs):
                    continue
                head, pieces, _ = self._aligned([Plan(rewrites)], asked, [said] if answer else [], offered, kwargs)
            except LeftOut as refused:
                error = error or refused.reason
                continue
            learnt = "".join(p.text for p in pieces[0] if p.trained) if answer else ""
            all_of_it = "".join(p.text for p in pieces[0]) if answer else ""
            missing = [w for w in prompt_words if w not in head]
            missing += [w for w in answer_words if w not in (learnt if w in own else all_of_it)]
            lost = [w for w in missing if w not in optional]
            if best is None or len(lost) < best[0]:
                kinds = ", ".join(dict.fromkeys(stand.words[w] for w in lost))
                best = len(lost), Plan(rewrites, f"the chat template leaves out {kinds}" if lost else "", len(missing) > len(lost))
            if not lost:
                break
        return best[1] if best is not None else Plan((), error)

    def _asks_alike(self, rewrites: tuple[str, ...], asked: Messages, tools: Tools, kwargs: Mapping[str, Any]) -> bool:
        """Whether the system's message in the question is what the template itself writes when it asks."""
        others = Plan(tuple(name for name in rewrites if name != IN_QUESTION))
        return self._text(others.apply(asked), True, tools, kwargs) == self._text(Plan(rewrites).apply(asked), True, tools, kwargs)

    def _candidates(self, messages: Sequence[Message]) -> Iterator[tuple[str, ...]]:
        """Sets of rewrites that could matter here, fewest first."""
        changing = [name for name, rewrite in REWRITES.items() if any(rewrite(m) != m for m in messages)]
        if "</think>" not in str(self.template):
            changing = [name for name in changing if name != "reasoning written inside the content"]
        if any(m.get("role") in ("system", "developer") for m in messages[:1]):
            changing += OF_SYSTEM
        for size in range(min(4, len(changing)) + 1):
            yield from itertools.combinations(changing, size)

    # ---- no template

    def _transcript(self, prompt: Messages, answers: Sequence[Messages], tools: Tools) -> Rendered:
        if tools:
            raise LeftOut("a model without a chat template has no place for tools")
        head = "".join(_turn(m) for m in prompt) + TRANSCRIPT_ROLES["assistant"]
        opening = TRANSCRIPT_ROLES["assistant"]
        done = []
        for answer in answers:
            pieces: list[Piece] = []
            for place, message in enumerate(answer):
                text = _turn(message)
                if message.get("role") == "assistant":
                    if place:
                        pieces.append(Piece(opening, False))
                    pieces.append(Piece(" " + text.removeprefix(opening).strip()))
                else:
                    pieces.append(Piece(text, False))
            done.append(tuple(pieces))
        return Rendered(head, tuple(done))


def _turn(message: Message) -> str:
    role = str(message.get("role"))
    if role not in TRANSCRIPT_ROLES:
        raise LeftOut(f"a model without a chat template has no place for the role {role[:20]!r}")
    for field, what in (("tool_calls", "tool calls"), ("reasoning_content", "reasoning")):
        if message.get(field):
            raise LeftOut(f"a model without a chat template has no place for {what}")
    return f"{TRANSCRIPT_ROLES[role]} {message['content']}"


def _thought_apart(message: Message) -> Message:
    """An assistant's message with ``<think>`` in its content as one with reasoning, for templates that write it into a channel."""
    content = message.get("content")
    if message.get("role") != "assistant" or message.get("reasoning_content") or not isinstance(content, str):
        return message
    thought, final = split_reasoning(content)
    return dict(message) if thought is None else {**message, "content": final, "reasoning_content": thought}


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(dict.fromkeys(str(m.get("role"))[:20] for m in messages))


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many items two sequences begin with in common."""
    if a == b[: len(a)]:
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _overlap(done: str, whole: str) -> int:
    """How many characters ``whole`` begins with that ``done`` ends with, the most that can be."""
    if whole.startswith(done):
        return len(done)
    return next((len(done) - at for at in range(len(done)) if whole.startswith(done[at:])), 0)


def _droppable(prompt: Messages) -> set[str]:
    """Words for reasoning of turns before the last user's: in use too, the template leaves it out there."""
    last = max((i for i, m in enumerate(prompt) if m.get("role") == "user"), default=0)
    return {m["reasoning_content"] for m in prompt[:last] if m.get("reasoning_content")}


LOOSE = re.compile(r"\W+")
SPLIT = re.compile(r"</?think>|/no_think|/think")
"""Marks that a template may take out or write itself: thoughts, and switches that turn thinking on and off."""


def _check_words(messages: Messages, text: str, in_prompt: bool = False) -> bool:
    """Whether reasoning of a prompt's earlier turns is left out; LeftOut where any other words of a message are.

    Finds templates that decide by content.
    """
    dropped = False
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=0)
    for place, message in enumerate(messages):
        for field in ("content", "reasoning_content"):
            said = message.get(field)
            if not said or said.strip() in text:
                continue
            parts = [p.strip() for p in SPLIT.split(said)]
            lost = [p for p in parts if p and p not in text and not _loosely_in(p, text)]
            if not lost:
                continue
            thought = field == "reasoning_content" or "</think>" in said
            if thought and in_prompt and place < last and message.get("role") == "assistant":
                dropped = True
                continue
            what = "reasoning" if thought else f"part of {article(str(message.get('role')))} {message.get('role')}'s message"
            raise LeftOut(f"the chat template leaves out {what}")
    return dropped


def _loosely_in(part: str, text: str) -> bool:
    """Whether a text holds a part, white space, marks and JSON's escapes aside."""
    for written in (part, json.dumps(part, ensure_ascii=False)[1:-1], json.dumps(part)[1:-1]):
        bare = LOOSE.sub("", written)
        if written in text or (bare and bare in LOOSE.sub("", text)):
            return True
    return False
