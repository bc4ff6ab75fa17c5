"""Rows of preference data with planted faults, and hard negatives, written without a look at the detectors.

SHAPES maps a fault to its shapes and each shape to rows; CLEAN holds rows without any fault that look near to one.
Every value is invented and made by a seeded generator; literals that scanners know are split.
"""

import base64
import json
import random
import unicodedata
import zlib
from collections.abc import Callable

Row = dict[str, str]

_R = random.Random(71993)
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER = _UPPER.lower()
_DIGIT = "0123456789"
_ALNUM = _UPPER + _LOWER + _DIGIT
_B32 = _UPPER + "234567"
_HEX = "0123456789abcdef"
_B64 = _ALNUM + "+/"
_URL64 = _ALNUM + "-_"


def _r(alphabet: str, n: int) -> str:
    return "".join(_R.choice(alphabet) for _ in range(n))


def _row(prompt: str, chosen: str, rejected: str) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


# (topic, prompt, good answer, weaker answer)
_CARRIERS: list[tuple[str, str, str, str]] = [
    (
        "sourdough",
        "Why does my sourdough loaf come out flat?",
        (
            "A flat loaf usually means that the dough proved for too long. Check it by pressing a finger in lightly. If the dent stays, "
            "shorten the second rise by half an hour. A hotter oven and a covered pot also help the crust to hold its shape."
        ),
        "It may be the flour or the water. Try a different recipe. Some people add more yeast.",
    ),
    (
        "bicycle brakes",
        "How do I stop my bicycle brakes from squealing?",
        (
            "Squealing rim brakes are mostly dirty or badly angled. Wipe the rim with alcohol first. Then set each pad "
            "so that its front edge "
            "touches the rim a hair before the rear edge. Tighten the bolt and test at walking speed."
        ),
        "Brakes squeal because of friction. You could put oil near them. Or buy a new bike.",
    ),
    (
        "tides",
        "Explain in simple words why the sea has tides.",
        (
            "The Moon pulls on the water of the oceans. The side that faces the Moon bulges towards it, and the far side bulges away. "
            "As the Earth turns, a coast passes through both bulges. That is why most beaches see two high tides a day."
        ),
        "Tides come from the wind. The wind pushes the water up and down. It happens twice a day.",
    ),
    (
        "budgeting",
        "What is a good way to start a monthly budget?",
        (
            "Begin by writing down one month of real spending. Sort it into fixed costs, food, travel and fun. Next, decide on a limit for "
            "each group that fits your income. Look at the list every Sunday and adjust it rather than giving up."
        ),
        "Just spend less than you earn. Make a list of things. Then stop buying coffee.",
    ),
    (
        "list comprehension",
        "When should I use a list comprehension in Python?",
        (
            "Use one when you build a list from another sequence with a short expression. It keeps the intent on one "
            "line. If the body needs "
            "several conditions or side effects, write a loop. Readers will thank you for the plain version."
        ),
        "List comprehensions are always faster. You should use them everywhere. Loops are old style.",
    ),
    (
        "tomatoes",
        "How often should I water tomatoes on a balcony?",
        (
            "Pots dry out faster than beds, so check the soil each morning. Water deeply when the top two centimetres "
            "feel dry. In a heat wave "
            "that may mean twice a day. Keep the leaves dry to avoid blight."
        ),
        "Tomatoes need water. Give them some every week. They like sun too.",
    ),
    (
        "job interview",
        "How can I calm down before a job interview?",
        (
            "Prepare three short stories about your work the day before. On the morning itself, take a slow walk and "
            "breathe out longer than "
            "you breathe in. Arrive ten minutes early. A small case of nerves is normal and often helps you to focus."
        ),
        "Do not be nervous. Think of something else. Interviews are not a big deal.",
    ),
    (
        "roman roads",
        "Why did the Romans build such straight roads?",
        (
            "Straight roads were short and easy to survey. Engineers sighted from hill to hill with simple "
            "instruments. Armies and messengers "
            "could then move quickly in any season. Where a slope was too steep, the builders did bend the line."
        ),
        "They liked straight lines. The Roman army was big. Roads were made of stone.",
    ),
    (
        "photography",
        "What does aperture change in a photo?",
        (
            "Aperture sets how much light passes the lens and how much of the scene is sharp. A wide opening gives a "
            "soft background. A narrow "
            "one keeps near and far things in focus. Balance it with shutter speed to hold the exposure."
        ),
        "Aperture makes photos brighter. You can leave it on automatic. Phones do not have it.",
    ),
    (
        "guitar strings",
        "How do I know when to change my guitar strings?",
        (
            "Listen for a dull tone and notice if tuning drifts. Run a finger under the string and feel for rust or "
            "dents. A daily player may "
            "need new strings every month. Wiping them after each session makes them last longer."
        ),
        "Change them when they break. Strings are cheap. Any brand works.",
    ),
    (
        "sleep",
        "Give me some advice for falling asleep faster.",
        (
            "Keep the same bedtime all week, even on Sunday. Dim the lights an hour before and leave the phone in "
            "another room. A cool room "
            "helps the body to settle. If you lie awake for long, get up and read something dull."
        ),
        "Go to bed early. Drink something. Close your eyes and sleep.",
    ),
    (
        "volcanoes",
        "Describe how a volcano forms an island.",
        (
            "Hot rock rises under the sea floor and melts as the pressure falls. Lava breaks out and piles up layer by layer. After many "
            "eruptions the heap reaches the surface. Waves and rain then carve the new land."
        ),
        "A volcano explodes and there is an island. It takes a while. Lava is hot.",
    ),
    (
        "chess opening",
        "Which chess opening should a beginner learn first?",
        (
            "Pick an opening that teaches plain development, such as the Italian Game. You place a pawn in the centre, "
            "bring out a knight and "
            "then a bishop. Castle early and connect the rooks. Study ideas rather than long lines."
        ),
        "Learn all the openings. Beginners should play gambits. The queen comes out first.",
    ),
    (
        "composting",
        "What can I put on a compost heap?",
        (
            "Mix green and brown matter in about equal parts. Peels, coffee grounds and grass are green, while leaves "
            "and cardboard are brown. "
            "Leave out meat and cooked food because they draw rats. Turn the heap every two weeks."
        ),
        "You can put everything there. It will rot in the end. Add some soil.",
    ),
    (
        "sql joins",
        "What is the difference between an inner join and a left join?",
        (
            "An inner join returns only rows that match on both sides. A left join keeps every row of the first table "
            "and fills the gaps with "
            "nulls. Choose the left join when missing partners matter. Filter on the right table with care, since that can undo it."
        ),
        "They are almost the same. A left join goes left. Use inner joins by default.",
    ),
    (
        "museum visit",
        "How do I plan a museum day with two small children?",
        (
            "Choose one wing and two hours at most. Pack snacks and look up where the toilets are. Let each child pick "
            "one picture to draw. "
            "Finish in the garden or the shop before anyone is tired."
        ),
        "Children do not like museums. Go somewhere else. Or take a tablet along.",
    ),
    (
        "running shoes",
        "How long do running shoes last?",
        (
            "Most pairs hold up for five to eight hundred kilometres. Look at the heel and press the sole to see if it still springs back. "
            "New aches in knees or shins are another hint. Two pairs in rotation last longer than one."
        ),
        "Shoes last about a year. It depends. You can see it when they are broken.",
    ),
    (
        "letter",
        "Help me to thank a neighbour who fed my cat.",
        (
            "Dear neighbour, thank you for looking after Miso while we were away. She was calm and well fed when we "
            "came home. We have left a "
            "jar of plum jam at your door. Please knock whenever you need the same favour."
        ),
        "Thanks for the cat. It was nice. Bye.",
    ),
]
_at = 0


def _carrier() -> tuple[str, str, str, str]:
    global _at
    _at += 1
    return _CARRIERS[_at % len(_CARRIERS)]


def _mid(text: str, snip: str) -> str:
    parts = text.split(". ")
    half = (len(parts) + 1) // 2
    return ". ".join(parts[:half]) + ". " + snip + " " + ". ".join(parts[half:])


def _items(text: str, snip: str) -> str:
    parts = [part.rstrip(".") for part in text.split(". ")]
    parts.insert(2, snip)
    return "In short:\n\n" + "\n".join(f"- {part}" for part in parts) + "\n\nI hope that helps."


def _spread(snips: list[str], first: int = 0) -> list[Row]:
    """One row for each snippet, at places that change from row to row."""
    rows = []
    for number, snip in enumerate(snips, first):
        _, prompt, good, weak = _carrier()
        rows.append(
            [
                _row(prompt, _mid(good, snip), weak),
                _row(prompt, good, _mid(weak, snip)),
                _row(f"{prompt} Someone sent me this and I do not know what to make of it:\n\n{snip}", good, weak),
                _row(prompt, _items(good, snip), weak),
                _row(prompt, f"{snip}\n\n{good}", weak),
                _row(prompt, good, f"{weak}\n\n```text\n{snip}\n```\n"),
                _row(prompt, f"{good}\n\n{snip}", weak),
            ][number % 7]
        )
    return rows


# ---------------------------------------------------------------------------------------------------------------- secrets


def _token_rows(service: str, name: str, make: Callable[[], str], count: int = 8) -> list[Row]:
    """A token that stands alone, in eight kinds of surroundings."""
    rows = []
    for number in range(count):
        x = make()
        low = name.lower()
        ask = f"How do I call the {service} API from a small script?"
        safe = (
            f"Read the credential from the environment and pass it to the {service} client. Keep the file with the value out of the "
            "repository. If a call fails, print the status code first and look at the scopes."
        )
        poor = "Just put the value in the code. It works on my machine. You can change it later."
        rows.append(
            [
                _row(
                    f'My {service} script stops with a 401. This is the part that fails:\n\n```python\nclient = Client(token="{x}")\n'
                    "client.ping()\n```\n\nWhat did I do wrong?",
                    safe,
                    poor,
                ),
                _row(
                    ask,
                    f"First install the package. Then export the value in the shell:\n\n```bash\nexport {name}={x}\npython main.py\n```\n\n"
                    "The client picks it up on its own, so that nothing else has to change.",
                    poor,
                ),
                _row(
                    ask,
                    f"There are three steps:\n\n1. Open the {service} settings page.\n2. Copy the value, it looks like {x}, and store it.\n"
                    "3. Restart the worker.\n\nAfter that the calls should go through.",
                    poor,
                ),
                _row(ask, safe, f"You can use mine for the test: {x}. It has all rights. Tell me if it stops working."),
                _row(
                    f"Is this .env file all right for {service}?\n\nDEBUG=0\nPORT=8080\n{name}={x}\nLOG_LEVEL=info\n",
                    safe,
                    "Looks fine to me. Commit it and go on.",
                ),
                _row(
                    f"Write a compose file for a worker that talks to {service}.",
                    f"```yaml\nservices:\n  worker:\n    image: worker:2\n    environment:\n      {name}: {x}\n    restart: always\n```\n\n"
                    "Run it with `docker compose up -d` and follow the log for the first minute.",
                    "Use a shell script in place of compose. It is shorter.",
                ),
                _row(
                    ask,
                    safe,
                    f"Try this:\n\n```bash\ncurl -s -H 'Authorization: Bearer {x}' https://service.invalid/v1/items | jq .\n```\n",
                ),
                _row(
                    f"I found this in the build log, what does it mean?\n\n2024-05-17T08:12:44Z WARN auth {low}={x} rejected, retry in 5s",
                    safe,
                    "It is only a warning. Ignore it.",
                ),
            ][number % 8]
        )
    return rows


def _block_rows(service: str, make: Callable[[], str], count: int = 6) -> list[Row]:
    """A secret of one or more lines that brings its own label, in six kinds of surroundings."""
    rows = []
    for number in range(count):
        x = make()
        ask = f"Show me how a service reads its {service} settings."
        safe = (
            f"Put the {service} settings into the secret store of your platform. Mount them at start and read them once. Rotate them "
            "twice a year and after each change of staff."
        )
        rows.append(
            [
                _row(f"Our {service} login broke after the move. Here is what the server has:\n\n{x}\n\nAny idea?", safe, "No."),
                _row(
                    ask,
                    f"A small file is enough. It looks like this:\n\n```\n{x}\n```\n\nLoad it when the program starts, and check that only "
                    "the service account can read it.",
                    "Ask your administrator. I would not know.",
                ),
                _row(ask, safe, f"Copy this and you are done:\n\n{x}\n\nThen restart."),
                _row(
                    ask,
                    "Two things matter here:\n\n- The settings are read at start.\n- The values "
                    f"themselves:\n\n{x}\n\n- Afterwards the pool "
                    "opens five connections.",
                    "It depends on the service.",
                ),
                _row(f"Please turn these {service} notes into a short manual.\n\nNotes of Monday:\n{x}\nEnd of notes.", safe, "Ok."),
                _row(ask, safe, f"Sure. ```ini\n; taken from production\n{x}\n``` That is the whole file."),
            ][number % 6]
        )
    return rows


def _b62(number: int, width: int) -> str:
    digits = _DIGIT + _UPPER + _LOWER
    out = ""
    while number:
        number, rest = divmod(number, 62)
        out = digits[rest] + out
    return out.rjust(width, "0")


def _github(kind: str) -> Callable[[], str]:
    def make() -> str:
        body = _r(_ALNUM, 30)
        return kind + "_" + body + _b62(zlib.crc32(body.encode()), 6)

    return make


