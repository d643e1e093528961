"""What is refused is said to a Chinese visitor in Chinese, whoever refuses it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from plain_english import english_in

from kdgen import registry
from kdgen.models.adapters.weight_files import read_weights_file
from kdgen.models.hub_cache import explained
from kdgen.models.model import load
from kdgen.registry import Spec
from kdgen.tasks.compatibility import check_fit
from kdgen.tasks.parties import Party
from kdgen.types import UserError, text
from kdgen.types.arguments import Channels, Count, Counts, Share, check_argument
from kdgen.ui.own import About, Own, about_of
from kdgen.ui.words import CHINESE, translated


def lines_of(make: Callable[[], object]) -> tuple[str, str]:
    """What a refusal says in English and in Chinese."""
    with pytest.raises(UserError) as refused:
        make()
    chinese = translated(refused.value, CHINESE)
    assert english_in(re.sub(r"`.*?`|\(.*?\)", "", chinese)) == []
    return str(refused.value), chinese


@pytest.mark.parametrize(
    ("kind", "value", "english", "chinese"),
    [
        (Channels, 2, "1 (grey) or 3 (colour), not 2", " 1（灰度）或 3（彩色），而不是 2"),
        (Count, 0, "a whole number of at least 1, not 0", "不小于 1 的整数，而不是 0"),
        (bool | str, 3, "true or false or text, not 3", " true 或 false 或 文字，而不是 3"),
        (Share, 2.0, "a share in [0, 1], not 2.0", " [0, 1] 中的份额，而不是 2.0"),
        (Counts, [], "a list of at least one, each a whole number of at least 1, not []",
         "至少含一项的列表，每一项为不小于 1 的整数，而不是 []"),
        (Literal["l1", "l2"], "l3", "one of l1, l2, not 'l3'", " l1、l2 之一，而不是 'l3'"),
    ],
)  # fmt: skip
def test_an_argument_that_does_not_fit_is_said_in_chinese(kind: Any, value: Any, english: str, chinese: str) -> None:
    assert lines_of(lambda: check_argument("it", "this", value, kind)) == (
        f"it: this is {english}",
        f"it：this 应为{chinese}",
    )


def test_whose_an_argument_is_is_said_in_chinese() -> None:
    english, chinese = lines_of(lambda: registry.build("net", Spec(name="dncnn", args={"depth": 0})))
    assert english == "net dncnn: depth is a whole number of at least 2, not 0"
    assert chinese == "网络 dncnn：depth 应为不小于 2 的整数，而不是 0"
    english, chinese = lines_of(lambda: registry.build("images", Spec(name="folder")))
    assert english == "images 'folder': missing a required argument: 'path'"
    assert chinese == "图像来源 'folder'：缺少必需的参数 'path'"


def test_nets_that_do_not_fit_a_task_are_said_in_chinese() -> None:
    use = Spec(name="denoise", args={"channels": 1, "patch": 16})
    task = registry.build("task", use)
    net = Spec(name="dncnn", args={"channels": 3, "depth": 3, "width": 4})
    called = text("student_called", "the student {net}", net=net.name)
    party = Party(called=called, net=registry.build("net", net), key="student", use=net)
    english, chinese = lines_of(lambda: check_fit(use, task, [task.example()], [party]))
    assert english == (
        "the student dncnn does not take the images of the task denoise, 1x256x256: it takes 3 channels: "
        "set student.args.channels to 1, or task.args.channels to 3"
    )
    assert chinese == (
        "学生 dncnn 不接受任务 denoise 的图像 1x256x256：它接受 3 个通道：请把 student.args.channels 设为 1，"
        "或把 task.args.channels 设为 3"
    )


def test_failures_of_the_hub_are_said_in_chinese() -> None:
    def fail() -> None:
        with explained("org/name"):
            raise httpx2.ConnectError("no")

    english, chinese = lines_of(fail)
    assert english.endswith("cannot be reached: check the network. Try again later.")
    assert re.fullmatch(r"org/name：无法连接 \S+：请检查网络。请稍后重试。", chinese)


def test_a_file_that_cannot_be_opened_is_said_in_chinese(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"<html>")
    assert "网页" in lines_of(lambda: read_weights_file(tmp_path / "net.pth"))[1]
    torch.save({"body.weight": torch.zeros(2)}, tmp_path / "net.pth")
    declared = {"file": "net.pth", "net": {"name": "dncnn", "args": {"depth": 3}}, "range": [0, 1], "predicts": "image"}
    (tmp_path / "it.json").write_text(json.dumps(declared))
    english, chinese = lines_of(lambda: load(tmp_path / "it.json"))
    assert "missing '0.weight'" in english
    assert "缺少 '0.weight'" in chinese


def test_notes_on_a_teacher_are_kept_with_what_they_are_made_of(tmp_path: Path) -> None:
    note = text("live_taken", "{file}: took the live weights, {key!r}: their average {average!r} has no names",
                file="a.pth", key="model", average="ema")  # fmt: skip
    Own.finish(None, tmp_path, About("teacher", "a", notes=(note,)))
    found = about_of(tmp_path)
    assert found == About("teacher", "a", notes=(note,))
    assert english_in(translated(found.notes[0], CHINESE)) == []


def test_a_request_is_refused_in_its_own_language(server) -> None:
    def refused(language: str, **arguments: str) -> str:
        asking = Client(server.url, headers={"Accept-Language": language}, verbose=False)
        with pytest.raises(AppError) as error:
            asking.predict(preset="denoise", session="", api_name="/distill", **arguments)
        return str(error.value)

    for arguments in ({"settings": "batch_size=0"}, {"seconds": "many"}):
        assert english_in(refused("en", **arguments)) != []
        assert english_in(refused("zh-CN", **arguments)) == []


def test_values_that_are_none_of_a_field_s_are_refused_in_the_language_of_the_request(server) -> None:
    config = httpx2.get(f"{server.url}/config").json()
    event = next(each for each in config["dependencies"] if each["api_name"] == "stop")
    body = {"fn_index": event["id"], "session_hash": "walk"}
    said = [
        httpx2.post(f"{server.url}/gradio_api/run/predict", json={**body, "data": data},
                    headers={"Accept-Language": "zh-CN"}).json()["error"]
        for data in (["a"], [["a"], "b"])
    ]  # fmt: skip
    assert said[0] == "此处需要 2 个值，而不是 1 个"
    assert english_in(said[1]) == []
