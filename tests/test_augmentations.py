"""Each step against torchvision's functional one, and the promises of every augmentation."""

import colorsys
import math
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from deepcluster_sk._runtime.device import _LACKING
from deepcluster_sk.augmentations import (
    Augmentation,
    ColorJitter,
    Compose,
    ElasticTransform,
    GaussianBlur,
    GaussianNoise,
    MarginalSwap,
    RandomAffine,
    RandomGamma,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    digits,
    images,
    rows,
)
from deepcluster_sk.augmentations._recipes import make_augmentation
from deepcluster_sk.exceptions import AugmentationError

COLOR = [
    ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    RandomGrayscale(p=0.5),
]
IMAGE_STEPS = [
    RandomResizedCrop(),
    RandomHorizontalFlip(),
    RandomAffine(degrees=30, translate=0.1, scale=(0.8, 1.2), shear=10),
    ElasticTransform(),
    *COLOR,
    RandomGamma(),
    GaussianBlur(kernel_size=5),
    GaussianNoise(std=0.1),
    images(blur=True),
    digits(),
]
ROW_STEPS = [GaussianNoise(), MarginalSwap(), rows()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_images(n=6, channels=3, height=24, width=20):
    """Images without sharp edges, on which two ways to interpolate agree closely."""
    small = torch.rand(n, channels, 5, 4, generator=generator())
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0.05, 0.95)


def batch_for(step):
    if step in ROW_STEPS:
        return torch.randn(16, 7, generator=generator(1))
    return smooth_images()


@pytest.mark.parametrize("step", IMAGE_STEPS + ROW_STEPS, ids=lambda s: type(s).__name__)
def test_one_generator_state_gives_one_result(step):
    x = batch_for(step)
    first, second = step(x, generator(3)), step(x, generator(3))
    assert torch.equal(first, second)
    assert first.shape == x.shape
    assert first.dtype == torch.float32
    assert not torch.equal(first, step(x, generator(4)))


@pytest.mark.parametrize("step", IMAGE_STEPS + ROW_STEPS, ids=lambda s: type(s).__name__)
def test_the_input_is_left_as_it_was(step):
    x = batch_for(step)
    before = x.clone()
    step(x, generator())
    assert torch.equal(x, before)


@pytest.mark.parametrize("step", IMAGE_STEPS[:8], ids=lambda s: type(s).__name__)
def test_each_image_of_a_batch_is_treated_alone(step):
    x = smooth_images()
    draw = step.sample(x.shape, generator())
    together = step.transform(x, draw)
    for i in range(len(x)):
        # a draw that holds one value for the whole batch has length 1
        own = tuple(d[i : i + 1] if len(d) == len(x) else d for d in draw)
        torch.testing.assert_close(step.transform(x[i : i + 1], own), together[i : i + 1])


@pytest.mark.parametrize("step", IMAGE_STEPS[:5], ids=lambda s: type(s).__name__)
def test_every_image_gets_its_own_draw(step):
    x = smooth_images(1).expand(32, -1, -1, -1)
    assert len({tuple(image.flatten().tolist()) for image in step(x, generator())}) > 1


