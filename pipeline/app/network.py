"""Open the configured network: its weights, the choice of its boxes, and a back end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from squeezedrive.engines.backends.base import Backend, BackendOptions, EngineSettings
from squeezedrive.engines.backends.select import open_backend
from squeezedrive.engines.datasets.dataset import class_key
from squeezedrive.engines.errors import ConfigError, NetworkError, WeightsError
from squeezedrive.engines.model.weights import Weights, int8_model, load_weights
from squeezedrive.kernels.params import DetectParams
from squeezedrive.pipeline.config import Config, DetectConfig, NetworkConfig, load_network_config
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.timing import thread_named
from squeezedrive.pipeline.tracking.tracker import Tracker

log = logging.getLogger("squeezedrive")

LOWEST = 0.05  # lowest score of a box that the live page's slider can bring back


@dataclass(frozen=True)
class NetworkDescription:
    """A network before it is loaded into a back end."""

    config: NetworkConfig
    weights: Weights
    detect: DetectParams  # which boxes the back end keeps
    controls: Controls | None  # which of these are kept, if a live page or a tracker decides

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self.weights.profile.output.classes


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in a back end, which several runs may use one after the other."""

    description: NetworkDescription
    backend: Backend


def describe_network(config: Config) -> NetworkDescription:
    """Load the weights and settings of the configured network, without a back end.

    Raises
    ------
    UserError
        As `load_network` and `known_classes`.
    """
    network_file = Path(config.network)
    network = load_network_config(network_file)
    weights = load_network(network_file, network)
    names = weights.profile.output.classes
    chosen = known_classes(config.detect, names)
    detect = detect_params(chosen, names)
    if config.preview.address is None and not config.track.may_track:
        return NetworkDescription(network, weights, detect, None)
    controls = Controls(names, chosen.threshold, chosen.classes, chosen.class_thresholds)
    lowest = _lowest(config, float(controls.thresholds.min()))
    detect = replace(detect, threshold=lowest, classes=None, class_thresholds=())
    return NetworkDescription(network, weights, detect, controls)


def _lowest(config: Config, threshold: float) -> float:
    """Return the lowest score that the live page and the tracker use."""
    if config.preview.address is not None:
        threshold = min(threshold, LOWEST)
    return Tracker.weakest(threshold) if config.track.may_track else threshold


def load_network(network_file: Path, network: NetworkConfig) -> Weights:
    """Load the weights of a network and check them against its configuration.

    Raises
    ------
    WeightsError
        If they contradict it, or cannot be used.
    ConfigError
        If the network cannot read an input of the configured size.
    """
    path = Path(network.weights)
    weights = load_weights(path)
    profile = weights.profile
    for key, configured, trained in (
        ("architecture", network.architecture, profile.network),
        ("classes", network.classes, list(profile.output.classes)),
    ):
        if configured != trained:
            raise WeightsError(
                f"{network_file}: {key}: {configured} contradicts the profile"
                f" {path.with_suffix('.json')}, which has {trained}"
            )
    try:
        weights.profile.operations(network.input.width, network.input.height)
    except NetworkError as error:
        raise ConfigError(f"{network_file}: input: {error}") from None
    return weights


def known_classes(detect: DetectConfig, names: tuple[str, ...]) -> DetectConfig:
    """Return the configuration with classes as the network spells them; "Car" means car.

    Raises
    ------
    ConfigError
        If a class is asked for that the network, whose classes are `names`, does not know.
    """
    spelling = {class_key(name): name for name in names}

    def known(key: str, name: str) -> str:
        if class_key(name) not in spelling:
            raise ConfigError(
                f"detect.{key}: unknown class {name!r}, the network knows {', '.join(names)}"
            )
        return spelling[class_key(name)]

    thresholds = detect.class_thresholds.items()
    return detect.model_copy(
        update={
            "classes": [known("classes", name) for name in detect.classes],
            "class_thresholds": {known("class_thresholds", name): t for name, t in thresholds},
        }
    )


def detect_params(detect: DetectConfig, names: tuple[str, ...]) -> DetectParams:
    """Return the parameters of the detection; `names` are the network's classes."""
    return DetectParams(
        threshold=detect.threshold,
        top_n=detect.top_n,
        nms_iou=detect.nms_iou,
        greedy=detect.nms == "greedy",
        classes=tuple(names.index(name) for name in detect.classes) or None,
        class_thresholds=tuple(
            (names.index(name), score) for name, score in detect.class_thresholds.items()
        ),
    )


def open_network(config: Config, network: NetworkDescription) -> Backend:
    """Load the network into the configured back end; log which one it is.

    Raises
    ------
    UserError
        As `engines.backends.select.open_backend`.
    """
    weights = network.weights
    trained = weights.profile.fit
    if trained not in (None, config.fit.mode):
        log.warning(
            "%s was trained with pictures fitted by %s, not %s: use --fit %s",
            weights.profile.name, trained, config.fit.mode, trained,
        )  # fmt: skip
    settings = EngineSettings(
        weights=weights,
        width=network.config.input.width,
        height=network.config.input.height,
        detect=network.detect,
        fit=config.fit.mode,
        band_centre=config.fit.band_centre,
        int8=int8_model(Path(network.config.weights)),
    )
    options = [group for _, group in config if isinstance(group, BackendOptions)]
    with thread_named("inference"):  # threads that its library starts inherit the name
        backend = open_backend(config.backend, settings, options)
    info = backend.info
    log.info(
        "backend %s: %s, %s, on %s (%s)",
        info.name, info.runtime, info.precision, info.device, info.reason,
    )  # fmt: skip
    return backend
