"""Personal data in a text: addresses, telephone numbers, and numbers that pass their check digits."""

from __future__ import annotations

import re

EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
SPELT = re.compile(
    r"\b[a-z0-9._-]{2,40}(?: (?:dot|\[dot\]|\(dot\)) [a-z0-9_-]{1,40}){0,3} ?(?:\[at\]|\(at\)|\{at\}| at ) ?"
    r"[a-z0-9-]{2,40} ?(?:\[dot\]|\(dot\)|\{dot\}| dot |\.) ?(?:com|org|net|edu|gov|io|co|de|fr|uk|info|me)\b",
    re.IGNORECASE,
)
NOBODY = re.compile(r"(?:[@.]example\.(?:com|org|net|edu|co\.uk)|\.(?:example|test|invalid|localhost))$", re.IGNORECASE)
"""Domains that RFC 2606 keeps for examples."""
LEAST_DIGITS = 6
"""A text with fewer digits holds no number of anyone."""
DIGITS = re.compile(r"[+(\d][\d ().\-/–‑]{6,40}\d")
"""A stretch of digits long enough to be a number of someone."""
PHONE = re.compile(r"(?<![\d.+])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])")
FREE = re.compile(r"(?:\+?1[ .-]?)?\(?(?:8(?:00|33|44|55|66|77|88)|123)\)?[ .-]?(?!456[ .-]7891)")
"""Numbers of firms that cost the caller nothing, and 123-456-7890."""
RUN = re.compile(r"(?<![\w.,+$€£/=#^-])(?:\+|00|\(?0|\(?\d)(?:\d|[ .\-/–‑]\(?|\) ?-?|\(){5,22}\d(?![\w%$€£^=]|[.,/:-]\d)")
DATE = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|\(?(?:1[5-9]|20)\d\d[ /–-]+(?:1[5-9]|20)\d\d")
CALLED = re.compile(
    r"(?:\b(?:tel|telephone|phone|call|mobile|cell|whats ?app|text|fax|ring|dial|reach me|my number is|hotline|sms|handy|telefon\w*|mobil|tél|téléphone|teléfono|móvil"
    r"|telefono|celular|numéro)\b|☎|📞)[^\d+\n]{0,40}$",
    re.IGNORECASE,
)
SUM = re.compile(r" [-/–] |^\+ |\(.*[^\d) ]\d*$|^[^(]*\)")
"""What is reckoned, not dialled: a minus between spaces, a bracket that does not close."""
REGIONS = ("US", "GB", "DE", "FR", "IN", "ES", "IT", "AU", "NL", "BR", "JP")
SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
NAMED_SOCIAL = re.compile(r"\b(?:ssn|social security)\b[^\d\n]{0,40}$", re.IGNORECASE)
SOCIAL_DIGITS = re.compile(r"(?!000|666|9)\d{3}[- ]?\d{2}[- ]?\d{4}$")
CARD = re.compile(r"(?<![\d.])(?:3[47]\d{2}|3(?:0[0-5]|[689]\d)\d|[4-6]\d{3}|2[2-7]\d{2})(?:[ -]?\d{2,6}){2,4}(?![\d.]\d|\d)")
IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
NATIONAL_NAMES = ("nsurance", "nino", "NI ", "ni number", "assport", "licen", "ational ", "tax id", "Tax", "ersonal", "aadhaar", "Aadhaar", "DNI", "NIF",
                  "NHS", "teuer", "odice", "CPF", "INSEE", "edicare", "SIN")  # fmt: skip
NATIONAL = re.compile(
    r"\b(?i:national insurance|nino|ni number|passport|driver'?s?'? licen[cs]e|national id|tax id|personalausweis\w{0,9}|aadhaar|dni|nif|nhs|steuer-?id\w{0,9}"
    r"|codice fiscale|cpf|insee|medicare|sin)\b[^\d\n]{0,30}?\b([A-Z0-9][A-Z0-9 .-]{6,16}[A-Z0-9])\b"
)
BRITISH = re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d{2} \d{2} \d{2} [A-D]\b")
STREET = re.compile(
    r"\d{1,5}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Terrace|Way|Place|Pl|Circle)\b\.?"
    r"[^\n]{0,60}?(?:\b[A-Z]{2},? \d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b)"
)
NETWORK = re.compile(r"\bIP(?:v[46])?(?: address)?\b[^\d\n]{0,30}\b((?:\d{1,3}\.){3}\d{1,3})\b(?!\.\d)", re.IGNORECASE)


def has_personal_data(text: str) -> bool:
    """Whether a text holds an address, a number or a card of someone."""
    if "@" in text and any(not NOBODY.search(m.group()) for m in EMAIL.finditer(text)):
        return True
    if ("at]" in text or "at)" in text or " dot " in text) and SPELT.search(text):
        return True
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) - len(raw.translate(None, b"0123456789")) < LEAST_DIGITS:
        return False
    if any(_number(text, run) for run in DIGITS.finditer(text)):
        return True
    if any(map(text.__contains__, NATIONAL_NAMES)) and any(sum(map(str.isdigit, m[1])) >= 4 for m in NATIONAL.finditer(text)):
        return True
    return bool(BRITISH.search(text) or STREET.search(text)) or _bank(text) or _network(text)


def _number(text: str, found: re.Match[str]) -> bool:
    """Whether a stretch of digits and what stands between them is a social security, telephone or card number."""
    span = max(0, found.start() - 1), found.end() + 3
    if any(not FREE.match(m.group()) for m in PHONE.finditer(text, *span)) or SOCIAL.search(text, *span):
        return True
    if NAMED_SOCIAL.search(text[max(0, found.start() - 50) : found.start()]) and SOCIAL_DIGITS.match(found.group()):
        return True
    return any(_card(m.group()) for m in CARD.finditer(text, *span)) or any(_is_telephone(m) for m in RUN.finditer(text, *span))


def _card(text: str) -> bool:
    """Whether a number has a card's length and check digit (Luhn)."""
    from stdnum import luhn

    digits = "".join(filter(str.isdigit, text))
    return len(digits) in (14, 15, 16, 19) and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _bank(text: str) -> bool:
    """Whether a text holds an IBAN that passes its check."""
    found = IBAN.findall(text)
    if not found:
        return False
    from stdnum import iban

    return any(iban.is_valid(number) or any(iban.is_valid(number[:-cut]) for cut in range(1, 6)) for number in found)


def _network(text: str) -> bool:
    """Whether a text names a public IP address."""
    found = NETWORK.findall(text) if "IP" in text or "ip " in text else []
    if not found:
        return False
    import ipaddress

    def public(number: str) -> bool:
        try:
            return ipaddress.ip_address(number).is_global and number not in ("8.8.8.8", "8.8.4.4", "1.1.1.1")
        except ValueError:
            return False

    return any(map(public, found))


def _is_telephone(run: re.Match[str]) -> bool:
    """Whether digits are a telephone number: with a country's code, or named as one, or written as one with its 0."""
    number = run.group()
    groups = re.findall(r"\d+", number)
    if not 8 <= len("".join(groups)) <= 15:
        return False
    abroad = number.startswith(("+", "00"))
    named = CALLED.search(run.string[max(0, run.start() - 60) : run.start()])
    trunk = number.startswith(("0", "(0")) and 2 <= len(groups) <= 5 and not number.startswith("0.")
    if DATE.match(number) or SUM.search(number) or not (abroad or trunk or named) or (FREE.match(number) and not abroad):
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
