"""Every fault of the fake against the verbs: exit code, cause, time, and the guest as found.

The cases run side by side, each verb against fakes of its own: most of their time is waiting.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Ran

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
#: Was on before any verb came, and has to stay on.
FOUND = "ide_reset"

VERBS = {
    "list": ("list", EVENT),
    "enable": ("enable", EVENT),
    "tail": ("tail", EVENT, "--duration", "100ms"),
    "wait": ("wait", EVENT, "--timeout", "100ms"),
    "status": ("status",),
    "doctor": ("doctor",),
    "hmp": ("hmp", "info status"),
    "qmp": ("qmp", "query-status"),
}
#: A fault looks the same to every verb; some are put to all of them.
ALL, FEW = tuple(VERBS), ("list", "enable", "tail", "hmp")
SWITCHING = ("enable", "tail", "wait")
#: What verbs end with when nothing is in their way; doctor finds no declarations.
USUAL = {"wait": 124, "doctor": 1}


class Wanted(NamedTuple):
    """How verbs end: the code (None: as usual), what they say, and codes of some verbs."""

    code: int | None
    says: str = ""
    unlike: dict[str, int] = {}  # noqa: RUF012 - never changed
    verbs: Sequence[str] = FEW


SET = ":trace-event-set-state"
FAULTS = {
    # No session: nothing was asked of the guest.
    "no-greeting": Wanted(4, "did not greet within 5 s", verbs=ALL),
    "garbage-greeting": Wanted(4, "does not speak QMP: it sent what is not JSON: b'SSH-2.0"),
    "wrong-greeting": Wanted(4, "does not speak QMP: it greeted with JSON that is not QMP's"),
    "hangup-at-connect": Wanted(4, "the other side closed the connection"),
    "hangup-after-greeting": Wanted(4, "the conn"),
    "refuse-negotiation": Wanted(4, "it refused to negotiate"),
    # The link broke, or nobody knows.
    "hangup-before-reply": Wanted(5, ": the other side closed the connection"),
    "hangup-mid-reply": Wanted(5, "closed the connection in the middle of a message", verbs=ALL),
    "no-reply": Wanted(5, "no answer to", verbs=ALL),
    "wrong-id": Wanted(5, "but a reply with the id 'not-the-id-you-sent'"),
    "missing-id": Wanted(5, "but a reply without an id"),
    "id-less-error": Wanted(5, "an error response without an ID"),
    "deep-json": Wanted(5, "it sent JSON that is nested too deeply"),
    "huge-line": Wanted(5, "it sent a line of more than 10 MiB"),
    "invalid-utf8": Wanted(5, "it sent bytes that are not UTF-8"),
    "reply-not-object": Wanted(5, "it sent JSON that is [1, 2], not an object"),
    "reply-not-object:number": Wanted(5, "it sent JSON that is 42, not an object"),
    "freeze:1": Wanted(5, "no answer to"),
    # QEMU refused.
    "error-reply": Wanted(1, "refused", verbs=ALL),
    # Odd, and still right.
    "late-greeting:1": Wanted(None),
    "greeting-byte-by-byte": Wanted(None),
    "split-json": Wanted(None),
    "event-flood:3000": Wanted(None),
    "late-reply:1:query-status": Wanted(None),
    # No such event has that name any more.
    "control-characters": Wanted(None, "", dict.fromkeys(("list", *SWITCHING), 3), ALL),
    # Only the switching goes wrong.
    f"hangup-before-reply{SET}": Wanted(5, "during trace-event-set-state", verbs=SWITCHING),
    f"hangup-mid-reply{SET}": Wanted(5, "during trace-event-set-state", verbs=SWITCHING),
    f"error-reply{SET}": Wanted(1, "refused trace-event-set-state", verbs=SWITCHING),
    f"wrong-id{SET}": Wanted(None, "", verbs=SWITCHING),
    "applied-but-unanswered": Wanted(None, "", verbs=SWITCHING),
    f"late-reply:1{SET}": Wanted(None, "", verbs=SWITCHING),
    f"no-reply{SET}": Wanted(None, "", {"enable": 5}, verbs=SWITCHING),
    f"deep-json{SET}": Wanted(5, "nested too deeply", verbs=SWITCHING),
}
SLOW = ("no-greeting", "no-reply", "wrong-id", "missing-id", "freeze", "applied")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb did, and what was on after it, after the next verb and after restore."""

    address: str
    ran: Ran
    after: Sequence[str]
    next_verb: Sequence[str]
    restored: Sequence[str]
    leases: int


