"""Every failure is one line with its remedy, exit code 2 or 3, and nothing local is lost."""

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import get_session

from kdgen.hub import push_to_hub
from kdgen.models.hub_cache import explained
from kdgen.models.hub_cache.failures import _end_silence, _refuse_long_waits
from kdgen.models.model import Model
from kdgen.types import UserError

from .conftest import WRITER, RunContext, call
from .server import Fault, Hub


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


@pytest.mark.parametrize(
    ("fault", "token", "code", "words"),
    [
        (None, None, 2, "nobody is logged in to the Hub: run `hf auth login`"),
        (None, "hf_token_of_nobody_0001", 2, "does not accept the token"),
        (None, "hf_reader_of_nothing_1", 2, "no right to write"),
        (Fault("/repos/create", 402, message="Payment required"), WRITER, 2, "no room or no plan"),
        (
            Fault("/preupload/", 403, message="You have exceeded your private storage limit"),
            WRITER,
            2,
            "no room or no plan",
        ),
        (Fault("/commit/", 412, message="a commit has happened since"), WRITER, 2, "changed by somebody else"),
        (
            Fault("/repos/create", 400, message=f"odd {WRITER} thing"),
            WRITER,
            2,
            "refused with error 400: odd hf_… thing",
        ),
        (Fault("/whoami", 429, {"Retry-After": "3600"}, 99), WRITER, 3, "wait 3600 s"),
        (Fault("/lfs/objects/batch", 429, {"Retry-After": "3600"}, 99), WRITER, 3, "wait 3600 s"),
        (Fault("/commit/", 429, {"RateLimit": '"api";r=0;t=900'}, 99), WRITER, 3, "wait 900 s"),
    ],
)
def test_publishing(
    hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fault: Fault | None, token: str | None, code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    hub.faults += [fault] if fault else []
    before = digest(trained)
    assert call("push", str(trained), "acme/fails") == code
    message = capsys.readouterr().err
    assert words in message
    assert message.startswith("kdgen: acme/fails")
    assert message.count("\n") == 1
    assert not token or token not in message
    assert digest(trained) == before


def test_a_server_that_stays_ill(
    hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 2.0)
    hub.faults.append(Fault("/whoami", 500, times=99))
    assert call("push", str(trained), "acme/fails") == 3
    assert "the Hub failed with error 500, see https://status.huggingface.co" in capsys.readouterr().err
    hub.faults[:] = [Fault("/whoami", 0, times=99)]
    assert call("push", str(trained), "acme/fails") == 3
    assert "dropped the connection: check the network" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["push", "RUN", "acme/x"], ["pull", "acme/x"], ["list", "hub"]])
def test_no_network(
    trained: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 0.5)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert call(*[str(trained) if word == "RUN" else word for word in arguments]) == 3
    message = capsys.readouterr().err
    assert "http://127.0.0.1:9 cannot be reached: check the network" in message
    assert message.count("\n") == 1