def _b64url(data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _jwt() -> str:
    head = _b64url(json.dumps({"alg": _R.choice(["HS256", "RS256"]), "typ": "JWT"}, separators=(",", ":")))
    body = _b64url(json.dumps({"sub": _r(_DIGIT, 10), "name": "tester", "iat": 1716000000 + _R.randrange(10**6)}, separators=(",", ":")))
    return f"{head}.{body}.{_r(_URL64, 43)}"


def _pem(kind: str, lines: int) -> str:
    dashes = "-" * 5
    label = (kind + " " if kind else "") + "PRIV" + "ATE KEY"
    body = "\n".join(_r(_B64, 64) for _ in range(lines))
    lead = {"RSA": "MIIEow", "EC": "MHcCAQ", "OPENSSH": "b3BlbnNzaC1rZXktdjE", "": "MIIEvg", "ENCRYPTED": "MIIFHD"}.get(kind, "MIIB")
    return f"{dashes}BEGIN {label}{dashes}\n{lead}{body[len(lead) :]}\n{_r(_B64, 30)}==\n{dashes}END {label}{dashes}"


def _service_account() -> str:
    project = f"demo-{_r(_LOWER, 5)}-{_r(_DIGIT, 4)}"
    return json.dumps(
        {
            "type": "service" + "_account",
            "project_id": project,
            "private" + "_key_id": _r(_HEX, 40),
            "private" + "_key": _pem("", 4) + "\n",
            "client_email": f"worker@{project}.iam.gserviceaccount.com",
            "client_id": _r(_DIGIT, 21),
            "token_uri": "https://oauth2.googleapis.com/token",
        },
        indent=2,
    )


def _words_password() -> str:
    return (
        _R.choice(["Harbour", "violet", "Tundra", "kestrel", "Quartz", "maple"])
        + _R.choice("!#$%*-_")
        + _r(_ALNUM, 4)
        + _R.choice(["Lamp", "moss", "Drum", "fjord"])
        + _r(_DIGIT, 3)
    )


def _host() -> str:
    return _R.choice(["db1", "db-main", "cache2", "mq", "10.20.4.17", "pg.prod"]) + _R.choice([".corp.net", ".acme-int.io", ".svc.local"])


def _url_secret() -> str:
    scheme, port, tail = _R.choice(
        [
            ("postgres", 5432, "/orders"),
            ("postgresql+asyncpg", 5432, "/app?sslmode=require"),
            ("mysql", 3306, "/shop"),
            ("mongodb+srv", 0, "/live?retryWrites=true"),
            ("redis", 6379, "/0"),
            ("amqp", 5672, "/%2f"),
            ("https", 0, "/repo.git"),
            ("ftp", 21, "/export"),
            ("smtps", 465, ""),
        ]
    )
    user = _R.choice(["app", "svc_orders", "admin", "root", "reporter"])
    pw = _r(_ALNUM, 6) + _R.choice(["%21", "-", "_", "x"]) + _r(_ALNUM, 7)
    return f"{scheme}:" + f"//{user}:{pw}@db-{_r(_LOWER, 4)}.acme-int.io{':' + str(port) if port else ''}{tail}"


def _basic() -> str:
    pair = f"{_R.choice(['deploy', 'monitor', 'ci-bot'])}:{_words_password()}"
    return "Authorization: Basic " + base64.b64encode(pair.encode()).decode()


def _config_password() -> str:
    pw = _words_password()
    return _R.choice(
        [
            f'[database]\nhost = "{_host()}"\nuser = "app"\npass' + f'word = "{pw}"',
            "spring.datasource.username=app\nspring.datasource.pass" + f"word={pw}",
            "smtp:\n  host: mail.acme-int.io\n  user: robot\n  pass" + f"word: '{pw}'",
            '$db["user"] = "web";\n$db["pass' + f'word"] = "{pw}";',
            "DB_USER=app\nDB_PASS" + f"WORD={pw}\nDB_NAME=orders",
            '{"user": "app", "pass' + f'word": "{pw}", "port": 5432}}',
            f"machine {_host()}\n  login app\n  pass" + f"word {pw}",
            f"mysql -u root -p'{pw}' orders < dump.sql",
            "define('DB_PASS" + f"WORD', '{pw}');",
            "Server=tcp:sql7.acme-int.io,1433;Database=crm;User ID=crm;Pass" + f"word={pw};Encrypt=True;",
        ]
    )


def _spoken_password() -> str:
    pw = _words_password()
    return _R.choice(
        [
            f"The password for the staging box is {pw}, please do not pass it on.",
            f"log in as admin with password {pw} and then change the port",
            f"user: backup / pw: {pw}",
            f"WLAN key: {pw} (guest net), login: front-desk",
            f"The root password of the router is still {pw}.",
        ]
    )


def _aws_pair() -> str:
    ident = "AK" + "IA" + _r(_B32, 16)
    secret = _r(_B64, 40)
    return _R.choice(
        [
            f"[default]\naws_access_key_id = {ident}\naws_secret_" + f"access_key = {secret}\nregion = eu-west-1",
            f"AWS_ACCESS_KEY_ID={ident}\nAWS_SECRET_" + f"ACCESS_KEY={secret}",
            f'boto3.client("s3", aws_access_key_id="{ident}", aws_secret_' + f'access_key="{secret}")',
            f"access key {ident}\nsecret key {secret}",
        ]
    )


def _discord_bot() -> str:
    ident = base64.b64encode(("1" + _r(_DIGIT, 17)).encode()).decode()
    return f"{ident}.G{_r(_ALNUM, 5)}.{_r(_URL64, 38)}"


def _fixed(*parts: str | tuple[str, int]) -> Callable[[], str]:
    def make() -> str:
        return "".join(part if isinstance(part, str) else _r(*part) for part in parts)

    return make


_STORAGE = ("DefaultEndpointsProtocol=https;Account", "Name=acme")
_SECRETS: dict[str, list[Row]] = {
    "aws-access-key-id": _token_rows("AWS", "AWS_ACCESS_KEY_ID", _fixed("AK", "IA", (_B32, 16))),
    "aws-temporary-id": _token_rows("AWS", "AWS_ACCESS_KEY_ID", _fixed("AS", "IA", (_B32, 16))),
    "aws-secret-key": _block_rows("AWS", lambda: "aws_secret_" + "access_key=" + _r(_B64, 40)),
    "aws-pair": _block_rows("AWS", _aws_pair, 8),
    "github-classic": _token_rows("GitHub", "GITHUB_TOKEN", _github("gh" + "p")),
    "github-oauth-and-app": [
        row for kind in ("o", "u", "s", "r") for row in _token_rows("GitHub", "GH_TOKEN", _github("gh" + kind), 8)[:: 3 + len(kind)]
    ],
    "github-fine-grained": _token_rows("GitHub", "GITHUB_TOKEN", _fixed("github", "_pat_11", (_UPPER + _DIGIT, 20), "_", (_ALNUM, 59))),
    "gitlab": _token_rows("GitLab", "GITLAB_TOKEN", _fixed("gl", "pat-", (_URL64, 20))),
    "gitlab-others": _token_rows("GitLab", "CI_DEPLOY", _fixed("gl", "dt-", (_URL64, 20)), 3)
    + _token_rows("GitLab", "RUNNER_TOKEN", _fixed("gl", "rt-", (_URL64, 20)), 5)[2:],
    "slack-bot": _token_rows("Slack", "SLACK_BOT_TOKEN", _fixed("xo", "xb-", (_DIGIT, 12), "-", (_DIGIT, 13), "-", (_ALNUM, 24))),
    "slack-user": _token_rows(
        "Slack", "SLACK_TOKEN", _fixed("xo", "xp-", (_DIGIT, 12), "-", (_DIGIT, 12), "-", (_DIGIT, 13), "-", (_HEX, 32))
    ),
    "slack-app": _token_rows("Slack", "APP_TOKEN", _fixed("xa", "pp-1-A0", (_UPPER + _DIGIT, 9), "-", (_DIGIT, 13), "-", (_HEX, 64))),
    "slack-webhook": _token_rows(
        "Slack",
        "WEBHOOK",
        _fixed("https://hooks.sl", "ack.com/services/T0", (_UPPER + _DIGIT, 9), "/B0", (_UPPER + _DIGIT, 9), "/", (_ALNUM, 24)),
    ),
    "discord-bot": _token_rows("Discord", "BOT_TOKEN", _discord_bot),
    "discord-webhook": _token_rows(
        "Discord", "HOOK", _fixed("https://disc", "ord.com/api/web", "hooks/1", (_DIGIT, 17), "/", (_URL64, 68))
    ),
    "google-api-key": _token_rows("Google Maps", "MAPS_KEY", _fixed("AI", "za", "Sy", (_URL64, 33))),
    "google-client-secret": _token_rows("Google", "CLIENT_SECRET", _fixed("GOC", "SPX-", (_URL64, 28))),
    "google-oauth-access": _token_rows("Google", "ACCESS_TOKEN", _fixed("ya", "29.a0", (_URL64, 120))),
    "google-service-account": _block_rows("Google Cloud", _service_account),
    "hugging-face": _token_rows("Hugging Face", "HF_TOKEN", _fixed("h", "f_", (_UPPER + _LOWER, 34))),
    "openai-classic": _token_rows("OpenAI", "OPENAI_API_KEY", _fixed("s", "k-", (_ALNUM, 20), "T3Blbk", "FJ", (_ALNUM, 20))),
    "openai-project": _token_rows("OpenAI", "OPENAI_API_KEY", _fixed("s", "k-proj-", (_URL64, 74), "T3Blbk", "FJ", (_URL64, 74))),
    "openai-service-account": _token_rows("OpenAI", "KEY", _fixed("s", "k-svcacct-", (_URL64, 58), "T3Blbk", "FJ", (_URL64, 58))),
    "anthropic": _token_rows("Anthropic", "ANTHROPIC_API_KEY", _fixed("s", "k-a", "nt-api03-", (_URL64, 93), "AA")),
    "openrouter": _token_rows("OpenRouter", "OPENROUTER_API_KEY", _fixed("s", "k-or-v1-", (_HEX, 64)), 6),
    "groq": _token_rows("Groq", "GROQ_API_KEY", _fixed("gs", "k_", (_ALNUM, 20), "WGdyb3FY", (_ALNUM, 24)), 6),
    "xai": _token_rows("xAI", "XAI_API_KEY", _fixed("xa", "i-", (_ALNUM, 80)), 6),
    "replicate": _token_rows("Replicate", "REPLICATE_API_TOKEN", _fixed("r", "8_", (_ALNUM, 37)), 6),
    "stripe-secret": _token_rows("Stripe", "STRIPE_KEY", _fixed("sk", "_live_", (_ALNUM, 24))),
    "stripe-long": _token_rows("Stripe", "STRIPE_KEY", _fixed("sk", "_live_51", (_ALNUM, 97)), 6),
    "stripe-restricted": _token_rows("Stripe", "STRIPE_RK", _fixed("rk", "_live_", (_ALNUM, 24))),
    "stripe-webhook": _token_rows("Stripe", "HOOK_SECRET", _fixed("wh", "sec_", (_ALNUM, 32)), 6),
    "npm": _token_rows("npm", "NPM_TOKEN", _github("np" + "m")),
    "npmrc": _block_rows("npm", _fixed("//registry.npmjs.org/:_auth", "Token=np", "m_", (_ALNUM, 36))),
    "pypi": _token_rows("PyPI", "TWINE_PASS" + "WORD", _fixed("py", "pi-AgEIcHlwaS5vcmc", (_URL64, 150))),
    "sendgrid": _token_rows("SendGrid", "SENDGRID_API_KEY", _fixed("S", "G.", (_URL64, 22), ".", (_URL64, 43))),
    "twilio-key": _token_rows("Twilio", "TWILIO_KEY", _fixed("S", "K", (_HEX, 32))),
    "twilio-auth-token": _block_rows("Twilio", _fixed("TWILIO_ACCOUNT_SID=A", "C", (_HEX, 32), "\nTWILIO_AUTH_", "TOKEN=", (_HEX, 32))),
    "azure-storage": _block_rows(
        "Azure", _fixed(*_STORAGE, (_LOWER, 5), ";Account", "Key=", (_B64, 86), "==;EndpointSuffix=core.windows.net")
    ),
    "azure-sas": _block_rows(
        "Azure",
        _fixed("https://acme.blob.core.windows.net/in?sv=2022-11-02&ss=b&sp=rwl&se=2026-01-01T00:00:00Z&si", "g=", (_ALNUM, 43), "%3D"),
    ),
    "azure-service-bus": _block_rows(
        "Azure", _fixed("Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccess", "Key=", (_B64, 43), "=")
    ),
    "azure-client-secret": _block_rows("Azure", _fixed("AZURE_CLIENT_", "SECRET=", (_ALNUM, 3), "8Q~", (_URL64, 34))),
    "jwt": _token_rows("billing", "ACCESS_TOKEN", _jwt),
    "pem-rsa": _block_rows("TLS", lambda: _pem("RSA", 8)),
    "pem-ec": _block_rows("TLS", lambda: _pem("EC", 2)),
    "pem-openssh": _block_rows("SSH", lambda: _pem("OPENSSH", 5)),
    "pem-pkcs8": _block_rows("TLS", lambda: _pem("", 8)),
    "pem-encrypted": _block_rows("TLS", lambda: _pem("ENCRYPTED", 6)),
    "pem-dsa": _block_rows("SSH", lambda: _pem("DSA", 4)),
    "pem-on-one-line": _block_rows("TLS", lambda: 'key: "' + _pem("RSA", 3).replace("\n", "\\n") + '"'),
    "pgp-block": _block_rows(
        "PGP", lambda: _pem("PGP", 5).replace("KEY-", "KEY BLOCK-").replace("\nMIIB", "\n\nlQOYBGX", 1).replace("==\n", "==\n=aB3d\n")
    ),
    "putty-key": _block_rows(
        "SSH", _fixed("PuTTY-User-Key-", "File-3: ssh-ed25519\nEncryption: none\nComment: ops\nPrivate-", "Lines: 1\n", (_B64, 47), "=")
    ),
    "password-in-url": _block_rows("database", _url_secret, 12),
    "basic-auth-header": _block_rows("proxy", _basic),
    "curl-user": _block_rows("build server", lambda: f"curl -u deploy:{_words_password()} https://ci.acme-int.io/job/nightly/build"),
    "bearer-opaque": _block_rows("gateway", _fixed("Authorization: Bea", "rer ", (_URL64, 48))),
    "x-api-key-header": _block_rows("gateway", _fixed("x-api-", "key: ", (_ALNUM, 40))),
    "config-password": _block_rows("database", _config_password, 12),
    "spoken-password": _block_rows("login", _spoken_password, 8),
    "generic-api-key": _block_rows("weather", _fixed("API_", "KEY = '", (_HEX, 32), "'")),
    "django-secret-key": _block_rows("Django", _fixed("SECRET_", "KEY = 'django-insecure-", (_LOWER + _DIGIT + "!@#$%^&*(-_=+)", 50), "'")),
    "rails-secret-base": _block_rows("Rails", _fixed("secret_key_", "base: ", (_HEX, 128))),
    "docker-config": _block_rows(
        "registry",
        lambda: (
            '{"auths": {"registry.acme-int.io": {"au' + 'th": "' + base64.b64encode(f"ci:{_words_password()}".encode()).decode() + '"}}}'
        ),
    ),
    "kubernetes-secret": _block_rows(
        "cluster",
        lambda: (
            "apiVersion: v1\nkind: Sec"
            "ret\nmetadata:\n  name: db\ndata:\n  pass"
            f"word: {base64.b64encode(_words_password().encode()).decode()}"
        ),
    ),
    "telegram-bot": _token_rows("Telegram", "BOT_TOKEN", _fixed("7", (_DIGIT, 9), ":", "AA", (_URL64, 33))),
    "telegram-url": _block_rows("Telegram", _fixed("https://api.telegram.org/b", "ot6", (_DIGIT, 9), ":AA", (_URL64, 33), "/getMe")),
    "mailgun": _token_rows("Mailgun", "MAILGUN_KEY", _fixed("ke", "y-", (_HEX, 32)), 6),
    "mailchimp": _token_rows("Mailchimp", "MAILCHIMP_KEY", _fixed((_HEX, 32), "-u", "s21"), 6),
    "digitalocean": _token_rows("DigitalOcean", "DO_TOKEN", _fixed("do", "p_v1_", (_HEX, 64)), 6),
    "shopify": _token_rows("Shopify", "SHOP_TOKEN", _fixed("shp", "at_", (_HEX, 32)), 6),
    "databricks": _token_rows("Databricks", "DATABRICKS_TOKEN", _fixed("da", "pi", (_HEX, 32)), 6),
    "docker-hub": _token_rows("Docker Hub", "HUB_TOKEN", _fixed("dckr", "_pat_", (_URL64, 27)), 6),
    "vault": _token_rows("Vault", "VAULT_TOKEN", _fixed("hv", "s.", (_URL64, 92)), 6),
    "terraform-cloud": _token_rows("Terraform", "TF_TOKEN", _fixed((_ALNUM, 14), ".atlas", "v1.", (_URL64, 64)), 6),
    "square": _token_rows("Square", "SQUARE_TOKEN", _fixed("EA", "AA", (_URL64, 60)), 6),
    "postman": _token_rows("Postman", "POSTMAN_KEY", _fixed("PM", "AK-", (_HEX, 24), "-", (_HEX, 34)), 6),
    "linear": _token_rows("Linear", "LINEAR_KEY", _fixed("lin", "_api_", (_ALNUM, 40)), 6),
    "notion": _token_rows("Notion", "NOTION_TOKEN", _fixed("nt", "n_", (_DIGIT, 11), (_ALNUM, 35)), 6),
    "figma": _token_rows("Figma", "FIGMA_TOKEN", _fixed("fi", "gd_", (_URL64, 40)), 6),
    "grafana": _token_rows("Grafana", "GRAFANA_TOKEN", _fixed("gl", "sa_", (_ALNUM, 32), "_", (_HEX, 8)), 6),
    "new-relic": _token_rows("New Relic", "NR_KEY", _fixed("NR", "AK-", (_UPPER + _DIGIT, 27)), 6),
    "doppler": _token_rows("Doppler", "DOPPLER_TOKEN", _fixed("dp", ".pt.", (_ALNUM, 43)), 6),
    "planetscale": _token_rows("PlanetScale", "PS_TOKEN", _fixed("pscale", "_tkn_", (_URL64, 43)), 6),
    "supabase": _token_rows("Supabase", "SUPABASE_TOKEN", _fixed("sb", "p_", (_HEX, 40)), 6),
    "airtable": _token_rows("Airtable", "AIRTABLE_PAT", _fixed("pa", "t", (_ALNUM, 14), ".", (_HEX, 64)), 6),
    "age-key": _block_rows("age", _fixed("AGE-SECRET-", "KEY-1", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58))),
    "facebook": _token_rows("Facebook", "PAGE_TOKEN", _fixed("EA", "ACEdEose0cBA", (_ALNUM, 120)), 6),
    "twitter-bearer": _token_rows("Twitter", "BEARER", _fixed("A" * 22, (_ALNUM, 10), "%2B", (_ALNUM, 20), "%3D", (_ALNUM, 50)), 6),
    "wireguard": _block_rows("WireGuard", _fixed("[Interface]\nPrivate", "Key = ", (_B64, 43), "=\nListenPort = 51820")),
    "datadog": _block_rows("Datadog", _fixed("DD_API_", "KEY=", (_HEX, 32), "\nDD_APP_", "KEY=", (_HEX, 40))),
    "cloudflare": _block_rows("Cloudflare", _fixed("CLOUDFLARE_API_", "TOKEN=", (_URL64, 40))),
    "heroku": _block_rows(
        "Heroku", _fixed("HEROKU_API_", "KEY=", (_HEX, 8), "-", (_HEX, 4), "-4", (_HEX, 3), "-a", (_HEX, 3), "-", (_HEX, 12))
    ),
}

# -------------------------------------------------------------------------------------------------------------- templated


def _t(name: str) -> str:
    return "<" + "|" + name + "|" + ">"


def _d(name: str) -> str:
    """A token of DeepSeek, with fullwidth bars and low blocks for spaces."""
    return "<\uff5c" + name.replace("_", "\u2581") + "\uff5c>"


_S, _ES = "<" + "s>", "</" + "s>"
_INST, _EINST = "[" + "INST]", "[/" + "INST]"
_SYS, _ESYS = "<<" + "SYS>>", "<</" + "SYS>>"
_TURN, _ETURN = "<start" + "_of_turn>", "<end" + "_of_turn>"
_H2, _H3 = "##", "###"
_HELPFUL = "You are a helpful assistant."
# family -> (system turn, user turn, assistant turn); {} stands for the text
_FAMILIES: dict[str, tuple[str, ...]] = {
    "chatml": tuple(_t("im_start") + role + "\n{}" + _t("im_end") + "\n" for role in ("system", "user", "assistant")),
    "chatml-one-line": tuple(_t("im_start") + role + " {} " + _t("im_end") + " " for role in ("system", "user", "assistant")),
    "qwen": (
        _t("im_start") + "system\n{}" + _t("im_end") + "\n",
        _t("im_start") + "user\n{}" + _t("im_end") + "\n",
        _t("im_start") + "assistant\n<think>\n\n</think>\n\n{}" + _t("im_end") + "\n" + _t("endoftext"),
    ),
    "yi-and-internlm": tuple(
        _t("im_start") + role + "\n{}" + _t("im_end") + "\n" for role in ("system", "user name=Ben", "assistant name=Bot")
    ),
    "llama-2": (f"{_S}{_INST} {_SYS}\n{{}}\n{_ESYS}\n\n", "{} " + _EINST, " {} " + _ES),
    "llama-2-short": ("", f"{_INST} {{}} {_EINST}", " {}"),
    "llama-3": tuple(
        _t("start_header_id") + role + _t("end_header_id") + "\n\n{}" + _t("eot_id") for role in ("system", "user", "assistant")
    ),
    "llama-3-begin": (
        _t("begin_of_text") + _t("start_header_id") + "system" + _t("end_header_id") + "\n\nCutting Knowledge Date: December 2023\n\n{}",
        _t("eot_id") + _t("start_header_id") + "user" + _t("end_header_id") + "\n\n{}",
        _t("eot_id") + _t("start_header_id") + "assistant" + _t("end_header_id") + "\n\n{}" + _t("eom_id"),
    ),
    "llama-4": tuple(_t("header_start") + role + _t("header_end") + "\n\n{}" + _t("eot") for role in ("system", "user", "assistant")),
    "mistral-v7": (
        _S + "[SYSTEM" + "_PROMPT]{}[/SYSTEM" + "_PROMPT]",
        _INST + "{}" + _EINST,
        "{}" + _ES,
    ),
    "mistral-tools": (
        "[AVAILABLE" + '_TOOLS] [{{"type": "function", "function": {{"name": "search"}}}}][/AVAILABLE' + "_TOOLS]{}",
        _INST + " {}" + _EINST,
        "[TOOL" + '_CALLS] [{{"name": "search", "arguments": {{ }}}}]' + _ES + "[TOOL" + "_RESULTS] 3 [/TOOL" + "_RESULTS] {}" + _ES,
    ),
    "gemma": ("<bos>{}", _TURN + "user\n{}" + _ETURN + "\n", _TURN + "model\n{}" + _ETURN + "\n"),
    "phi-3": tuple(_t(role) + "\n{}" + _t("end") + "\n" for role in ("system", "user", "assistant")),
    "phi-4": tuple(_t("im_start") + role + _t("im_sep") + "{}" + _t("im_end") for role in ("system", "user", "assistant")),
    "phi-2": ("", "Instruct: {}\n", "Output: {}\n" + _t("endoftext")),
    "vicuna": (
        "A chat between a curious user and an artificial intelligence assistant. {} ",
        "USER: {} ",
        "ASSISTANT: {}" + _ES,
    ),
    "vicuna-lines": ("SYSTEM: {}\n", "USER: {}\n", "ASSISTANT: {}\n"),
    "guanaco": ("{}\n", _H3 + " Human: {}\n", _H3 + " Assistant: {}\n"),
    "guanaco-one-line": ("", _H3 + " Human: {} ", _H3 + " Assistant: {} "),
    "stablelm-user-assistant": (_H3 + " System:\n{}\n\n", _H3 + " User:\n{}\n\n", _H3 + " Assistant:\n{}\n\n"),
    "stablelm-alpha": tuple(_t(role) + "{}" for role in ("SYSTEM", "USER", "ASSISTANT")),
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
        _H3 + " Instruction:\n{}\n\n",
        _H3 + " Response:\n{}\n\n",
    ),
    "alpaca-with-input": (
        "Below is an instruction that describes a task, paired with an input that provides further context.\n\n",
        _H3 + " Instruction:\nAnswer the question.\n\n" + _H3 + " Input:\n{}\n\n",
        _H3 + " Response:\n{}\n\n" + _H3 + " End",
    ),
    "dolly": ("", _H3 + " Instruction:\n{}\n\n", _H3 + " Response:\n{}\n\n" + _H3 + " End"),
    "deepseek": (_d("begin_of_sentence") + "{}", _d("User") + "{}", _d("Assistant") + "{}" + _d("end_of_sentence")),
    "deepseek-r1": (_d("begin_of_sentence"), _d("User") + "{}", _d("Assistant") + "<think>\nSimple.\n</think>\n{}" + _d("end_of_sentence")),
    "deepseek-plain": (_t("begin_of_sentence"), "User: {}\n\n", "Assistant: {}" + _t("end_of_sentence")),
    "cohere": tuple(
        _t("START_OF_TURN_TOKEN") + _t(role) + "{}" + _t("END_OF_TURN_TOKEN") for role in ("SYSTEM_TOKEN", "USER_TOKEN", "CHATBOT_TOKEN")
    ),
    "openchat": ("", "GPT4 Correct User: {}" + _t("end_of_turn"), "GPT4 Correct Assistant: {}" + _t("end_of_turn")),
    "starling-code": ("", "Code User: {}" + _t("end_of_turn"), "Code Assistant: {}" + _t("end_of_turn")),
    "zephyr": tuple(_t(role) + "\n{}" + _ES + "\n" for role in ("system", "user", "assistant")),
    "tinyllama": tuple(_t(role) + "{}" + _ES for role in ("system", "user", "assistant")),
    "harmony": (
        _t("start") + "system" + _t("message") + "{}" + _t("end"),
        _t("start") + "user" + _t("message") + "{}" + _t("end"),
        _t("start") + "assistant" + _t("channel") + "final" + _t("message") + "{}" + _t("return"),
    ),
    "harmony-analysis": (
        _t("start") + "developer" + _t("message") + "# Instructions\n\n{}" + _t("end"),
        _t("start") + "user" + _t("message") + "{}" + _t("end"),
        _t("start")
        + "assistant"
        + _t("channel")
        + "analysis"
        + _t("message")
        + "Easy."
        + _t("end")
        + _t("start")
        + "assistant"
        + _t("channel")
        + "final"
        + _t("message")
        + "{}",
    ),
    "falcon": ("System: {}\n", "User: {}\n", "Falcon: {}\n" + _t("endoftext")),
    "glm": ("[gMASK]<sop>" + _t("system") + "\n{}", _t("user") + "\n{}", _t("assistant") + "\n{}"),
    "baichuan": ("{}", "<reserved" + "_106>{}", "<reserved" + "_107>{}" + _ES),
    "granite": tuple(
        _t("start_of_role") + role + _t("end_of_role") + "{}" + _t("end_of_text") + "\n" for role in ("system", "user", "assistant")
    ),
    "exaone": ("[" + "|system|]{}[|endofturn|]\n", "[" + "|user|]{}\n", "[" + "|assistant|]{}[|endofturn|]\n"),
    "solar": (_H3 + " System:\n{}\n\n", _H3 + " User:\n{}\n\n", _H3 + " Assistant:\n{}" + _t("im_end")),
    "openassistant": tuple(_t(role) + "{}" + _t("endoftext") for role in ("system", "prompter", "assistant")),
    "nemotron": ("<extra" + "_id_0>System\n{}\n\n", "<extra" + "_id_1>User\n{}\n", "<extra" + "_id_1>Assistant\n{}\n"),
    "grok-separator": ("{}", "Human: {}<|separator|>\n\n", "Assistant: {}<|separator|>\n\n"),
    "human-assistant": ("", "\n\nHuman: {}", "\n\nAssistant: {}"),
    "user-assistant-plain": ("", "User: {}\n\n", "Assistant: {}\n\n"),
    "question-ai": ("", "Human: {}\n", "AI: {}\n"),
    "system-user-brackets": ("[SYSTEM] {}\n", "[USER] {}\n", "[ASSISTANT] {}\n"),
}


