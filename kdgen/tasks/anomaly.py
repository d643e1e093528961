"""Find what good pictures do not have: a student of a net's features, and where it fails."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdgen.data import Images, derive, framed, generator, make_images, make_jitter
from kdgen.data.inspected import Finding, Findings
from kdgen.data.jitter import Amounts
from kdgen.data.source import ImageSource, no_patches, photograph_of
from kdgen.metrics.anomaly import au_pro, image_auroc, pixel_auroc
from kdgen.metrics.columns import column
from kdgen.models.fault_maps import FaultMaps, Given, Neighbours, StudentTeacher, heat
from kdgen.registry import register
from kdgen.tasks.latents import latent_error
from kdgen.tasks.seen import normalised
from kdgen.types import Batch, Both, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import Channels, Count
from kdgen.utils.devices import device_of, evaluating

GOOD = 64
"""Good pictures whose features set the teacher's mean and deviation and the scale of maps, and are neighbours."""

column("good_error", text("metric_good_error", "map of good pictures (share of the features' variance)"), "{:.3f}",
       lower=True)  # fmt: skip
column("feature_error", text("metric_feature_error", "error of the features, share of the student's variance"),
       "{:.2%}", lower=True)  # fmt: skip


@register("task")
class Anomaly(Task):
    """Find faults from good pictures alone; nets answer with features ``(B, D, h, w)``.

    The student learns to say what its teacher says of good pictures, and where it fails lies the fault: Bergmann et al.
    2020 (arXiv 1911.02357). The map is of both together, so that finding costs what both cost. A student that holds an
    autoencoder, ``efficient_ad``, has a second map of what is odd as a whole, and the two are averaged. A teacher, and
    any net beside none, is measured by how far its features are from the nearest ones of good pictures.

    Args:
        images: good pictures to train on: ``inspected``, or any other source, whose pictures should be ``whole``.
        channels: 1 grey, 3 colour.
        patch: height and width of pictures in pixels.
        evaluate: pictures to measure on: ``inspected`` with part ``test``, which knows which are faulty; of any other
            source all are good. If not given, those to train on.
        layer: the dotted path of the teacher's module whose output counts; none for its answer.
        validation: good pictures that set the scale of maps, best some that are not trained on: of ``inspected`` the
            part ``validation``. If not given, those to train on.
        augment: random changes of every picture in training, before the teacher sees it, ``{"shift": 0.03, "flip":
            0.5}``, see ``Jitter``; none if not given.
        num_images: how many pictures nets are measured on at most.

    Raises:
        UserError: for an argument that does not fit.
    """

    gives = "features"
    pipeline_tag = "image-feature-extraction"
    alike = frozenset({"classify"})
    group, usual_preset = "faults", "find-faults"
    usual_methods = ("hard_feature", "output")
    equivariant = False
    quick_eval_images = 64
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        images: ImageSource | None = None,
        channels: Channels = 3,
        patch: Count = 128,
        evaluate: ImageSource | None = None,
        layer: str | None = None,
        validation: ImageSource | None = None,
        augment: Amounts | None = None,
        num_images: Count = 1000,
    ) -> None:
        self.channels, self.patch, self.layer, self.num_images = channels, patch, layer, num_images
        if (given := evaluate if images is None else images) is None:
            raise UserError(text("anomaly_images", 'anomaly: name good pictures to train on, {{"name": "inspected", '
                                 '"args": {{"path": ...}}}}'))  # fmt: skip
        self.source = make_images(given)
        if not isinstance(self.source, Images):
            raise no_patches(self.source)
        self.validation = self.source if validation is None else make_images(validation)
        if not isinstance(self.validation, Images):
            raise no_patches(self.validation)
        self.held_out = evaluate is not None
        self.tested: Any = self.source if evaluate is None else make_images(evaluate)
        self.jitter = None if augment is None else make_jitter(augment)
        self.primary_metric = self.taught_primary_metric = "image_auroc" if any(self._verdicts()) else "good_error"
        self._asked: WeakKeyDictionary[Net, Net] = WeakKeyDictionary()
        self._near: WeakKeyDictionary[Net, Neighbours] = WeakKeyDictionary()
        self._teacher: Net | None = None

    def describe(self) -> dict[str, Any]:
        """Name, size and channels of the pictures, and the teacher's layer."""
        return {"name": "anomaly", "size": self.patch, "channels": self.channels, "layer": self.layer}

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """What it knows: pictures of the kind it was trained on."""
        return ("It knows only what it was trained on: whatever else a picture shows, a fault or not, it takes for "
                "one. Its map is of its teacher's features and its own: it needs the teacher beside it.")  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of the description, the changes and the images."""
        known = (self.describe(), self.jitter, self.source.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` good pictures ``(B, C, patch, patch)``, without truth."""
        for number in count(start):
            drawn = derive(seed, "batch", number)
            x = self.source.patches(batch_size, self.patch, channels=self.channels, seed=drawn)
            if self.jitter is not None:
                x = self.jitter(x, generator(drawn, "augment"), photograph_of(self.source))
            yield Batch(x=x)

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is."""
        return batch

    def guided(self, teacher: Net) -> Net:
        """The teacher's features, or its layer's, each channel less its mean over good pictures and by its deviation.

        Raises:
            UserError: for a layer that it lacks, and features that are no map.
        """
        self._teacher = asked = self._normalised(teacher)
        return asked

    def _normalised(self, net: Net) -> Net:
        if (asked := self._asked.get(net)) is None:
            asked = normalised(net, self.layer, self._good(self.source))
            if asked is not net:
                self._asked[net] = asked
        return asked

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """None: only the teacher says what a picture's features are."""
        return None

    def example(self) -> Batch:
        """A flat picture."""
        return Batch(x=torch.zeros(1, self.channels, self.patch, self.patch))

    def answer_shape(self, batch: Batch) -> None:
        """None: only the teacher says what a picture's features are."""

    def fault_maps(self, net: Net, reference: Net | None = None) -> FaultMaps:
        """What maps faults by a net: beside its teacher where it fails, else how far it is from the nearest good one.

        A net that gives maps itself gives its own, and one that does not answer in its teacher's shape is mapped as if
        there were none. The scale is that of good pictures for validation: 0.1 is what one in 200 of their places
        exceeds. It is that of the net as it is now; what a teacher's nearest ones are is found once.
        """
        if isinstance(net, FaultMaps):
            return net
        asked = None if reference is None else self.guided(reference)
        itself = asked if self._asked.get(net, net) is asked else None
        if itself is not None and (known := self._near.get(itself)) is not None:
            return known.to(device_of(net))
        where = device_of(net)
        good, validation = (self._good(source).to(where) for source in (self.source, self.validation))
        with torch.no_grad(), evaluating(net):
            maps: FaultMaps
            if asked is not None and itself is None and asked.to(where)(good[:1]).shape == net(good[:1]).shape:
                maps = StudentTeacher(net, asked)
            else:
                maps = nearest = Neighbours(self._alone(net), good)
                if itself is not None:
                    self._near[itself] = nearest
            maps.to(where).calibrate(validation)
        return maps

    def _alone(self, net: Net) -> Net:
        """A net as it is asked by itself: a student has no layer of its teacher's."""
        try:
            return self._normalised(net)
        except UserError as error:
            raise UserError(text("features_alone", "{reason}; a student is measured beside its teacher: name that by "
                                 "--teacher", reason=error.text)) from None  # fmt: skip

    def _good(self, source: Images) -> Tensor:
        x: Tensor = source.patches(GOOD, self.patch, channels=self.channels, seed=derive(0, "good"))
        return x

    def _verdicts(self) -> Sequence[bool]:
        """Which of ``findings`` are faulty."""
        known = self.tested.verdicts() if isinstance(self.tested, Findings) else [False] * GOOD
        return known[: self.num_images]

    def findings(self, limit: int | None = None) -> Iterator[Finding]:
        """The pictures that nets are measured on, faulty and good ones in turn."""
        most = min(limit or self.num_images, self.num_images)
        if isinstance(self.tested, Findings):
            yield from islice(self.tested.findings(self.patch, self.channels), most)
            return
        x = self.tested.patches(min(most, GOOD), self.patch, channels=self.channels, seed=derive(0, "evaluate"))
        for number, image in enumerate(torch.split(framed(x, self.patch), 1)):
            yield Finding(name=str(number), image=image, faulty=False)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """How well the maps of a net find faults.

        ``good_error`` is the mean over good pictures of the squared differences that maps are made of, a share of the
        features' variance; where faulty pictures are known ``image_auroc`` is by the largest value of a map, and where
        their faults are marked ``pixel_auroc`` and ``au_pro`` are by pixel and by region.

        Args:
            net: any net.
            reference: its teacher, see ``fault_maps``.
            seed: of nothing.
            limit: the first so many pictures only.
        """
        finder = self.fault_maps(net, reference)
        found, maps, distances = list(self.findings(limit)), list[Tensor](), list[Tensor]()
        with torch.no_grad(), evaluating(finder):
            for finding in found:
                x = finding.image.to(device_of(net))
                maps.append(finder(x)[:, 0].cpu())
                distances.append(finder.distances(x).float().mean().cpu())
        faulty = torch.tensor([finding.faulty for finding in found])
        figures = {}
        if not faulty.all():
            figures["good_error"] = float(torch.stack(distances)[~faulty].mean())
        if faulty.any() and not faulty.all():
            together = torch.cat(maps)
            figures["image_auroc"] = image_auroc(together, faulty)
            masks = [finding.mask for finding in found if finding.mask is not None]
            if len(masks) == len(found):
                figures["pixel_auroc"] = pixel_auroc(together, torch.cat(masks))
                figures["au_pro"] = au_pro(together, torch.cat(masks))
        return figures

    def parity(self, net: Net, written: Net, *, teacher: Net | None = None, limit: int | None = None) -> Both:
        """How far features move, and how well both find faults beside the teacher, on the scale of the net's maps.

        ``feature_error`` is the mean squared difference to the net's features as a share of the variance of these, as
        ``good_error`` is of the teacher's. Without a teacher it is all that is known. Where net and what was written
        give maps of faults themselves, its features are these; a student that holds an autoencoder gives its features
        alone, and is measured by the map of these.
        """
        with torch.no_grad(), evaluating(net), evaluating(written):
            answers = [[each(finding.image).float() for each in (net, written)] for finding in self.findings(limit)]
        ours, theirs = zip(*answers, strict=True)
        own: Metrics = {"feature_error": 0.0}
        other: Metrics = {"feature_error": latent_error(theirs, ours)}
        maps: FaultMaps
        moved: FaultMaps
        if isinstance(net, FaultMaps):
            maps, moved = net, Given(written)
        elif teacher is None or not isinstance(known := self.fault_maps(nn.Sequential(net), teacher), StudentTeacher):
            return own, other
        else:
            maps, moved = known, known.with_student(written)
        figures = [self.evaluate(each, limit=limit) for each in (maps, moved)]
        if isinstance(net, FaultMaps):
            figures = [{key: value for key, value in each.items() if key != "good_error"} for each in figures]
        return {**figures[0], **own}, {**figures[1], **other}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """How many pictures, and of which kind."""
        faulty = self._verdicts()
        which = "" if self.held_out else text("trained_on", ", those it was trained on")
        return text("measured_faults", "Measured on {good:,} good and {faulty:,} faulty pictures{which}: a student by "
                    "where it fails to say what its teacher says, which takes both; a teacher alone by how far its "
                    "features are from the nearest of good pictures.", good=len(faulty) - sum(faulty),
                    faulty=sum(faulty), which=which)  # fmt: skip

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The pictures that nets are measured on by name, faulty ones first, with the mask as truth where one is."""
        found = (finding for faulty in (True, False) for finding in self.findings() if finding.faulty == faulty)
        for finding in islice(found, limit):
            mask = None if finding.mask is None else 2 * finding.mask[None].float() - 1
            yield finding.name, Batch(x=finding.image, y=mask)

    def pictured(self, answer: Tensor) -> Tensor:
        """A mask as it is; features ``(B, D, h, w)`` as their mean square in grey, ``(B, 1, h, w)``."""
        return answer if answer.shape[1] == 1 else (answer.square().mean(1, keepdim=True) - 1).clamp(-1, 1)

    def pictured_by(self, net: Net) -> Callable[[Batch], Tensor]:
        """The maps of a net beside the teacher that was last asked, in heat colours, ``(B, 3, H, W)`` in [-1, 1]."""
        maps = self.fault_maps(net, self._teacher)

        def seen(batch: Batch) -> Tensor:
            with torch.no_grad(), evaluating(maps):
                return heat(maps(batch.x))

        return seen


__all__ = ["Anomaly"]
