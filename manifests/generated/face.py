"""Render a face whose mouth follows a trajectory; all else is independent of the speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .mouth import Mouth

Floats = NDArray[np.float32]

_SKIN = ((245, 214, 190), (224, 172, 130), (198, 134, 92), (141, 85, 54), (92, 56, 36))
_HAIR = (
    (30, 24, 22),
    (84, 50, 28),
    (160, 110, 50),
    (225, 195, 120),
    (150, 60, 25),
    (170, 170, 170),
)
_EYES = ((70, 110, 160), (80, 50, 30), (70, 120, 70), (110, 110, 110))


@dataclass
class _Canvas:
    """Video frames (3, T, S, S) as a unit square; positions and radii are (T,) or scalars."""

    frames: Floats

    def ellipse(self, x, y, rx, ry, colour, alpha=1.0) -> None:
        """Paint an ellipse with soft edges one pixel wide."""
        t, size = self.frames.shape[1:3]
        x, y, rx, ry, alpha = (
            np.broadcast_to(np.asarray(v, np.float32), (t,)) for v in (x, y, rx, ry, alpha)
        )
        x, y = x * size - 0.5, y * size - 0.5
        rx, ry = np.maximum(rx * size, 0.4), np.maximum(ry * size, 0.4)
        left, right = self._span(x - rx, x + rx, size)
        top, bottom = self._span(y - ry, y + ry, size)
        dx = (np.arange(left, right, dtype=np.float32) - x[:, None]) / rx[:, None]
        dy = (np.arange(top, bottom, dtype=np.float32) - y[:, None]) / ry[:, None]
        distance = np.sqrt(dy[:, :, None] ** 2 + dx[:, None, :] ** 2)
        edge = np.minimum(rx, ry)[:, None, None]
        mask = np.clip((1 - distance) * edge + 0.5, 0, 1) * alpha[:, None, None]
        window = self.frames[:, :, top:bottom, left:right]
        for channel, value in enumerate(np.asarray(colour, np.float32)):
            window[channel] += mask * (value - window[channel])

    @staticmethod
    def _span(low: Floats, high: Floats, size: int) -> tuple[int, int]:
        return max(0, int(low.min()) - 1), max(0, min(size, int(high.max()) + 3))


def draw_face(mouth: Mouth, size: int, fps: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Video frames (T, size, size, 3) of a random face in front of a random background."""
    frames = len(mouth.opening)
    canvas = _Canvas(np.repeat(_background(size, rng)[:, None], frames, axis=1))
    skin = _vary(_SKIN[rng.integers(len(_SKIN))], 12, rng)
    hair = _vary(_HAIR[rng.integers(len(_HAIR))], 12, rng)
    rx, ry = rng.uniform(0.27, 0.34), rng.uniform(0.35, 0.42)
    x = rng.uniform(0.44, 0.56) + _wander(frames, fps, 0.012, rng)
    y = rng.uniform(0.49, 0.55) + _wander(frames, fps, 0.010, rng)
    jaw = 0.035 * mouth.opening
    canvas.ellipse(x, y + ry * 1.15, rx * 0.55, ry * 0.6, skin * 0.85)  # neck
    canvas.ellipse(x, y - ry * 0.22, rx * rng.uniform(1.05, 1.2), ry * rng.uniform(0.9, 1.0), hair)
    canvas.ellipse(x, y + jaw / 2, rx, ry + jaw / 2, skin)
    canvas.ellipse(
        x, y - ry * rng.uniform(0.85, 1.0), rx * 0.85, ry * rng.uniform(0.15, 0.35), hair
    )
    _eyes(canvas, x, y, rx, ry, skin, hair, fps, rng)
    canvas.ellipse(x, y + ry * 0.14, rx * 0.13, ry * 0.16, skin * 0.86)
    _mouth(canvas, mouth, x, y + ry * 0.52 + jaw * 0.3, rx, skin, rng)
    canvas.frames *= rng.uniform(0.8, 1.1)  # brightness
    pixels = np.clip(canvas.frames + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))


