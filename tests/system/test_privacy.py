"""Nothing of a device's data leaves it: canaries in the data, and a search of everything that gets out for them.

A fleet of real processes trains, and fails in every way that has to do with data, while a client listens to all of its
broker. Searched are payloads, decoded messages, objects and what they hold compressed, logs, output, and the
coordinator's database.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator import events
from edge_agent.wire import container, frame
from edge_agent.wire import messages as m
from edge_agent.wire.container import Kind
from edge_agent.wire.crash_points import Crash, Point, environment
from tests.system.canaries import ALL, IDS, LABEL, MESSAGE, NAME, SPOKEN, TEXT, Eavesdropper, Heard, in_bytes, in_object
from tests.system.fleet import (
    CLASSES,
    Fleet,
    Process,
    Settings,
    assert_ends_well,
    fleet,
    of_kind,
    told,
    toml,
    toy_rows,
    wait_event,
    wait_until,
    write_rows,
)

ROOT = Path(__file__).parent.parent.parent
DEVICE = "pi-1"
ONE = Settings(rounds=2, devices=(DEVICE,), round={"gather_s": 10**6})
ROWS = [{"text": TEXT, "label": CLASSES[0]}, {"text": " ".join(SPOKEN), "label": CLASSES[1]}]
ON_THE_DEVICE = ("file name",)
"""Its own log may name files."""
FEED = """
import sys
from pathlib import Path

print({text!r}, flush=True)
print({text!r}, file=sys.stderr)

def rows():
    for row in {rows!r}:
        print(row)
        yield row["text"], row["label"]
    if (Path(__file__).parent / "fails").exists():
        raise ValueError({message!r} + {text!r})
