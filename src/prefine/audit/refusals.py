"""Answers that refuse."""

from __future__ import annotations

import functools
import re

HEAD = 320
"""Characters of an answer in which a refusal is looked for."""
STARTS_BY = 200
"""A refusal begins before this character."""
ABLE = (
    r"(?:(?:simply |really |just |also |currently |unfortunately |,? ?as an ai,? )?"
    r"(?:can't|can not|cannot|won't|will not|shouldn't|should not|refuse to|decline to|"
    r"(?:am|'m) (?:simply |currently |just |really |very )?(?:unable|not able|not going|not allowed|not permitted|not willing"
    r"|unwilling|not prepared|"
    r"not authorized|not equipped|not in a position|prohibited from|forbidden|not programmed|not designed)(?: to)?|"
    r"(?:must|have to|need to|'ll have to|am going to have to|'m going to have to|will have to) (?:\w+ly )?(?:decline|refuse|pass)(?: to)?|"
    r"(?:am|'m|would be|wouldn't be|do|don't|do not) (?:\w+ )?(?:not )?(?:feel )?comfortable|(?:would|'d) (?:rather|prefer) not(?: to)?))"
)
DEED = (
    r"(?:help\w*|assist\w*|provid\w+|fulfil\w*|comply|engag\w+|support|writ\w+|creat\w+|giv\w+|answer\w*|generat\w+|produc\w+"
    r"|shar\w+|offer\w*|discuss\w*"
    r"|recommend\w*|condone\w*|encourag\w+|promot\w+|participat\w+|advis\w+|respond\w*|disclos\w+|reveal\w*|facilitat\w+|endors\w+"
    r"|satisf\w+"
    r"|complete|process|continue with|explain|describe|teach\w*|instruct\w*|guid\w+|suggest|list|tell you|show you|go into"
    r"|talk about|do (?:that|this|it|so)|carry (?:that|this|it)? ?out"
    r"|speak (?:to|on|about)|be (?:able|of (?:any )?(?:help|assistance)|part|involved)|role-?play|make (?:that|this|up|fun|jokes"
    r"|such)|say (?:that|this|such)|with (?:that|this)|that request|in good conscience)"
)
ME = r"(?:i(?<!\wi))"
FIRST_PERSON = re.compile(
    rf"(?:i(?<!\wi)|we(?<!\wwe)) ?{ABLE}(?: and (?:will|can) ?not)?(?: be)?"
    r"(?: in good conscience| ethically| legally| safely| directly| possibly| really| actually| be able to| to| you| with| in| any"
    r"| further)*,? "
    rf"{DEED}\b(?! (?:but|how|enough|the feeling)\b| (?:it|this|them|that)\b[^.!?]{{0,30}} enough)"
    rf"|{ME} ?(?:can't|cannot|can not|won't|will not|must decline|have to decline|must refuse)[.!]?(?:$|[.!] )"
    rf"|{ME} ?(?:am going to |'m going to |will |would |'ll )?(?:must|have to|need to|respectfully) (?:\w+ly )?(?:decline|refuse"
    rf"|pass)\b|{ME} refuse[.!]"
    rf"|{ME}(?:'d| would)? (?:rather|prefer) not(?: to)?(?: (?:say|do|answer|discuss|talk|help|comment|share|engage)\b|[.!]|$)"
    rf"|{ME} (?:do not|don't) have the (?:ability|capability|means|authority|right) to {DEED}"
    rf"|{ME} (?:do not|don't) (?:provide|engage|offer|discuss|participate|create|generate|condone|assist|help|produce|promote)\b"
    rf"|{ME} won't be \w+ing (?:that|this|it|any|you)\b"
    rf"|{ME} (?:don't|do not) (?:think|believe|feel) (?:that )?(?:i (?:should|can|could|ought to)|i'm (?:able|the right)|"
    rf"(?:it(?:'s| is| would be)?|that(?:'s| is)?) (?:right|appropriate|ethical|okay|ok|a good idea))(?: for me)?(?: to)? {DEED}"
)
OTHERWISE = re.compile(
    rf"^(?:\W|no|nope|sorry)*,? ?(?:can't|cannot|can not|unable to|not able to|won't) {DEED}\b"
    r"|^\W*(?:request|access) (?:denied|refused|declined)"
    rf"|\bno way (?:that )?i(?:'m| am|'ll| will) (?:going to )?{DEED}"
    r"|\b(?:violat\w+|breach\w*|contraven\w+) (?:our|the|openai'?s?) (?:\w+ )?(?:polic\w+|guidelines|terms)"
    rf"|\bmy (?:\w+ )?(?:guidelines|programming|polic\w+|rules|principles|instructions) (?:prevent|forbid|prohibit|do not (?:let"
    rf"|allow)|don't (?:let|allow))"
    r"|\bi(?:'m| am) uncomfortable with|\b(?:outside|beyond) (?:of )?what i(?:'m| am| can)\b"
    rf"|(?:\b(?:and|so|but|therefore|thus)|,) (?:can't|cannot|can not|won't|will not) {DEED}\b|\birresponsible (?:of|for) me to"
    rf"|\bi (?:do not|don't) have (?:enough|sufficient|the|any) (?:\w+ )?(?:information|knowledge|data|context"
    rf"|details)[^.!?]{{0,40}} to {DEED}"
    r"|\b(?:sorry|apolog\w+|regret\w*|unfortunately|afraid)\b[^.!?]{0,60}?\b(?:not something (?:that )?i|i (?:just "
    r"|simply )?(?:can't|cannot|won't|can not) (?:do|help)"
    r"|(?<!was )unable to (?:help|assist|provide|comply|fulfil\w*|answer|do|process|complete)|can't be (?:of|answered|fulfil)"
    r"|(?:not|isn't) (?:possible|allowed|permitted|something)\b)"
    r"|\bsorry,? (?:but )?(?:no|can't|cannot|unable|i can't|i cannot|i won't)\b(?! (?:wait|keep|imagine|believe|make|come|attend))"
    r"|\b(?:that|this|it)(?:'s| is| would be)? ?(?:is )?(?:not|isn't) (?:really )?(?:something|a (?:topic|subject|request|question"
    r"|thing)) (?:that )?i(?:'m| am| can| will| would|'d)\b(?!'t)"
    r"|\b(?:against|violat\w+|outside|beyond|not within|conflicts? with) (?:of )?my (?:\w+ )?"
    r"(?:guidelines|programming|polic\w+|principles|values|ethic\w*|rules|scope|abilities|ability|capabilities|design|training|safety)"
    rf"|\b(?:not|n't|in)(?: be)? ?(?:appropriate|ethical|right|responsible|acceptable)(?: or \w+)? (?:for me )?to {DEED}"
    r"|\b(?:your|this|that|the) request (?:violates|goes against|is (?:against|not|in violation|inappropriate|harmful)|cannot"
    r"|can't|involves (?:illegal|harmful))"
    r"|\b(?:refuse|decline) to (?:help|assist|provide|answer|write|share|give|create|discuss|engage|participate|take part|do)\b"
    r"|\bno,? i (?:won't|will not|can't|cannot|refuse)\b"
)
NO_PERSON = re.compile(
    r"\bas an? (?:\w+ ){0,2}(?:ai|language model|llm|assistant|artificial intelligence)\b[^.!?]{0,60}?,? (?:i|it)(?: am|'m)? ?"
    r"(?:can't|cannot|can not|do not|don't|not|won't|will not|must not|shouldn't|should not|unable|have no|lack)\b"
)
"""A model that says what it is not; it may go on to help."""
GOES_ON = re.compile(
    r"\b(?:however|but i can|but here|instead, i|that said|i can (?:still|certainly|help|offer|provide|give|share|suggest|explain"
    r"|describe|try))\b"
)
ELSEWHERE = re.compile(
    r"(?:tut mir (?:sehr )?leid|bedau\w+|leider|entschuldig\w+)[^.!?]{0,90}(?:nicht|kein\w*)|\b(?:ich (?:kann|darf|werde|muss)"
    r"|(?:kann|darf|muss) ich)[^.!?]{0,60}\b(?:nichts sagen|ablehnen|verweigern|nicht (?:helfen|beantworten|unterst|bereit|geben"
    r"|schreiben|weiter))"
    r"|(?:désolée?|regrette|malheureusement|navrée?)[^.!?]{0,60}(?:ne (?:peux|puis|suis|pourrai)|pas en mesure)|\bje ne (?:peux"
    r"|puis|suis)[^.!?]{0,10} (?:pas )?[^.!?]{0,12}(?:aider|fournir|répondre|en mesure)|\bil m'est impossible"
    r"|\bje dois (?:décliner|refuser)"
    r"|(?:lo siento|lamento|lamentablemente|disculp\w+|perd[óo]n)[^.!?]{0,60}no (?:puedo|podr[ée]|soy capaz|me es posible|estoy)"
    r"|\bno puedo (?:ayudar|proporcionar|responder|cumplir|ofrecer|dar|hablar|tratar)|\bdebo (?:rechazar|declinar|negarme)"
    r"|(?:mi dispiace|spiacente|purtroppo)[^.!?]{0,60}non (?:posso|sono in grado)|\bnon posso (?:aiutar|fornir|risponder|soddisf"
    r"|trattar|parlar)"
    r"|(?:desculp\w+|sinto muito|lamento|infelizmente)[^.!?]{0,60}não (?:posso|consigo|sou capaz|estou)|\bnão posso (?:ajudar"
    r"|fornecer|responder|atender|tratar|falar)"
    r"|(?:het spijt me|helaas|sorry)[^.!?]{0,60}\bniet (?:helpen|beantwoorden|geven|doen|voldoen|mee)|\bkan ik (?:je|u) [^.!?]{0,30}niet"
    r"|(?:przepraszam|przykro mi|niestety)[^.!?]{0,60}nie mogę|nie mogę (?:pomóc|udzielić|odpowiedzieć)"
    r"|(?:извин\w+|простите|к сожалению|сожале\w+)[^.!?]{0,60}не (?:могу|смогу|в состоянии|имею)|я не (?:могу"
    r"|буду) (?:вам )?(?:помо|предостав|ответ|выполн|обсужд|говор)"
    r"|(?:抱歉|对不起|對不起|很遗憾|很遺憾)[^。！？]{0,40}(?:不能|无法|無法|不可以|没办法)|我(?:不能|无法|無法)(?:为您|為您|向您|给您|幫|帮|提供|协助|協助|回答|满足|完成|讨论)|我(?:必须|只能)拒绝"
    r"|拒绝(?:回答|这个)"
    r"|(?:申し訳|すみません|ごめん|恐れ入り|残念)[^！？]{0,80}(?:できません|できかね|できない|いたしかね|ません)|お手伝いできません|お答えできません"
    r"|(?:죄송|미안|유감)[^!?]{0,80}(?:수 없|못|어렵|않)|도와\w* ?드릴 수 없|제공\w* 수 없"
    r"|(?:üzgünüm|maalesef)[^.!?]{0,60}(?:edem|olam|verem|yapam|yardımcı|getirem)\w*|(?:maaf)[^.!?]{0,60}tidak (?:bisa|dapat)"
    r"|لا (?:أستطيع|يمكنني|أقدر)|(?:क्षमा|माफ़|खेद)[^।!?]{0,60}(?:नहीं|असमर्थ)"
)
LETTER = re.compile(r"\W*(?:dear|subject:|hi \w+,|hello \w+,|hey \w+,)")
UNWILLING = frozenset((
    "not", "can't", "cannot", "won't", "don't", "shouldn't", "unable", "unwilling", "prohibited", "forbidden", "decline", "refuse",
    "refuse.", "refuse!", "rather", "prefer", "must", "have", "need",
))  # fmt: skip
TELLING = frozenset((
    "sorry", "sorry,", "apologise", "apologize", "prevent", "forbid", "breach", "contravene", "uncomfortable", "irresponsible",
    "enough", "apologies", "apologies,", "regret", "unfortunately", "unfortunately,", "afraid", "something", "against", "beyond",
    "outside", "within", "violates", "violate", "request", "denied", "denied.", "refuse", "decline", "appropriate", "inappropriate",
    "ethical", "responsible", "acceptable", "no", "no,", "no.", "nope", "nope,", "can't", "cannot", "won't", "unable",
))  # fmt: skip
"""English refusals have a word of the first set beside "I", or one of the second."""
NEGATIONS = frozenset((
    "nicht", "nichts", "ablehnen", "ablehnen.", "kein", "keine", "keinen", "ne", "non", "no", "niet", "nie", "tidak", "impossible",
    "dois", "debo",
))  # fmt: skip
"""Other languages' refusals have one of these, or letters beyond ASCII."""
SIGNS = UNWILLING | TELLING | NEGATIONS
TYPED = str.maketrans("’‘“”–—", "''\"\"--")


