"""A healthy synthetic head in each of the three views: `HEADS` maps a view to the function that paints it.

Each takes a random stream and whether the slice must pass through the sella, where the pituitary gland lies.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.anatomy import Head, paint_cerebellum, paint_midline, shells
from btc_ray.phantoms.canvas import Points, Tissue, blob, disc, stroke


def _axial(rng: Generator, sella: bool) -> Head:
    level = "base" if sella else str(rng.choice(("base", "ventricles", "bodies", "vertex"), p=(0.3, 0.35, 0.2, 0.15)))
    small = 0.86 if level == "vertex" else 1.0
    rx, ry, egg = rng.uniform(0.68, 0.76) * small, rng.uniform(0.85, 0.91) * small, rng.uniform(0.02, 0.08)
    scalp, skull = rng.uniform(0.045, 0.075), rng.uniform(0.05, 0.07) * (1.4 if level == "vertex" else 1)
    outline = _oval(rng, rx, ry, egg)
    rim = 1 - (scalp + skull) / rx
    brain = [(x * rim, y * (1 - (scalp + skull) / ry)) for x, y in outline]
    if level == "base":  # the orbits take the front, so the frontal lobes end behind them
        brain = [(x, max(y, -0.38 - 0.5 * max(0.0, 0.25 - abs(x)))) for x, y in brain]
    head = shells(rng, outline, brain, scalp, skull)
    tissue = head.tissue
    paint_midline(tissue, (0, -ry), (0, ry) if level != "base" else (0, -0.15))
    widen = rng.uniform(0.75, 1.35)
    for side in (-1, 1):

        def there(points: Points, side: int = side, wide: float = widen) -> Points:
            return [(side * (0.02 + (x - 0.02) * wide), y) for x, y in points]

        if level == "base":
            eye = 0.33 * rx / 0.72
            disc(tissue, Tissue.FAT, (side * eye * 0.93, -0.58), (0.17, 0.18), 12 * side)
            disc(tissue, Tissue.MUSCLE, (side * (eye - 0.12), -0.56), (0.022, 0.13), -18 * side)
            disc(tissue, Tissue.MUSCLE, (side * (eye + 0.08), -0.52), (0.018, 0.1), 24 * side)
            disc(tissue, Tissue.GREY, (side * eye * 0.85, -0.5), (0.016, 0.1), 14 * side)
            disc(tissue, Tissue.CSF, (side * eye, -0.68), (0.115, 0.11))
            blob(tissue, Tissue.BONE, [(side * x, y) for x, y in ((0.16, 0.1), (0.5, 0.16), (0.6, 0.28), (0.2, 0.2))])
            blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.2, -0.12), (0.52, -0.2), (0.53, -0.17), (0.21, -0.07))])
        elif level == "ventricles":
            disc(tissue, Tissue.GREY, (side * 0.21, -0.12), (0.07, 0.2), -18 * side)
            disc(tissue, Tissue.GREY, (side * 0.12, 0.06), (0.09, 0.13), 25 * side)
            blob(
                tissue,
                Tissue.CSF,
                there(((0.03, -0.2), (0.08, -0.36), (0.16, -0.38), (0.13, -0.26), (0.06, -0.1), (0.03, -0.06))),
            )
            blob(tissue, Tissue.CSF, there(((0.11, 0.17), (0.19, 0.22), (0.25, 0.4), (0.21, 0.44), (0.14, 0.3))))
            blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.34, -0.14), (0.58, -0.2), (0.56, -0.16), (0.34, -0.08))])
        elif level == "bodies":
            blob(tissue, Tissue.CSF, there(((0.03, -0.3), (0.1, -0.36), (0.12, -0.1), (0.17, 0.2), (0.14, 0.3), (0.06, 0.05))))
    if level == "base":
        disc(tissue, Tissue.AIR, (0, -0.68), (0.085, 0.14))
        for x in (-0.05, 0.0, 0.05):
            disc(tissue, Tissue.MUCOSA, (x, -0.68), (0.01, 0.13))
        paint_cerebellum(tissue, rng, (0, 0.5), (0.46, 0.27))
        disc(tissue, Tissue.CSF, (0, -0.08), (0.17, 0.13))
        disc(tissue, Tissue.WHITE, (0, 0.14), (0.16, 0.12))
        disc(tissue, Tissue.CSF, (0, 0.27), (0.05, 0.03))
        for x in (-0.1, 0.1):
            disc(tissue, Tissue.VESSEL, (x, -0.12), (0.022, 0.022))
    elif level == "ventricles":
        disc(tissue, Tissue.CSF, (0, 0.03), (0.015, 0.1))
    return Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0, -0.12), vault=1.0 if level != "base" else 0.1)


def _coronal(rng: Generator, sella: bool) -> Head:
    wide, tall = rng.uniform(0.92, 1.08), rng.uniform(0.94, 1.02)

    def both(points: Points) -> Points:
        right = [(x * wide, y * tall) for x, y in points]
        return right + [(-x, y) for x, y in reversed(right)]

    outline = both(
        [(0, -0.92), (0.3, -0.88), (0.57, -0.69), (0.71, -0.38), (0.73, 0), (0.69, 0.3), (0.6, 0.55), (0.5, 0.8), (0.47, 1.3)]
    )
    brain = both(
        [
            (0, -0.8),
            (0.27, -0.76),
            (0.49, -0.58),
            (0.6, -0.32),
            (0.61, -0.05),
            (0.55, 0.13),
            (0.4, 0.19),
            (0.27, 0.14),
            (0.16, 0.02),
            (0, 0),
        ]
    )
    head = shells(rng, outline, brain, rng.uniform(0.045, 0.07), rng.uniform(0.045, 0.06))
    tissue, posterior = head.tissue, not sella and rng.random() < 0.35
    paint_midline(tissue, (0, -0.9), (0, -0.35 if not posterior else 0.0))
    for side in (-1, 1):
        blob(
            tissue,
            Tissue.BONE,
            [(side * x, y) for x, y in ((0.1, 0.06), (0.3, 0.2), (0.55, 0.22), (0.6, 0.3), (0.3, 0.3), (0.1, 0.2))],
        )
        stroke(tissue, Tissue.BONE, [(side * x, y) for x, y in ((0.5, 0.3), (0.47, 0.55), (0.4, 0.8))], 0.06)  # jaw
        disc(tissue, Tissue.MARROW, (side * 0.46, 0.62), (0.02, 0.12), -8 * side)
        if posterior:
            blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.16, -0.3), (0.24, -0.26), (0.26, -0.1), (0.2, -0.12))])
            continue
        blob(
            tissue,
            Tissue.CSF,
            [(side * x, y) for x, y in ((0.02, -0.33), (0.19, -0.42), (0.2, -0.37), (0.08, -0.26), (0.03, -0.24))],
        )
        blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.36, -0.13), (0.62, -0.09), (0.6, -0.05), (0.36, -0.09))])
        disc(tissue, Tissue.GREY, (side * 0.24, -0.16), (0.06, 0.12), 15 * side)
        disc(tissue, Tissue.GREY, (side * 0.1, -0.14), (0.07, 0.08))
        disc(tissue, Tissue.CSF, (side * 0.33, 0.04), (0.05, 0.015), 20 * side)
        disc(tissue, Tissue.AIR, (side * 0.33, 0.5), (0.14, 0.13))  # maxillary sinus
        disc(tissue, Tissue.VESSEL, (side * 0.13, 0.1), (0.03, 0.03))
    if posterior:
        for x in (-0.24, 0.24):
            paint_cerebellum(tissue, rng, (x, 0.22), (0.29, 0.2))
        disc(tissue, Tissue.WHITE, (0, 0.3), (0.08, 0.2))
        disc(tissue, Tissue.CSF, (0, 0.22), (0.03, 0.04))
    else:
        disc(tissue, Tissue.CSF, (0, -0.13), (0.014, 0.09))
        disc(tissue, Tissue.CSF, (0, 0.0), (0.12, 0.04))
        disc(tissue, Tissue.GREY, (0, 0.1), (0.08, 0.03))  # the gland itself
        disc(tissue, Tissue.AIR, (0, 0.26), (0.12, 0.08))  # sphenoid sinus
        disc(tissue, Tissue.AIR, (0, 0.5), (0.1, 0.14))
        for x in (-0.07, 0.0, 0.07):
            disc(tissue, Tissue.MUCOSA, (x, 0.51), (0.018, 0.11))
        disc(tissue, Tissue.MUSCLE, (0, 0.82), (0.26, 0.12))  # tongue
    return Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0, 0.06), vault=0.0)


def _sagittal(rng: Generator, sella: bool) -> Head:
    outline = [
        (-0.08, -0.92), (0.24, -0.89), (0.53, -0.72), (0.69, -0.45), (0.73, -0.2), (0.7, -0.05), (0.79, 0.12), (0.83, 0.2), (0.74, 0.25),
        (0.78, 0.36), (0.73, 0.44), (0.76, 0.54), (0.68, 0.66), (0.45, 0.68), (0.27, 0.78), (0.25, 1.3), (-0.5, 1.3), (-0.5, 0.62),
        (-0.62, 0.42), (-0.8, 0.12), (-0.87, -0.22), (-0.8, -0.55), (-0.5, -0.82),
    ]  # fmt: skip
    brain = [
        (-0.08, -0.79), (0.22, -0.76), (0.46, -0.6), (0.6, -0.36), (0.6, -0.16), (0.42, -0.06), (0.2, -0.02), (-0.05, -0.02),
        (-0.3, 0.03), (-0.6, 0.08), (-0.73, -0.06), (-0.75, -0.28), (-0.68, -0.52), (-0.44, -0.72),
    ]  # fmt: skip
    head = shells(rng, outline, brain, rng.uniform(0.04, 0.065), rng.uniform(0.05, 0.065))
    tissue, midline = head.tissue, sella or rng.random() < 0.65
    paint_cerebellum(tissue, rng, (-0.42, 0.24), (0.26, 0.19))
    blob(tissue, Tissue.AIR, ((0.44, 0.1), (0.7, 0.08), (0.72, 0.2), (0.46, 0.24), (0.3, 0.22)))  # nasal cavity
    for y in (0.13, 0.19):
        disc(tissue, Tissue.MUCOSA, (0.56, y), (0.13, 0.02), 4)
    blob(tissue, Tissue.AIR, ((0.62, -0.26), (0.68, -0.24), (0.68, -0.1), (0.63, -0.14)))  # frontal sinus
    blob(tissue, Tissue.BONE, ((0.34, 0.27), (0.7, 0.26), (0.7, 0.31), (0.34, 0.31)))  # palate
    blob(tissue, Tissue.AIR, ((0.24, 0.2), (0.31, 0.24), (0.26, 0.5), (0.22, 0.8), (0.16, 0.78), (0.2, 0.45)))  # pharynx
    disc(tissue, Tissue.MARROW, (0.6, 0.58), (0.07, 0.05), 30)
    if midline:
        stroke(tissue, Tissue.CSF, ((0.28, -0.26), (0.18, -0.34), (-0.05, -0.37), (-0.27, -0.28), (-0.32, -0.2)), 0.1)
        stroke(
            tissue, Tissue.WHITE, ((0.28, -0.22), (0.33, -0.3), (0.2, -0.4), (-0.05, -0.44), (-0.28, -0.37), (-0.38, -0.22)), 0.06
        )
        disc(tissue, Tissue.GREY, (-0.05, -0.2), (0.16, 0.09), -8)
        blob(
            tissue, Tissue.WHITE,
            ((0.05, -0.14), (-0.22, -0.14), (-0.22, 0.05), (-0.2, 0.3), (-0.24, 0.55), (-0.26, 1.3), (-0.12, 1.3), (-0.1, 0.5), (0.0, 0.27),
             (0.09, 0.16), (0.06, 0.03)),
        )  # fmt: skip
        blob(tissue, Tissue.CSF, ((-0.2, 0.06), (-0.26, 0.2), (-0.18, 0.34)))  # fourth ventricle
        blob(tissue, Tissue.CSF, ((0.08, -0.06), (0.3, -0.05), (0.15, 0.02), (0.1, 0.14), (0.0, 0.32), (0.06, 0.14)))  # cisterns
        blob(tissue, Tissue.MARROW, ((0.14, 0.1), (0.24, 0.16), (0.12, 0.34), (0.03, 0.36)))  # clivus
        disc(tissue, Tissue.AIR, (0.33, 0.14), (0.1, 0.075))  # sphenoid sinus
        disc(tissue, Tissue.GREY, (0.21, 0.04), (0.045, 0.03))
        for step in range(5):
            disc(tissue, Tissue.MARROW, (-0.02 - 0.01 * step, 0.46 + 0.15 * step), (0.075, 0.055))
    else:
        blob(tissue, Tissue.CSF, ((0.2, -0.36), (0.0, -0.38), (-0.3, -0.28), (-0.42, -0.2), (-0.3, -0.2), (0.05, -0.3)))
        stroke(tissue, Tissue.CSF, ((0.36, -0.1), (0.1, -0.16), (-0.2, -0.22)), 0.03)  # Sylvian fissure
        disc(tissue, Tissue.GREY, (0.02, -0.2), (0.13, 0.06))
        disc(tissue, Tissue.CSF, (0.56, 0.03), (0.09, 0.085))  # eye
    if rng.random() < 0.35:  # some scanners face the other way
        tissue, mask, brain_mask = (np.ascontiguousarray(plane[:, ::-1]) for plane in (tissue, head.mask, head.brain))
        return Head(tissue=tissue, mask=mask, brain=brain_mask, sella=(-0.21, 0.02), vault=-0.05)
    return Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0.21, 0.02), vault=-0.05)


HEADS: dict[str, Callable[[Generator, bool], Head]] = {"axial": _axial, "coronal": _coronal, "sagittal": _sagittal}


def _oval(rng: Generator, rx: float, ry: float, egg: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waver = 1 + 0.008 * (np.cos(3 * angles + rng.uniform(0, 6.3)) + np.cos(5 * angles + rng.uniform(0, 6.3)))
    x, y = rx * np.cos(angles) * (1 + egg * np.sin(angles)) * waver, ry * np.sin(angles) * waver
    return list(zip(x.tolist(), y.tolist(), strict=True))