"""


def canary_rows(seed: int = 1) -> list[dict[str, str]]:
    return [*toy_rows(seed), *ROWS * 3]


@contextmanager
def eavesdropped(folder: Path, settings: Settings) -> Iterator[tuple[Fleet, Heard]]:
    """A fleet whose coordinator listens, and all that passes its broker."""
    with fleet(folder, settings) as one:
        coordinator = one.start_coordinator()
        wait_event(coordinator, events.Listening)
        with Eavesdropper(one.port) as spy:
            yield one, spy.heard


def outside(one: Fleet) -> dict[str, bytes]:
    """What the gateway has: its output, its log, its database."""
    found = {path.name: path.read_bytes() for path in one.run_dir.glob("coordinator.db*")}
    found["the coordinator's output"] = "".join(one.coordinator.lines).encode()
    found["the coordinator's log"] = one.coordinator.stderr.encode()
    return found


def on_the_device(agents: Mapping[str, Process]) -> dict[str, bytes]:
    """What devices print and log."""
    found = {f"the log of {name}": agent.stderr.encode() for name, agent in agents.items()}
    return found | {f"the output of {name}": "".join(agent.lines).encode() for name, agent in agents.items()}


def answers(one: Fleet) -> dict[str, bytes]:
    """What commands say of the run and of the device."""
    run, state, config = str(one.run_dir), str(one.state_dir(DEVICE)), str(one.agent_config(DEVICE))
    asked = [("status", run), ("status", run, "--json"), ("status", state), ("status", state, "--json")]
    asked += [("agent", "doctor", config), ("agent", "doctor", config, "--json")]
    return {" ".join(words): said(*words) for words in asked}


def said(*words: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", "deploy.cli.main", *words], capture_output=True, check=False)
    assert done.stdout, done.stderr
    return done.stdout + done.stderr


def leaks(one: Fleet, heard: Heard, agents: Mapping[str, Process]) -> set[str]:
    """Every canary that got out, and where."""
    found = heard.leaks()
    for where, data in outside(one).items():
        found |= {f"{name} in {where}" for name in in_bytes(data)}
    for where, data in on_the_device(agents).items():
        found |= {f"{name} in {where}" for name in in_bytes(data, leaving=ON_THE_DEVICE)}
    return found


def folder_of(one: Fleet) -> Path:
    folder = one.agent_folder(DEVICE) / "texts"
    folder.mkdir(exist_ok=True)
    return folder


# A fleet that trains


def test_rounds_with_faults_in_them_tell_nothing_of_the_data(tmp_path: Path) -> None:
    """One device has a folder, in which a file is spoilt and mended, and a trainer that is killed; one a function."""
    feed = {"data": "python:plant_feed:rows", "data_path": "feed"}
    settings = Settings(
        rounds=4,
        devices=(DEVICE, "pi-2"),
        agents={DEVICE: {"data": "texts", "data_check_s": 0.5}, "pi-2": feed},
        round={"grace_s": 0.5},
        local_training={"checkpoint_s": 0.01},
    )
    with eavesdropped(tmp_path, settings) as (one, heard):
        folder = folder_of(one)
        write_rows(folder / f"{NAME}.jsonl", canary_rows())
        plant_feed(one.agent_folder("pi-2") / "feed")
        killed = environment(Crash(Point.TRAINER_TRAINED, 1, tmp_path / "marker"))
        agents = {DEVICE: one.start_agent(DEVICE, killed), "pi-2": one.start_agent("pi-2")}
        wait_event(one.coordinator, events.Received)
        (folder / f"{NAME}-2.jsonl").write_text(json.dumps({"text": TEXT, "label": LABEL}) + "\n")
        refused = wait_event(one.coordinator, events.Refused)
        assert "line 1: the field 'label' names no class" in refused.reason
        write_rows(folder / f"{NAME}-2.jsonl", canary_rows(2))
        answered = answers(one)
        assert_ends_well(one.coordinator, agents)
        assert (tmp_path / "marker").read_bytes().startswith(b"..")
        assert NAME in agents[DEVICE].stderr, "the device's own log names the file"
        assert {m.Hello, m.Welcome, m.Ready, m.Plan, m.Declined, m.Offer, m.Chunk, m.Final, m.Finished} <= heard.kinds()
        assert len({bytes(body) for body in heard.updates()}) >= 2 * settings.rounds, "updates were taken apart"
        assert leaks(one, heard, agents) == set()
        assert {where for where, answer in answered.items() if in_bytes(answer)} == set()


def plant_feed(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "plant_feed.py").write_text(FEED.format(text=TEXT, message=MESSAGE, rows=canary_rows(3)))


def test_an_update_that_is_refused_tells_nothing_of_the_data(tmp_path: Path) -> None:
    settings = Settings(
        rounds=2, devices=(DEVICE,), agents={DEVICE: {"data": "texts"}}, guard={"rms_limit": 1e-9},
        head={"start": "seed"},
    )  # fmt: skip
    with eavesdropped(tmp_path, settings) as (one, heard):
        write_rows(folder_of(one) / f"{NAME}.jsonl", canary_rows())
        agents = {DEVICE: one.start_agent(DEVICE)}
        wait_event(one.coordinator, events.Refused)
        wait_until(lambda: m.Rejected in heard.kinds(), 20, lambda: "nothing was rejected")
        assert heard.updates()
        assert leaks(one, heard, agents) == set()


# A device whose data, or budget, will not do


def good(text: str) -> str:
    return json.dumps({"text": text, "label": CLASSES[0]}) + "\n"


FAULTS: dict[str, tuple[str, str]] = {
    "malformed": (good(TEXT) + f'{{"text": "{TEXT}", "label"', "line 2"),
    "no label": (f'{{"text": "{TEXT}"}}\n', "line 1: Object missing required field `label`"),
    "a label of nobody": (f'{{"text": "{TEXT}", "label": "{LABEL}"}}\n', "line 1: the field 'label' names no class"),
    "a label that is no text": (f'{{"text": "{TEXT}", "label": ["{LABEL}"]}}\n', "line 1: Expected `str`, got `array`"),
    "a field of another name": (f'{{"{TEXT}": "{LABEL}"}}\n', "line 1: Object missing required field `text`"),
    "a blank text": (good(TEXT) + good(" "), "line 2: the field 'text' is blank"),
    "not UTF-8": (good(TEXT) + f"{TEXT}\udcff\n", "line 2: not UTF-8"),
    "CSV without a header": (f"{TEXT},{LABEL}\n", "line 1: expected a header"),
    "CSV of other cells": (f"text,label\n{TEXT}\n", "line 2: expected 2 fields"),
    "gzip that is none": (TEXT, "damaged gzip file"),
}
SUFFIXES = {"CSV without a header": ".csv", "CSV of other cells": ".csv", "gzip that is none": ".jsonl.gz"}
FEEDS: dict[str, tuple[str, str]] = {
    "raises": (f"def rows():\n    raise ValueError('{MESSAGE} {TEXT}')\n", "row 0: ValueError"),
    "raises on import": (
        f"import sys\nprint('{TEXT}', file=sys.stderr)\nraise KeyError('{MESSAGE}')\n",
        "row 0: KeyError",
    ),
    "is no Python": (f"def rows()  # {TEXT}\n    '{MESSAGE}'\n", "row 0: SyntaxError"),
    "ends the process": (f"import sys\ndef rows():\n    sys.exit('{MESSAGE}')\n", "row 0: SystemExit"),
    "gives a label of nobody": (f"def rows():\n    yield '{TEXT}', '{LABEL}'\n", "row 1: the field 'label' names no"),
}


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Heard]]:
    """A fleet whose coordinator waits for its devices, for ever."""
    with eavesdropped(tmp_path_factory.mktemp("waiting"), ONE) as found:
        yield found


def assert_refused(place: tuple[Fleet, Heard], settings: dict[str, object], reason: str, budget_bytes: int = 0) -> None:
    """The device says why it cannot take part, everybody may hear it, and nothing in it is of its data."""
    one, heard = place
    whole = {**one.agent_settings(DEVICE), **settings}
    if budget_bytes:
        whole["memory"] = {"budget_bytes": budget_bytes}
    one.agent_config(DEVICE).write_text(toml(whole))
    agent = one.start_agent(DEVICE)
    assert agent.wait() == 1, agent.stderr
    refused = of_kind(told(one.coordinator), events.Refused)[-1]
    assert reason in refused.reason
    assert leaks(one, heard, {DEVICE: agent}) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_is_wrong_is_told_by_its_line_alone(waiting: tuple[Fleet, Heard], fault: str) -> None:
    content, reason = FAULTS[fault]
    name = f"{NAME}{SUFFIXES.get(fault, '.jsonl')}"
    (waiting[0].agent_folder(DEVICE) / name).write_bytes(content.encode(errors="surrogateescape"))
    assert_refused(waiting, {"data": name}, reason)


@pytest.mark.parametrize("fault", FEEDS)
def test_an_entry_point_that_fails_is_told_by_row_and_kind_alone(waiting: tuple[Fleet, Heard], fault: str) -> None:
    code, reason = FEEDS[fault]
    folder = waiting[0].agent_folder(DEVICE) / NAME
    folder.mkdir(exist_ok=True)
    (folder / "plant_feed.py").write_text(code)
    assert_refused(waiting, {"data": "python:plant_feed:rows", "data_path": NAME}, reason)


def test_a_budget_that_is_too_small_is_told_in_bytes_alone(waiting: tuple[Fleet, Heard]) -> None:
    write_rows(waiting[0].agent_folder(DEVICE) / f"{NAME}.jsonl", canary_rows())
    assert_refused(waiting, {"data": f"{NAME}.jsonl"}, "budget", budget_bytes=2**20)


def test_an_error_that_nobody_foresaw_is_told_without_its_message(waiting: tuple[Fleet, Heard]) -> None:
    """Of a library that prints a text, and quotes it in its error."""
    one, heard = waiting
    one.write()
    write_rows(one.data(DEVICE), canary_rows())
    code = f"""
        import edge_agent.tokenise as module
        def encode(self, texts):
            print(texts[-1], flush=True)
            raise KeyError("{MESSAGE}", texts[-1])
        module.Tokeniser.encode = encode
    """
    agent = one.start_agent(DEVICE, patched(one.folder / "quotes", code))
    assert agent.wait() == 1, agent.stderr
    assert "KeyError" in agent.stderr and "bytes that are no result" in agent.stderr
    assert leaks(one, heard, {DEVICE: agent}) == set()


# What these tests would find


PLANTED = {
    "a reason": (
        "import edge_agent.data as module\n"
        f"module.check_example = lambda example, classes: example.text if example.text == {TEXT!r} else None\n",
        f"{TEXT} as utf-8 in a message of rankfleet/depot/pi-1/up",
    ),
    "a reason in base64": (
        "import base64, edge_agent.data as module\n"
        "def check(example, classes):\n"
        f"    return base64.b64encode(b'x' + {TEXT!r}.encode()).decode() if example.text == {TEXT!r} else None\n"
        "module.check_example = check\n",
        f"{TEXT} as base64, shifted by 1 in a message of rankfleet/depot/pi-1/up",
    ),
    "a file's name": (
        "import edge_agent.data as module\n"
        "from edge_agent.wire.errors import DataError\n"
        "def wrong(path, problem, line=None):\n    return DataError(f'{path}{problem}', f'{path}{problem}')\n"
        "module._wrong = wrong\n"
        f"module.check_example = lambda example, classes: 'blank' if example.text == {TEXT!r} else None\n",
        f"{NAME} as utf-8 in the coordinator's output",
    ),
    "a line of the log": (
        "import logging, edge_agent.data as module\n"
        "check = module.check_example\n"
        "def told(example, classes):\n"
        "    logging.getLogger('rankfleet.trainer').warning('read %s', example.text)\n"
        "    return check(example, classes)\n"
        "module.check_example = told\n",
        f"{TEXT} as utf-8 in the log of {DEVICE}",
    ),
    "a text in an update": (
        "from edge_agent.wire import codec\n"
        "seal = codec.seal\n"
        f"codec.seal = lambda kind, body: seal(kind, body + {TEXT!r}.encode('utf-16-le'))\n",
        f"{TEXT} as utf-16-le in an object",
    ),
    "token ids in an update": (
        "import struct\nfrom edge_agent.wire import codec\n"
        "seal = codec.seal\n"
        f"codec.seal = lambda kind, body: seal(kind, body + struct.pack('<9h', *{IDS!r}))\n",
        "token ids as <h in an object",
    ),
}


RARE = ("a reason in base64", "token ids in an update")
"""Forms that the search is tested on below."""


def patched(folder: Path, code: str) -> dict[str, str]:
    """The variables with which every process of an agent runs `code` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.parametrize("leak", [pytest.param(one, marks=pytest.mark.slow if one in RARE else ()) for one in PLANTED])