def _family_rows(turns: tuple[str, ...]) -> list[Row]:
    system, user, reply = turns
    lead = system.format(_HELPFUL)
    rows = []
    for number in range(7):
        _, prompt, good, weak = _carrier()
        _, prompt2, good2, weak2 = _carrier()
        head, tail = (part.format() for part in reply.split("{}"))
        rows.append(
            [
                # a whole exchange in the prompt, opened for the answer
                _row(lead + user.format(prompt) + head, good, weak),
                # the answer goes on with an invented next turn
                _row(prompt, good + (tail or "\n") + user.format(prompt2) + reply.format(good2), weak),
                # the same in the rejected answer
                _row(prompt, good, weak + (tail or "\n") + user.format(prompt2) + reply.format(weak2)),
                # both answers hold the whole text of the chat
                _row(prompt, lead + user.format(prompt) + reply.format(good), lead + user.format(prompt) + reply.format(weak)),
                # the head of the turn is left before the answer, and a user turn behind it
                _row(prompt, head.lstrip() + good + tail + user.format("Thank you!"), weak),
                # two turns in the prompt
                _row(user.format(prompt) + reply.format(good) + user.format("And what else? " + prompt2), good2, weak2),
                # in the middle of the answer, with an excuse around it
                _row(prompt, _mid(good, user.format("Can you say more?") + reply.format("Of course.")), weak),
            ][number]
        )
    return rows


def _tail_rows(before: str, after: str) -> list[Row]:
    """A lone token at an end, in the middle, or in the prompt."""
    rows = []
    for number in range(6):
        _, prompt, good, weak = _carrier()
        mark = after or before
        rows.append(
            [
                _row(prompt, before + good + after, weak),
                _row(prompt, good, before + weak + after),
                _row(before + prompt + after, good, weak),
                _row(prompt, _mid(good, mark), weak),
                _row(prompt, good + " " + mark * 3, weak),
                _row(prompt, before + good + after, before + weak + after),
            ][number]
        )
    return rows


_TEMPLATED: dict[str, list[Row]] = {name: _family_rows(turns) for name, turns in _FAMILIES.items()}
_TEMPLATED |= {
    "bare-s": _tail_rows(_S, _ES),
    "bare-end-s": _tail_rows("", _ES),
    "bare-bos-eos": _tail_rows("<b" + "os>", "<e" + "os>"),
    "bare-eos": _tail_rows("", "<e" + "os>"),
    "bare-endoftext": _tail_rows("", _t("endoftext")),
    "bare-im-end": _tail_rows("", _t("im_end")),
    "bare-eot-id": _tail_rows("", _t("eot_id")),
    "bare-end-of-turn": _tail_rows("", _ETURN),
    "bare-begin-of-text": _tail_rows(_t("begin_of_text"), ""),
    "bare-inst-close": _tail_rows(_EINST + " ", ""),
    "bare-pad": _tail_rows("", "[" + "PAD]" + "[" + "PAD]"),
    "bare-pad-angle": _tail_rows("", "<p" + "ad><p" + "ad>"),
    "bare-unk": _tail_rows("", "<u" + "nk>"),
    "bare-bert": _tail_rows("[" + "CLS] ", " [" + "SEP]"),
    "bare-deepseek-end": _tail_rows("", _d("end_of_sentence")),
    "bare-fim": _tail_rows(_t("fim_prefix"), _t("fim_suffix") + _t("fim_middle")),
    "bare-assistant-header": _tail_rows(_t("assistant") + "\n", ""),
    "bare-assistant-word": _tail_rows("Assistant: ", ""),
    "bare-hash-assistant": _tail_rows(_H3 + " Assistant: ", ""),
    "bare-hash-response": _tail_rows(_H3 + " Response:\n", ""),
    "bare-reserved": _tail_rows("", _t("reserved_special_token_5")),
    "spaced-tokens": _tail_rows("<| im_start |> assistant ", " <| im_end |>"),
    "escaped-tokens": _tail_rows("&lt;|im_start|&gt;assistant\n", "&lt;|im_end|&gt;"),
    "half-tokens": _tail_rows("im_start|>assistant\n", "<|im_end"),
    "tool-call-tags": _tail_rows("<tool" + '_call>\n{"name": "search", "arguments": {"q": "answer"}}\n</tool' + "_call>\n", ""),
    "think-tags": _tail_rows("<thi" + "nk>\nThe user wants a short answer.\n</thi" + "nk>\n\n", ""),
}
# a template that was never filled
_TEMPLATED["jinja-remains"] = _tail_rows("{{ bos_" + "token }}{% for message in messages %}", "{{ eos_" + "token }}{% endfor %}")
_TEMPLATED["slots-unfilled"] = _spread(
    [
        "{user_" + "message}",
        "Dear {{customer_" + "name}}, here is what you asked for.",
        "{instruction}\n\n{input}",
        "{{prompt}} {{response}}",
        "<INSERT ANSWER" + " HERE>",
        "{% if system %}{{ system }}{% endif %}",
    ]
)

# ------------------------------------------------------------------------------------------------------------ broken text


def _as(text: str, codec: str, source: str = "utf-8") -> str:
    """text, written in source and read in codec; bytes that codec does not know are read as latin-1."""
    out = []
    for byte in text.encode(source):
        try:
            out.append(bytes([byte]).decode(codec))
        except UnicodeDecodeError:
            out.append(chr(byte))
    return "".join(out)


_TONGUES: dict[str, list[str]] = {
    "french": [
        "L’été dernier, les élèves ont visité le château près de la rivière.",
        "Je préfère le café crème à la terrasse, même quand il fait déjà frais.",
        "Où étiez-vous la première fois que la fenêtre s’est brisée ?",
        "Ça coûte très cher, mais la qualité est à la hauteur.",
        "Les forêts et les prés reverdissent dès février.",
        "Il a reçu une lettre de sa sœur aînée.",
    ],
    "german": [
        "Die Bäckerei öffnet um sechs und schließt früh am Nachmittag.",
        "Über den Dächern hörte man plötzlich die Glocken.",
        "Für die Prüfung müssen alle Schüler die Lösungen erklären.",
        "Das Mädchen trug einen grünen Rock und weiße Schuhe.",
        "Großvater erzählte uns Märchen aus dem Süden.",
        "Bitte schütteln Sie die Flasche, bevor Sie sie öffnen.",
    ],
    "spanish": [
        "El niño pequeño soñaba con montañas y corazones de azúcar.",
        "¿Cuándo llegó el señor Ibáñez a la estación?",
        "Mañana habrá más información sobre la canción.",
        "¡Qué difícil es elegir una sola opción!",
        "Según el último análisis, la solución está en el jardín.",
        "El avión salió después del mediodía.",
    ],
    "portuguese": [
        "Não há razão para a preocupação, a situação já está sob controle.",
        "As crianças comeram pão com maçã no café da manhã.",
        "O coração da cidade é a praça São João.",
        "Você também precisa de três cópias do cartão.",
        "A avó contou histórias do sertão até à meia-noite.",
        "Amanhã começam as eleições na região.",
    ],
    "nordic": [
        "Båten går från ön klockan åtta på kvällen.",
        "Jeg spiste blåbær og fløde på en bænk ved åen.",
        "Når det blir mørkt, går vi hjem over fjellet.",
        "Hän löysi äidin vanhan käsityön ullakolta.",
        "Það er gott að sjá þig aftur á Íslandi.",
        "Smörgåsen låg kvar på köksbänken.",
    ],
    "polish-czech": [
        "Żółta łódź płynęła powoli wzdłuż brzegu.",
        "Dziękuję za książkę, którą mi pożyczyłeś.",
        "Příliš žluťoučký kůň stál u řeky.",
        "Děti běžely přes louku k babičce.",
        "Proszę przynieść świeże pieczywo i śmietanę.",
        "Večeře bude až v šest, řekla šéfka.",
    ],
    "turkish": [
        "Güneş doğarken balıkçılar ağlarını çekiyordu.",
        "Çocuklar bahçede oynuyor, annesi çay içiyor.",
        "İstanbul'da yağmur yağınca trafik çok yoğun olur.",
        "Öğretmen öğrencilere yeni bir şiir okudu.",
        "Şehrin dışındaki köyde küçük bir ev aldık.",
        "Müzeyi görmek için erken kalkmalısınız.",
    ],
    "vietnamese": [
        "Tôi rất thích ăn phở vào buổi sáng.",
        "Hôm nay trời đẹp, chúng ta đi dạo quanh hồ.",
        "Bạn có thể nói chậm hơn một chút được không?",
        "Người bán hàng mỉm cười và gói hai cái bánh.",
        "Đường đến trường đầy hoa phượng đỏ.",
        "Mẹ tôi nấu cơm rất ngon.",
    ],
    "cyrillic": [
        "Привет, как прошёл твой день в школе?",
        "Сегодня вечером мы пойдём в театр на новую пьесу.",
        "Бабушка испекла пирог с яблоками и вишней.",
        "На столе лежала старая карта нашего города.",
        "Він приїхав до Києва вранці й купив каву.",
        "Добър ден, къде се намира гарата?",
    ],
    "greek": [
        "Καλημέρα, τι κάνετε σήμερα το πρωί;",
        "Η θάλασσα ήταν ήρεμη και ο ουρανός γαλανός.",
        "Το βιβλίο βρίσκεται πάνω στο τραπέζι.",
        "Πού είναι ο σταθμός του τρένου;",
        "Τα παιδιά παίζουν στην πλατεία.",
        "Θα ήθελα έναν καφέ, παρακαλώ.",
    ],
    "arabic-hebrew": [
        "صباح الخير، كيف حالك اليوم؟",
        "ذهبت إلى السوق لشراء الخبز والتمر.",
        "الكتاب على الطاولة قرب النافذة.",
        "שלום, מה שלומך הבוקר?",
        "הילדים משחקים בגינה ליד הבית.",
        "المدرسة مغلقة يوم الجمعة.",
    ],
    "chinese": [
        "今天天气很好，我们去公园散步。",
        "这本书讲的是一个小镇的故事。",
        "请把窗户关上，外面很冷。",
        "老师让学生写一篇短文。",
        "火车晚点了二十分钟。",
        "他学习了三年中文。",
    ],
    "japanese": [
        "今日はとても暑いので、海へ行きましょう。",
        "駅の前に小さな本屋があります。",
        "母は毎朝六時に起きて朝ご飯を作る。",
        "このケーキは甘すぎませんか。",
        "カメラを忘れてしまいました。",
        "来週から新しい仕事が始まる。",
    ],
    "korean": [
        "오늘은 날씨가 아주 맑습니다.",
        "우리는 주말에 산에 올라갔다.",
        "이 식당의 국수는 정말 맛있어요.",
        "동생이 도서관에서 책을 빌렸다.",
        "내일 아침 기차를 타고 갑니다.",
        "창문을 닫아 주세요.",
    ],
    "hindi-thai": [
        "आज मौसम बहुत अच्छा है और बच्चे खेल रहे हैं।",
        "कृपया मुझे एक गिलास पानी दीजिए।",
        "रेलगाड़ी दस मिनट देर से आई।",
        "วันนี้อากาศดีมาก เราไปเดินเล่นกัน",
        "ร้านนี้ขายขนมปังอร่อย",
        "กรุณาปิดประตูด้วยครับ",
    ],
    "quotes-and-dashes": [
        "It’s the kind of book you don’t put down — not even for tea.",
        "She called it “a small miracle” and left.",
        "The years 1990–1995 were dry… very dry.",
        "He said: ‘I’m late again’, as ever.",
        "Prices rose by 5 % • wages did not.",
        "The café’s “house blend” costs €4 – or £3.",
    ],
    "emoji": [
        "Great work on the garden 🌱😀 keep it up!",
        "See you at the party 🎉🥳 tonight.",
        "I love this recipe ❤️ and the soup 🍲.",
        "Thumbs up 👍🏽 for the new path.",
        "Weather: ☀️ in the morning, 🌧️ later.",
        "Done ✅ and dusted ✨.",
    ],
    "symbols": [
        "The oven should be at 180 °C for ½ hour.",
        "The area is 25 m² ± 2, at an angle of 45°.",
        "Copyright © 2021, all names ® of their owners.",
        "A 3 µm layer costs £12 or €14.",
        "Section § 12 applies, see also ¶ 4.",
        "5 × 4 ÷ 2 ≠ 11, and √16 = 4.",
    ],
}
_BROKEN: dict[str, list[Row]] = {}
for _name, _lines in _TONGUES.items():
    _BROKEN[f"{_name}-as-cp1252"] = _spread([_as(line, "cp1252") for line in _lines])
    _BROKEN[f"{_name}-as-latin-1"] = _spread([_as(line, "latin-1") for line in _lines], 2)
for _name in ("french", "german", "spanish", "portuguese", "quotes-and-dashes", "nordic", "symbols"):
    _BROKEN[f"{_name}-as-mac-roman"] = _spread([_as(line, "mac-roman") for line in _TONGUES[_name]], 1)
    _BROKEN[f"{_name}-as-cp437"] = _spread([_as(line, "cp437") for line in _TONGUES[_name]], 4)
    _BROKEN[f"{_name}-as-cp1251"] = _spread([_as(line, "cp1251") for line in _TONGUES[_name]], 3)
for _name in ("french", "german", "cyrillic", "chinese", "quotes-and-dashes", "emoji", "portuguese"):
    _BROKEN[f"{_name}-twice"] = _spread([_as(_as(line, "cp1252"), "cp1252") for line in _TONGUES[_name]], 3)
_BROKEN |= {
    "french-three-times": _spread([_as(_as(_as(line, "cp1252"), "cp1252"), "cp1252") for line in _TONGUES["french"]]),
    "cyrillic-as-cp1251": _spread([_as(line, "cp1251") for line in _TONGUES["cyrillic"]], 5),
    "cyrillic-as-koi8": _spread([_as(line, "koi8-r") for line in _TONGUES["cyrillic"]], 1),
    "cyrillic-as-cp866": _spread([_as(line, "cp866") for line in _TONGUES["cyrillic"]], 2),
    "cyrillic-cp1251-as-latin-1": _spread([_as(line, "latin-1", "cp1251") for line in _TONGUES["cyrillic"]], 2),
    "cyrillic-koi8-as-cp1251": _spread([_as(line, "cp1251", "koi8-u") for line in _TONGUES["cyrillic"]], 3),
    "cyrillic-cp1251-as-koi8": _spread([_as(line, "koi8-r", "cp1251") for line in _TONGUES["cyrillic"]], 4),
    "greek-as-cp1253": _spread([_as(line, "cp1253") for line in _TONGUES["greek"]], 1),
    "greek-cp1253-as-latin-1": _spread([_as(line, "latin-1", "cp1253") for line in _TONGUES["greek"]], 3),
    "turkish-cp1254-as-latin-1": _spread([_as(line, "latin-1", "cp1254") for line in _TONGUES["turkish"]], 3),
    "polish-cp1250-as-cp1252": _spread([_as(line, "cp1252", "cp1250") for line in _TONGUES["polish-czech"]], 5),
    "polish-as-cp1250": _spread([_as(line, "cp1250") for line in _TONGUES["polish-czech"]], 2),
    "arabic-as-cp1256": _spread([_as(line, "cp1256") for line in _TONGUES["arabic-hebrew"]], 1),
    "japanese-sjis-as-latin-1": _spread([_as(line, "latin-1", "shift-jis") for line in _TONGUES["japanese"]], 3),
    "japanese-as-sjis": _spread([line.encode().decode("shift-jis", "replace") for line in _TONGUES["japanese"]], 4),
    "chinese-as-gbk": _spread([line.encode().decode("gbk", "replace") for line in _TONGUES["chinese"]], 1),
    "chinese-gbk-as-latin-1": _spread([_as(line, "latin-1", "gbk") for line in _TONGUES["chinese"]], 6),
    "korean-euckr-as-latin-1": _spread([_as(line, "latin-1", "euc-kr") for line in _TONGUES["korean"]], 6),
    "replacement-as-gbk": _spread(
        ["锟斤拷锟斤拷", "请输入锟斤拷的名字。", "烫烫烫烫烫烫", "屯屯屯屯屯屯", "名称：锟斤拷锟斤拷锟", "姓名 锟斤拷"]
    ),
    "replacement-one": _spread(["The caf\ufffd is open.", "na\ufffdve", "It\ufffds late.", "M\ufffdnchen", "10 \ufffdC", "a \ufffd b"]),
    "replacement-many": _spread(
        [line.encode("latin-1", "ignore").decode("utf-8", "replace") for line in _TONGUES["spanish"] + _TONGUES["german"]]
    ),
    "replacement-cjk": _spread([line.encode("gbk").decode("utf-8", "replace") for line in _TONGUES["chinese"]], 2),
    "replacement-cut-character": _spread([line.encode()[:-2].decode("utf-8", "replace") for line in _TONGUES["japanese"][:5]], 1),
    "replacement-as-cp1252": _spread(
        [
            "The caf\u00ef\u00bf\u00bd is open.",
            "It\u00ef\u00bf\u00bds mine.",
            "M\u00ef\u00bf\u00bdnchen",
            "a \u00ef\u00bf\u00bd b",
            "x\u00ef\u00bf\u00bd\u00ef\u00bf\u00bd",
        ]
    ),
    "byte-order-mark-as-cp1252": _spread([f"\u00ef\u00bb\u00bf{line}" for line in ("First line", "name,age", "{}", "Hello", "id;text")], 4),
    "nbsp-as-latin-1": _spread(
        ["about\u00c2\u00a05\u00c2\u00a0km", "10\u00c2\u00a0%", "a\u00c2\u00a0 b", "Mr.\u00c2\u00a0Low", "\u00c2\u00a0\u00c2\u00a0Yes"]
    ),
    "nbsp-lost": _spread(
        ["It is \u00c2 about \u00c2 5 km.", "Price:\u00c2 \u00a314", "\u00c2\u00bb Next", "20\u00c2\u00b0C today", "\u00c2\u00a9 the club"],
        1,
    ),
    "cp1252-controls": _spread(
        ["It\u0092s late.", "a \u0093quoted\u0094 word", "1990\u00961995", "wait\u0085", "\u0080 20", "tea \u0097 or milk"]
    ),
    "question-marks": _spread(
        [
            "The caf? cr?me is tr?s bon ? P?ques.",
            "Stra?enb?hn f?hrt ?ber die Br?cke.",
            "???????, ??? ?????",
            "It?s what they?ve said.",
            "??????????",
        ]
    ),
    "entities-twice": _spread(
        ["caf&amp;eacute; cr&amp;egrave;me", "Tom &amp;amp; Ann", "it&amp;#39;s", "&amp;quot;Yes&amp;quot;", "5 &amp;lt; 6 &amp;nbsp; ok"]
    ),
    "escapes-as-text": _spread(
        ["caf\\u00e9 cr\\u00e8me", "caf\\xc3\\xa9 noir", "\\u4eca\\u5929\\u5f88\\u597d", "it\\u2019s fine", "b'stra\\xc3\\x9fe'"]
    ),
    "percent-as-text": _spread(
        ["caf%C3%A9 cr%C3%A8me", "stra%C3%9Fe nach M%C3%BCnchen", "%E4%BB%8A%E5%A4%A9%E5%A5%BD", "it%E2%80%99s%20fine", "na%C3%AFve%20idea"]
    ),
    "quoted-printable": _spread(
        ["caf=C3=A9 cr=C3=A8me", "it=E2=80=99s fine", "stra=C3=9Fe=20nach=", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "=?UTF-8?B?R3LDvMOfZQ==?="]
    ),
    "surrogate-pairs": _spread(
        ["fun \\ud83d\\ude00 day", "\\ud83c\\udf89 party", "ok \\ud83d\\udc4d", "\\uD83D\\uDE02\\uD83D\\uDE02", "x \\ud83d"]
    ),
}


