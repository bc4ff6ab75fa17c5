"""Personal data in a text: addresses, telephone numbers, and numbers that pass their check digits."""

from __future__ import annotations

import importlib
import ipaddress
import re

EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])(?!git@)[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
SPELT = re.compile(
    r"\b[a-z0-9._-]{2,40}(?: (?:dot|\[dot\]|\(dot\)) [a-z0-9_-]{1,40}){0,3} ?(?:\[at\]|\(at\)|\{at\}| at ) ?"
    r"[a-z0-9-]{2,40} ?(?:\[dot\]|\(dot\)|\{dot\}| dot |\.) ?(?:com|org|net|edu|gov|io|co|de|fr|uk|info|me)\b",
    re.IGNORECASE,
)
NOBODY = re.compile(r"(?:[@.]example\.(?:com|org|net|edu|co\.uk)|\.(?:example|test|invalid|localhost))$", re.IGNORECASE)
"""Domains that RFC 2606 keeps for examples."""
LEAST_DIGITS = 4
"""A text with fewer digits holds no number of anyone."""
LEAST_ACCOUNT = 12
"""The digits of the shortest account number that is an IBAN, its bank's letters aside."""
DIGITS = re.compile(r"[+(\d][\d ().\-/–‑]{6,40}\d")
"""A stretch of digits long enough to be a number of someone."""
PHONE = re.compile(r"(?<![\d.+])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])")
FREE = re.compile(r"(?:\+?1[ .-]?)?\(?(?:8(?:00|33|44|55|66|77|88)|123)\)?[ .-]?(?!456[ .-]7891)")
"""Numbers of firms that cost the caller nothing, and 123-456-7890."""
RUN = re.compile(r"(?<![A-Za-z0-9_.,+$€£/=#^-])(?:\+|00|\(?0|\(?\d)(?:\d|[ .\-/–‑]\(?|\) ?-?|\(){5,22}\d(?![A-Za-z0-9_%$€£^=]|[.,/:-]\d)")
DATE = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|\(?(?:1[5-9]|20)\d\d[ /–-]+(?:1[5-9]|20)\d\d")
CALLED = re.compile(
    r"(?:\b(?:tel|telephone|phone|call|mobile|cell|whats ?app|text|fax|ring|dial|reach me|my number is|hotline|sms|handy"
    r"|telefon\w*|mobil|tél|téléphone|teléfono|móvil"
    r"|telefono|celular|numéro|телефон\w*)\b|电话|手机|電話|携帯|전화|☎|📞)[^\d+\n]{0,40}$",
    re.IGNORECASE,
)
SUM = re.compile(r" [-–] |^\+ |^[^(]*\)")
"""What is reckoned, not dialled."""
REGIONS = ("US", "GB", "DE", "FR", "IN", "ES", "IT", "AU", "NL", "BR", "JP", "CN")
SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
NAMED_SOCIAL = re.compile(r"\b(?:ssn|social security)\b[^\d\n]{0,40}$", re.IGNORECASE)
SOCIAL_DIGITS = re.compile(r"(?!000|666|9)\d{3}[- ]?\d{2}[- ]?\d{4}$")
CARD = re.compile(
    r"(?<![\d.])(?:(?:[4-6]\d|35|2[2-7])\d{2}([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -]?)\d{6}\2\d{5}"
    r"|3[0689]\d{2}([ -]?)\d{6}\3\d{4})(?![\d.-]\d|\d)"
)
IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
SMALL_IBAN = re.compile(r"\d{14,24}(?![A-Za-z0-9])")
POSTCODE = re.compile(r"\d{5}|\d[A-Z]{2}\b")
COLONS = re.compile(r":[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:")
LABELS = (
    *(
        "nsurance",
        "assport",
        "icense",
        "icence",
        "ational id",
        "ational ID",
        "ax id",
        "ax ID",
        "ersonalausweis",
        "adhaar",
        "teuer",
        "odice",
        "imlik",
        "esel",
        "ESEL",
    ),
    *(
        "edical record",
        "écurité",
        "outing",
        "atient id",
        "atient ID",
        "nino",
        "NI number",
        "NINO",
        "DNI",
        "NIF",
        "NHS",
        "CPF",
        "SIN",
        "PAN",
        "BSN",
        "MRN",
    ),
    *("身份证", "주민등록", "マイナンバー"),
)
LABELLED = re.compile(
    r"(?:\b(?i:national insurance|nino|ni number|passport|driver'?s?'? licen[cs]e|driving licen[cs]e|national id|tax id"
    r"|personalausweis\w{0,9}|aadhaar"
    r"|steuer-?id\w{0,9}|codice fiscale|kimlik|pesel|sécurité sociale|medicare|medical record|patient id|routing)|\b(?:DNI|NIF|NHS"
    r"|CPF|SIN|PAN|BSN|MRN)"
    r"|身份证|주민등록번호|マイナンバー)(?![a-z])[^\d\n]{0,40}?(?<![A-Za-z0-9])([A-Z0-9][A-Z0-9 .-]{5,17}[A-Z0-9])(?![A-Za-z0-9])"
)
TOKEN = re.compile(r"[A-Z0-9][A-Z0-9.+<:-]{8,}")
SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\d{17}[\dX]"), "cn.ric"),
    (re.compile(r"\d{6}[-+A]\d{3}[0-9A-Z]"), "fi.hetu"),
    (re.compile(r"\d{6}-\d{4}"), "se.personnummer"),
    (re.compile(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), "br.cpf"),
    (re.compile(r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]"), "it.codicefiscale"),
    (re.compile(r"[A-Z]{3}[PCHABGJLFT][A-Z]\d{4}[A-Z]"), "in_.pan"),
    (re.compile(r"P<[A-Z<]{3}[A-Z]+<<[A-Z0-9<]+"), ""),
    (re.compile(r"[A-Z9]{5}\d[01]\d[0-3]\d{2}[A-Z9]{2}\d[A-Z]{2}"), ""),
)
"""Numbers of people by their form, with the module of python-stdnum that knows their check digits."""
FRENCH = re.compile(r"(?<!\d)[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}(?!\d)")
BRITISH = re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d{2} \d{2} \d{2} [A-D]\b")
STREET = re.compile(
    r"\d{1,5}[A-Za-z]? (?:[NSEW]{1,2}\.? )?(?:[A-Z\d][a-z\d]+ ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Terrace|Way|Place|Pl|Circle|Close|Crescent|Gardens)\b\.?"
    r"(?s:.){0,60}?(?:\b[A-Z]{2},? \d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b)"
    r"|\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|impasse|allée|quai) [^\n\d]{3,40},?\s\d{5} [A-ZÉ]"
)
STREET_FIRST = re.compile(
    r"[A-ZÄÖÜ][a-zäöüß-]{1,30}(?:straße|strasse|str\.|weg|platz|allee|gasse) \d{1,4}[a-z]?,?\s(?:D-)?\d{5} [A-ZÄÖÜ]"
    r"|(?:Calle|Avenida|Avda\.?|Plaza|Paseo|Via|Viale|Piazza|Corso) [^\n\d]{3,40} ?\d{1,4},?[^\n]{0,20}?\s\d{5} [A-Z]"
)
BIRTH = re.compile(
    r"(?:\bdob|date[ _]of[ _]birth|birth[ _]?date|\bgeb(?:\.|oren)(?: am)?|\bnée?(?:\(e\))? le|fecha de nacimiento"
    r"|data di nascita)[\"']?\W{1,5}"
    r"(?:\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)\d\d|(?:19|20)\d\d-\d\d-\d\d)",
    re.IGNORECASE,
)
IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE)
HARDWARE = re.compile(r"(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])", re.IGNORECASE)
BORN = ("irth", "dob", "DOB", "geb", "Geb", "né", "Né", "nacim", "nascita")
ENGLISH_STREETS = (
    *(
        " St",
        " Ave",
        " Road",
        " Rd",
        " Lane",
        " Ln",
        " Drive",
        " Dr",
        " Blvd",
        " Boul",
        " Court",
        " Ct",
        " Terrace",
        " Way",
        " Place",
        " Pl",
    ),
    *(
        " Circle",
        " Close",
        " Crescent",
        " Gardens",
        " rue ",
        " avenue ",
        " boulevard ",
        " place ",
        " chemin ",
        " impasse ",
        " allée ",
        " quai ",
    ),
)
STREETS = (
    "straße",
    "strasse",
    "str.",
    "weg",
    "platz",
    "allee",
    "gasse",
    "Calle",
    "Aven",
    "Avda",
    "Plaza",
    "Paseo",
    "Via",
    "Piazza",
    "Corso",
)
DOTTED = (*"0123456789", ".")
KNOWN_SERVERS = frozenset(("8.8.8.8", "8.8.4.4", "1.1.1.1", "9.9.9.9"))


def has_personal_data(text: str) -> bool:
    """Whether a text holds an address, a number or a card of someone."""
    if "@" in text and any(not NOBODY.search(m.group()) for m in EMAIL.finditer(text)):
        return True
    if ("at]" in text or "at)" in text or " dot " in text) and SPELT.search(text):
        return True
    raw = text.encode("utf-8", "surrogatepass")
    digits = len(raw) - len(raw.translate(None, b"0123456789"))
    if digits < LEAST_DIGITS:
        return False
    if any(_number(text, run) for run in DIGITS.finditer(text)):
        return True
    if _any(LABELS, text) and any(sum(map(str.isdigit, m[1])) >= 2 and not DATE.match(m[1]) for m in LABELLED.finditer(text)):
        return True
    if any(map(_shaped, TOKEN.findall(text))) or BRITISH.search(text) or (digits >= LEAST_ACCOUNT and _bank(text)):
        return True
    if POSTCODE.search(text) and (
        (_any(ENGLISH_STREETS, text) and STREET.search(text)) or (_any(STREETS, text) and STREET_FIRST.search(text))
    ):
        return True
    if _any(BORN, text) and BIRTH.search(text):
        return True
    if any(_public(m.group(), text[max(0, m.start() - 30) : m.start()]) for m in IPV4.finditer(text)):
        return True
    return COLONS.search(text) is not None and bool(HARDWARE.search(text) or any(_public(m.group(), "IP") for m in IPV6.finditer(text)))


def _any(hints: tuple[str, ...], text: str) -> bool:
    return any(map(text.__contains__, hints))


def _number(text: str, found: re.Match[str]) -> bool:
    """Whether a stretch of digits and what stands between them is a social security, telephone or card number."""
    span = max(0, found.start() - 1), found.end() + 3
    if any(not FREE.match(m.group()) for m in PHONE.finditer(text, *span)) or SOCIAL.search(text, *span):
        return True
    if NAMED_SOCIAL.search(text[max(0, found.start() - 50) : found.start()]) and SOCIAL_DIGITS.match(found.group()):
        return True
    if any(_valid("fr.nir", m.group()) for m in FRENCH.finditer(text, *span)):
        return True
    return any(_card(m.group()) for m in CARD.finditer(text, *span)) or any(_is_telephone(m) for m in RUN.finditer(text, *span))


def _valid(module: str, number: str) -> bool:
    """Whether python-stdnum takes a number for one of its kind."""
    return bool(importlib.import_module(f"stdnum.{module}").is_valid(number))


def _shaped(token: str) -> bool:
    """Whether a word of digits and capitals is a number of someone."""
    token = token.rstrip(".:-+")
    return any(shape.fullmatch(token) and (not module or _valid(module, token)) for shape, module in SHAPES)


def _card(text: str) -> bool:
    """Whether a number has a card's check digit (Luhn)."""
    digits = "".join(filter(str.isdigit, text))
    return len(set(digits)) > 1 and _valid("luhn", digits)


def _bank(text: str) -> bool:
    """Whether a text holds an IBAN that passes its check; what follows one may look like a part of it."""
    numbers = IBAN.findall(text) + [
        text[m.start() - 2 : m.end()] for m in SMALL_IBAN.finditer(text) if text[max(0, m.start() - 2)].islower()
    ]
    return any(_valid("iban", number[: len(number) - cut]) for number in numbers for cut in range(6))


def _public(number: str, before: str) -> bool:
    """Whether an address is one of the public internet, and not the number of a version or a section."""
    try:
        known = ipaddress.ip_address(number)
    except ValueError:
        return False
    called = "IP" in before or sum(len(part) > 1 for part in number.split(".")) >= 3
    return called and not before.endswith(DOTTED) and known.is_global and number not in KNOWN_SERVERS


def _is_telephone(run: re.Match[str]) -> bool:
    """Whether digits are a telephone number: with a country's code, or named as one, or written as one with its 0."""
    number = run.group()
    groups = re.findall(r"\d+", number)
    if not 8 <= len("".join(groups)) <= 15:
        return False
    abroad = number.startswith(("+", "00"))
    named = CALLED.search(run.string[max(0, run.start() - 60) : run.start()])
    trunk = number.startswith(("0", "(0")) and 2 <= len(groups) <= 5 and not number.startswith("0.")
    if (
        DATE.match(number)
        or SUM.search(number)
        or number.count("(") != number.count(")")
        or not (abroad or trunk or named)
        or (FREE.match(number) and not abroad)
    ):
        return False
    if not (abroad or trunk) and (len(groups) < 3 and len("".join(groups)) not in (10, 11)):
        return False
    import phonenumbers

    for region in (None,) if abroad else REGIONS:
        try:
            parsed = phonenumbers.parse("+" + number[2:] if number.startswith("00") else number, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_possible_number(parsed) if abroad else phonenumbers.is_valid_number(parsed):
            return True
    return False