@pytest.mark.parametrize("seed", range(3))
def test_affine_equals_torchvision(seed):
    x = smooth_images()
    step = RandomAffine(degrees=40, translate=0.2, scale=(0.7, 1.4), shear=15)
    draw = step.sample(x.shape, generator(seed))
    angle, shift, scale, shear, _ = draw
    height, width = x.shape[2:]
    expected = [
        # torchvision rounds nothing when the translation is given in pixels as floats
        tv.affine(
            image,
            angle=angle[i].item(),
            translate=[shift[i, 0].item() * width, shift[i, 1].item() * height],
            scale=scale[i].item(),
            shear=[shear[i].item(), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        for i, image in enumerate(x)
    ]
    torch.testing.assert_close(step.transform(x, draw), torch.stack(expected), atol=2e-5, rtol=0)


def displacements(step, draw, size):
    """Along x and y at each pixel: (n, H, W, 2)."""
    field = step.weights(draw) @ step.fields(size, torch.device("cpu"))
    return field.unflatten(2, size).permute(0, 2, 3, 1)


def test_elastic_displacements_are_torchs_bicubic_interpolation_of_the_knots():
    step = ElasticTransform(magnitude=0.1, knots=5)
    (knots,) = draw = step.sample(torch.Size((3, 1, 24, 20)), generator())
    expected = torch.nn.functional.interpolate(
        knots, size=(24, 20), mode="bicubic", align_corners=True
    )
    field = displacements(step, draw, (24, 20)).permute(0, 3, 1, 2)
    torch.testing.assert_close(field, expected, atol=1e-6, rtol=0)


def test_elastic_equals_torchvision():
    x = smooth_images()
    step = ElasticTransform(magnitude=0.1)
    draw = step.sample(x.shape, generator())
    field = displacements(step, draw, (24, 20))
    expected = [
        tv.elastic_transform(image[None], own[None], InterpolationMode.BILINEAR)[0]
        for image, own in zip(x, field, strict=True)
    ]
    torch.testing.assert_close(step.transform(x, draw), torch.stack(expected), atol=1e-5, rtol=0)


def test_elastic_displacements_have_the_requested_size_at_the_knots():
    step = ElasticTransform(magnitude=0.05, knots=3)
    field = displacements(step, step.sample(torch.Size((500, 1, 9, 9)), generator()), (9, 9))
    corners = field[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.std().item() == pytest.approx(0.05, rel=0.1)


def test_views_of_another_size_equal_resized_ones():
    x = smooth_images(height=28, width=28)
    result = Compose([], size=(20, 20))(x, generator())
    expected = torch.nn.functional.interpolate(x, size=(20, 20), mode="bilinear")
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert digits(size=(20, 20))(x, generator()).shape == (6, 3, 20, 20)
    assert images(size=(20, 20))(x, generator()).shape == (6, 3, 20, 20)


def test_displacement_is_added_to_the_composed_geometry():
    x = smooth_images(height=32, width=32)
    shift, bend = RandomAffine(translate=0.1), ElasticTransform(magnitude=0.1)
    together = Compose([bend, shift])
    draw = together.sample(x.shape, generator())
    # bending commutes with a shift of the input
    expected = bend.transform(shift.transform(x, draw[1]), draw[0])
    result = together.transform(x, draw)
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    torch.testing.assert_close(result[inner], expected[inner], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (
            "rows",
            (1, 8, 8),
            r"augmentation='rows' does not fit: X holds images of shape \(1, 8, 8\)",
        ),
        ("digits", (64,), r"'digits' does not fit: X holds rows of shape \(64,\).*image_shape"),
    ],
)
def test_recipes_that_do_not_fit_the_samples_are_refused(spec, shape, message):
    with pytest.raises(ValueError, match=message):
        make_augmentation(spec, shape)


def test_flip_equals_torchvision():
    x = smooth_images()
    step = RandomHorizontalFlip(p=0.5)
    draw = step.sample(x.shape, generator())
    expected = [tv.hflip(image) if flip else image for image, flip in zip(x, draw[0], strict=True)]
    torch.testing.assert_close(step.transform(x, draw), torch.stack(expected), atol=1e-6, rtol=0)


def test_crop_equals_torchvision_inside_of_its_border():
    x = smooth_images(height=32, width=40)
    height, width = x.shape[2:]
    step = RandomResizedCrop()
    # crops on whole pixels, as torchvision knows no others
    boxes = [(4, 6, 16, 20), (0, 0, 32, 40), (10, 3, 8, 30)]
    size = torch.tensor([[w / width, h / height] for _, _, h, w in boxes])
    center = torch.tensor(
        [[(2 * x0 + w) / width - 1, (2 * y0 + h) / height - 1] for y0, x0, h, w in boxes]
    )
    result = step.transform(x[:3], (size, center))
    for i, (top, left, h, w) in enumerate(boxes):
        expected = tv.resized_crop(x[i], top, left, h, w, [height, width], antialias=False)
        # within half a pixel of the crop's edge, torchvision repeats the edge where we see beyond
        border = math.ceil(max(height / h, width / w))
        inner = (slice(None), slice(border, -border), slice(border, -border))
        torch.testing.assert_close(result[i][inner], expected[inner], atol=1e-5, rtol=0)


def test_crops_stay_inside_of_the_image_and_have_the_requested_area():
    step = RandomResizedCrop(scale=(0.2, 0.6), ratio=(1, 1))
    size, center = step.sample(torch.Size((1000, 1, 16, 16)), generator())
    assert (center.abs() + size <= 1 + 1e-6).all()
    area = size.prod(dim=1)
    assert 0.2 - 1e-6 <= area.min() < 0.21
    assert 0.59 < area.max() <= 0.6 + 1e-6


@pytest.mark.parametrize(
    ("position", "adjust"),
    [(0, tv.adjust_brightness), (1, tv.adjust_contrast), (2, tv.adjust_saturation)],
)
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_color_factor_equals_torchvision(position, adjust, factor):
    x = smooth_images()
    draw = [torch.ones(len(x)), torch.ones(len(x)), torch.ones(len(x)), torch.zeros(len(x))]
    draw[position] = torch.full((len(x),), factor)
    result = ColorJitter().transform(x, tuple(draw))
    torch.testing.assert_close(result, adjust(x, factor), atol=2e-4, rtol=0)


@pytest.mark.parametrize("turn", [-1 / 3, 1 / 3])
def test_hue_by_a_third_of_a_turn_equals_torchvision(turn):
    x = smooth_images()
    one, zero = torch.ones(len(x)), torch.zeros(len(x))
    result = ColorJitter(hue=0.5).transform(x, (one, one, one, zero + turn))
    torch.testing.assert_close(result, tv.adjust_hue(x, turn), atol=1e-5, rtol=0)


def hsv_hue(pixels):
    """Hue of RGB pixels (n, 3) in turns, by Python's own conversion."""
    return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels.tolist()])