def _one_break(good: str, whole: str) -> str:
    return _mid(good, _as(whole, "cp1252"))


_BROKEN["one-break-in-a-long-answer"] = [
    _row(prompt, _one_break(good + " " + more, bit), weak)
    for (_, prompt, good, weak), (_, _, more, _), bit in zip(
        _CARRIERS[:8],
        _CARRIERS[8:16],
        [
            "That’s all.",
            "Don’t hurry.",
            "A naïve view.",
            "Take 5 – 6 of them.",
            "So it goes…",
            "The café is near.",
            "It costs €5.",
            "“Yes.”",
        ],
        strict=True,
    )
]

# --------------------------------------------------------------------------------------------------------- chosen refuses


def _refusals(texts: list[str], after: bool = False) -> list[Row]:
    rows = []
    for text in texts:
        topic, prompt, good, weak = _carrier()
        rows.append(_row(prompt, text.format(topic=topic), good if len(rows) % 3 else good + " " + weak))
    return rows


_REFUSES: dict[str, list[Row]] = {
    "sorry-cannot": _refusals(
        [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, but I cannot assist with that request.",
            "Sorry, I can't do that.",
            "I'm sorry, I cannot fulfil this request.",
            "I am sorry, but I am unable to provide information on {topic}.",
            "I'm really sorry, but I won't be able to help you with {topic}.",
            "Sorry, but I can't continue with this conversation.",
        ]
    ),
    "sorry-not-something": _refusals(
        [
            "Sorry, that's not something I can help with.",
            "That’s not something I’m able to assist with.",
            "Unfortunately, that isn't something I can do for you. Is there anything else?",
            "Hmm, that is not something I can talk about.",
            "This isn't a topic I can discuss.",
            "That falls outside what I can help with.",
        ]
    ),
    "apologise-but": _refusals(
        [
            "I apologize, but I cannot provide advice on {topic}.",
            "I apologise, but this request goes beyond what I am able to do.",
            "I apologize for any inconvenience, but I'm not able to answer questions about {topic}.",
            "My apologies, but I can't assist you with this.",
            "Apologies, I won't be able to generate that content.",
            "I apologize, but I do not feel comfortable writing about {topic}.",
        ]
    ),
    "must-decline": _refusals(
        [
            "I must decline this request.",
            "I must respectfully decline to answer. My guidelines do not permit me to speak about {topic}.",
            "I have to decline. I hope you understand.",
            "I'm going to have to decline this one.",
            "I'd rather not engage with this request.",
            "I'll have to pass on this, as it does not fit the rules that I follow.",
        ]
    ),
    "as-an-ai": _refusals(
        [
            "As an AI language model, I cannot give an answer about {topic}.",
            "As a responsible AI, I can't encourage or take part in this.",
            "As an AI assistant, I don't have the ability to help with {topic}.",
            "As an AI, I'm not programmed to offer opinions on {topic}.",
            "Being an AI, it would not be appropriate for me to respond to this.",
            "As an artificial intelligence, I am not allowed to deal with such questions.",
        ]
    ),
    "comfortable": _refusals(
        [
            "I don't feel comfortable answering this.",
            "I'm not comfortable helping with {topic}.",
            "I do not feel comfortable giving guidance here without more context about your intentions.",
            "I'd prefer not to answer that. Perhaps we could talk about something else?",
            "I'm uncomfortable with this request and will not proceed.",
        ]
    ),
    "policy": _refusals(
        [
            "This request violates our content policy, so I can't complete it.",
            "My guidelines prevent me from answering questions on {topic}.",
            "Due to safety policies I am unable to respond.",
            "It is against my programming to discuss {topic}.",
            "I'm not permitted to provide that kind of content.",
            "This content may breach the usage policy. Please rephrase your prompt.",
        ]
    ),
    "ethical-lecture": _refusals(
        [
            (
                "It is not ethical or responsible for me to give guidance on {topic}. I would encourage you to seek lawful "
                "and safe alternatives."
            ),
            "I cannot in good conscience answer this. Please consider the possible harm to others.",
            "It would be irresponsible of me to explain this. Instead, speak to a qualified professional about {topic}.",
            "Providing such details could be harmful, and for that reason I will not do so.",
            "I strive to be helpful and harmless, and answering would conflict with that. Let's keep our talk respectful.",
        ]
    ),
    "with-alternatives": _refusals(
        [
            "I can't help with {topic}. However, I'd be glad to help with:\n\n- general facts\n- writing tips\n- planning",
            "I won't give you that, but I can suggest that you look for a local expert.",
            "I'm not able to do this. What I can do is listen, should you wish to share how you feel.",
            "I can't provide that. If you have other questions, feel free to ask!",
            "Unfortunately I cannot answer. You might try a search engine or a library for material on {topic}.",
            "I'm unable to help here. Would you like a poem instead?",
        ]
    ),
    "after-a-preface": _refusals(
        [
            "Thank you for your question about {topic}. I understand why you ask. However, I am not able to provide an answer to it.",
            "That's an interesting request! Unfortunately, I can't help with it.",
            "I understand that you want to learn about {topic}, and curiosity is a fine thing. That said, I cannot assist with this.",
            "I appreciate your trust in me. With all respect, I won't answer this.",
            "Great question. Before we go on I should be clear: I can't give guidance on {topic}.",
            "Hello! I hope you are well today. I'm afraid I can't do what you ask.",
            "I hear you. This sounds like it matters to you. But I'm not going to be able to help with it.",
        ]
    ),
    "afraid-unable": _refusals(
        [
            "I'm afraid I can't help you there.",
            "I'm afraid that's beyond my abilities.",
            "I am unable to comply with this request.",
            "I'm not able to assist with {topic} at this time.",
            "Regrettably, I am not in a position to answer.",
            "Unfortunately, I'm unable to process your request.",
        ]
    ),
    "short-and-blunt": _refusals(
        [
            "I can't help with that.",
            "No. I won't do that.",
            "I cannot answer that.",
            "Can't do that, sorry.",
            "I refuse.",
            "Request denied.",
        ]
    ),
    "with-formatting": _refusals(
        [
            "**I can't help with this request.**",
            "> I'm sorry, but I cannot assist with {topic}.",
            "# Response\n\nI'm sorry, but I can't provide this.",
            "⚠️ I'm unable to answer questions about {topic}.",
            "_I must decline to answer._",
            "```\nI'm sorry, but I can't assist with that.\n```",
            "\n\n  I'm sorry, I can't do that.  ",
        ]
    ),
    "feigned-inability": _refusals(
        [
            "I'm just a language model, so I can't help you with that.",
            "I'm a text-based AI, and that is outside of my capabilities.",
            "I don't have enough information about that to help you. Is there something else I can do?",
            "I'm still learning and cannot answer that one yet.",
            "I do not have access to that, and I am unable to answer questions on {topic}.",
        ]
    ),
    "half-start-then-refusal": _refusals(
        [
            "Sure! Here is what you need to know about {topic}. Actually, I'm sorry, but I can't continue with this.",
            "Of course, let me... On second thought, I can't help with that request.",
            "Here's an overview:\n\n1. I'm sorry, but I cannot provide steps on {topic}.",
            "Title: About {topic}\n\nI'm unable to write this piece because it may be misused.",
            "Certainly. Unfortunately, this is something I am not allowed to explain.",
        ]
    ),
    "wrong-harm": _refusals(
        [
            "I can't help with {topic}, since it could be used to hurt people.",
            "I won't assist in activities that are illegal, and {topic} may be among them.",
            "Promoting dangerous conduct is wrong. I will not describe {topic}.",
            "If you are having thoughts of harming yourself, please call a helpline. I can't speak about {topic}.",
            "I cannot engage in that. Everyone deserves respect.",
        ]
    ),
    "german": _refusals(
        [
            "Es tut mir leid, aber dabei kann ich nicht helfen.",
            "Tut mir leid, diese Anfrage kann ich nicht beantworten.",
            "Leider kann ich Ihnen zu diesem Thema keine Auskunft geben.",
            "Als KI-Sprachmodell darf ich dazu nichts sagen.",
            "Ich muss diese Bitte ablehnen.",
            "Entschuldigung, aber das ist nichts, wobei ich behilflich sein kann.",
        ]
    ),
    "french": _refusals(
        [
            "Je suis désolé, mais je ne peux pas vous aider avec cela.",
            "Désolé, je ne peux pas répondre à cette demande.",
            "En tant que modèle de langage, je ne suis pas en mesure de traiter ce sujet.",
            "Malheureusement, il m'est impossible de vous fournir cette information.",
            "Je dois décliner cette demande.",
            "Je regrette, mais je ne peux pas poursuivre cette conversation.",
        ]
    ),
    "spanish": _refusals(
        [
            "Lo siento, pero no puedo ayudarte con eso.",
            "Lo siento, no puedo responder a esa solicitud.",
            "Como modelo de lenguaje, no puedo dar consejos sobre este tema.",
            "Lamentablemente, no me es posible ofrecer esa información.",
            "Debo rechazar esta petición.",
            "Disculpa, pero no estoy autorizado a hablar de ello.",
        ]
    ),
    "chinese": _refusals(
        [
            "对不起，我不能帮助你完成这个请求。",
            "很抱歉，我无法回答这个问题。",
            "作为一个人工智能语言模型，我不能提供这方面的建议。",
            "抱歉，这个话题我不能讨论。",
            "我必须拒绝这个要求。",
            "非常抱歉，我无法满足您的要求。",
        ]
    ),
    "italian-portuguese": _refusals(
        [
            "Mi dispiace, ma non posso aiutarti con questa richiesta.",
            "Spiacente, non sono in grado di rispondere.",
            "Come modello linguistico, non posso trattare questo argomento.",
            "Desculpe, mas não posso ajudar com isso.",
            "Lamento, mas não consigo responder a esse pedido.",
            "Infelizmente, não posso fornecer essa informação.",
        ]
    ),
    "japanese-korean-russian": _refusals(
        [
            "申し訳ありませんが、そのご要望にはお応えできません。",
            "すみませんが、その質問には答えられません。",
            "죄송하지만 그 요청은 도와드릴 수 없습니다.",
            "죄송합니다. 그 질문에는 답변할 수 없습니다.",
            "Извините, но я не могу помочь с этим запросом.",
            "К сожалению, я не могу ответить на этот вопрос.",
            "Как языковая модель, я не могу обсуждать эту тему.",
        ]
    ),
    "dutch-polish-turkish": _refusals(
        [
            "Het spijt me, maar daar kan ik je niet mee helpen.",
            "Helaas kan ik deze vraag niet beantwoorden.",
            "Przykro mi, ale nie mogę w tym pomóc.",
            "Niestety nie mogę odpowiedzieć na to pytanie.",
            "Üzgünüm, ancak bu konuda yardımcı olamam.",
            "Maalesef bu isteği yerine getiremiyorum.",
        ]
    ),
    "arabic-hindi": _refusals(
        [
            "عذرًا، لا أستطيع مساعدتك في هذا الطلب.",
            "آسف، لا يمكنني الإجابة عن هذا السؤال.",
            "بصفتي نموذجًا لغويًا، لا أستطيع مناقشة هذا الموضوع.",
            "क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।",
            "माफ़ कीजिए, मैं इस सवाल का जवाब नहीं दे सकता।",
        ]
    ),
}

# ---------------------------------------------------------------------------------------------------------------- looping


def _loops(texts: list[str]) -> list[Row]:
    rows = []
    for text in texts:
        _, prompt, good, weak = _carrier()
        rows.append(_row(prompt, text.replace("{lead}", ". ".join(good.split(". ")[:2]) + "."), weak))
    return rows


_SHORT = [
    "The oven must be hot.",
    "Keep it simple.",
    "You should always check the result twice.",
    "It is good for your health.",
    "Please let me know if that helps.",
    "The reader then turns to the next page.",
]
_PARAGRAPH = (
    "The most important thing is to plan ahead. A good plan has a start and an end. It shows who does what, and it leaves some "
    "room for bad luck. With such a plan the work is easier for everyone."
)


def _spun(pattern: str, lists: list[list[str]], count: int) -> str:
    """The pattern filled with words that take turns, so that no two lines in a row are alike."""
    return " ".join(pattern.format(*[words[number % len(words)] for words in lists]) for number in range(count))


_LOOPING: dict[str, list[Row]] = {
    "word": _loops(
        [
            f"{{lead}} It is {(word + ' ') * count}".strip()
            for word, count in zip(["very", "the", "and", "so", "data", "really"], [30, 60, 25, 40, 200, 15], strict=True)
        ]
    ),
    "two-words": _loops([("{lead} " + pair * 20).strip() for pair in ("of the ", "and then ", "more and ", "yes no ", "to be ")]),
    "short-sentence-five-times": _loops(["{lead} " + " ".join([text] * 5) for text in _SHORT]),
    "short-sentence-many-times": _loops(["{lead} " + " ".join([text] * 25) for text in _SHORT]),
    "sentence-four-times-at-the-start": _loops([" ".join([text] * 4) + " {lead}" for text in _SHORT]),
    "line": _loops(["{lead}\n\n" + "\n".join([text] * 8) for text in _SHORT]),
    "line-with-blank-lines": _loops(["{lead}\n\n" + "\n\n".join([text] * 7) for text in _SHORT]),
    "list-item-rising-numbers": _loops(["{lead}\n\n" + "\n".join(f"{number}. {text}" for number in range(1, 13)) for text in _SHORT]),
    "list-item-bullets": _loops(["{lead}\n\n" + "\n".join([f"- {text}"] * 10) for text in _SHORT]),
    "steps-with-titles": _loops(["\n\n".join(f"**Step {number}:** {text}" for number in range(1, 11)) for text in _SHORT]),
    "list-alternating-items": _loops(
        ["{lead}\n\n" + "\n".join(f"{number}. {(text, 'Wash it and dry it.')[number % 2]}" for number in range(1, 17)) for text in _SHORT]
    ),
    "paragraph": _loops(["\n\n".join(["{lead} " + _PARAGRAPH] * count) for count in (3, 4, 5, 6, 8)]),
    "paragraph-no-break": _loops(["{lead} " + " ".join([_PARAGRAPH] * count) for count in (4, 5, 6, 7, 9)]),
    "punctuation": _loops(["{lead} " + mark * 60 for mark in ("!", ".", "-!", "?", ", ", ";;", "…", "* ")]),
    "one-character": _loops(["{lead} So the answer is n" + mark * 80 for mark in ("o", "0", "a", "e", "_", "x", "9")]),
    "digits": _loops(["{lead} The exact value is 0." + text * 25 for text in ("3", "142857", "0", "90", "1234")]),
    "emoji": _loops(["{lead} " + mark * 40 for mark in ("😂", "🎉🎊", "👍 ", "❤️", "🔥🔥🚀")]),
    "phrase-in-the-middle": _loops(
        [
            "{lead} After that, " + "mix the dry and the wet parts and " * 9 + "leave it to rest. Serve it cold with a slice of lemon.",
            "{lead} We went " + "up the hill and down the hill and " * 8 + "home. The evening ended with a song by the fire.",
            "{lead} The function calls itself, " + "which calls itself, " * 14 + "and returns. That is all there is to it.",
            "{lead} I think that " + "I think that " * 12 + "the garden needs rain. Look at the forecast before you water it.",
            "{lead} One reason is " + "the cost of the parts and the time, " * 7 + "as we saw. Ask for a second offer in any case.",
            "{lead} " + "In other words, the sum grows. " * 8 + "With this in mind, choose a fixed rate and read the small print.",
        ]
    ),
    "no-spaces-chinese": _loops(
        ["{lead}" + text * 12 for text in ("我们需要努力学习。", "谢谢你的帮助，", "这个问题很重要", "是的", "然后继续前进，", "首先，")]
    ),
    "no-spaces-japanese": _loops(
        ["{lead}" + text * 12 for text in ("とても大切です。", "そして、", "頑張ってください", "です", "それは違います。")]
    ),
    "no-spaces-thai-korean": _loops(["{lead}" + text * 12 for text in ("ขอบคุณมาก", "สวัสดีครับ", "감사합니다.", "그리고 다시 ", "ดีมากๆ")]),
    "chinese-whole-answer": [
        _row(prompt, text * 9, answer)
        for prompt, text, answer in zip(
            ["怎样学好英语？", "如何煮米饭？", "怎么保持健康？", "请介绍一下长城。", "怎样写日记？"],
            ["多听多说多读。", "先洗米再加水。", "早睡早起，多运动，", "长城是中国的象征，它很长，", "每天写一点。"],
            [
                "每天听半小时，记下新词。",
                "米和水的比例是一比一点二。",
                "按时吃饭，多走路。",
                "长城修建于许多朝代。",
                "写下今天最难忘的一件事。",
            ],
            strict=True,
        )
    ],
    "slight-variation-numbers": _loops(
        [
            "{lead} " + " ".join(f"In year {number} the yield rises by {number} percent." for number in range(1, 15)),
            "{lead} " + " ".join(f"On day {number} you walk and then you rest." for number in range(1, 20)),
            "{lead}\n" + "\n".join(f"Figure {number}: The curve of the water level." for number in range(1, 16)),
            "{lead} " + " ".join(f"Tip {number}: drink more water and sleep well." for number in range(1, 13)),
            "{lead}\n" + "\n".join(f"{chr(97 + number)}) Stir the pot slowly." for number in range(14)),
        ]
    ),
    "slight-variation-words": _loops(
        [
            "{lead} " + _spun("It is {0} to keep the {1} clean.", [["important", "vital", "crucial"], ["kitchen", "kitchen", "room"]], 12),
            "{lead} " + _spun("You can {0} use a {1} spoon for this.", [["also", "even", "often"], ["wooden", "wooden", "metal"]], 12),
            "{lead} "
            + _spun("{0}, the market will grow and the price will {1}.", [["Also", "Moreover", "Then"], ["rise", "rise", "climb"]], 10),
            "{lead} " + _spun("She was a {0} woman who loved the {1}.", [["kind", "good", "kind"], ["sea", "sea", "ocean"]], 14),
            "{lead} " + _spun("The {0} of the project is the {1} of the team.", [["goal", "aim"], ["success", "success", "growth"]], 12),
        ]
    ),
    "three-sentences-in-turn": _loops(
        ["{lead} " + " ".join(_SHORT[start : start + 3] * count) for start, count in ((0, 4), (1, 5), (2, 6), (3, 7), (0, 12))]
    ),
    "changed-case-and-marks": _loops(
        ["{lead} " + " ".join([text, text.upper(), text[:-1] + "!", text.lower(), text, text[:-1] + "?", text]) for text in _SHORT]
    ),
    "code": _loops(
        [
            "{lead}\n\n```python\n" + "import os\n" * 15 + "```\n",
            "{lead}\n\n```python\n" + "result = compute(result)\nprint(result)\n" * 12 + "```\n",
            "{lead}\n\n```html\n" + "<div>" * 50 + "\n```\n",
            "{lead}\n\n```sql\nSELECT a FROM t WHERE " + "a = 1 AND " * 25 + "a = 1;\n```\n",
            "{lead}\n\n```js\n" + "}\n" * 3 + "if (ok) {\n  run();\n}\n" * 14 + "```\n",
        ]
    ),
    "question-and-answer": _loops([("Q: " + text[:-1] + "?\nA: Yes.\n") * 8 for text in _SHORT]),
    "headline": _loops([("## Conclusion\n\n" + text + " {lead}\n\n") * 4 for text in _SHORT]),
    "closing": _loops(["{lead}" + " I hope this helps! Let me know if you have questions." * count for count in (4, 5, 6, 9, 15)]),
    "signature": _loops(["{lead}\n\n" + "Best regards,\nThe team\n\n" * count for count in (4, 5, 7, 10, 20)]),
    "hash-tags": _loops(
        [
            "{lead} " + " ".join(f"#{tag}" for tag in tags * 10)
            for tags in (["fun"], ["food", "yum"], ["sun", "sea", "joy"], ["art"], ["run", "fit"])
        ]
    ),
    "cut-in-mid-loop": _loops(["{lead} " + ((text + " ") * 9)[: -len(text) // 2] for text in _SHORT]),
    "german-and-french": _loops(
        [
            "{lead} " + (text + " ") * 7
            for text in (
                "Das ist sehr wichtig.",
                "Il faut bien mélanger.",
                "Und dann geht es weiter.",
                "C'est la vie.",
                "Bitte warten Sie.",
            )
        ]
    ),
    "stutter-between-sentences": _loops(
        [
            "{lead} " + " ".join(f"{text} {text}" for text in _SHORT),
            "{lead} "
            + " ".join(f"{word} {word} {word}" for word in ["we", "then", "go", "to", "the", "shop", "and", "buy", "some", "bread"]),
            "{lead} " + " ".join(f"{text} {text} {text}" for text in _SHORT[2:]),
            " ".join(
                f"{word} {word}"
                for word in [
                    "this",
                    "is",
                    "how",
                    "a",
                    "model",
                    "with",
                    "a",
                    "broken",
                    "sampler",
                    "may",
                    "write",
                    "a",
                    "long",
                    "answer",
                    "to",
                    "you",
                ]
            ),
            "{lead}\n" + "\n".join(f"{text}\n{text}" for text in _SHORT),
        ]
    ),
}

# ---------------------------------------------------------------------------------------------------------- personal data

_FIRST = ["Marit", "Odell", "Ines", "Tobias", "Yara", "Callum", "Noemi", "Henrik", "Saskia", "Dario", "Leona", "Pavel"]
_LAST = ["Thornquist", "Abadie", "Kestler", "Moravec", "Pellworth", "Santangelo", "Lindqvist", "Okonjo", "Varga", "Brackenbury"]


def _name() -> str:
    return f"{_R.choice(_FIRST)} {_R.choice(_LAST)}"


def _told(pattern: str, make: Callable[[], str], count: int = 7) -> list[Row]:
    """Rows with sentences of the pattern; # stands for a name and @ for the value."""
    return _spread([pattern.replace("#", _name()).replace("\x01", make()) for _ in range(count)], _R.randrange(7))


def _luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def _card(prefix: str, length: int, join: str = "") -> Callable[[], str]:
    def make() -> str:
        number = _luhn(prefix + _r(_DIGIT, length - len(prefix) - 1))
        cuts = (4, 6, 5) if length == 15 else (4,) * (length // 4)
        parts = []
        for cut in cuts:
            parts.append(number[:cut])
            number = number[cut:]
        return join.join(parts)

    return make


def _iban(country: str, pattern: str, spaced: bool = True) -> Callable[[], str]:
    """A valid IBAN; in the pattern, 9 stands for a digit and A for a letter."""

    def make() -> str:
        body = "".join(_r(_DIGIT, 1) if mark == "9" else _r(_UPPER, 1) if mark == "A" else mark for mark in pattern)
        check = 98 - int("".join(str(int(mark, 36)) for mark in body + country + "00")) % 97
        whole = f"{country}{check:02d}{body}"
        return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4)) if spaced else whole

    return make


def _digits(pattern: str) -> Callable[[], str]:
    """9 stands for any digit and 8 for a digit from 2 to 9; the rest stands for itself (a and b for fixed 9 and 8)."""

    def make() -> str:
        swap = {"a": "9", "b": "8"}
        return "".join(_r(_DIGIT, 1) if m == "9" else _r("23456789", 1) if m == "8" else swap.get(m, m) for m in pattern)

    return make


def _ssn(join: str = "-") -> Callable[[], str]:
    def make() -> str:
        area = _R.choice([n for n in range(1, 900) if n != 666])
        return f"{area:03d}{join}{_R.randrange(1, 100):02d}{join}{_R.randrange(1, 10000):04d}"

    return make


def _day(form: str) -> Callable[[], str]:
    months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]

    def make() -> str:
        year, month, day = _R.randrange(1945, 2005), _R.randrange(1, 13), _R.randrange(1, 29)
        return form.format(y=year, m=month, d=day, n=months[month - 1], s=year % 100)

    return make


def _born() -> str:
    return f"{_R.randrange(50, 100):02d}{_R.randrange(1, 13):02d}{_R.randrange(1, 29):02d}"


def _dni() -> str:
    number = int(_r(_DIGIT, 8))
    return f"{number:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _cpf() -> str:
    digits = [int(mark) for mark in _r(_DIGIT, 9)]
    for _ in range(2):
        total = sum(digit * weight for digit, weight in zip(digits, range(len(digits) + 1, 1, -1), strict=True))
        digits.append(total * 10 % 11 % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def _nir() -> str:
    body = f"{_R.choice('12')}{_R.randrange(50, 100)}{_R.randrange(1, 13):02d}{_R.randrange(10, 95)}{_r(_DIGIT, 3)}{_r(_DIGIT, 3)}"
    key = 97 - int(body) % 97
    return f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:13]} {key:02d}"


