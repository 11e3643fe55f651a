"""Discrete noise levels (Ho et al. 2020, arXiv:2006.11239): the network predicts ε or v.

    x_t = √ᾱ·x0 + √(1 - ᾱ)·ε        ᾱ is the product of 1 - β up to the timestep

As in diffusers' schedulers (scheduling_ddim.py: `alphas_cumprod`, add_noise, step).
"""

from torch import Tensor

from spark_trainer.losses.per_sample import mean_square, spread


def noised(x0: Tensor, noise: Tensor, alpha_B: Tensor) -> Tensor:
    """Compute x_t for each sample's ᾱ, in the shape of the data (batch, ...)."""
    alpha = spread(alpha_B, x0)
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise


def target(x0: Tensor, noise: Tensor, alpha_B: Tensor, prediction: str) -> Tensor:
    """Compute the network's target: the noise (`epsilon`), or √ᾱ·ε - √(1 - ᾱ)·x0 (`v_prediction`).

    Raises:
        ValueError: another prediction.
    """
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":  # Salimans and Ho 2022, arXiv:2202.00512
        alpha = spread(alpha_B, x0)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    raise ValueError(f"prediction_type: {prediction!r}; expected one of: epsilon, v_prediction")


def loss(output: Tensor, x0: Tensor, noise: Tensor, alpha_B: Tensor, prediction: str) -> Tensor:
    """Compute each sample's loss (batch,): the mean square of the prediction's error.

    Args:
        output: the network's prediction (batch, ...).
        x0: the data.
        noise: ε.
        alpha_B: ᾱ at each sample's timestep.
        prediction: `epsilon` or `v_prediction`.
    """
    return mean_square(output, target(x0, noise, alpha_B, prediction))