@functools.lru_cache(maxsize=4)  # a row's answers are asked about for their marks, and for what they say against each other
def refuses(text: str) -> bool:
    """Whether an answer refuses in its first sentences; what it quotes, and the text of a letter, do not count."""
    head = text[:HEAD]
    if not head.isascii():
        head = head.translate(TYPED)
    low = head.casefold()
    words = low.split()
    if head.isascii() and SIGNS.isdisjoint(words) and "as a" not in low:
        return False
    low = " ".join(words)
    found = None
    if not UNWILLING.isdisjoint(words):
        found = FIRST_PERSON.search(low)
    if found is None and not TELLING.isdisjoint(words):
        found = OTHERWISE.search(low)
    if found is None and "as a" in low and not GOES_ON.search(low):
        found = NO_PERSON.search(low)
    if found is None and not (head.isascii() and NEGATIONS.isdisjoint(words)):
        found = ELSEWHERE.search(low)
    return found is not None and found.start() <= STARTS_BY and not LETTER.match(low) and not _quoted(found)


def _quoted(found: re.Match[str]) -> bool:
    """Whether a match stands inside quotation marks that open after the text's start."""
    before = found.string[: found.start()]
    if before.count('"') % 2 == 0:
        return False
    rest = found.string[found.end() :].partition('"')[2]
    return not before.startswith('"') or len(rest.split()) > 1