def test_a_name_taken_by_something_else_is_not_written_over(
    place: RunContext, student: Callable[..., Model], hub: Hub
) -> None:
    name = place.name("theirs")
    hub.store.plant(name, {"pytorch_model.bin": b"precious", "README.md": b"---\nlibrary_name: other\n---\n"})
    with pytest.raises(UserError, match="taken by something that kdgen did not publish"):
        push_to_hub(student(), name)
    assert push_to_hub(student(), name, create_pr=True).commit
    assert "pytorch_model.bin" in {file.rfilename for file in HfApi().model_info(name).siblings or ()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["push", "absent", "acme/x"], "holds no finished student"),
        (["push", "absent", "acme"], "is no id of the Hub"),
        (["push", "absent", "acme/x@v1"], "name the branch by revision"),
        (["evaluate", "runs/absent"], "there is no folder runs/absent here; the Hub has no runs/absent"),
        (["pull", "acme/no-such-thing"], "the Hub has no acme/no-such-thing, or it is private"),
        (["evaluate", "acme/no-such-thing"], "the Hub has no acme/no-such-thing"),
        (["deploy", "acme"], "is no id of the Hub"),
    ],
)
def test_mistakes(place: RunContext, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("arguments", [["pull", "acme/any"], ["list", "hub"]])
def test_a_wrong_token_is_told_when_reading_too(
    hub: Hub, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_nobody_0001")
    assert call(*arguments) == 2
    assert "does not accept the token" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["hf_\u201cabc\u201d", "hf_a\nb"])
@pytest.mark.parametrize("arguments", [["pull", "acme/any"], ["list", "hub"]])
def test_a_token_that_none_can_be_is_told_at_once(
    hub: Hub, token: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: token)
    assert call(*arguments) == 2
    message = capsys.readouterr().err
    assert "the token holds a character that no token has" in message
    assert message.count("\n") == 1
    assert "abc" not in message


def test_what_is_to_be_private_is_never_sent_to_a_public_place(
    place: RunContext, student: Callable[..., Model]
) -> None:
    name = place.name("open")
    before = push_to_hub(student(), name).commit
    with pytest.raises(UserError, match="there already and public, nothing was sent"):
        push_to_hub(student(depth=3, width=5), name, private=True)
    assert HfApi().model_info(name).sha == before


def test_what_arrived_and_cannot_be_compared_is_said_to_have_been_sent(
    hub: Hub, student: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 0.0)
    hub.faults.append(
        Fault("GET /api/models/acme/sent/revision/[0-9a-f]{40}", 404, {"X-Error-Code": "RepoNotFound"}, 9)
    )
    with pytest.raises(UserError, match=r"acme/sent/commit/\w+ was made, but what arrived could not be compared"):
        push_to_hub(student(), "acme/sent")


def test_two_threads_at_the_hub_leave_the_client_as_it_was(hub: Hub) -> None:
    session = get_session()
    before = {kind: list(hooks) for kind, hooks in session.event_hooks.items()}
    first, second = explained("a"), explained("b")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _end_silence in session.event_hooks["request"]
    assert _refuse_long_waits in session.event_hooks["response"]
    second.__exit__(None, None, None)
    assert (session.timeout, session.event_hooks) == (httpx2.Timeout(None), before)


def test_a_silent_hub_is_waited_for_no_longer_than_this(
    hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kdgen.models.hub_cache.failures.SILENCE", 0.3)
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 0.0)
    hub.faults.append(Fault("/whoami", 200, delay=3.0))
    assert call("push", str(trained), "acme/fails") == 3
    message = capsys.readouterr().err
    assert "does not answer: check the network" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault("GET /api/models", 403, {"X-Error-Code": "GatedRepo"}), 2, "is gated: ask for access at http"),
        (Fault("GET /api/models", 429, {"Retry-After": "3600"}, 9), 3, "too many requests: wait 3600 s. Try again"),
        (Fault("(HEAD|GET) .*/resolve/", 429, {"Retry-After": "3600"}, 9), 3, "wait 3600 s. Try again later"),
        (Fault("GET /cdn/", 500, times=9), 3, "the Hub failed with error 500"),
        (Fault("GET /cdn/", 200), 3, "a download was cut short. Try again later"),
    ],
)
def test_pulling(
    hub: Hub, place: RunContext, student: Callable[..., Model], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], fault: Fault, code: int, words: str,
) -> None:  # fmt: skip
    push_to_hub(student(), name := place.name("pulled"))
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 0.0)
    hub.faults.append(fault)
    assert call("pull", name, "--to", "here") == code
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not Path("here").exists()
    hub.faults.clear()
    assert call("pull", name, "--to", "here") == 0


def test_a_full_disk_is_one_line(
    hub: Hub, place: RunContext, student: Callable[..., Model], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    push_to_hub(student(), name := place.name("large"))
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert call("pull", name) == 3
    assert capsys.readouterr().err.startswith("kdgen: the disk is full: free space")


def test_a_request_that_nobody_tries_again_but_us_is_tried_again(
    hub: Hub, place: RunContext, student: Callable[..., Model]
) -> None:
    hub.faults += [Fault("GET /api/whoami", 0), Fault("GET /api/models/", 503), Fault("/branch/", 500)]
    assert push_to_hub(student(), place.name("again"), revision="wide").commit
    assert [fault.times for fault in hub.faults] == [0, 0, 0]


def test_a_pull_request_is_not_opened_twice(hub: Hub, place: RunContext, student: Callable[..., Model]) -> None:
    push_to_hub(student(), name := place.name("proposed"))
    hub.faults.append(Fault("/commit/", 503))
    with pytest.raises(UserError, match="failed with error 503"):
        push_to_hub(student(depth=3, width=6), name, create_pr=True)
    assert hub.faults[0].times == 0


def test_a_private_student_and_a_wrong_revision(
    place: RunContext,
    student: Callable[..., Model],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = place.name("private")
    push_to_hub(student(), name, private=True)
    assert call("pull", name, "--revision", "v9") == 2
    assert "has no such revision" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert call("pull", name, "--revision", "main") == 2
    assert "or it is private" in capsys.readouterr().err


def test_an_interruption_is_one_line(
    hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "create_commit", interrupted)
    assert call("push", str(trained), "acme/stopped") == 130
    assert "interrupted: nothing here changed" in capsys.readouterr().err
