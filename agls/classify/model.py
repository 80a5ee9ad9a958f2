"""The model that judges impulses: parameters in one JSON file, arithmetic in numpy.

The file says which features it wants, what it was trained on and under which licence, how good it was on recordings
that did not train it, a SHA-256 over all of that and a signature over the SHA-256. Anything that does not match is
refused, never guessed at.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from agls.classify.features import FEATURE_NAMES, features
from agls.classify.signature import verify
from agls.errors import InputError
from agls.messages import Label, Onset

FORMAT = "agls-model-2"
SHIPPED = "model.json"
# Who signs the models that come with AGLS; whoever trains one signs it with a key of their own and names that.
RELEASE_KEY = "88cfdb0feb5645864e926b58c043ca14a53f1979990b60c5a66db73566889e1d"
SIGNED = b"agls model "
MAX_LLR = 50.0
# A feature further out than this many standard deviations of the training set says no more than one at this edge.
MAX_DEVIATION = 5.0
MAX_FILE_BYTES = 4_000_000

Floats = NDArray[np.float64]
Row = Annotated[tuple[float, ...], Meta(min_length=1)]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]


class TrainingSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of training sounds, and the thanks its licence asks for."""

    name: str
    licence: str
    attribution: str
    sha256: str
    counts: dict[str, int]


class Packed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An array of 32-bit numbers, little-endian, in base64."""

    shape: Annotated[tuple[Annotated[int, Meta(ge=1, le=4_096)], ...], Meta(min_length=1, max_length=3)]
    base64: str

    def unpacked(self) -> Floats:
        """Read the array.

        Returns
        -------
        numpy.ndarray, shape as told, float64
            Its numbers.

        Raises
        ------
        ValueError
            If there are more or fewer than the shape says, or one is not finite.
        """
        numbers = np.frombuffer(base64.b64decode(self.base64, validate=True), "<f4").astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("an array holds what is no number")
        return np.asarray(numbers.reshape(self.shape))


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An Ed25519 signature over the file's SHA-256, and the public key it is made with."""

    key: Hex32
    value: Hex64


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model file holds; `sha256` is over all but itself and the signature."""

    format: str
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    features: tuple[str, ...]
    classes: Annotated[tuple[Label, ...], Meta(min_length=2)]
    mean: Packed
    scale: Packed
    # Networks with one hidden layer that were trained apart, each on the features it sees.
    sees: Annotated[tuple[tuple[Annotated[int, Meta(ge=0)], ...], ...], Meta(min_length=1)]
    hidden: Packed
    hidden_bias: Packed
    output: Packed
    output_bias: Packed
    # Log of the class shares that training assumed: taken off again, so that the ratios are free of prior.
    log_prior: Row
    # Slope and offset of each class's ratio, fitted on recordings that did not train it.
    calibration: tuple[tuple[float, float], ...]
    # Main axes and scatter of the training impulses, and the distance beyond which nothing was heard.
    axes: Packed
    axis_scale: Packed
    far: Annotated[float, Meta(gt=0)]
    training: tuple[TrainingSet, ...]
    metrics: dict[str, float]
    caution: str
    sha256: Hex32
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model says about one impulse.

    Attributes
    ----------
    llr : dict of str to float
        Natural-log likelihood ratio of each class against all the others, free of prior.
    label : str
        Gunshot where that is likelier than not at even prior, else the likeliest other class; ``unknown`` where nothing
        like it was in the training.
    distance : float
        How far from the training impulses, 1 at the edge.
    """

    llr: dict[Label, float]
    label: Label
    distance: float


@dataclass(frozen=True)
class Networks:
    """Networks with one hidden layer.

    Attributes
    ----------
    sees : numpy.ndarray, shape (networks, inputs), int
        Which features each looks at.
    hidden : numpy.ndarray, shape (networks, hidden, inputs)
        Weights of the hidden layers.
    hidden_bias : numpy.ndarray, shape (networks, hidden)
        Their biases.
    output : numpy.ndarray, shape (networks, classes, hidden)
        Weights of the output layers.
    output_bias : numpy.ndarray, shape (networks, classes)
        Their biases.
    """

    sees: NDArray[np.int64]
    hidden: Floats
    hidden_bias: Floats
    output: Floats
    output_bias: Floats

    def scores(self, standard: Floats) -> Floats:
        """Run standardised features through the networks, and take the mean of what they say.

        Parameters
        ----------
        standard : numpy.ndarray, shape (feature_count,)
            Standardised features.

        Returns
        -------
        numpy.ndarray, shape (classes,)
            Log posterior of each class, up to a constant.
        """
        inner = np.maximum((self.hidden @ standard[self.sees][:, :, None])[:, :, 0] + self.hidden_bias, 0.0)
        outer = (self.output @ inner[:, :, None])[:, :, 0] + self.output_bias
        return np.asarray((outer - np.logaddexp.reduce(outer, axis=1, keepdims=True)).mean(axis=0))