class Lane:
    """A verb's cases, one after the other against one fake, with one journal."""

    def __init__(self, verb: str, folder: Path) -> None:
        self.verb = verb
        self.folder = folder
        self.runs = 0

    @contextlib.contextmanager
    def guest(self, fault: str) -> Iterator[tuple[Qtctl, FakeProcess]]:
        self.runs += 1
        place = self.folder / str(self.runs)
        place.mkdir(parents=True)
        arguments = ("--socket", str(place / "s"), "-D", str(place / "log"))
        with Qtctl(place / "home") as qtctl, FakeProcess(*arguments) as fake:
            switch = {"name": FOUND, "enable": True}
            on = json.dumps({"execute": "trace-event-set-state", "arguments": switch})
            qtctl("-t", fake.address, "qmp", on, limit=None).said(0)
            yield qtctl, fake

    def run(self, faults: Sequence[str], results: dict[tuple[str, str], Future[Outcome]]) -> None:
        """Run the cases; whatever happens, each has a result: a test waits for it."""
        try:
            self.run_cases(faults, results)
        except BaseException as error:
            for fault in faults:
                if not results[fault, self.verb].done():
                    results[fault, self.verb].set_exception(error)

    def run_cases(
        self, faults: Sequence[str], results: dict[tuple[str, str], Future[Outcome]]
    ) -> None:
        with contextlib.ExitStack() as stack:
            qtctl, fake = stack.enter_context(self.guest(faults[0]))
            for fault in faults:
                future = results[fault, self.verb]
                try:
                    future.set_result(self.patiently(qtctl, fake, fault))
                except BaseException as error:
                    future.set_exception(error)
                if fault.startswith("freeze") or future.exception():
                    qtctl, fake = stack.enter_context(self.guest(fault))

    def patiently(self, qtctl: Qtctl, fake: FakeProcess, fault: str) -> Outcome:
        """Run a case, again where a machine that is busy kept a fake from answering in 5 s."""
        for _ in range(3):
            outcome = self.case(qtctl, fake, fault)
            if fault.startswith(SLOW) or "no answer to" not in outcome.ran.out + outcome.ran.err:
                break
        return outcome

    def case(self, qtctl: Qtctl, fake: FakeProcess, fault: str) -> Outcome:
        if fault.startswith("freeze"):
            count = len(fake.tell()["commands"])
            fault = f"freeze:{count + 1}"
        fake.tell(faults=[fault])
        ran = qtctl("-t", fake.address, *VERBS[self.verb], limit=None)
        if fault.startswith("freeze"):
            return Outcome(fake.address, ran, [], [], [], 0)
        after: list[str] = fake.tell(faults=[])["enabled"]
        following = after
        if qtctl.leases():
            qtctl("-t", fake.address, "list", FOUND, limit=None).said(0)
            following = fake.tell()["enabled"]
        leases = len(qtctl.leases())
        restored = following
        if leases:
            qtctl("-t", fake.address, "restore", limit=None).said(0)
            restored = fake.tell()["enabled"]
        return Outcome(fake.address, ran, after, following, restored, leases)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Outcome]]]:
    """Run the cases of the selected tests, slow and quick ones in lanes of their own."""
    asked = [
        item.callspec.params["fault"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and "fault" in item.callspec.params
    ]
    chosen = [fault for fault in FAULTS if fault in asked]
    results: dict[tuple[str, str], Future[Outcome]] = {}
    folder = tmp_path_factory.mktemp("p")
    # The slow ones wait; the quick ones want a processor each.
    with ThreadPoolExecutor(len(VERBS)) as waiting, ThreadPoolExecutor(2) as working:
        for slow in (True, False):
            for verb in VERBS:
                faults = [
                    fault
                    for fault in chosen
                    if fault.startswith(SLOW) == slow and verb in FAULTS[fault].verbs
                ]
                results |= {(fault, verb): Future() for fault in faults}
                if faults:
                    lane = Lane(verb, folder / f"{verb}{int(slow)}")
                    (waiting if slow else working).submit(lane.run, faults, results)
        yield results


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_end(
    outcomes: dict[tuple[str, str], Future[Outcome]], fault: str
) -> None:
    wanted = FAULTS[fault]
    for verb in wanted.verbs:
        outcome = outcomes[fault, verb].result()
        ran = outcome.ran
        code = wanted.unlike.get(verb, USUAL.get(verb, 0) if wanted.code is None else wanted.code)
        if verb == "doctor":
            assert ran.code == 1, ran
            said = ran.out
        else:
            ran.said(code)
            said = ran.err
        if wanted.code is not None:
            assert wanted.says in said, (verb, ran)
            assert outcome.address in said, (verb, ran)
            assert "Disconnected" not in said
        # A thousand bytes of the link's own trouble help nobody.
        assert len(ran.err) < 2000, ran
        assert not set(map(chr, (*range(9), *range(11, 32), *range(127, 160)))) & set(
            ran.out + ran.err
        ), ran
        # Two time-outs of one verb do not add up.
        assert ran.seconds < 9.5, (verb, ran.seconds)
        if fault.startswith("freeze"):
            continue
        assert outcome.restored == [FOUND], (verb, outcome)
        if verb == "enable":
            switched = code == 0 or EVENT in outcome.after
            assert outcome.leases or not switched, outcome
        else:
            assert outcome.next_verb == [FOUND], (verb, outcome)


@pytest.mark.parametrize("series", ["7.2", "10.0", "11.1"])
def test_a_link_that_breaks_once_is_made_again_to_give_back(
    qtctl: Qtctl, make_fake: MakeFake, series: str
) -> None:
    fake = make_fake("--qemu", series)
    fake.tell(faults=["hangup-before-reply:trace-event-set-state*1"])
    ran = qtctl("-t", fake.address, "tail", "virtio_blk_*", "memory_region_ops_*")
    ran.said(5, "during trace-event-set-state", fake.address)
    told = fake.tell()
    assert not told["enabled"]
    assert not qtctl.leases()
    sent = [call for call in told["commands"] if call["execute"] == "trace-event-set-state"]
    assert sent, "the fault was met"
    assert not any("vcpu" in call["arguments"] for call in sent)


@pytest.mark.parametrize("series", ["7.2", "10.0", "11.1"])
def test_the_same_life_on_every_version(
    qtctl: Qtctl, make_fake: MakeFake, folder: Path, series: str
) -> None:
    fake = make_fake("--qemu", series)
    target = ("-t", fake.address)
    qtctl(*target, "enable", EVENT).said(0)
    listed = json.loads(qtctl(*target, "--json", "list", "--state", "enabled").said(0).out)
    assert [event["name"] for event in listed["events"]] == [EVENT]
    with contextlib.ExitStack() as stack:
        tail = qtctl.start(*target, "tail", "virtio_*", "--ndjson", "--max-events", "3")
        stack.callback(tail.end)
        tail.said("Ctrl-C gives back")
        assert len(fake.tell()["enabled"]) > 10
        fake.tell(events=3)
        ran = tail.finish().said(0, "3 shown")
    records = [json.loads(line) for line in ran.out.splitlines()]
    assert [record["type"] for record in records] == [
        "control",
        "event",
        "event",
        "event",
        "summary",
    ]
    assert fake.tell()["enabled"] == [EVENT]
    version = json.loads(qtctl(*target, "--json", "status").said(0).out)["version"]
    assert version.startswith(series)
    qtctl(*target, "restore").said(0)
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_a_fake_killed_under_each_verb(qtctl: Qtctl, make_fake: MakeFake) -> None:
    """A monitor that dies while a command waits for its answer is told from one that is slow."""
    for verb in ("list", "hmp"):
        fake = make_fake(name=verb)
        fake.tell(faults=["no-reply"])
        run = qtctl.start("-t", fake.address, *VERBS[verb])
        _until_asked(fake)
        fake.process.kill()
        ran = run.finish()
        ran.said(5, fake.address)
        assert "the connection was reset" in ran.err or "closed the connection" in ran.err
        assert ran.seconds < 4, "nobody waits for the dead"


def _until_asked(fake: FakeProcess) -> None:
    from tests.running import eventually

    def asked() -> bool:
        return any(c["execute"] != "qmp_capabilities" for c in fake.tell()["commands"])

    eventually(asked, "a command was sent")