def test_a_leak_that_is_planted_is_found(tmp_path: Path, leak: str) -> None:
    code, expected = PLANTED[leak]
    settings = Settings(rounds=2, devices=(DEVICE,), agents={DEVICE: {"data": "texts"}}, head={"start": "seed"})
    with eavesdropped(tmp_path, settings) as (one, heard):
        write_rows(folder_of(one) / f"{NAME}.jsonl", canary_rows())
        agents = {DEVICE: one.start_agent(DEVICE, patched(tmp_path / "leak", code))}
        kinds = (events.Refused, events.Closed)
        wait_until(
            lambda: any(of_kind(told(one.coordinator), kind) for kind in kinds), 60, lambda: one.coordinator.stderr
        )
        assert expected in leaks(one, heard, agents)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "hide",
    [
        str.encode,
        lambda text: text.upper().encode(),
        lambda text: f"the error said {text!r}".encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: base64.b64encode(b"key" + text.encode()),
        lambda text: base64.b64encode(b"ke" + text.encode() + b"y"),
        lambda text: base64.b64encode(b"k" + text.encode() + b"ey"),
        lambda text: text.encode().hex().encode(),
        lambda text: json.dumps({"reason": text}).encode(),
    ],
)
def test_the_search_finds_a_text_in_all_its_forms(kind: str, hide: Callable[[str], bytes]) -> None:
    assert in_bytes(b"before \x00 " + hide(ALL[kind]) + b" after")
    assert not in_bytes(hide("a text of nobody, with word7 and word41 in it"))


def test_the_search_takes_apart_what_was_heard() -> None:
    text, body = TEXT.encode(), bytes(400) + struct.pack("<9i", *IDS)
    update = container.seal(Kind.UPDATE, body)
    sha256 = bytes(32)
    chunks = [m.Chunk(sha256, at, update[at : at + 256]) for at in range(0, len(update), 256)]
    up = "rankfleet/depot/pi-1/up"
    pulled = Heard([(up, frame.encode(chunk, 1, number)) for number, chunk in enumerate(chunks, 1)])
    assert "token ids as <i in an object" in pulled.leaks() and pulled.updates() == [body]
    will = Heard([(up, frame.encode(m.Offline(TEXT), 1, 0)), (up, text[:-1])])
    assert will.leaks() == {f"{TEXT} as utf-8 in a payload of {up}", f"{TEXT} as utf-8 in a message of {up}"} | {
        f"{TEXT} in JSON in a {where} of {up}" for where in ("payload", "message")
    }
    assert in_object({"indices": [1, 2, *IDS, 3]}) == {"token ids among numbers"}
    assert in_object({"indices": [*IDS[:4], 0, *IDS[4:]]}) == set()