def _mouth(
    canvas: _Canvas, mouth: Mouth, x: Floats, y: Floats, rx: float, skin: Floats, rng
) -> None:
    lips = skin * np.array((0.85, 0.5, 0.5), np.float32) + _vary((15, 0, 5), 10, rng)
    thick = rng.uniform(0.018, 0.028)
    half = rx * rng.uniform(0.42, 0.52)
    wide = half * (0.85 + 0.35 * (mouth.width - 0.5) - 0.25 * mouth.rounding)
    tall = 0.09 * mouth.opening
    inner = np.maximum(wide - thick * (0.8 + 0.6 * mouth.rounding), 0.01)
    canvas.ellipse(x, y, wide, tall + thick * (1 + 0.4 * mouth.rounding), lips)
    canvas.ellipse(
        x, y, inner, np.maximum(tall, 0.004), (45, 15, 18), np.minimum(1, 0.5 + tall * 30)
    )
    shown = np.clip(tall / 0.03, 0, 1)
    tongue = mouth.tongue * shown
    canvas.ellipse(x, y + tall * 0.55, inner * 0.6, tall * 0.4, (190, 80, 85), tongue)
    canvas.ellipse(
        x, y - tall * 0.5, inner * 0.8, tall * 0.38, (240, 236, 225), mouth.teeth * shown
    )


def _eyes(
    canvas: _Canvas, x: Floats, y: Floats, rx: float, ry: float, skin, hair, fps: float, rng
) -> None:
    iris = _vary(_EYES[rng.integers(len(_EYES))], 15, rng)
    apart, radius = rx * rng.uniform(0.4, 0.5), rx * rng.uniform(0.17, 0.23)
    level = y - ry * rng.uniform(0.12, 0.2)
    open_ = _blinks(len(x), fps, rng)
    gaze = _wander(len(x), fps, radius * 0.25, rng)
    brow = rng.uniform(1.6, 2.2)
    for side in (-1, 1):
        centre = x + side * apart
        canvas.ellipse(centre, level, radius, radius * 0.6 * open_, (245, 245, 245))
        canvas.ellipse(centre + gaze, level, radius * 0.5, radius * 0.55 * open_, iris)
        canvas.ellipse(centre + gaze, level, radius * 0.22, radius * 0.25 * open_, (10, 10, 10))
        canvas.ellipse(centre, level, radius, 0.01, skin * 0.7, 1 - open_)
        canvas.ellipse(centre, level - radius * brow, radius * 1.2, radius * 0.22, hair * 0.8)


def _blinks(frames: int, fps: float, rng: np.random.Generator) -> Floats:
    """Opening of the eyes (T,): on average one blink of 0.2 s every three seconds."""
    times = np.arange(frames) / fps
    open_ = np.ones(frames, np.float32)
    for blink in rng.uniform(0, frames / fps, rng.poisson(frames / fps / 3)):
        open_ = np.minimum(open_, np.clip(np.abs(times - blink) / 0.1, 0.05, 1))
    return open_.astype(np.float32)


def _wander(frames: int, fps: float, amplitude: float, rng: np.random.Generator) -> Floats:
    """A slow random trajectory (T,): the mean of two sines of random phase at 0.1 to 0.6 Hz."""
    times = np.arange(frames) / fps
    rates, phases = rng.uniform(0.1, 0.6, 2), rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * rates[:, None] * times + phases[:, None])
    return (amplitude * waves.mean(0)).astype(np.float32)


def _vary(colour: tuple[int, ...], spread: float, rng: np.random.Generator) -> Floats:
    return np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 255).astype(np.float32)


def _background(size: int, rng: np.random.Generator) -> Floats:
    """A background image (3, size, size): a gradient of two colours and a few soft discs."""
    first, second = rng.uniform(30, 225, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    ramp = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None] + 0.5
    image = first[:, None, None] + np.clip(ramp, 0, 1) * (second - first)[:, None, None]
    canvas = _Canvas(image[:, None].astype(np.float32))
    for _ in range(rng.integers(1, 5)):
        x, y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.2)
        canvas.ellipse(x, y, radius, radius * rng.uniform(0.5, 1.5), rng.uniform(20, 235, 3), 0.7)
    return canvas.frames[:, 0]