@dataclass(frozen=True)
class Model:
    """Judge impulses by small networks on standardised features.

    Attributes
    ----------
    content : ModelFile
        The parameters, checked.
    """

    content: ModelFile

    @property
    def name(self) -> str:
        """Name and version of the model, as detections carry it.

        Returns
        -------
        str
            At most 64 characters.
        """
        return self.content.name

    def judge(self, onset: Onset) -> dict[Label, float]:
        """Weigh an impulse against every class.

        Parameters
        ----------
        onset : Onset
            With its snippet.

        Returns
        -------
        dict of str to float
            Natural-log likelihood ratio of each class against all the others, free of prior, within +-50.
        """
        return self.examine(onset).llr

    def examine(self, onset: Onset) -> Judgement:
        """Weigh an impulse and say whether the model knows anything like it.

        Parameters
        ----------
        onset : Onset
            With its snippet.

        Returns
        -------
        Judgement
            Ratios, label and distance.
        """
        return self.examine_features(features(onset))

    def examine_features(self, row: Floats) -> Judgement:
        """Weigh an impulse that is already described by its features.

        Parameters
        ----------
        row : numpy.ndarray, shape (feature_count,)
            In the order of `FEATURE_NAMES`.

        Returns
        -------
        Judgement
            Ratios, label and distance.
        """
        mean, scale, log_prior, calibration, axes, axis_scale = self._arrays
        standard = np.clip((row - mean) / scale, -MAX_DEVIATION, MAX_DEVIATION)
        ratios = log_ratios(self._networks.scores(standard), log_prior) * calibration[:, 0] + calibration[:, 1]
        ratios = np.clip(ratios, -MAX_LLR, MAX_LLR)
        distance = float(np.sqrt(np.mean((axes @ standard / axis_scale) ** 2))) / self.content.far
        llr: dict[Label, float] = {
            label: round(float(ratio), 4) for label, ratio in zip(self.content.classes, ratios, strict=True)
        }
        return Judgement(llr, _label(llr, distance), distance)

    @cached_property
    def _arrays(self) -> tuple[Floats, ...]:
        one = self.content
        return (
            one.mean.unpacked(),
            one.scale.unpacked(),
            np.array(one.log_prior),
            np.array(one.calibration),
            one.axes.unpacked(),
            one.axis_scale.unpacked(),
        )

    @cached_property
    def _networks(self) -> Networks:
        one = self.content
        parts = (one.hidden, one.hidden_bias, one.output, one.output_bias)
        return Networks(np.array(one.sees), *(part.unpacked() for part in parts))


def _label(llr: dict[Label, float], distance: float) -> Label:
    """Name the class, so that gunshot and a probability above one half (at even prior) always go together."""
    if distance > 1:
        return "unknown"
    if llr["gunshot"] > 0:
        return "gunshot"
    return max((label for label in llr if label != "gunshot"), key=lambda label: llr[label])


def log_ratios(scores: Floats, log_prior: Floats) -> Floats:
    """Turn the scores of a multinomial model into log-likelihood ratios, each class against all the others.

    Parameters
    ----------
    scores : numpy.ndarray, shape (classes,)
        Log posterior of each class, up to a constant.
    log_prior : numpy.ndarray, shape (classes,)
        Log of the class shares behind the scores.

    Returns
    -------
    numpy.ndarray, shape (classes,)
        Posterior odds over prior odds, natural log.
    """
    likelihood = scores - log_prior
    rest = np.where(np.eye(scores.size, dtype=bool), -np.inf, log_prior[None, :])
    weighted = likelihood[None, :] + rest - np.logaddexp.reduce(rest, axis=1)[:, None]
    return np.asarray(likelihood - np.logaddexp.reduce(weighted, axis=1))


def probability(llr_gunshot: float, prior: float) -> float:
    """Turn a log-likelihood ratio into a probability.

    Parameters
    ----------
    llr_gunshot : float
        Natural-log likelihood ratio of gunshot against all else.
    prior : float
        Share of impulses that are gunshots, before listening; between 0 and 1.

    Returns
    -------
    float
        Probability of gunshot after listening.
    """
    log_odds = llr_gunshot + float(np.log(prior) - np.log1p(-prior))
    return float(1 / (1 + np.exp(-log_odds)))


def recalibrate(llr: dict[Label, float], slope: float, offset: float) -> dict[Label, float]:
    """Correct the ratio of gunshot by what labelled sounds of one node have shown.

    Parameters
    ----------
    llr : dict of str to float
        Log-likelihood ratios as the model gives them.
    slope : float
        What that of gunshot is multiplied by, positive.
    offset : float
        What is then added to it.

    Returns
    -------
    dict of str to float
        The same ratios, that of gunshot corrected and within +-50.
    """
    if (slope, offset) == (1.0, 0.0):
        return llr
    corrected = min(max(slope * llr["gunshot"] + offset, -MAX_LLR), MAX_LLR)
    return llr | {"gunshot": round(corrected, 4)}