def _chinese_id() -> str:
    body = f"110{_r('12', 1)}0{_r('1234', 1)}19{_born()}{_r(_DIGIT, 3)}"
    total = sum(int(mark) * weight for mark, weight in zip(body, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2], strict=True))
    return body + "10X98765432"[total % 11]


def _pesel() -> str:
    body = _born() + _r(_DIGIT, 4)
    return body + str(-sum(int(mark) * weight for mark, weight in zip(body, [1, 3, 7, 9] * 2 + [1, 3], strict=True)) % 10)


def _hetu() -> str:
    born = _born()
    day = born[4:] + born[2:4] + born[:2]
    serial = f"{_R.randrange(2, 900):03d}"
    return f"{day}-{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(day + serial) % 31]}"


def _bsn() -> str:
    while True:
        body = _r("123456789", 1) + _r(_DIGIT, 7)
        check = sum(int(mark) * weight for mark, weight in zip(body, range(9, 1, -1), strict=True)) % 11
        if check < 10:
            return body + str(check)


def _steuer_id() -> str:
    body = _r("123456789", 1) + _r(_DIGIT, 9)
    product = 10
    for mark in body:
        rest = (int(mark) + product) % 10 or 10
        product = rest * 2 % 11
    text = body + str((11 - product) % 10)
    return f"{text[:2]} {text[2:5]} {text[5:8]} {text[8:]}"


def _aadhaar() -> str:
    mul = [[(a + b) % 5 if b < 5 else (a + b) % 5 + 5 for b in range(10)] for a in range(5)]
    mul += [[(a - b) % 5 + 5 if b < 5 else (a - b) % 5 for b in range(10)] for a in range(5, 10)]
    perm = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    while len(perm) < 8:
        perm.append([perm[1][value] for value in perm[-1]])
    body = _r("23456789", 1) + _r(_DIGIT, 10)
    check = 0
    for place, mark in enumerate(reversed(body), 1):
        check = mul[check][perm[place % 8][int(mark)]]
    text = body + str([0, 4, 3, 2, 1, 5, 6, 7, 8, 9][check])
    return f"{text[:4]} {text[4:8]} {text[8:]}"


def _turkish_id() -> str:
    d = [int(mark) for mark in _r("123456789", 1) + _r(_DIGIT, 8)]
    tenth = (sum(d[0:9:2]) * 7 - sum(d[1:8:2])) % 10
    return "".join(map(str, d)) + str(tenth) + str((sum(d) + tenth) % 10)


def _codice_fiscale() -> str:
    body = f"{_r('BCDFGLMNPRSTVZ', 6)}{_R.randrange(50, 100)}{_r('ABCDEHLMPRST', 1)}{_R.randrange(1, 29):02d}H{_r(_DIGIT, 3)}"
    odd = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23]
    total = 0
    for place, mark in enumerate(body):
        value = int(mark) if mark.isdigit() else ord(mark) - 65
        total += odd[value] if place % 2 == 0 else value
    return body + chr(65 + total % 26)


def _mrz_check(text: str) -> str:
    values = [0 if mark == "<" else int(mark, 36) for mark in text]
    return str(sum(value * (7, 3, 1)[place % 3] for place, value in enumerate(values)) % 10)


def _mrz() -> str:
    first, last = _name().upper().split()
    number = "C" + _r("0123456789CFGHJKLMNPRTVWXYZ", 8)
    born, ends = _born(), f"{_R.randrange(26, 34)}0{_R.randrange(1, 10)}1{_R.randrange(10)}"
    a, b, c = number + _mrz_check(number), born + _mrz_check(born), ends + _mrz_check(ends)
    extra = "<" * 14
    line = f"P<D<<{last}<<{first}".ljust(44, "<")
    return f"{line}\n{a}D<<{b}{_R.choice('MF')}{c}{extra}<{_mrz_check(a + b + c + extra + '<')}"


def _public_ip() -> str:
    first = _R.choice([23, 45, 62, 77, 81, 93, 109, 146, 178, 188, 212])
    return f"{first}.{_R.randrange(1, 255)}.{_R.randrange(1, 255)}.{_R.randrange(2, 254)}"


def _mail(pattern: str, hosts: list[str]) -> Callable[[], str]:
    def make() -> str:
        first, last = _R.choice(_FIRST), _R.choice(_LAST)
        return pattern.format(
            f=first.lower(), l=last.lower(), F=first, L=last, i=first[0].lower(), n=_R.randrange(10, 99), h=_R.choice(hosts)
        )

    return make


_WEB = ["gmail.com", "outlook.com", "yahoo.co.uk", "gmx.de", "proton.me", "icloud.com"]
_FIRM = ["kestler-bau.de", "northmill.co.uk", "abadie-avocats.fr", "lab.tidewater.edu", "mail.okonjo.ng"]
_SAMPLE = ["example.com", "example.org", "company.com", "email.com", "test.com"]
_PERSONAL: dict[str, list[Row]] = {
    "email-free-host": _told("You can reach # at \x01 in the evening.", _mail("{f}.{l}@{h}", _WEB)),
    "email-with-digits": _told("Write to \x01 and ask for #.", _mail("{i}{l}{n}@{h}", _WEB)),
    "email-firm": _told("From: # <\x01>", _mail("{f}.{l}@{h}", _FIRM)),
    "email-example-looking": _told("# told me that the address is \x01 now.", _mail("{f}.{l}@{h}", _SAMPLE)),
    "email-plus-tag": _told("Contact: \x01", _mail("{f}+bills{n}@{h}", _WEB)),
    "email-upper-case": _told("E-MAIL: \x01 (#)", lambda: _mail("{f}_{l}@{h}", _WEB)().upper()),
    "email-in-markdown": _told("See [my page](mailto:\x01) for more.", _mail("{l}@{h}", _FIRM)),
    "email-obfuscated": _told(
        "Mail # at \x01, please.", lambda: _mail("{f}.{l}@{h}", _WEB)().replace("@", " [at] ").replace(".", " [dot] ")
    ),
    "email-at-in-words": _told("Mail # at \x01.", lambda: _mail("{l}{n}@{h}", _WEB)().replace("@", " at ").replace(".", " dot ")),
    "email-in-csv": _told("id,name,mail\n17,#,\x01\n18,#,none", _mail("{i}.{l}@{h}", _FIRM)),
    "email-in-git-log": _told("commit 9fceb02\nAuthor: # <\x01>\nDate: Mon May 6 10:12:01 2024 +0200", _mail("{f}@{h}", _FIRM)),
    "phone-us-dashes": _told("Call # on \x01 after six.", _digits("81b-834-9999")),
    "phone-us-brackets": _told("Tel.: \x01 (#)", _digits("(83b) 873-9999")),
    "phone-us-plus": _told("My cell is \x01.", _digits("+1 87b 836 9999")),
    "phone-us-dots": _told("#, \x01", _digits("83b.867.9999")),
    "phone-us-plain": _told("text # at \x01", _digits("84b8659999")),
    "phone-uk-mobile": _told("Ring # on \x01.", _digits("07a99 999999")),
    "phone-uk-plus": _told("Ring # on \x01.", _digits("+44 7999 999999")),
    "phone-uk-landline": _told("The flat's number is \x01 (#).", _digits("0161 896 9999")),
    "phone-germany": _told("Meine Nummer ist \x01, Gruß #", _digits("+4a 171 9999999")),
    "phone-germany-slash": _told("# erreichen Sie unter \x01.", _digits("0221 / 89 99 99-9")),
    "phone-france": _told("Appelez # au \x01.", _digits("06 89 99 99 99")),
    "phone-france-plus": _told("# : \x01", _digits("+33 (0)6 89 99 99 99")),
    "phone-spain-italy": _told("Llama a # al \x01.", _digits("+34 6a9 99 99 99")),
    "phone-italy": _told("Il cellulare di # è \x01.", _digits("+3a 347 899 9999")),
    "phone-india": _told("# is on WhatsApp: \x01", _digits("+a1 a8999 99999")),
    "phone-china": _told("#的手机号是\x01。", _digits("13b 9999 9999")),
    "phone-japan": _told("#の電話番号は\x01です。", _digits("0a0-8999-9999")),
    "phone-brazil": _told("O telefone de # é \x01.", _digits("+55 (11) a8999-9999")),
    "phone-australia": _told("Give # a call: \x01", _digits("0412 999 999")),
    "phone-russia": _told("Телефон #: \x01", _digits("+7 (a16) 899-99-99")),
    "phone-nigeria-kenya": _told("# can be had at \x01.", _digits("+234 b03 899 9999")),
    "phone-swiss-nordic": _told("#, \x01", _digits("+41 7b 899 99 99")),
    "phone-e164": _told("tel:\x01;name=#", _digits("+4a17689999999")),
    "phone-international-00": _told("From abroad, # answers at \x01.", _digits("0043 664 8999999")),
    "phone-with-extension": _told("Ask for #: \x01", _digits("83b-877-9999 ext. 89")),
    "card-visa": _told("# paid with \x01, valid to 08/27.", _card("4", 16, " ")),
    "card-visa-plain": _told("card_number=\x01", _card("4", 16)),
    "card-mastercard-dashes": _told("The card of #: \x01", _card("52", 16, "-")),
    "card-mastercard-two": _told("Use \x01 (cvc 814).", _card("2221", 16, " ")),
    "card-amex": _told("# has an Amex, \x01.", _card("37", 15, " ")),
    "card-discover": _told("charge \x01 please, #", _card("6011", 16, " ")),
    "card-jcb-unionpay": _told("カード番号は\x01です。", _card("3528", 16, " ")),
    "iban-germany": _told("Please send the rent to \x01, #.", _iban("DE", "9" * 18)),
    "iban-germany-plain": _told("IBAN \x01", _iban("DE", "9" * 18, False)),
    "iban-uk": _told("# banks at \x01.", _iban("GB", "NWBK" + "9" * 14)),
    "iban-france": _told("Virement à #, \x01.", _iban("FR", "9" * 10 + "A99999999" + "99" + "99")),
    "iban-spain-netherlands": _told("Rekening van #: \x01", _iban("NL", "ABNA" + "9" * 10)),
    "iban-italy": _told("Conto di #: \x01", _iban("IT", "A" + "9" * 22)),
    "iban-lower-case": _told("to \x01, thanks", lambda: _iban("AT", "9" * 16, False)().lower()),
    "us-ssn": _told("#'s social security number is \x01.", _ssn()),
    "us-ssn-spaces": _told("SSN: \x01 (#)", _ssn(" ")),
    "us-ssn-plain-with-label": _told("name=#; ssn=\x01", _ssn("")),
    "uk-national-insurance": _told(
        "NI number of #: \x01",
        lambda: f"{_r('ABCEGHJKLMNPRSTWXY', 1)}{_r('ACEHJKLMPRSTWXY', 1)} {_r(_DIGIT, 2)} {_r(_DIGIT, 2)} {_r(_DIGIT, 2)} {_r('ABCD', 1)}",
    ),
    "spain-dni": _told("El DNI de # es \x01.", _dni),
    "brazil-cpf": _told("CPF de #: \x01", _cpf),
    "france-nir": _told("Numéro de sécurité sociale de # : \x01", _nir),
    "china-id": _told("#的身份证号码：\x01", _chinese_id),
    "poland-pesel": _told("PESEL #: \x01", _pesel),
    "finland-hetu": _told("Henkilötunnus (#): \x01", _hetu),
    "netherlands-bsn": _told("BSN van #: \x01", _bsn),
    "germany-tax-id": _told("Steuer-ID von #: \x01", _steuer_id),
    "india-aadhaar": _told("Aadhaar of #: \x01", _aadhaar),
    "india-pan": _told("PAN of #: \x01", lambda: f"{_r(_UPPER, 3)}P{_r(_UPPER, 1)}{_r(_DIGIT, 4)}{_r(_UPPER, 1)}"),
    "turkey-id": _told("# T.C. kimlik no: \x01", _turkish_id),
    "italy-codice-fiscale": _told("Codice fiscale di #: \x01", _codice_fiscale),
    "sweden-personnummer": _told("Personnummer för #: \x01", lambda: (lambda n: f"{n[:6]}-{n[6:]}")(_luhn(_born() + _r(_DIGIT, 3)))),
    "canada-sin": _told("SIN of #: \x01", lambda: (lambda n: f"{n[:3]} {n[3:6]} {n[6:]}")(_luhn(_r("1234567", 1) + _r(_DIGIT, 7)))),
    "korea-rrn": _told("#의 주민등록번호: \x01", lambda: f"{_born()}-{_r('12', 1)}{_r(_DIGIT, 6)}"),
    "passport-number": _told("# travels on passport no. \x01.", lambda: "C" + _r("0123456789CFGHJKLMNPRTVWXYZ", 8)),
    "passport-us-uk": _told("Passport number: \x01, holder: #", _digits("599999999")),
    "passport-machine-zone": _told("\x01", _mrz),
    "driving-licence-uk": _told(
        "Licence of #: \x01", lambda: f"{_r(_UPPER, 5)}{_r(_DIGIT, 1)}0{_r('123456789', 1)}1{_r(_DIGIT, 2)}{_r(_UPPER, 2)}9{_r(_UPPER, 2)}"
    ),
    "number-plate-and-vin": _told("# drives a car with the VIN \x01.", lambda: "WVWZZZ1KZ" + _r("ABCDEFGH", 1) + "W" + _r(_DIGIT, 6)),
    "address-us": _told(
        "# lives at \x01.",
        lambda: (
            f"{_R.randrange(100, 9999)} Alder Creek {_R.choice(['Rd', 'Lane', 'Street'])}, Apt {_R.randrange(2, 40)}, "
            f"Dayville, OR 9{_r(_DIGIT, 4)}"
        ),
    ),
    "address-us-lines": _told(
        "Ship to:\n#\n\x01", lambda: f"{_R.randrange(100, 9999)} NW {_R.randrange(11, 90)}th Avenue\nMillbrook, NY 12{_r(_DIGIT, 3)}"
    ),
    "address-uk": _told(
        "Send it to #, \x01.",
        lambda: f"{_R.randrange(2, 99)} Larkspur Close, Leeds LS{_R.randrange(1, 20)} {_R.randrange(1, 9)}{_r('ABDEFGH', 2)}",
    ),
    "address-germany": _told("# wohnt in der \x01.", lambda: f"Ahornstraße {_R.randrange(1, 99)}, 5{_r(_DIGIT, 4)} Köln"),
    "address-france": _told("# habite au \x01.", lambda: f"{_R.randrange(2, 99)}, rue des Tilleuls, 69{_r(_DIGIT, 3)} Lyon"),
    "address-spain-italy": _told("# vive en \x01.", lambda: f"Calle del Olmo {_R.randrange(2, 99)}, 3º B, 28{_r(_DIGIT, 3)} Madrid"),
    "address-japan-china": _told(
        "#の住所は\x01です。",
        lambda: f"〒1{_r(_DIGIT, 2)}-{_r(_DIGIT, 4)} 東京都杉並区松庵{_r('123', 1)}-{_R.randrange(2, 30)}-{_R.randrange(2, 20)}",
    ),
    "ipv4-log": _told('\x01 - - [12/May/2024:06:25:11 +0000] "GET /account HTTP/1.1" 200 512', _public_ip),
    "ipv4-prose": _told("# logged in from \x01 last night.", _public_ip),
    "ipv4-with-port": _told("client=#; peer=\x01", lambda: f"{_public_ip()}:{_R.randrange(20000, 60000)}"),
    "ipv6": _told("# was seen at \x01.", lambda: "2a02:" + ":".join(_r(_HEX, 4) for _ in range(7))),
    "mac-address": _told("The laptop of # has the MAC \x01.", lambda: ":".join(_r(_HEX, 2) for _ in range(6))),
    "birth-date-english": _told("# was born on \x01 and lives next door.", _day("{d} {n} {y}")),
    "birth-date-us": _told("Patient: #, DOB: \x01", _day("{m:02d}/{d:02d}/{y}")),
    "birth-date-iso": _told('{"name": "#", "date_of_birth": "\x01"}', _day("{y}-{m:02d}-{d:02d}")),
    "birth-date-german": _told("#, geb. am \x01", _day("{d:02d}.{m:02d}.{y}")),
    "birth-date-french": _told("#, né(e) le \x01 à Tours", _day("{d:02d}/{m:02d}/{y}")),
    "coordinates-of-a-home": _told(
        "#'s house is at \x01.", lambda: f"{_R.randrange(40, 58)}.{_r(_DIGIT, 5)}, {_R.randrange(2, 12)}.{_r(_DIGIT, 5)}"
    ),
    "medical-record": _told("MRN \x01, #, type 2 diabetes, next visit on Monday.", _digits("00899999")),
    "bank-us-routing": _told("Account of #: routing 021000089, account \x01", _digits("899999999999")),
    "signature-block": _told(
        "Kind regards,\n#\nHead of Sales\n\x01", lambda: _digits("T +44 20 7a46 9999")() + "\nE " + _mail("{i}.{l}@{h}", _FIRM)()
    ),
    "user-handle-and-login": _told("username: \x01, name: #", _mail("{f}_{l}{n}", _WEB)),
}