def test_hue_shift_equals_torchvision_up_to_the_shape_of_the_hsv_cone():
    x = 0.4 + 0.2 * smooth_images()  # far from the clamp
    one = torch.ones(len(x))
    ours = ColorJitter(hue=0.5).transform(x, (one, one, one, 0.1 * one))
    ours, theirs = (v.movedim(1, 3).reshape(-1, 3) for v in (ours, tv.adjust_hue(x, 0.1)))
    difference = (hsv_hue(ours) - hsv_hue(theirs) + 0.5) % 1 - 0.5
    # HSV measures the hue along a hexagon, a rotation along its circle: 1.1 degrees apart at most
    assert np.abs(difference).max() < 2 * 1.13 / 360


def test_hue_keeps_grey_pixels():
    x = smooth_images(channels=1).expand(-1, 3, -1, -1)
    one = torch.ones(len(x))
    result = ColorJitter(hue=0.5).transform(x, (one, one, one, 0.37 * one))
    torch.testing.assert_close(result, x, atol=1e-6, rtol=0)


def test_gray_equals_torchvision():
    x = smooth_images()
    draw = RandomGrayscale(p=0.5).sample(x.shape, generator())
    expected = [
        tv.rgb_to_grayscale(image, 3) if grey else image
        for image, grey in zip(x, draw[0], strict=True)
    ]
    result = RandomGrayscale(p=0.5).transform(x, draw)
    torch.testing.assert_close(result, torch.stack(expected), atol=2e-4, rtol=0)


def test_gamma_equals_torchvision():
    x = smooth_images()
    step = RandomGamma(strength=0.7)
    draw = step.sample(x.shape, generator())
    expected = [
        tv.adjust_gamma(image, exponent.item()) for image, exponent in zip(x, draw[0], strict=True)
    ]
    torch.testing.assert_close(step.transform(x, draw), torch.stack(expected), atol=1e-5, rtol=0)