def content_sha256(content: dict[str, Any]) -> str:
    """Compute the SHA-256 over everything in a model file but itself and the signature.

    Parameters
    ----------
    content : dict
        The file's JSON object.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    rest = {key: value for key, value in content.items() if key not in ("sha256", "signature")}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_model(path: Path | None = None, keys: Sequence[str] = (RELEASE_KEY,)) -> Model:
    """Read a model file and check all of it.

    Parameters
    ----------
    path : pathlib.Path or None
        The file; None for the one shipped with AGLS.
    keys : sequence of str
        Public keys, one of which must have signed it; none for a model that need not be signed.

    Returns
    -------
    Model
        Ready to judge.

    Raises
    ------
    InputError
        If the file cannot be read, was changed, was signed by nobody trusted, or does not fit this version's features.
    """
    name = str(path) if path is not None else f"the shipped {SHIPPED}"
    try:
        raw = path.read_bytes() if path is not None else files("agls.classify").joinpath(SHIPPED).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); give a model file made by agls train") from None
    refusal, content = _check(raw)
    refusal = refusal or (_distrust(content, keys) if content is not None and keys else "")
    if content is None or refusal:
        raise InputError(f"{name}: {refusal}; give a model file made by agls train of this version")
    return Model(content)


def trusted(key: str) -> tuple[str, ...]:
    """Say whose models are trusted.

    Parameters
    ----------
    key : str
        A public key besides AGLS's own, or nothing.

    Returns
    -------
    tuple of str
        Public keys.
    """
    return (RELEASE_KEY, key) if key else (RELEASE_KEY,)


def _check(raw: bytes) -> tuple[str, ModelFile | None]:
    """Read a model file's bytes; say what is wrong with them, or nothing."""
    if len(raw) > MAX_FILE_BYTES:
        return f"has {len(raw)} bytes, at most {MAX_FILE_BYTES} are read", None
    try:
        whole = json.loads(raw)
        content = msgspec.convert(whole, ModelFile)
        if content.sha256 != content_sha256(whole):
            return "its SHA-256 does not match its content, so it was changed or damaged", None
        misfit = _misfit(content)
    except (ValueError, RecursionError) as error:
        return f"is not a model file ({error})", None
    return misfit, None if misfit else content


def _distrust(content: ModelFile, keys: Sequence[str]) -> str:
    """Say why nobody trusted has signed a model, or nothing."""
    signed = content.signature
    if signed is None:
        return "is not signed"
    if signed.key not in keys:
        return f"is signed with the key {signed.key}, which is not trusted here"
    if not verify(bytes.fromhex(signed.key), SIGNED + content.sha256.encode(), bytes.fromhex(signed.value)):
        return "its signature does not match its content, so it was changed or forged"
    return ""


def _misfit(content: ModelFile) -> str:
    """Say where a model's parameters do not fit together or this version, or nothing."""
    count, classes_count = len(FEATURE_NAMES), len(content.classes)
    if content.format != FORMAT:
        return f"has format {content.format!r}, {FORMAT!r} is accepted"
    if content.features != FEATURE_NAMES:
        return "wants other features than this version makes"
    shapes = [content.mean.shape == content.scale.shape == (count,), content.axes.shape[1:] == (count,)]
    shapes += [content.axis_scale.shape == content.axes.shape[:1]]
    networks, width, inputs = (*content.hidden.shape, 0, 0, 0)[:3]
    shapes += [len(content.sees) == networks, all(len(one) == inputs for one in content.sees)]
    shapes += [max((max(one, default=count) for one in content.sees), default=count) < count]
    shapes += [content.hidden.shape == (networks, width, inputs), content.hidden_bias.shape == (networks, width)]
    shapes += [content.output.shape == (networks, classes_count, width)]
    shapes += [content.output_bias.shape == (networks, classes_count)]
    shapes += [len(one) == classes_count for one in (content.log_prior, content.calibration)]
    if not all(shapes) or len(set(content.classes)) != classes_count:
        return "holds parameters of the wrong shape"
    if "gunshot" not in content.classes or "unknown" in content.classes:
        return "must know gunshot as a class, and not unknown"
    arrays = [content.mean, content.scale, content.axes, content.axis_scale]
    arrays += [content.hidden, content.hidden_bias, content.output, content.output_bias]
    numbers = [one.unpacked() for one in arrays]
    if numbers[1].min() <= 0 or numbers[3].min() <= 0:
        return "holds a scale that is not positive"
    return ""
