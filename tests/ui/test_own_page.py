"""What visitors bring, in the browser: a teacher in a file, and pictures to train on."""

import json
import shutil
from importlib.util import find_spec

import pytest
from gradio_client.exceptions import AppError
from PIL import Image
from serving import advanced, begun, fill, homes, ready, stop
from test_dropped import compact

from kdgen.models.loading import BUNDLED
from kdgen.presets import preset


@pytest.mark.skipif(find_spec("spandrel") is None, reason="no spandrel here: pip install 'kdgen[restorers]'")
def test_a_restorer_s_file_is_seen_to_be_checked_and_chooses_its_preset(opened, tmp_path):
    page = opened()
    page.locator("#kd-own button").first.click()
    page.locator("#kd-own-file input[type=file]").set_input_files(compact(tmp_path / "bigger.safetensors"))
    page.locator("#kd-own-file").get_by_text("bigger").first.wait_for()
    assert not page.locator("#kd-own-family").is_visible(), "what its weights say is not asked"
    page.evaluate("""() => { window.said = []; new MutationObserver(() => said.push(
        document.querySelector('#kd-own-notice').innerText)).observe(document.querySelector('#kd-own-notice'),
        {childList: true, subtree: true, characterData: true}) }""")
    page.locator("#kd-own-use").click()
    notice = page.locator("#kd-own-notice", has_text="is your teacher now")
    notice.wait_for()
    assert any(said.startswith("Checking it") for said in page.evaluate("said"))
    assert "2 times as large" in notice.inner_text()
    page.locator("#kd-presets label:has(input:checked)", has_text="Four times larger").wait_for()


def test_a_teacher_in_a_file_teaches_and_a_pickle_is_refused(opened, server, client, session, tmp_path):
    page, before = opened(), homes(server)
    page.locator("#kd-own button").first.click()
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    page.locator("#kd-own-file input[type=file]").set_input_files([tmp_path / "evil.safetensors"])
    page.locator("#kd-own-file").get_by_text("evil").first.wait_for()
    page.locator("#kd-own-use").click()
    page.locator("#kd-own-notice", has_text="is no safetensors file").wait_for()
    page.reload()
    ready(page)
    page.locator("#kd-own button").first.click()
    (tmp_path / "teacher.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    page.locator("#kd-own-file input[type=file]").set_input_files([tmp_path / "teacher.pth"])
    refusal = page.locator("#kd-own-notice", has_text="teacher.pth: a teacher is taken as .safetensors or .onnx")
    refusal.wait_for()
    page.wait_for_timeout(1000)
    assert refusal.is_visible(), "beside the field, and it stays"
    assert page.locator("#kd-own-file").get_by_text("teacher").count() == 0
    page.reload()
    ready(page)
    page.locator("#kd-own button").first.click()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(BUNDLED / "denoiser" / name, tmp_path / name)
    page.locator("#kd-own-file input[type=file]").set_input_files([tmp_path / "config.json",
                                                                   tmp_path / "model.safetensors"])  # fmt: skip
    page.locator("#kd-own-file").get_by_text("config").first.wait_for()
    page.locator("#kd-own-use").click()
    page.locator("#kd-own-notice", has_text="is your teacher now").wait_for()
    pictures = [tmp_path / f"{number}.png" for number in range(5)]
    for path in pictures:
        Image.effect_noise((90, 120), 60).save(path)
    with page.expect_file_chooser() as chooser:
        page.locator("#kd-own-upload").click()
    chooser.value.set_files(pictures)
    page.locator("#kd-own-pictures", has_text="5 pictures").wait_for()
    advanced(page)
    page.wait_for_function("document.querySelector('#kd-recipe textarea').value.includes('folder')")
    fill(page, "How long exactly", "50")
    fill(page, "Inputs that the teacher answers", "16")
    page.wait_for_function("document.querySelector('#kd-recipe textarea').value.includes('\"inputs\": 16')")
    page.locator("#kd-start").click()
    recipe = begun(server, before)
    assert recipe["teacher"].startswith("./own/")
    assert recipe["task"]["args"]["images"]["args"]["path"].startswith("./own/")
    home = (homes(server) - before).pop()
    assert len(list((home / "own").glob("*/*.png"))) == 5
    for key, value in (("teacher", recipe["teacher"]), ("task", recipe["task"])):
        text = json.dumps({**preset("denoise").model_dump(mode="json"), key: value})
        for stolen in (text, text.replace("./own/", "own:"), text.replace("./own/", f"{home}/own/")):
            with pytest.raises(AppError):
                client.predict(recipe=stolen, session=session, api_name="/distill")
    page.locator(".kd-status", has_text="Training").first.wait_for()
    stop(page)
    assert json.loads((home / "job.json").read_text())["message"] == ""
    page.locator("#kd-delete").click()
    page.wait_for_timeout(2000)
    assert not home.exists()