def test_blur_equals_torchvision():
    x = smooth_images()
    step = GaussianBlur(kernel_size=7, p=1)
    draw = step.sample(x.shape, generator())
    expected = [
        tv.gaussian_blur(image, [7, 7], [sigma.item()] * 2)
        for image, sigma in zip(x, draw[1], strict=True)
    ]
    torch.testing.assert_close(step.transform(x, draw), torch.stack(expected), atol=1e-5, rtol=0)


def test_blur_leaves_images_that_were_not_chosen():
    x = smooth_images()
    assert torch.equal(GaussianBlur(kernel_size=5, p=0)(x, generator()), x)


def test_composed_geometry_equals_its_steps_one_after_the_other():
    x = smooth_images(height=32, width=32)
    steps = [RandomHorizontalFlip(), RandomAffine(translate=0.05, scale=(0.95, 1.05))]
    together = Compose(steps)
    draw = together.sample(x.shape, generator())
    expected = x
    for step, own in zip(steps, draw, strict=True):
        expected = step.transform(expected, own)
    result = together.transform(x, draw)
    torch.testing.assert_close(
        result[:, :, 4:-4, 4:-4], expected[:, :, 4:-4, 4:-4], atol=1e-4, rtol=0
    )


def test_composed_colors_equal_their_steps_one_after_the_other():
    # mild factors and mid-grey images: nothing leaves [0, 1] between the steps
    x = 0.4 + 0.2 * smooth_images()
    steps = [
        ColorJitter(brightness=0.2, contrast=0.2),
        RandomGrayscale(p=0.5),
        ColorJitter(saturation=0.2, hue=0.1, contrast=0.3),
    ]
    together = Compose(steps)
    draw = together.sample(x.shape, generator())
    expected = x
    for step, own in zip(steps, draw, strict=True):
        expected = step.transform(expected, own)
    torch.testing.assert_close(together.transform(x, draw), expected, atol=1e-5, rtol=0)


def test_a_recipe_of_any_length_samples_the_image_once(monkeypatch):
    calls = []
    sample = torch.nn.functional.grid_sample

    def counted(*args, **kwargs):
        calls.append("grid_sample")
        return sample(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "grid_sample", counted)
    steps = [RandomResizedCrop(), RandomHorizontalFlip(), *COLOR, RandomAffine(degrees=9), *COLOR]
    Compose(steps)(smooth_images(), generator())
    assert calls == ["grid_sample"]


def test_alpha_channel_keeps_its_values():
    x = smooth_images(channels=4)
    result = Compose(COLOR)(x, generator())
    torch.testing.assert_close(result[:, 3], x[:, 3])
    assert not torch.allclose(result[:, :3], x[:, :3])


def test_images_stay_within_range():
    result = images(strength=1)(smooth_images(64), generator())
    assert 0 <= result.min() <= result.max() <= 1


