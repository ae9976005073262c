"""The network that `evaluate` and `export` load is the one that `train` saved."""

import torch

from model.networks.cnn import CNN
from pipelines import paths, stage, weights


def test_the_network_is_loaded_as_it_was_saved_with_its_calibration(in_folder):
    torch.manual_seed(0)
    network = CNN(2, classes=26)
    weights.save(network, width=2, classes=26)
    stage.write_json(paths.CALIBRATION, {"temperature": 1.5, "abstain_below": 0.4})
    loaded, calibration = weights.load()
    images = torch.rand(3, 1, 28, 28)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images), network.eval()(images))
    assert calibration == {"temperature": 1.5, "abstain_below": 0.4}
