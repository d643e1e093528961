"""What tasks say beside what every task does."""

from kdgen.tasks import Autoencode, Denoise, Diffuse, FewSteps, Generate
from kdgen.tasks.abilities import image_sources

PHOTOS = {"images": {"name": "photographs"}, "num_images": 4}


def test_images_of_a_task_are_those_it_trains_on_and_is_compared_with():
    restorer, autoencoder = Denoise(), Autoencode(**PHOTOS)
    assert image_sources(restorer) == [restorer.source]
    assert image_sources(autoencoder) == [autoencoder.source, autoencoder.gallery]
    assert image_sources(Diffuse()) == [None, None]
    assert image_sources(Generate()) == [None]


def test_tasks_that_draw_say_how_many_calls_make_an_image():
    few = FewSteps(**PHOTOS, num_steps=3, steps=[2, 1])
    assert (few.calls, few.teacher_calls) == (2, 5)
    assert (Denoise().calls, Denoise().teacher_calls) == (1, 1)