def test_swapped_features_come_from_the_same_column():
    x = torch.arange(50.0)[:, None] + 1000 * torch.arange(6.0)
    result = MarginalSwap(p=0.5)(x, generator())
    assert torch.equal(result // 1000, x // 1000)
    changed = (result != x).float().mean().item()
    assert 0.4 < changed < 0.55


def test_noise_has_the_requested_standard_deviation():
    noise = GaussianNoise(std=0.3)(torch.zeros(2000, 10), generator())
    assert noise.std().item() == pytest.approx(0.3, rel=0.03)


def test_auto_chooses_by_the_shape_of_the_samples():
    for shape, recipe in [((5,), rows()), ((1, 8, 8), digits()), ((3, 8, 8), images())]:
        assert repr(make_augmentation("auto", shape)) == repr(recipe)


@pytest.mark.parametrize("shape", [(7,), (1, 8, 8), (3, 9, 6)])
def test_none_changes_nothing(shape):
    x = torch.rand(5, *shape, generator=generator())
    before = x.clone()
    assert torch.equal(make_augmentation("none", shape)(x, generator()), before)


def test_border_padding_is_the_same_on_a_device_without_it(monkeypatch):
    x = smooth_images()
    for step in (RandomAffine(degrees=40, translate=0.4, scale=(0.3, 3)), ElasticTransform(0.5)):
        augment = Compose([step], padding="border")
        draw = augment.sample(x.shape, generator())
        expected = augment.transform(x, draw)
        with monkeypatch.context() as patch:
            patch.setitem(_LACKING, "cpu", frozenset({"border padding"}))
            torch.testing.assert_close(augment.transform(x, draw), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RandomResizedCrop(scale=(0.5, 1.5)),
            r"scale=\(0.5, 1.5\), expected two shares of",
        ),
        (lambda: RandomResizedCrop(ratio=(2, 1)), r"ratio=\(2, 1\), expected 0 < ratio"),
        (lambda: RandomAffine(scale=(0, 1)), r"scale=\(0, 1\), expected 0 < scale"),
        (lambda: RandomAffine(shear=90), r"shear=90, expected an angle in \[0, 90\)"),
        (lambda: ColorJitter(brightness=-1), r"brightness=-1, expected a number >= 0"),
        (lambda: ColorJitter(hue=0.6), r"hue=0.6, expected a number in \[0, 0.5\]"),
        (lambda: RandomHorizontalFlip(p=2), r"p=2, expected a probability in \[0, 1\]"),
        (lambda: MarginalSwap(p=-1), r"p=-1, expected a probability in \[0, 1\]"),
        (lambda: GaussianNoise(std=-1), r"std=-1, expected a number >= 0"),
        (lambda: GaussianBlur(kernel_size=4), r"kernel_size=4, expected an odd number"),
        (lambda: GaussianBlur(sigma=(0, 1)), r"sigma=\(0, 1\), expected 0 < sigma"),
        (lambda: RandomGamma(strength=-1), r"strength=-1, expected a number >= 0"),
        (lambda: ElasticTransform(magnitude=-1), r"magnitude=-1, expected a number >= 0"),
        (lambda: ElasticTransform(knots=1), r"knots=1, expected an integer >= 2"),
        (lambda: Compose([], padding="wrap"), r"padding='wrap', expected 'zeros'"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- augmentations of the user


class Step(Augmentation):
    """An own step: whatever a function makes of a batch."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def sample(self, shape, generator):
        return ()

    def transform(self, x, draw):
        return self.change(x)


class Shift(nn.Module):
    """An own module with a weight."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x):
        return x + self.shift


class Locked(Shift):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class NoModule:
    def __call__(self, x):
        return x


def try_out(spec, x):
    make_augmentation(spec, tuple(x.shape[1:])).try_out(x, generator())


BATCHES = {"rows": torch.randn(4, 7, generator=generator()), "images": smooth_images(4)}
both = pytest.mark.parametrize("kind", BATCHES)
each_kind_of_callable = pytest.mark.parametrize("wrap", [Step, lambda f: f], ids=["step", "plain"])


@pytest.mark.parametrize(
    "make",
    [Shift, lambda: Compose([Step(Shift())]), lambda: Step(Shift())],
    ids=["module", "composed", "step"],
)
def test_modules_are_copied(make):
    spec = make()
    augment = make_augmentation(spec, (3, 8, 8))
    with torch.no_grad():
        next(spec.parameters()).fill_(1)
    x = smooth_images()
    assert torch.equal(augment(x, generator()), x)


@pytest.mark.parametrize(
    "wrap",
    [lambda m: m, Step, lambda m: Compose([Step(m)])],
    ids=["module", "step", "composed"],
)
def test_modules_that_cannot_be_copied_are_refused(wrap):
    with pytest.raises(AugmentationError, match=r"cannot be copied: .*lock.*\. A fit moves a copy"):
        make_augmentation(wrap(Locked()), (3, 8, 8))


@pytest.mark.parametrize("spec", [Shift, Step, NoModule, GaussianNoise])
def test_classes_in_place_of_instances_are_refused(spec):
    with pytest.raises(AugmentationError, match=f"={spec.__name__} is a class, expected one of"):
        make_augmentation(spec, (3, 8, 8))


@both
@each_kind_of_callable
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floating_dtypes_become_float32(kind, wrap, dtype):
    x = BATCHES[kind]
    augment = make_augmentation(wrap(lambda x: x.to(dtype)), tuple(x.shape[1:]))
    augment.try_out(x, generator())
    assert torch.equal(augment(x, generator()), x.to(dtype).float())


@each_kind_of_callable
def test_images_may_get_another_height_and_width(wrap):
    try_out(wrap(lambda x: x[:, :, ::2, 1:]), BATCHES["images"])
    try_out(digits(size=(5, 6)), BATCHES["images"])


def test_what_composing_needs_to_know_of_a_step_is_handed_on():
    for step in (GaussianNoise(), MarginalSwap(), Step(abs)):
        augment = make_augmentation(step, (7,))
        assert (augment.per_sample, augment.compilable) == (step.per_sample, step.compilable)
    assert not make_augmentation(abs, (7,)).compilable


@both
@each_kind_of_callable
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: None, r"returned NoneType for a float32 batch of shape .* Return one torch"),
        (lambda x: x.numpy(), "returned ndarray for a float32 batch"),
        (lambda x: (x, x), "returned tuple for a float32 batch"),
        (lambda x: list(x), "returned list for a float32 batch"),
        (lambda x: x[:-1], r"returned float32 of shape \(3, .* Return a row for each row"),
        (lambda x: x[:, :-1], "returned float32 of shape"),
        (lambda x: x[0], "returned float32 of shape"),
        (lambda x: x[..., None], "returned float32 of shape"),
        (Tensor.int, "returned int32 of shape .* expected a dense tensor of floating point"),
        (lambda x: x > 0, "returned bool of shape .* Convert the result to real numbers"),
        (lambda x: x + 0j, "returned complex64 of shape"),
        (Tensor.to_sparse, r"returned sparse_coo float32 of shape .* Call \.to_dense\(\)"),
        (lambda x: x.to("meta"), r"on meta for a float32 batch .* on cpu, .* Make new tensors on"),
        (lambda x: x / 0, r"made NaN or infinity of a finite batch of shape \(4, "),
        (
            lambda x: x.view(5),
            r"failed on a float32 batch of shape \(4, .* with RuntimeError: shape",
        ),
    ],
)
def test_unusable_results_are_refused(kind, wrap, change, message):
    with pytest.raises(AugmentationError, match=message):
        try_out(wrap(change), BATCHES[kind])


def test_a_result_that_becomes_unusable_later_is_refused():
    calls = []

    def fickle(x):
        calls.append(x)
        return x if len(calls) == 1 else x.int()

    augment = make_augmentation(fickle, (7,))
    augment.try_out(BATCHES["rows"], generator())
    with pytest.raises(AugmentationError, match=r"augmentation=.*fickle returned int32 of shape"):
        augment(BATCHES["rows"], generator())


@pytest.mark.parametrize(
    "step", [s for s in IMAGE_STEPS if type(s) is not GaussianNoise], ids=lambda s: type(s).__name__
)
def test_steps_for_images_refuse_rows(step):
    with pytest.raises(
        AugmentationError, match=r"(failed on|for) a float32 batch of shape \(4, 7\)"
    ):
        try_out(step, BATCHES["rows"])


def test_errors_say_what_steps_vary():
    with pytest.raises(AugmentationError, match="Steps for images do not vary rows: pass image"):
        try_out(ColorJitter(0.4), BATCHES["rows"])
    for step in (MarginalSwap(), rows()):
        with pytest.raises(AugmentationError, match="Steps for rows, such as MarginalSwap, do"):
            try_out(step, BATCHES["images"])