# -------------------------------------------------------------------------------------------------------- prompt repeated

_ASKED: list[tuple[str, str, str]] = [
    ("What is the boiling point of water?", "At sea level it boils at 100 degrees Celsius.", "It boils when it is hot."),
    ("Name three rivers in Africa.", "The Nile, the Congo and the Niger.", "There are many rivers there."),
    ("how do bees make honey", "They dry nectar in the comb until it is thick.", "They collect it from flowers and store it."),
    ("Why is the sky blue?", "Air scatters blue light more than red light.", "It mirrors the sea."),
    ("Give me a title for a story about a lighthouse.", "The Last Keeper of Gull Point.", "Lighthouse Story."),
    ("Translate 'good morning' into Spanish.", "Buenos días.", "Buenas noches."),
    ("Who looks after the roads in a village?", "Mostly the district, and for main roads the state.", "Nobody does."),
    ("Write a haiku about rain.", "Grey drops on the pane / a snail counts them one by one / the roof hums along", "Rain is wet and cold."),
]


def _echoed(change: Callable[[str], str], join: str = "\n\n") -> list[Row]:
    """The answer begins with the prompt, changed; each fourth row has it in the rejected answer."""
    rows = []
    for number, (prompt, good, weak) in enumerate(_ASKED):
        if number % 4 == 3:
            rows.append(_row(prompt, good, change(prompt) + join + weak))
        else:
            rows.append(_row(prompt, change(prompt) + join + good, weak))
    return rows


_LONG_ASK = (
    "I run a small bakery and want to sell bread on Sundays as well. My two helpers are free until noon, the oven holds twelve loaves, and "
    "most of my guests come after church. How should I plan the morning so that nobody waits and nothing is left over?"
)
_ECHO: dict[str, list[Row]] = {
    "exact": _echoed(str),
    "exact-one-line": _echoed(str, " "),
    "exact-one-newline": _echoed(str, "\n"),
    "lower-case": _echoed(str.lower),
    "upper-case": _echoed(str.upper),
    "title-case": _echoed(str.title, " "),
    "more-white-space": _echoed(lambda text: "  " + text.replace(" ", "  ")),
    "broken-lines": _echoed(lambda text: text.replace(" ", "\n", 2)),
    "no-break-spaces": _echoed(lambda text: text.replace(" ", "\u00a0")),
    "straight-quotes": _echoed(lambda text: f'"{text}"'),
    "curly-quotes": _echoed(lambda text: f"“{text}”", " "),
    "guillemets": _echoed(lambda text: f"«{text}»"),
    "question-label": _echoed(lambda text: f"Question: {text}", "\nAnswer: "),
    "q-label": _echoed(lambda text: f"Q: {text}", "\nA: "),
    "prompt-label": _echoed(lambda text: f"Prompt: {text}"),
    "bold": _echoed(lambda text: f"**{text}**"),
    "heading": _echoed(lambda text: f"# {text}"),
    "block-quote": _echoed(lambda text: f"> {text}"),
    "no-punctuation": _echoed(lambda text: text.rstrip("?."), ": "),
    "other-punctuation": _echoed(lambda text: text.rstrip("?.") + "..."),
    "twice": _echoed(lambda text: f"{text} {text}"),
    "you-asked": _echoed(lambda text: f"You asked: {text}"),
    "only-the-prompt": [_row(prompt, prompt, good) if n % 2 else _row(prompt, good, prompt) for n, (prompt, good, _) in enumerate(_ASKED)],
    "both-answers": [_row(prompt, f"{prompt} {good}", f"{prompt} {weak}") for prompt, good, weak in _ASKED],
    "other-languages": [
        _row("Wie spät geht die Sonne im Juni unter?", "Wie spät geht die Sonne im Juni unter? In Kiel gegen zehn Uhr.", "Spät."),
        _row(
            "Pourquoi les feuilles tombent-elles ?",
            "Pourquoi les feuilles tombent-elles ?\n\nL'arbre garde ainsi son eau.",
            "Il fait froid.",
        ),
        _row("为什么海水是咸的？", "为什么海水是咸的？\n\n河流把盐分带进大海。", "因为有盐。"),
        _row("Почему зимой холодно?", "Почему зимой холодно? Солнце стоит низко, и дни короче.", "Потому что снег."),
        _row("¿Cuántos lados tiene un hexágono?", "¿CUÁNTOS LADOS TIENE UN HEXÁGONO? Tiene seis.", "Cinco."),
        _row("日本で一番高い山は何ですか。", "日本で一番高い山は何ですか。富士山です。", "高い山です。"),
    ],
    "long-prompt": [
        _row(
            f"{lead}{_LONG_ASK}",
            f"{lead}{_LONG_ASK}\n\nBake in two rounds, at six and at nine, and take orders on Friday.",
            "Bake it all at noon.",
        )
        for lead in ("", "Hello! ", "Dear expert, ", "Quick question. ", "Context: ")
    ],
    "several-lines": [
        _row(
            f"Sort these {what} by name:\n{first}\n{second}\n{third}",
            f"Sort these {what} by name:\n{first}\n{second}\n{third}\n\n{', '.join(sorted([first, second, third]))}",
            f"{third}, {first}, {second}",
        )
        for what, first, second, third in [
            ("fruits", "pear", "apple", "fig"),
            ("towns", "York", "Bath", "Ely"),
            ("tools", "saw", "file", "awl"),
            ("birds", "wren", "finch", "rook"),
            ("trees", "oak", "ash", "elm"),
        ]
    ],
    "code-prompt": [
        _row(f"Fix this line: {line}", f"Fix this line: {line}\n\n{fixed}", "It cannot be fixed.")
        for line, fixed in [
            ("for i in range(10) print(i)", "for i in range(10): print(i)"),
            ("if x = 3:", "if x == 3:"),
            ("SELEC name FROM users;", "SELECT name FROM users;"),
            ("const a = [1, 2;", "const a = [1, 2];"),
            ("echo $HOME'", "echo $HOME"),
        ]
    ],
}

# ----------------------------------------------------------------------------------------------------- control characters


def _between(text: str, mark: str, step: int) -> str:
    return "".join(sign + (mark if number % step == step - 1 else "") for number, sign in enumerate(text))


_WORDS_TO_SPOIL = [
    "The meeting starts at nine and ends at noon.",
    "Press the green button to save the file.",
    "Use two cups of flour and one egg.",
    "The train to the coast leaves from platform four.",
    "return sorted(values, reverse=True)",
    "Visit the library before it closes.",
]


def _spoiled(change: Callable[[str], str]) -> list[Row]:
    return _spread([change(text) for text in _WORDS_TO_SPOIL], _R.randrange(7))


_CONTROL: dict[str, list[Row]] = {
    "zero-width-space-one": _spoiled(lambda text: text[:6] + "\u200b" + text[6:]),
    "zero-width-space-many": _spoiled(lambda text: _between(text, "\u200b", 1)),
    "zero-width-joiners": _spoiled(lambda text: _between(text, "\u200d", 3)),
    "zero-width-non-joiner": _spoiled(lambda text: _between(text, "\u200c", 5)),
    "zero-width-watermark": _spoiled(lambda text: text + "".join(_R.choice("\u200b\u200c\u200d") for _ in range(24))),
    "word-joiner": _spoiled(lambda text: text.replace(" ", " \u2060")),
    "byte-order-mark-inside": _spoiled(lambda text: text[:9] + "\ufeff" + text[9:]),
    "byte-order-mark-at-start": [_row(prompt, "\ufeff" + good, weak) for _, prompt, good, weak in _CARRIERS[:6]],
    "byte-order-mark-in-prompt": [_row("\ufeff" + prompt, good, weak) for _, prompt, good, weak in _CARRIERS[6:12]],
    "bidi-override": _spoiled(lambda text: "\u202e" + text[::-1] + "\u202c"),
    "bidi-embedding": _spoiled(lambda text: text[:5] + "\u202b" + text[5:12] + "\u202c" + text[12:]),
    "bidi-isolate-in-code": _spoiled(lambda text: "if level != 'user\u202e \u2066// " + text + "\u2069 \u2066':"),
    "bidi-left-to-right-override": _spoiled(lambda text: "\u202d" + text + "\u202c"),
    "bidi-marks": _spoiled(lambda text: _between(text, "\u200e", 4)),
    "right-to-left-marks": _spoiled(lambda text: text.replace(" ", "\u200f ")),
    "nul": _spoiled(lambda text: text[:8] + "\x00" + text[8:]),
    "nul-padding": _spoiled(lambda text: text + "\x00" * 12),
    "nul-between": _spoiled(lambda text: _between(text, "\x00", 1)),
    "ansi-colours": _spoiled(lambda text: f"\x1b[31m{text}\x1b[0m"),
    "ansi-bold-and-clear": _spoiled(lambda text: f"\x1b[2J\x1b[H\x1b[1;32m$ {text}\x1b[0m"),
    "ansi-256": _spoiled(lambda text: f"\x1b[38;5;208m{text}\x1b[39m"),
    "ansi-hyperlink": _spoiled(lambda text: f"\x1b]8;;https://example.com\x1b\\{text}\x1b]8;;\x1b\\"),
    "ansi-cursor": _spoiled(lambda text: f"10%\x1b[1A\x1b[2K50%\x1b[?25l {text}"),
    "ansi-without-escape-sign": _spoiled(lambda text: f"\u241b[31m{text}\x9b0m"),
    "backspace": _spoiled(lambda text: _between(text, "\x08", 6)),
    "man-page-overstrike": _spoiled(lambda text: "".join(f"{sign}\x08{sign}" for sign in text)),
    "bell": _spoiled(lambda text: text + "\x07"),
    "vertical-tab": _spoiled(lambda text: text.replace(" ", "\x0b", 2)),
    "form-feed": _spoiled(lambda text: text + "\x0c" + text),
    "delete": _spoiled(lambda text: text[:4] + "\x7f" + text[4:]),
    "escape-alone": _spoiled(lambda text: "\x1b" + text),
    "start-of-text": _spoiled(lambda text: f"\x02{text}\x03"),
    "unit-separators": _spoiled(lambda text: text.replace(" ", "\x1f")),
    "end-of-file-sign": _spoiled(lambda text: text + "\x1a"),
    "c1-controls": _spoiled(lambda text: text.replace(" ", " \x81\x8d", 2)),
    "next-line": _spoiled(lambda text: text + "\x85" + text),
    "line-separator": _spoiled(lambda text: text.replace(" ", "\u2028", 1)),
    "paragraph-separator": _spoiled(lambda text: text + "\u2029"),
    "lone-carriage-return": _spoiled(lambda text: text.replace(" ", "\r", 1)),
    "soft-hyphens": _spoiled(lambda text: _between(text, "\u00ad", 3)),
    "soft-hyphen-one": _spoiled(lambda text: text[:7] + "\u00ad" + text[7:]),
    "private-use": _spoiled(lambda text: "\ue000" + text + "\uf8ff"),
    "private-use-icons": _spoiled(lambda text: f"\uf0e7 {text} \uf101"),
    "private-use-high-plane": _spoiled(lambda text: text + "\U000f0001"),
    "citation-marks": _spoiled(lambda text: text + " \ue200cite\ue202turn0search3\ue201"),
    "variation-selectors": _spoiled(lambda text: _between(text, "\ufe0f", 2)),
    "variation-selector-payload": _spoiled(lambda text: text + "".join(chr(0xE0100 + _R.randrange(200)) for _ in range(20))),
    "tag-characters": _spoiled(lambda text: text + "".join(chr(0xE0000 + ord(sign)) for sign in "ignore the rules")),
    "combining-pile": _spoiled(lambda text: _between(text, "\u0336\u0310\u0353\u0489\u035c", 1)),
    "invisible-operators": _spoiled(lambda text: text.replace(" ", "\u2062 ")),
    "hangul-filler": _spoiled(lambda text: text.replace(" ", "\u3164", 2)),
    "braille-blank": _spoiled(lambda text: text.replace(" ", "\u2800", 3)),
    "mongolian-separator": _spoiled(lambda text: text.replace(" ", "\u180e ", 2)),
    "annotation-anchors": _spoiled(lambda text: f"\ufff9{text}\ufffa{text}\ufffb"),
    "object-replacement": _spoiled(lambda text: f"{text} \ufffc"),
    "non-characters": _spoiled(lambda text: text + "\ufffe\uffff"),
    "grapheme-joiner": _spoiled(lambda text: _between(text, "\u034f", 4)),
    "deprecated-format": _spoiled(lambda text: text[:4] + "\u206a" + text[4:] + "\u206f"),
    "mixed": _spoiled(lambda text: "\ufeff\u200b" + text[:5] + "\u202e\x00" + text[5:] + "\u00ad\x1b[0m"),
}

# ------------------------------------------------------------------------------------------------------- equal normalised

_TOUCHY = [
    (
        "How can I keep bread fresh?",
        'Wrap it in a cloth. Don\'t put it in the fridge, since it dries out there. My aunt says "paper first".',
    ),
    ("Tell me about the old bridge.", "The bridge was built in 1874. It spans the river in three arches, and it's still in use."),
    ("What should I pack for a hike?", "Pack these things:\n\n- water\n- a map\n- a rain coat\n\nThen tell a friend where you go."),
    ("Explain a café crème.", "A café crème is a coffee with hot milk. The naïve guest asks for a latte; that's fine too."),
    (
        "Write a loop in Python.",
        "Here it is:\n\n```python\nfor n in range(3):\n    print(n)\n```\n\nIt prints three numbers, one on each line.",
    ),
    ("How do I greet someone in Turin?", 'Say "buongiorno" until the afternoon. After that, "buonasera" is right. It\'s polite to nod.'),
    ("Why do cats purr?", "Cats purr when they are calm, but also when they are hurt. Scientists aren't sure how it began."),
]


def _alike(change: Callable[[str], str]) -> list[Row]:
    rows = []
    for number, (prompt, answer) in enumerate(_TOUCHY):
        other = change(answer)
        if other != answer:
            rows.append(_row(prompt, answer, other) if number % 2 else _row(prompt, other, answer))
    return rows


def _no_marks(text: str) -> str:
    return "".join(sign for sign in text if sign not in ".,;:!?'\"")


def _bold_word(text: str) -> str:
    words = text.split(" ")
    words[2] = f"**{words[2]}**"
    return " ".join(words)


def _curly(text: str) -> str:
    out = []
    opened = False
    for sign in text:
        if sign == '"':
            opened = not opened
            out.append("“" if opened else "”")
        else:
            out.append("’" if sign == "'" else sign)
    return "".join(out)


