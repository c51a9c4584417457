"""The moving average of the weights against its definition."""

from __future__ import annotations

import torch

from fathom.training.optim.average import moving_average


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = moving_average(model, decay=0.3)
    expected = model[0].weight.detach().clone()
    for t in range(4):
        with torch.no_grad():
            model[0].weight += 1.0
        model(torch.randn(3, 2))
        average.update_parameters(model)
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    assert torch.allclose(average.module[0].weight, expected, atol=1e-6)
    assert torch.equal(average.module[1].running_mean, model[1].running_mean)
    assert int(average.module[1].num_batches_tracked) == 4
