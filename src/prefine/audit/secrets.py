"""Keys, tokens and passwords in a text, by the forms that their issuers document; only their kinds are ever told.

Every form has a hint, a piece of text that it cannot be without; a text without a hint costs one look for each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONG = 12
"""A text whose words are all shorter than this holds no key; only a password may be as short."""


@dataclass(frozen=True)
class SecretForm:
    """What one kind of secret looks like; ``named``: a name stands before it, so that more than the long words is looked at."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    named: bool = False


def _prefixed(kind: str, *forms: tuple[str, str]) -> SecretForm:
    """A kind whose tokens are a fixed prefix and a tail, with no letter or digit before or after."""
    either = "|".join(f"{re.escape(prefix)}{tail}" for prefix, tail in forms)
    return SecretForm(kind, tuple(prefix for prefix, _ in forms), re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])"))


WORD, CODE, HEX = r"\w", "[A-Za-z0-9]", "[a-f0-9]"
CODED = r"[\w-]"
UPPER = "[A-Z0-9]{16}"
SECRET_FORMS = (
    _prefixed("AWS key", *((prefix, UPPER) for prefix in ("AKIA", "ASIA", "ABIA", "ACCA"))),
    _prefixed("AWS key", ("ABSK", r"[A-Za-z0-9+/]{100,}={0,2}")),
    _prefixed("GitHub token", *((f"gh{kind}_", CODE + "{36,}") for kind in "pousr"), ("github_pat_", WORD + "{40,}")),
    _prefixed(
        "GitLab token",
        *((f"gl{kind}-", r"[\w.-]{20,}") for kind in ("pat", "dt", "ft", "rt", "soat", "cbt", "ptt", "imt", "agent", "oas", "ffct")),
    ),
    _prefixed("GitLab token", ("GR1348941", CODED + "{20,}")),
    _prefixed("Slack token", *((f"xox{kind}-", "[A-Za-z0-9-]{16,}") for kind in "abeoprs"), ("xapp-", "[A-Za-z0-9-]{20,}")),
    _prefixed("Slack webhook", ("hooks.slack.com/", r"(?:services|workflows|triggers)/[\w/]{20,}")),
    _prefixed(
        "Discord webhook", ("discord.com/api/webhooks/", r"\d{15,}/[\w-]{40,}"), ("discordapp.com/api/webhooks/", r"\d{15,}/[\w-]{40,}")
    ),
    _prefixed("Teams webhook", (".webhook.office.com/", r"webhookb2/[\w@/-]{40,}")),
    _prefixed(
        "OpenAI, Anthropic or alike key",
        ("sk-", r"(?:(?:proj|svcacct|admin|ant|or|lf)-[\w-]{20,}|[A-Za-z0-9]{32,}|(?=\D{0,40}\d)[\w-]{32,})"),
    ),
    _prefixed("Google key", ("AIza", CODED + "{35}"), ("GOCSPX-", CODED + "{24,}"), ("ya29.", r"[\w.-]{30,}"), ("1//0", CODED + "{40,}")),
    _prefixed("Hugging Face token", ("hf_", CODE + "{30,}"), ("api_org_", CODE + "{30,}")),
    _prefixed(
        "Stripe key",
        *((f"{kind}_{mode}_", CODE + "{16,}") for kind in ("sk", "rk") for mode in ("live", "test", "prod")),
        ("whsec_", r"[A-Za-z0-9+/]{24,}=*"),
    ),
    _prefixed("npm token", ("npm_", CODE + "{36,}")),
    _prefixed("PyPI token", ("pypi-", CODED + "{40,}")),
    _prefixed("SendGrid key", ("SG.", r"[\w-]{16,32}\.[\w-]{32,64}")),
    _prefixed("Twilio key", ("SK", HEX + "{32}")),
    _prefixed("Mailgun key", ("key-", HEX + "{32}")),
    _prefixed("DigitalOcean token", *((f"do{kind}_v1_", HEX + "{64}") for kind in "opr")),
    _prefixed("Databricks token", ("dapi", HEX + r"{32}(?:-\d)?")),
    _prefixed("Shopify token", *((f"shp{kind}_", "[A-Fa-f0-9]{32}") for kind in ("at", "ca", "pa", "ss"))),
    _prefixed(
        "Square token", ("sq0atp-", CODED + "{22,}"), ("sq0csp-", CODED + "{43}"), ("EAAA", CODED + "{60,}"), ("EAAC", CODE + "{80,}")
    ),
    _prefixed("Vault token", ("hvs.", CODED + "{24,}"), ("hvb.", CODED + "{60,}")),
    _prefixed("Grafana token", ("glsa_", WORD + "{32,}"), ("glc_", r"[A-Za-z0-9+/]{32,}=*")),
    _prefixed("Notion token", ("ntn_", CODE + "{40,}"), ("secret_", CODE + "{43}")),
    _prefixed("Linear or Postman key", ("lin_api_", CODE + "{40}"), ("PMAK-", "[a-f0-9]{24}-[a-f0-9]{34}")),
    SecretForm("Terraform token", (".atlasv1.",), re.compile(r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,}")),
    SecretForm("Azure signature", ("sig=",), re.compile(r"[?&;]sig=[A-Za-z0-9%+/]{40,}")),
    SecretForm("Airtable token", ("pat",), re.compile(r"(?<![A-Za-z0-9])pat[A-Za-z0-9]{14}\.[a-f0-9]{64}")),
    SecretForm("X token", ("AAAAAAAAAAAAAAAAAAAAA",), re.compile(r"A{21,}[\w%-]{60,}")),
    _prefixed("Docker token", ("dckr_pat_", CODED + "{24,}"), ("dckr_oat_", CODED + "{24,}")),
    _prefixed("PlanetScale token", *((f"pscale_{kind}_", r"[\w.=-]{30,}") for kind in ("tkn", "pw", "oauth"))),
    _prefixed("Django key", ("django-insecure-", r"[^\s\"']{30,}")),
    _prefixed("Atlassian token", ("ATATT3", r"[\w=-]{60,}"), ("ATCTT3", r"[\w=-]{60,}"), ("ATBB", CODE + "{28,}")),
    _prefixed("Figma, Supabase or Doppler token", ("figd_", CODED + "{40,}"), ("sbp_", HEX + "{40}"), ("dp.pt.", CODE + "{43}")),
    _prefixed(
        "Perplexity, Groq, xAI or Replicate key",
        ("pplx-", CODE + "{40,}"),
        ("gsk_", CODE + "{40,}"),
        ("xai-", CODE + "{60,}"),
        ("r8_", CODE + "{37}"),
    ),
    _prefixed("Sentry token", ("sntrys_", r"[\w=+/-]{60,}"), ("sntryu_", HEX + "{64}")),
    _prefixed("RubyGems token", ("rubygems_", HEX + "{48}")),
    _prefixed("New Relic key", ("NRAK-", "[A-Z0-9]{27}")),
    _prefixed("age key", ("AGE-SECRET-KEY-1", "[A-Z0-9]{58}")),
    _prefixed("Azure key", ("AccountKey=", r"[A-Za-z0-9+/]{40,}={0,2}"), ("SharedAccessKey=", r"[A-Za-z0-9+/]{40,}={0,2}")),
    SecretForm("JWT", ("eyJ",), re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    SecretForm("Telegram token", (":AA",), re.compile(r"(?<!\d)\d{8,10}:AA[\w-]{33}(?![\w-])")),
    SecretForm("Discord token", (".",), re.compile(r"(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w-])")),
    SecretForm("Mailchimp key", ("-us",), re.compile(rf"(?<![a-z0-9]){HEX}{{32}}-us\d{{1,2}}(?!\d)")),
    SecretForm(
        "AWS secret key",
        ("secret", "aws", "Secret", "SECRET", "AWS"),
        re.compile(
            r"(?:aws|secret).{0,20}key[\w ]{0,20}[\"']?\s*(?:=>|:=|[:=]"
            r"|\bis\b)\s*[\"'`]?(?=[^\s\"'`]*\d)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
            re.I,
        ),
        True,
    ),
)
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d")
URL_PASSWORD = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,64}:([^\s/@\"'<>]{3,64})@[A-Za-z0-9\[]")
VALUE = re.compile(r"[^\s\"'`,;<>(){}\[\]=:]{12,120}")
NAMED_BEFORE = re.compile(
    r"(?:(?:pass(?:word|wd|phrase|code|wort)|pwd|kennwort|secret|token|credentials?|\bauth|contraseña|mot de passe"
    r"|(?:api|access|auth|private|secret|encryption|master|account|license|wlan|wi-?fi)[ _-]?key)"
    r"\w{0,20}[\"']?(?:\s{0,3}(?:=>|:=|[:=,])|(?: for [^:\n]{1,20})? (?:is|ist|es|est))\s{0,3}|\b(?:bearer|basic|password)\s{1,3}"
    r"|\bcurl\b[^\n]{0,40}(?:-u|--user)[ =][\"']?\w{1,30}:)[\"'`]?$",
    re.IGNORECASE,
)
DIGIT = re.compile(r"\d")
MIXED = re.compile(r"(?=\D*\d)[^A-Za-z]*[A-Za-z]")
STAND_IN = re.compile(r"x{4}|\*{3}|\.{3}|…|[<{}\[]|^[$%]|\$\(|your|placeholder|change_?me|redacted|example|dummy|sample", re.IGNORECASE)
"""What stands where a secret would, in an example of an address, a setting or a token."""
NAMED = re.compile(r"(?:my|db|user|the)?[-_]?(?:pass|password|passwd|pwd|pw|secret|token|key|user|username)\d?", re.IGNORECASE)
"""A password that only says that it is one."""
FILLED = re.compile(r"[xX]{6}|your|YOUR")
"""What stands where a token's tail would."""


def kinds_of_secret(text: str, words: list[str] | None = None) -> list[str]:
    """Kinds of keys and tokens that a text seems to hold; never the keys themselves.

    Args:
        words: the text's words, where they are at hand.
    """
    found = []
    if ("PRIVATE KEY" in text or "PuTTY" in text) and PRIVATE_KEY.search(text):
        found.append("private key")
    words = text.split() if words is None else words
    if not any(map(LONG.__le__, map(len, words))):
        return found
    joined = " ".join(word for word in words if len(word) >= LONG)
    for form in SECRET_FORMS:
        within = text if form.named else joined
        if (
            any(map(within.__contains__, form.hints))
            and form.kind not in found
            and any(not FILLED.search(m.group()) for m in form.pattern.finditer(within))
        ):
            found.append(form.kind)
    if "://" in joined and any(_real(m.group(1)) for m in URL_PASSWORD.finditer(joined)):
        found.append("password in a URL")
    if DIGIT.search(joined) and any(_strong(m.group()) and NAMED_BEFORE.search(_before(text, m.group())) for m in VALUE.finditer(joined)):
        found.append("assigned password or key")
    return found


def _before(text: str, value: str) -> str:
    """What stands before a value."""
    at = text.find(value)
    return text[max(0, at - 60) : at]


def _real(value: str) -> bool:
    """Whether a password is none that stands in for one."""
    return not STAND_IN.search(value) and not NAMED.fullmatch(value)


def _strong(value: str) -> bool:
    """Whether an assigned value looks drawn at random: digits among letters, many different ones, no dotted name, no stand-in."""
    return len(set(value)) >= 9 and bool(MIXED.match(value)) and "." not in value[1:-1] and _real(value)