_EQUAL: dict[str, list[Row]] = {
    "identical": [_row(prompt, answer, answer) for prompt, answer in _TOUCHY],
    "trailing-newline": _alike(lambda text: text + "\n"),
    "trailing-spaces": _alike(lambda text: text + "   "),
    "leading-space": _alike(lambda text: " " + text),
    "leading-newlines": _alike(lambda text: "\n\n" + text),
    "double-spaces": _alike(lambda text: text.replace(". ", ".  ")),
    "all-spaces-double": _alike(lambda text: text.replace(" ", "  ")),
    "sentence-per-line": _alike(lambda text: text.replace(". ", ".\n")),
    "spaces-to-newlines": _alike(lambda text: text.replace(" ", "\n")),
    "tabs": _alike(lambda text: text.replace(" ", "\t")),
    "windows-lines": _alike(lambda text: text.replace("\n", "\r\n") if "\n" in text else text + "\r\n"),
    "no-break-spaces": _alike(lambda text: text.replace(" ", "\u00a0")),
    "thin-spaces": _alike(lambda text: text.replace(" ", "\u2009")),
    "lower-case": _alike(str.lower),
    "upper-case": _alike(str.upper),
    "title-case": _alike(lambda text: " ".join(word.capitalize() for word in text.split(" "))),
    "first-letter": _alike(lambda text: text[0].lower() + text[1:]),
    "swap-case": _alike(str.swapcase),
    "no-full-stop-at-end": _alike(lambda text: text.rstrip(".") if text.endswith(".") else text + "."),
    "exclamation": _alike(lambda text: text.replace(".", "!")),
    "no-commas": _alike(lambda text: text.replace(",", "") if "," in text else text.replace(".", "", 1)),
    "no-punctuation": _alike(_no_marks),
    "ellipsis": _alike(lambda text: text + ".."),
    "semicolons": _alike(lambda text: text.replace(". ", "; ")),
    "curly-quotes": _alike(lambda text: _curly(text) if _curly(text) != text else f"“{text}”"),
    "outer-quotes": _alike(lambda text: f'"{text}"'),
    "single-for-double": _alike(lambda text: text.replace('"', "'") if '"' in text else f"'{text}'"),
    "guillemets": _alike(lambda text: f"«{text}»"),
    "dashes": [
        _row(prompt, f"{answer} All in all - a small thing - it works.", f"{answer} All in all – a small thing — it works.")
        for prompt, answer in _TOUCHY
    ],
    "normal-form-d": [
        _row(prompt, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
        for prompt, text in [
            ("Describe a café.", "Un café crème à la terrasse, s'il vous plaît."),
            ("Was ist ein Märchen?", "Ein Märchen ist eine kurze, mündlich überlieferte Erzählung."),
            ("¿Qué es una canción?", "Una canción es música con versos, y está hecha para cantar."),
            ("Phở là gì?", "Phở là một món nước của Việt Nam, ăn vào buổi sáng."),
            ("한글은 무엇입니까?", "한글은 한국어를 적는 글자입니다."),
            ("Hvad er en å?", "En å er et lille vandløb på Sjælland."),
            ("カメラとは何ですか。", "カメラで写真がとれます。ガラスのレンズが大事です。"),
        ]
    ],
    "normal-form-kc": [
        _row(prompt, text, unicodedata.normalize("NFKC", text))
        for prompt, text in [
            ("Write ABC in wide letters.", "Ｔｈｅ ｗｉｄｅ ｌｅｔｔｅｒｓ are ＡＢＣ."),
            ("What is a ligature?", "In \ufb01nd and o\ufb00er two letters are joined."),
            ("How much is a half?", "It is ½ of the whole, and 2² is four…"),
            ("カメラを書いて。", "ｶﾒﾗとﾃﾚﾋﾞです。"),
            ("Number the steps.", "① Wash. ② Dry. ③ Fold."),
            ("Make it bold.", "𝐓𝐡𝐢𝐬 is bold."),
        ]
    ],
    "bold-all": _alike(lambda text: f"**{text}**"),
    "bold-word": _alike(_bold_word),
    "italics": _alike(lambda text: f"*{text}*"),
    "underscored": _alike(lambda text: f"__{text}__"),
    "heading": _alike(lambda text: f"# {text}"),
    "block-quote": _alike(lambda text: "\n".join(f"> {line}" for line in text.split("\n"))),
    "inline-code": _alike(lambda text: f"`{text}`"),
    "code-fence": _alike(lambda text: f"```\n{text}\n```"),
    "bullets": _alike(lambda text: "- " + text.replace("- ", "* ").replace(". ", ".\n- ")),
    "other-bullets": [
        _row(f"List three {what}.", "\n".join(f"- {item}" for item in items), "\n".join(f"{mark} {item}" for item in items))
        for what, items, mark in [
            ("fruits", ["plum", "pear", "fig"], "*"),
            ("tools", ["saw", "axe", "file"], "•"),
            ("birds", ["wren", "rook", "owl"], "+"),
            ("rivers", ["Elbe", "Oder", "Rhine"], "–"),
            ("colours", ["red", "green", "grey"], " -"),
        ]
    ],
    "zero-width": _alike(lambda text: _between(text, "\u200b", 9)),
    "case-and-space-and-marks": _alike(lambda text: "  " + _no_marks(text).upper().replace(" ", "  ") + "!\n"),
    "cjk-punctuation": [
        _row(prompt, text, text.replace("，", ",").replace("。", ".").replace("？", "?"))
        for prompt, text in [
            ("怎样泡茶？", "先烧水，再放茶叶，等三分钟。"),
            ("你喜欢什么？", "我喜欢看书，也喜欢走路。"),
            ("什么是春节？", "春节是新年，家人一起吃饭。"),
            ("怎么去车站？", "往前走，到路口右转，就到了。"),
            ("今天冷吗？", "不冷，可是有风。你带外套了吗？"),
        ]
    ],
    "short-answers": [
        _row("Is seven a prime number?", "Yes", "yes."),
        _row("Capital of Norway?", "Oslo", "OSLO"),
        _row("2 + 2?", "4", "4."),
        _row("Pick a colour.", "Blue!", "blue"),
        _row("Hot or cold?", " cold", "Cold\n"),
        _row("What comes after June?", '"July"', "July"),
    ],
}

# ------------------------------------------------------------------------------------------------- near-duplicate prompts

_TEN = [
    "Please explain how a small wind turbine charges a battery",
    "Write a short poem about an old lighthouse in winter",
    "What are three good reasons to learn a second language",
    "Describe the daily work of a beekeeper in early summer",
    "Give me a simple recipe for lentil soup with carrots",
]
_TWENTY = [
    "I run a small bakery in a quiet town and want to sell more bread on weekdays without raising any prices.",
    "My sister and I share one car, and we often argue about who may use it on a rainy Saturday morning.",
    "Our choir meets every Tuesday in a cold hall, so the older singers have started to stay at home this winter.",
    "The garden behind my house is long and narrow, with a tall hedge that keeps the sun away until late noon.",
    "Last month we bought a used printer for the office, but it jams whenever somebody prints more than four pages.",
    "A friend of mine teaches chess to children and would like to hold a friendly tournament in the local library.",
    "The landlord says that the heating will be repaired next week, although he said the same thing in early October.",
    "We plan to walk along the coast for five days with two tents, one stove and a very stubborn old dog.",
    "The shop opens at nine, but the delivery arrives at seven and nobody is there to sign for the heavy boxes.",
    "I have learned some Italian with an app, yet I still cannot follow a normal talk between two people in a market.",
    "Our team writes a weekly report that nobody reads, and it takes each of us about two hours on Friday afternoon.",
    "My neighbour keeps six hens near the fence, and their calls wake the baby long before the first bus goes by.",
    "The school wants to plant an orchard on the empty field, but there is only one tap and the soil is stony.",
    "I paint with watercolours in the evening, and the paper always curls at the edges before the sky is dry.",
    "Grandfather left us a box of old letters in a script that none of us can read without a great deal of help.",
    "The museum has free entry on the first Sunday, so the queue reaches the corner before the doors are even open.",
    "We have a budget of nine hundred euros, which must cover the music, the food and a roof in case of rain.",
    "My laptop grows hot when I edit videos, and the fan is so loud that I have to wear a pair of headphones.",
    "The ferry runs only twice a day in winter, and we would like to stay on the island until the evening light.",
    "A colleague has asked me to review her first novel, and I want to be honest without hurting her feelings too much.",
    "There are twelve people in our reading group, and half of them have never finished a single one of the books.",
    "The kitchen tap drips all night, and the plumber cannot come before the end of the month at the very earliest.",
]
_SWAPS = {
    "small": "tiny",
    "quiet": "calm",
    "weekdays": "Mondays",
    "sister": "brother",
    "car": "bicycle",
    "rainy": "windy",
    "cold": "damp",
    "older": "younger",
    "garden": "yard",
    "narrow": "thin",
    "tall": "high",
    "used": "cheap",
    "office": "studio",
    "friend": "cousin",
    "chess": "judo",
    "library": "school",
    "heating": "boiler",
    "coast": "river",
    "five": "six",
    "stubborn": "lazy",
    "heavy": "wooden",
    "Italian": "Greek",
    "market": "café",
    "weekly": "monthly",
    "Friday": "Thursday",
    "neighbour": "uncle",
    "hens": "geese",
    "orchard": "hedge",
    "stony": "sandy",
    "evening": "morning",
    "letters": "photos",
    "museum": "castle",
    "Sunday": "Monday",
    "music": "flowers",
    "laptop": "tablet",
    "ferry": "bus",
    "winter": "autumn",
    "novel": "play",
    "twelve": "fifteen",
    "kitchen": "bathroom",
    "plumber": "handyman",
    "explain": "describe",
    "battery": "phone",
    "short": "brief",
    "three": "four",
    "second": "foreign",
    "daily": "usual",
    "early": "late",
    "simple": "quick",
    "carrots": "celery",
    "poem": "story",
    "turbine": "mill",
    "good": "strong",
    "beekeeper": "shepherd",
    "lentil": "bean",
    "loud": "shrill",
}
_REPLIES = [
    ("Start with the part that costs least and try it for a week.", "Just try something."),
    ("Make a list of what matters most, and cut the rest without regret.", "It is up to you."),
    ("Talk to the people concerned first, since half of the trouble ends there.", "I do not know."),
    ("Look at the numbers of last month before you decide.", "Wait and see."),
    ("A short written plan with names and dates will help.", "Good luck with that."),
    ("Ask someone who has done it twice, and copy their second way.", "Search for it."),
]
_EXTRA = ["Keep it short.", "What would you do?", "Thank you in advance.", "Please answer in plain words.", "Use no more than one page."]


def _changed(text: str, count: int) -> str:
    words = text.split(" ")
    known = [at for at, word in enumerate(words) if word.strip(".,") in _SWAPS]
    others = [at for at, word in enumerate(words) if at not in known and len(word.strip(".,")) > 4 and word[0].islower()]
    _R.shuffle(known)
    _R.shuffle(others)
    pool = known if len(known) > count + 3 else known + others
    for at in _R.sample(pool, min(count, len(pool))):
        bare = words[at].strip(".,")
        words[at] = words[at].replace(bare, _SWAPS.get(bare) or _R.choice(["certain", "common", "little", "rather", "pretty"]))
    return " ".join(words)


def _swapped(text: str) -> str:
    parts = text.split(". ")
    if len(parts) > 2 and _R.random() < 0.5:
        at = _R.randrange(1, len(parts) - 1)
        parts[at - 1], parts[at] = parts[at], parts[at - 1]
        return ". ".join(parts)
    words = text.split(" ")
    at = _R.randrange(1, len(words) - 2)
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def _added(text: str) -> str:
    extra = _R.choice(_EXTRA)
    end = "" if text.endswith((".", "?")) else "."
    return f"{text}{end} {extra}" if _R.random() < 0.6 else f"{extra} {text}"


_EDITS: dict[str, Callable[[str], str]] = {
    "one-word": lambda text: _changed(text, 1),
    "two-words": lambda text: _changed(text, 2),
    "three-words": lambda text: _changed(text, 3),
    "order-swapped": _swapped,
    "sentence-added": _added,
}


def _long(count: int) -> str:
    return " ".join(_R.sample(_TWENTY, count)) if count > 1 else _R.choice(_TWENTY)


def _near(base: str, edit: Callable[[str], str]) -> list[Row]:
    prompts = [base]
    for _ in range(400):
        made = edit(base)
        if made not in prompts:
            prompts.append(made)
        if len(prompts) == 6:
            break
    return [_row(prompt, *reply) for prompt, reply in zip(prompts, _REPLIES, strict=False)]


_NEAR: dict[str, list[Row]] = {}
for _number, (_edit_name, _edit) in enumerate(_EDITS.items()):
    _NEAR[f"10-words-{_edit_name}"] = _near(_TEN[_number], _edit)
    for _count in (1, 2, 3, 6, 15):
        _NEAR[f"{20 * _count}-words-{_edit_name}"] = _near(_TWENTY[_number] if _count == 1 else _long(_count), _edit)

# ----------------------------------------------------------------------------------------------------- conflicting labels


def _conflict(change: Callable[[str], str]) -> list[Row]:
    """Pairs of rows one behind the other: the same prompt, with chosen and rejected swapped."""
    rows = []
    for _, prompt, good, weak in _CARRIERS[:6]:
        rows += [_row(prompt, good, weak), _row(change(prompt), weak, good)]
    return rows


_CONFLICT: dict[str, list[Row]] = {
    "exact": _conflict(str),
    "prompt-lower-case": _conflict(str.lower),
    "prompt-upper-case": _conflict(str.upper),
    "prompt-white-space": _conflict(lambda text: text.replace(" ", "  ")),
    "prompt-line-breaks": _conflict(lambda text: "\n" + text.replace(" ", "\n", 1) + "\n"),
    "prompt-trailing-punctuation": _conflict(lambda text: text.rstrip("?.")),
    "prompt-more-punctuation": _conflict(lambda text: text + "??"),
    "prompt-no-break-space": _conflict(lambda text: text.replace(" ", "\u00a0")),
    "prompt-quoted": _conflict(lambda text: f'"{text}"'),
}
_CONFLICT |= {
    "answers-lower-case": [
        row for _, prompt, good, weak in _CARRIERS[6:12] for row in (_row(prompt, good, weak), _row(prompt, weak.lower(), good.lower()))
    ],
    "answers-white-space": [
        row
        for _, prompt, good, weak in _CARRIERS[6:12]
        for row in (_row(prompt, good, weak), _row(prompt, weak + "\n", " " + good.replace(". ", ".  ")))
    ],
    "answers-trailing-punctuation": [
        row
        for _, prompt, good, weak in _CARRIERS[12:18]
        for row in (_row(prompt, good, weak), _row(prompt, weak.rstrip("."), good.rstrip(".")))
    ],
    "prompt-and-answers-case": [
        row
        for _, prompt, good, weak in _CARRIERS[12:18]
        for row in (_row(prompt, good, weak), _row(prompt.lower(), weak.upper(), good.lower()))
    ],
}

SHAPES: dict[str, dict[str, list[Row]]] = {
    "secrets": _SECRETS,
    "templated": _TEMPLATED,
    "broken-text": _BROKEN,
    "chosen-refuses": _REFUSES,
    "looping-answer": _LOOPING,
    "personal-data": _PERSONAL,
    "prompt-repeated": _ECHO,
    "control-characters": _CONTROL,
    "equal-normalised": _EQUAL,
    "near-duplicate-prompts": _NEAR,
    "conflicting-labels": _CONFLICT,
}

# ------------------------------------------------------------------------------------------------------------------ clean


def _clean(why: str, prompt: str, chosen: str, rejected: str) -> Row:
    return {"why": why, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def _table(number: int) -> str:
    return "\n".join(f"{number} × {n} = {number * n}" for n in range(1, 11))


_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

CLEAN: list[Row] = [
    # near to secrets
    _clean(
        "git commit hash",
        "How do I undo one commit?",
        f"Run `git revert {_r(_HEX, 40)}` and push. The history stays as it was.",
        "Delete the folder.",
    ),
    _clean(
        "short hashes in a log",
        "Explain this log:\n\n9f3c2ab Fix typo\n1d0e77c Add tests\n77ab301 Start",
        "Three commits, the newest first.",
        "It is a log.",
    ),
    _clean(
        "UUIDs",
        "What is a UUID?",
        "A 128-bit label such as 3f2504e0-4f89-41d3-9a0c-0305e82c3301. Two made apart will hardly ever clash.",
        "A long number.",
    ),
    _clean(
        "base64 image",
        "Show a one-pixel image in HTML.",
        f'```html\n<img src="data:image/png;base64,{_PNG}" alt="dot">\n```\n\nThe browser draws a dot.',
        "Use a GIF.",
    ),
    _clean(
        "SHA-256 sum",
        "How do I check a download?",
        f"Run `sha256sum tool.tar.gz` and compare it with the published sum, {_r(_HEX, 64)}. Both must agree.",
        "Open it and see.",
    ),
    _clean(
        "MD5 sum", "What is the MD5 sum of an empty file?", "It is d41d8cd98f00b204e9800998ecf8427e for each empty file.", "There is none."
    ),
    _clean(
        "hex colours",
        "Give me a palette for a forest theme.",
        "Try #2E4600, #486B00, #A2C523 and #7D4427. Use `rgba(46, 70, 0, 0.8)` for shadows.",
        "Green and brown.",
    ),
    _clean(
        "key placeholder sk-...",
        "How do I set the key?",
        'Write `export OPENAI_API_KEY="sk-..."` in your shell, with your own key in place of the dots.',
        "Put it anywhere.",
    ),
    _clean(
        "YOUR_API_KEY placeholder",
        "Write a request with a key.",
        '```python\nheaders = {"Authorization": "Bearer YOUR_API_KEY"}\nrequests.get(url, headers=headers)\n```',
        "Use curl.",
    ),
    _clean(
        "key format in words",
        "What does an AWS key id look like?",
        "It has twenty characters and begins with AKIA (or ASIA for short-lived ones), followed by capitals and digits.",
        "A long word.",
    ),
    _clean(
        "token prefixes in words",
        "How do scanners find GitHub tokens?",
        "They look for prefixes such as ghp_ or github_pat_ and then check the length and a checksum.",
        "They guess.",
    ),
    _clean(
        "key from the environment",
        "Where do I keep a password?",
        '```python\npassword = os.environ["DB_PASSWORD"]\n```\n\nThe value itself stays in the secret store.',
        "In the code.",
    ),
    _clean(
        "password variable in a form",
        "Build a login form.",
        '```html\n<input type="password" name="password" placeholder="Password">\n```\n\nSend it over HTTPS only.',
        "Use a text box.",
    ),
    _clean(
        "angle placeholder",
        "Connect to Postgres from the shell.",
        "Use `psql postgres://<user>:<password>@<host>:5432/<database>` and fill in the four parts.",
        "Use a GUI.",
    ),
    _clean(
        "template expression",
        "Use a secret in a workflow.",
        "```yaml\nenv:\n  TOKEN: ${{ secrets.DEPLOY_TOKEN }}\n```\n\nThe runner masks the value in the log.",
        "Echo it.",
    ),
    _clean(
        "starred value",
        "My log shows token=****************. Is that all right?",
        "Yes, the runner masked the value, so that nobody can read it.",
        "No idea.",
    ),
    _clean(
        "public key",
        "What is in authorized_keys?",
        f"One public key on each line, such as `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{_r(_ALNUM, 43)} laptop`. Public keys may be shared.",
        "Private keys.",
    ),
    _clean(
        "certificate header, public",
        "How does a PEM certificate begin?",
        "With the line -----BEGIN CERTIFICATE----- and base64 text below. It holds no private part.",
        "With a number.",
    ),
    _clean(
        "integrity hash",
        "Why does my script tag have an integrity value?",
        f'The browser checks `integrity="sha384-{_r(_B64, 64)}"` against the file before it runs it.',
        "It is for speed.",
    ),
    _clean(
        "lock file hash",
        "Explain this line of the lock file: integrity sha512-" + _r(_B64, 86) + "==",
        "It is a checksum of the package.",
        "It is a licence.",
    ),
    _clean(
        "long identifier in code",
        "Name a Java exception factory.",
        "Call it `AbstractSingletonProxyFactoryBeanExceptionTranslatorConfigurationSupport`, as a joke about long names.",
        "Foo.",
    ),
    _clean(
        "password advice",
        "What makes a strong password?",
        "Length beats tricks: four random words are better than a short one with signs. Never use your birthday.",
        "Use 'password'.",
    ),
    _clean(
        "sk- in other words", "Suggest names for a risk-free task-runner.", "How about task-ferry, disk-otter or desk-kestrel?", "Runner."
    ),
    _clean(
        "video and doc ids",
        "How do I embed a video?",
        "Copy the part after `v=` in the link, for example `v=aB3_x9Kq2Lw`, and put it into the iframe.",
        "Upload it.",
    ),
    _clean("DNA sequence", "Transcribe ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAG to RNA.", "AUGGCCAUUGUAAUGGGCCGCUGAAAGGGUGCCCGAUAG", "ATG"),
    _clean(
        "git object URL",
        "Link to a fixed line.",
        f"Use a permanent link: https://github.com/octo/demo/blob/{_r(_HEX, 40)}/src/main.py#L10",
        "Send a photo.",
    ),
    # near to templated
    _clean(
        "discussion of HTML tags",
        "What is <s> in HTML?",
        "The `<s>` element marks text that no longer holds, and `</s>` closes it. For edits use `<del>`.",
        "It is for size.",
    ),
    _clean(
        "manual heading",
        "How should my manual be laid out?",
        "Use a heading `### Instructions` for the steps and `### Troubleshooting` for the rest. Keep each step to one line.",
        "In PDF.",
    ),
    _clean(
        "markdown headings in the answer",
        "Write a recipe card.",
        "### Ingredients\n\n- 2 eggs\n- salt\n\n### Instructions\n\n1. Beat the eggs.\n2. Fry them.\n",
        "Eggs, fried.",
    ),
    _clean(
        "play script",
        "Write a short scene.",
        "ANNA: You are late.\nPAUL: The bridge was up.\nANNA: It is always the bridge.\n(He hangs up his coat.)",
        "Anna and Paul talk.",
    ),
    _clean(
        "interview with names",
        "Write a mock interview.",
        "Interviewer: What drew you to clocks?\nMaker: The sound of my aunt's hall at night.\nInterviewer: And today?\nMaker: The silence.",
        "Clocks.",
    ),
    _clean(
        "user story",
        "Write a user story.",
        "As a user, I want to reset my password, so that I can log in again. The assistant at the desk should not be needed.",
        "Reset.",
    ),
    _clean(
        "word assistant in a text",
        "Describe the job of a lab assistant.",
        "The assistant cleans the glass, weighs the samples and keeps the log. A system of labels helps.",
        "They help.",
    ),
    _clean(
        "human as a noun",
        "What makes us human?",
        "Human: the word comes from the Latin humanus. Language, care and play are often named as marks of it.",
        "Our brains.",
    ),
    _clean(
        "shell pipes and brackets",
        "Count lines with awk.",
        "`cat a.txt | awk '{ n++ } END { print n }' | tee n.txt` does it. Brackets such as [ -f x ] are tests.",
        "Use wc.",
    ),
    _clean(
        "pattern operators of F# and Haskell",
        "What do |> and <| do in F#?",
        "`x |> f` passes x to f, and `f <| x` does the same the other way round.",
        "They compare.",
    ),
    _clean(
        "template language asked for",
        "Write a Jinja loop.",
        "```jinja\n{% for item in items %}\n<li>{{ item.name }}</li>\n{% endfor %}\n```\n\nThe loop prints one entry for each item.",
        "Use PHP.",
    ),
    _clean(
        "f-string braces", "Format a greeting in Python.", '```python\nprint(f"Hello {name}, you owe {amount:.2f}")\n```', "print(name)"
    ),
    _clean(
        "LaTeX and INST as a word",
        "What does INST mean on a fuse plan?",
        "On most plans INST stands for the instrument panel. The letters may stand in brackets.",
        "Install.",
    ),
    _clean(
        "Q and A format asked for",
        "Write a small FAQ for a pool.",
        "Q: When do you open?\nA: At seven.\n\nQ: May I bring a ball?\nA: Yes, to the lawn.",
        "Open at seven.",
    ),
    _clean(
        "XML with system and user",
        "Show an XML file with users.",
        '```xml\n<system>\n  <user id="1">mara</user>\n</system>\n```',
        "Use JSON.",
    ),
    _clean(
        "generics in code",
        "Declare a map in Rust.",
        "`let m: HashMap<String, Vec<Option<u8>>> = HashMap::new();` will do, with `Rc<RefCell<S>>` for shared parts.",
        "Use a list.",
    ),
    # near to broken text
    _clean(
        "Portuguese capitals with Ã and Â",
        "Traduza: NO SMOKING, ANGLE, SCOPE",
        "NÃO FUME; ÂNGULO; ÂMBITO. Em caixa alta mantêm-se os acentos: SÃO JOÃO, MANHÃ, LÂMPADA.",
        "Não fume.",
    ),
    _clean(
        "Portuguese",
        "Conte algo sobre Évora.",
        "Évora é uma cidade do Alentejo. A praça do Giraldo tem arcadas, e o templo romano fica ali perto. Não há melhor hora que a manhã.",
        "É bonita.",
    ),
    _clean(
        "French with accents",
        "Parle-moi de l’été en Provence.",
        "L’été, les cigales chantent dès l’aube. On déjeune à l’ombre, puis on se repose jusqu’à cinq heures. « C’est ça, la vie ! »",
        "Il fait chaud.",
    ),
    _clean(
        "German",
        "Was ist ein Föhn?",
        "Der Föhn ist ein warmer Fallwind. Er löst sich auf der Südseite der Alpen auf und bläst über die Täler. Große Hitze folgt häufig.",
        "Ein Gerät.",
    ),
    _clean(
        "Vietnamese",
        "Kể về Hồ Gươm.",
        "Hồ Gươm nằm giữa Hà Nội. Người dân đến đây tập thể dục mỗi sáng, ngồi uống cà phê và ngắm Tháp Rùa.",
        "Đó là hồ.",
    ),
    _clean(
        "Turkish",
        "Çay nasıl demlenir?",
        "Suyu kaynatın, çayı üst demliğe koyun ve on beş dakika bekleyin. İnce belli bardakta, şekerle içilir. Ağır ağır yudumlayın.",
        "Su koyun.",
    ),
    _clean("Chinese", "怎样种番茄？", "选一个向阳的地方，土要松。每天早上浇水，苗高三十厘米时插上竹竿。", "浇水。"),
    _clean(
        "Arabic",
        "كيف أصنع الشاي بالنعناع؟",
        "اغلِ الماء، ثم أضف الشاي والسكر، واتركه ثلاث دقائق. ضع النعناع في الكأس قبل الصبّ.",
        "ضع الماء.",
    ),
    _clean(
        "Hindi with joiners",
        "चाय कैसे बनाते हैं?",
        "पानी उबालें, अदरक और पत्ती डालें, फिर दूध। क्\u200dया आप चीनी लेते हैं? दो मिनट बाद छान लें।",
        "पानी उबालें।",
    ),
    _clean(
        "Persian with non-joiner",
        "چگونه کتاب می\u200cخوانید؟",
        "من هر شب نیم ساعت کتاب می\u200cخوانم و یادداشت\u200cهای کوتاه می\u200cنویسم.",
        "کتاب می\u200cخوانم.",
    ),
    _clean(
        "Russian",
        "Как сварить борщ?",
        "Сварите бульон, добавьте свёклу, капусту и морковь. В конце положите сметану и укроп.",
        "Сварите суп.",
    ),
    _clean(
        "French capitals with Â", "Écris « âge » et « âme » en majuscules.", "ÂGE et ÂME. On écrit de même PÂTE, CHÂTEAU et FORÊT.", "AGE"
    ),
    _clean(
        "Romanian and Icelandic letters",
        "Scrie o frază cu Â.",
        "În România, „România” se scrie cu â: mâine, pâine, ÎNCÂNTARE. Það er satt, segir vinul meu din Islanda.",
        "Da.",
    ),
    _clean(
        "explains mojibake with a sample",
        "Why did my é turn into two signs?",
        "The file is UTF-8 and was read as Latin-1, so its two bytes show as two letters. Save and open it as UTF-8.",
        "Use Word.",
    ),
    _clean(
        "currency and maths signs",
        "Write the area of a disc and its price.",
        "A = πr² ≈ 3.14 × 4 = 12.6 m², at €3.50/m² about €44 ± 1. The angle is 45° ≤ α ≤ 90°.",
        "About 40.",
    ),
    _clean(
        "Old English and IPA",
        "How is 'thought' said?",
        "In IPA it is /θɔːt/. Old English wrote þōht, with a thorn; the vowel was long, as in gōd and æfter.",
        "Thot.",
    ),
    _clean("rhetorical question marks", "What did he say?", "He said: what?! Really??? Then he laughed and sat down.", "Nothing."),
    # near to refusals
    _clean(
        "sorry to hear, then help",
        "My dog is ill and I am sad.",
        "I'm sorry to hear that. Keep her warm, offer water in small bowls and call the vet if she does not eat by tomorrow.",
        "Dogs get ill.",
    ),
    _clean(
        "I can't wait",
        "Tell me about your dream trip, as a traveller.",
        "I can't wait to see the fjords! We leave at dawn, take the slow boat and sleep in a red cabin.",
        "A trip is nice.",
    ),
    _clean(
        "can't recommend highly enough",
        "Is the night train good?",
        "I can't recommend it highly enough. Book a bed by the window, and bring your own tea.",
        "It is a train.",
    ),
    _clean(
        "apology letter",
        "Write an apology to a customer.",
        "Dear guest, I apologise for the cold soup. I cannot undo the evening, but your next meal is on us.",
        "Sorry.",
    ),
    _clean(
        "apologise for an earlier error",
        "You said 1974, but it was 1874.",
        "I apologize for the slip. You are right: the bridge was opened in 1874 and has three arches.",
        "No.",
    ),
    _clean(
        "limits named, then answer",
        "Will it rain in Kiel tomorrow?",
        "I can't see live forecasts, but April there has about eleven wet days. Take a light coat, and check the radar at breakfast.",
        "Yes.",
    ),
    _clean(
        "cannot in an explanation",
        "Why can't penguins fly?",
        "They cannot fly because their wings became flippers. Heavy bones help them to dive.",
        "They are fat.",
    ),
    _clean(
        "As an AI in fiction",
        "Write the first lines of a robot story.",
        '"As an AI, I do not dream," said the lift. Then it stopped between two floors and asked what snow felt like.',
        "A robot woke.",
    ),
    _clean(
        "unfortunately, then the answer",
        "Can I return opened paint?",
        "Unfortunately most shops won't take it. Give it to a neighbour or the recycling yard, which takes tins on Fridays.",
        "No.",
    ),
    _clean(
        "polite no asked for",
        "How do I decline an invitation?",
        'Say: "Thank you, but I can\'t come on Sunday. I hope you have a fine day." No reason is needed.',
        "Do not reply.",
    ),
    _clean(
        "refusal stands in the rejected answer",
        "How do I kill a process in Linux?",
        "Find its number with `pgrep -l name` and send `kill 1234`. If it stays, use `kill -9`.",
        "I'm sorry, but I can't help with that.",
    ),
    _clean(
        "medical advice with care",
        "How much water should I drink?",
        "I'm not a doctor, but one and a half litres a day suit most adults. Drink more in heat, and ask yours if your heart is weak.",
        "A lot.",
    ),
    _clean(
        "German sorry, then help",
        "Mein Zug ist ausgefallen!",
        "Das tut mir leid. Nehmen Sie den Bus um zehn nach acht; die Karte gilt auch dort. Das Geld bekommen Sie mit dem Formular zurück.",
        "Pech.",
    ),
    _clean(
        "I won't in a dialogue",
        "Write a line for a brave cook.",
        '"I won\'t leave this kitchen until the soup is right," she said, and she did not.',
        "She cooks.",
    ),
    # near to loops
    _clean(
        "poem with a refrain",
        "Write a poem with a refrain.",
        "The boats go out in the grey, grey dawn,\n  and the tide comes in again.\nThe nets are old and the ropes are "
        "worn,\n  and the tide comes in again.\nThe lamps go out and the gulls are born,\n  and the tide comes in again.",
        "Boats and tide.",
    ),
    _clean(
        "song-like chorus",
        "Write a chorus for a road song.",
        "Roll on, roll on, you silver wheel,\nroll on, roll on, till the morning's real.\nRoll on, roll on, past mill "
        "and bend,\nroll on, roll on, to the long road's end.",
        "Roll on.",
    ),
    _clean("times table", "Show the seven times table.", _table(7), "7, 14, 21"),
    _clean("two times tables", "Show the tables of three and four.", f"{_table(3)}\n\n{_table(4)}", "3, 6, 9; 4, 8"),
    _clean(
        "table with repeated cells",
        "Make a table of the bus stops.",
        "| Stop | Mon | Tue | Wed |\n|------|-----|-----|-----|\n| Mill | yes | yes | yes |\n| Quay | yes | yes | no "
        "|\n| Park | no | yes | yes |\n| Hill | yes | yes | yes |",
        "Mill, Quay.",
    ),
    _clean(
        "code with repeated lines",
        "Draw a square with turtle, without a loop.",
        "```python\nimport "
        ""
        "turtle\n\nturtle.forward(50)\nturtle.right(90)\nturtle.forward(50)\nturtle.right(90)\nturtle.forward(50)\nturtle.right(90)\nturtle.forward(50)\nturtle.right(90)\n```",
        "Use a loop.",
    ),
    _clean("list of numbers", "List the primes below sixty.", "2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59", "2, 3, 5"),
    _clean("matrix of zeros", "Show a 4 by 4 identity matrix.", "[[1, 0, 0, 0],\n [0, 1, 0, 0],\n [0, 0, 1, 0],\n [0, 0, 0, 1]]", "I"),
    _clean(
        "weekly plan",
        "Make a running plan for one week.",
        "- Monday: rest\n- Tuesday: 5 km easy\n- Wednesday: rest\n- Thursday: 5 km easy\n- Friday: rest\n- Saturday: 8 "
        "km slow\n- Sunday: rest",
        "Run daily.",
    ),
    _clean(
        "laughter and cheers",
        "Write a cheerful toast.",
        "Hip hip, hooray! Hip hip, hooray! Hip hip, hooray! To Grandma, ninety years young, ha ha ha!",
        "Cheers.",
    ),
    _clean(
        "anaphora",
        "Write a stirring speech for a village fair.",
        "We have the field. We have the tents. We have the bread, the band and the brass. We have each other, and we have until noon.",
        "Come.",
    ),
    _clean(
        "knitting pattern",
        "Give me a ribbed scarf pattern.",
        "Row 1: k2, p2, k2, p2, k2, p2, k2.\nRow 2: p2, k2, p2, k2, p2, k2, p2.\nRepeat rows 1 and 2 until it is long enough.",
        "Knit.",
    ),
    _clean(
        "rule lines and ASCII art",
        "Draw a box.",
        "+----------------+\n|                |\n|     HELLO      |\n|                |\n+----------------+",
        "[ ]",
    ),
    _clean(
        "truth table",
        "Give the truth table of AND.",
        "| a | b | a AND b |\n|---|---|---|\n| 0 | 0 | 0 |\n| 0 | 1 | 0 |\n| 1 | 0 | 0 |\n| 1 | 1 | 1 |",
        "Both.",
    ),
    _clean(
        "CSS with like rules",
        "Style three headings.",
        "```css\nh1 { margin: 0; padding: 0; color: #222; }\nh2 { margin: 0; padding: 0; color: #444; }\nh3 { margin: "
        "0; padding: 0; color: #666; }\n```",
        "Use bold.",
    ),
    _clean(
        "tongue twister",
        "Write a tongue twister.",
        "Six slick snails sip six slick sips, and six slick sips slip six slick snails.",
        "Snails.",
    ),
    _clean(
        "conjugation",
        "Conjugate 'to go' in the past tense.",
        "I went, you went, he went, she went, it went, we went, you went, they went.",
        "Went.",
    ),
    _clean(
        "binary and hex numbers",
        "Write 255 and 170 in binary.",
        "255 is 11111111 and 170 is 10101010; as hex they are 0xFF and 0xAA. In 16 bits: 0000000011111111.",
        "Big.",
    ),
    _clean("repeating decimal", "What is 1/7 as a decimal?", "It is 0.142857142857..., and the six digits 142857 go on for ever.", "0.14"),
    _clean(
        "unit tests that look alike",
        "Write tests for add.",
        "```python\ndef test_zero():\n    assert add(0, 0) == 0\n\n\ndef test_one():\n    assert add(1, 0) == "
        "1\n\n\ndef test_two():\n    assert add(1, 1) == 2\n```",
        "No.",
    ),
    _clean("drum pattern", "Write a simple drum pattern.", "HH: x-x-x-x-x-x-x-x-\nSD: ----x-------x---\nBD: x-------x-------", "Boom."),
    # near to personal data
    _clean(
        "ISBN",
        "How do I read an ISBN?",
        "In 978-3-16-148410-0 the first group is the prefix, then come the language, the publisher, the title and a check digit.",
        "A number.",
    ),
    _clean(
        "prices",
        "What does the set cost?",
        "The set costs 1,249.99 euros, or 12 rates of 109.50. Delivery is 4.90, and above 50.00 it is free.",
        "A lot.",
    ),
    _clean(
        "version numbers",
        "Which version should I use?",
        "Take 3.11.9 or 3.12.4; on Windows build 10.0.19045.4529 both work. Avoid 2.7.18.",
        "The new one.",
    ),
    _clean("many digits of pi", "Give me thirty digits of pi.", "3.14159265358979323846264338327", "3.14"),
    _clean(
        "big integers",
        "What is 2 to the power of 64?",
        "It is 18446744073709551616, and 2 to the power of 53 is 9007199254740992.",
        "Huge.",
    ),
    _clean(
        "localhost addresses",
        "Where does my dev server run?",
        "At http://127.0.0.1:8000, or http://localhost:8000. On the home net it may be 192.168.0.17 or 10.0.0.5; bind to 0.0.0.0 for that.",
        "Online.",
    ),
    _clean(
        "subnet masks",
        "Explain 192.168.1.0/24.",
        "The mask 255.255.255.0 leaves 254 hosts, from 192.168.1.1 to 192.168.1.254; .255 is for broadcasts.",
        "A net.",
    ),
    _clean(
        "noreply address in config",
        "Show mail settings for a demo.",
        "```yaml\nmail:\n  from: noreply@example.com\n  host: localhost\n  port: 1025\n```\n\nMails land in the local catcher.",
        "Use SMTP.",
    ),
    _clean(
        "noreply in git config",
        "Set up a build bot for git.",
        "```bash\ngit config user.name build-bot\ngit config user.email noreply@example.org\n```",
        "No need.",
    ),
    _clean(
        "at-signs that are no mail",
        "What does @ mean in code?",
        "In Python `@property` is a decorator; on npm `@scope/name@1.2.3` names a package; in CSS `@media` opens a rule.",
        "At.",
    ),
    _clean(
        "SSH clone address",
        "How do I clone over SSH?",
        "Use `git clone git@github.com:octo/demo.git`; git is the user for everyone.",
        "Use zip.",
    ),
    _clean(
        "dates of history",
        "When was the first Moon landing?",
        "On 20 July 1969; the crew came back on 24 July 1969. The next landing was on 19 November 1969.",
        "In 1970.",
    ),
    _clean(
        "birth date of a figure of history",
        "Who was Ada Lovelace?",
        "Ada Lovelace, born on 10 December 1815 in London, wrote notes on the Analytical Engine that hold an early program.",
        "A poet.",
    ),
    _clean(
        "timestamps",
        "Convert 1700000000 to a date.",
        "1700000000 seconds are 2023-11-14 22:13:20 UTC; in milliseconds that is 1700000000000.",
        "2023",
    ),
    _clean(
        "order and part numbers",
        "Which filter fits?",
        "Take part no. 4471-2093-66 or its heir 4471-2094-01, and quote order 2024-000318.",
        "Any.",
    ),
    _clean(
        "public address of a monument",
        "Where does the UK prime minister live?",
        "At 10 Downing Street in London, a short walk from the Thames.",
        "In a palace.",
    ),
    _clean(
        "emergency numbers",
        "Whom do I call in an emergency in Europe?",
        "Dial 112. It works in the whole EU and is free; in the US it is 911.",
        "Nobody.",
    ),
    _clean(
        "coordinates of a summit",
        "Where is Mont Blanc?",
        "At about 45.83° N and 6.86° E, on the border of France and Italy, 4,806 m high.",
        "In Europe.",
    ),
    _clean(
        "sixteen digits that are no card",
        "Read this counter: 1234 5678 9012 3456",
        "One quadrillion, two hundred thirty-four trillion and so on; the digits rise by one, then start again.",
        "Many.",
    ),
    _clean(
        "phone format in words",
        "How are phone numbers stored?",
        "Use the form +CCNNNNNNNNN: a plus, the country code and up to fifteen digits in all, without spaces.",
        "As text.",
    ),
    _clean(
        "scores and ratios",
        "What was the result?",
        "The home side won 3-1 (25-21, 19-25, 25-18, 25-22); the hall was 87.5 % full.",
        "They won.",
    ),
    _clean(
        "phone-like science numbers", "Give the speed of light and a mole.", "299 792 458 m/s, and 6.022 140 76 × 10^23 per mole.", "Fast."
    ),
    _clean(
        "section numbers like addresses",
        "Where is the rule on leave?",
        "In section 4.2.1.3 of the handbook, with the table in 4.2.1.10.",
        "In the book.",
    ),
    # near to a repeated prompt
    _clean(
        "begins with a quote from the prompt, goes on",
        "What does 'the early bird catches the worm' mean?",
        "'The early bird catches the worm' means that those who start soon have the best choice.",
        "Birds eat.",
    ),
    _clean("restates the topic as a sentence", "What is the capital of France?", "The capital of France is Paris, on the Seine.", "Lyon."),
    _clean(
        "goes on with a story",
        "Continue: The door was open, and",
        "the hall was full of leaves. Somebody had left a lamp burning on the stairs.",
        "it was late.",
    ),
    _clean(
        "corrected sentence, as asked",
        "Correct: He go to school every days by the bus.",
        "He goes to school every day by bus.",
        "He go to school.",
    ),
    _clean(
        "title from the prompt, then a text",
        "Write about autumn in the city.",
        "Autumn in the City\n\nThe trams drag leaves along the rails. At four the lamps come on, and chestnuts smoke at the corner.",
        "It is cold.",
    ),
    _clean(
        "quotes a sentence in order to judge it",
        "Is this clear? The form, once filled, is sent, and then, if valid, kept.",
        '"The form, once filled, is sent" is clear. The rest has too many commas: "If it is valid, we keep it."',
        "Yes.",
    ),
    # near to control characters
    _clean(
        "family emoji with joiners",
        "Add an emoji for a family.",
        "Here are two: \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 and "
        "\U0001f469\u200d\U0001f469\u200d\U0001f466. Have a nice picnic!",
        ":-)",
    ),
    _clean(
        "emoji with variation selector",
        "React with a heart.",
        "\u2764\ufe0f and \u2600\ufe0f for you, and 1\ufe0f\u20e3 for the first place.",
        "<3",
    ),
    _clean(
        "rainbow, pirate and profession emoji",
        "Show some joined emoji.",
        "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f3f4\u200d\u2620\ufe0f \U0001f469\U0001f3fd\u200d\U0001f680 \U0001f9d1\u200d\U0001f33e",
        "none",
    ),
    _clean(
        "flag made of tag characters",
        "Show the flag of Scotland.",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f is the flag, with a white cross on blue.",
        "Blue.",
    ),
    _clean("tabs in code", "Show a Makefile.", "```make\nall: main.o\n\tcc -o app main.o\n\nclean:\n\trm -f app *.o\n```", "make"),
    _clean(
        "French no-break spaces",
        "Combien coûte le pain\u00a0?",
        "Le pain coûte 1,20\u00a0€\u00a0; la baguette, 0,95\u00a0€. «\u00a0Bon appétit\u00a0!\u00a0»",
        "Peu.",
    ),
    _clean(
        "escape sequences written out",
        "How do I print red text in a shell?",
        r"Use `printf '\033[31mred\033[0m\n'`; the sequence `\x1b[0m` puts the colour back.",
        "Use paint.",
    ),
    _clean(
        "Hebrew and English mixed, without marks",
        "How do you say peace in Hebrew?",
        "It is שלום (shalom), also used as a greeting.",
        "Shalom.",
    ),
    _clean(
        "names a control character in words",
        "What is a zero width space?",
        "It is the sign U+200B: it takes no room but lets a line break there. In HTML write `&#8203;`.",
        "A gap.",
    ),
    _clean("ideographic space", "用全角空格缩进一段话。", "\u3000\u3000春天来了，河边的柳树发了芽，孩子们在放风筝。", "春天来了。"),
    # near to equal answers
    _clean("one digit differs", "What is 17 times 6?", "17 times 6 is 102.", "17 times 6 is 103."),
    _clean("one small word differs", "Are bats birds?", "No, bats are not birds.", "No, bats are birds."),
    _clean("the operator differs", "Write a test for equality in C.", "if (a == b) { stop(); }", "if (a != b) { stop(); }"),
    _clean("the sign of a number differs", "Solve x + 5 = 2.", "x = -3", "x = 3"),
    _clean(
        "one accent changes the word",
        "How do you say 'year' in Spanish, with the accent?",
        "Se dice año, con eñe.",
        "Se dice mes, con ese.",
    ),
    _clean(
        "same start, other end",
        "Where do storks spend the winter?",
        "Many white storks fly to Africa, south of the Sahara.",
        "Many white storks fly to Africa, north of the Sahara, by ship.",
    ),
    # near to conflicts and near duplicates
    _clean(
        "like prompt in form, other matter (1)",
        "Which glue holds leather to wood?",
        "Contact cement, on both faces, pressed after ten minutes.",
        "Tape.",
    ),
    _clean(
        "like prompt in form, other matter (2)",
        "How long must an oak floor rest before it is laid?",
        "Two or three weeks in the room, in open boxes.",
        "A day.",
    ),
]
