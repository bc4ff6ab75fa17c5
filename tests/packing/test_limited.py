"""A stranger's chat template that never ends, or writes without end, ends in a sentence; all others render as before."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from prefine.cli import main
from prefine.errors import ModelError, PrefineError
from prefine.packing import limited
from prefine.packing.rendering import LeftOut, Renderer
from template_matrix import byte_tokenizer

MESSAGES = ({"role": "user", "content": "hello"},)
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
ENDS = "{% endfor %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "loops": LOOPS + ENDS + "{{ messages[0].content }}",
    "loops where a word is": "{{ messages[0].content }}{% if 'hello' in messages[0].content %}" + LOOPS + ENDS + "{% endif %}",
    "loops in a macro": "{% macro m(n) %}" + LOOPS + ENDS + "{% endmacro %}{{ m(1) }}",
    "gigabytes": LOOPS + "{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 9999 }}" + ENDS,
    "doubling": "{% set n = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "a power": "{{ messages[0].content }}{{ 9 ** 9 ** 9 % 7 }}",
    "long": "{{ messages[0].content }}{{ 'x' * 99999999 }}",
}


def render(template: str) -> Any:
    return Renderer(byte_tokenizer(template)).render(MESSAGES, [], None)


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "SECONDS", 1.0)
    monkeypatch.setattr(limited, "BYTES", 2**28)
    with pytest.raises(ModelError, match=r"the chat template of .*(did not end within|GiB of memory|characters|powers)"):
        render(TEMPLATES[name])
    # And nothing of it is left: the next template renders.
    assert render("{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}").prompt == "user hello"


@pytest.mark.parametrize("wrong", ["{{ 1 / 0 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 'x'[9] }}{{ x.y.z }}"])
def test_what_goes_wrong_in_it_is_its_refusal(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "SECONDS", 2.0)
    with pytest.raises(PrefineError):
        render("{{ messages[0].content }}" + wrong)


def test_other_threads_and_forks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that renders too long is stopped alone; a forked worker has a watch of its own."""
    monkeypatch.setattr(limited, "SECONDS", 0.5)
    found: dict[str, Any] = {}

    def work(name: str, template: str) -> None:
        try:
            found[name] = render(template).prompt
        except ModelError as error:
            found[name] = error

    threads = [threading.Thread(target=work, args=(name, TEMPLATES[name])) for name in ("loops", "loops in a macro")]
    for thread in threads:
        thread.start()
    with limited.limited("what is quick"):
        time.sleep(0.1)
    for thread in threads:
        thread.join(60)
    assert {type(error) for error in found.values()} == {ModelError}
    assert len(found) == 2
    fork = multiprocessing.get_context("fork").Process(target=_fork)
    fork.start()
    fork.join(60)
    assert fork.exitcode == 3


def _fork() -> None:
    try:
        render(TEMPLATES["loops"])
    except ModelError:
        raise SystemExit(3) from None


def test_a_refusal_of_the_template_is_no_limit() -> None:
    with pytest.raises(LeftOut, match="refuses the roles"):
        render("{{ raise_exception('no') }}")


def test_commands_end(chat_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setattr(limited, "SECONDS", 1.0)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = TEMPLATES["loops"]
    tokenizer.save_pretrained(tmp_path / "evil")
    assert main(["data", "show", str(pairs_file), "--tokens", "--model", str(tmp_path / "evil")]) == 2
    assert "did not end within 1 seconds" in capsys.readouterr().err
