"""`configs/wgan.py` written in PyTorch, to measure beside: the same networks and losses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Arrays = Mapping[str, Any]


# On a GPU: of several algorithms for a convolution, take the fastest. CPUs have no such choice.
torch.backends.cudnn.benchmark = True


def compute_exactly() -> None:
    """Let a GPU compute float32 in float32, not in TensorFloat-32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


class DoubleConv(nn.Sequential):
    """Two times conv 3x3 without bias, BatchNorm, ReLU."""

    def __init__(self, channels: int, features: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, features):
            layers += [nn.Conv2d(inputs, features, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """The generator."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(zip((1, *widths), widths, strict=False))
        self.down = nn.ModuleList(DoubleConv(*pair) for pair in pairs)
        above = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(*pair, 2, stride=2) for pair in above)
        self.up = nn.ModuleList(DoubleConv(2 * width, width) for _, width in above)
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 1, H, W) to (B, 2, H, W)."""
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for enlarge, block, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            x = block(torch.cat([skip, enlarge(x)], 1))
        return self.last(x)


class Critic(nn.Module):
    """The critic, one score a picture: the mean of its map."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip((3, *widths), widths, strict=False)
        self.blocks = nn.ModuleList(nn.Conv2d(*pair, 4, 2, 1, bias=False) for pair in pairs)
        self.last = nn.Conv2d(widths[-1] if widths else 3, 1, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B,)."""
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number:
                x = functional.instance_norm(x)
            x = functional.leaky_relu(x, 0.2)
        return self.last(x).mean((1, 2, 3))


class Training:
    """One iteration of WGAN-GP plus L1, and its parts.

    Args:
      widths: of the generator.
      critic_widths: of the critic.
      example: gray (B, H, W, 1) and ab (B, H, W, 2), normalised.
      device: cpu or cuda.
      channels_last: whether pictures and kernels lie in memory channels last.
      bfloat16: whether autocast computes in it.
      compiled: whether the networks go through `torch.compile`.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        critic_widths: tuple[int, ...],
        example: tuple[np.ndarray, np.ndarray],
        device: str = "cpu",
        channels_last: bool = False,
        bfloat16: bool = False,
        compiled: bool = False,
    ) -> None:
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.device, self.bfloat16 = device, bfloat16
        self.generator = UNet(widths).to(device, memory_format=self.format)
        self.critic = Critic(critic_widths).to(device, memory_format=self.format)
        self.gray, self.ab = (self.to_tensor(array) for array in example)
        options = {"lr": 2e-4, "betas": (0.0, 0.9)}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), **options)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), **options)
        self.generate, self.judge = self.generator, self.critic
        if compiled:
            self.generate, self.judge = torch.compile(self.generator), torch.compile(self.critic)

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return (B, C, H, W) of (B, H, W, C)."""
        tensor = torch.from_numpy(np.array(array)).permute(0, 3, 1, 2)
        return tensor.contiguous().to(self.device, memory_format=self.format)

    def autocast(self) -> Any:
        """Return the context in which networks compute."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    def iterate(self) -> None:
        """Update the generator twice, then the critic."""
        for _ in range(2):
            self.generator_optimizer.zero_grad(set_to_none=True)
            self.generator_loss().backward()
            self.generator_optimizer.step()
        self.critic_optimizer.zero_grad(set_to_none=True)
        self.critic_loss().backward()
        self.critic_optimizer.step()

    def make_ways(self) -> dict[str, Any]:
        """Return the iteration and its parts, by name."""

        def forward() -> None:
            with torch.no_grad(), self.autocast():
                self.generate(self.gray)
            self.wait()

        def differentiate(loss: Any) -> None:
            self.generator.zero_grad(set_to_none=True)
            self.critic.zero_grad(set_to_none=True)
            loss().backward()
            self.wait()

        def iterate() -> None:
            self.iterate()
            self.wait()

        return {
            "iteration": iterate,
            "generator forward": forward,
            "generator forward + backward": lambda: differentiate(self.reconstruction_loss),
            "critic": lambda: differentiate(lambda: self.judgement(*self.pictures())),
            "penalty": lambda: differentiate(lambda: self.penalty(*self.pictures())),
        }

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def generator_loss(self) -> torch.Tensor:
        """Return L1 less the fake pictures' mean score."""
        with self.autocast():
            ab = self.generate(self.gray)
            score = self.judge(torch.cat([self.gray, ab], 1))
        return (ab.float() - self.ab).abs().mean() - score.float().mean()

    def reconstruction_loss(self) -> torch.Tensor:
        """Return L1."""
        with self.autocast():
            ab = self.generate(self.gray)
        return (ab.float() - self.ab).abs().mean()

    def critic_loss(self) -> torch.Tensor:
        """Return the critic's loss with its penalty."""
        real, fake = self.pictures()
        return self.judgement(real, fake) + 10.0 * self.penalty(real, fake)

    def pictures(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the critic sees: real and predicted pictures."""
        with torch.no_grad(), self.autocast():
            ab = self.generate(self.gray).float()
        return torch.cat([self.gray, self.ab], 1), torch.cat([self.gray, ab], 1)

    def judgement(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Return the critic's loss without the penalty."""
        with self.autocast():
            return self.judge(fake).float().mean() - self.judge(real).float().mean()

    def penalty(
        self, real: torch.Tensor, fake: torch.Tensor, alpha: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the gradient penalty, which can be differentiated."""
        if alpha is None:
            alpha = torch.rand(len(real), 1, 1, 1, device=self.device)
        point = (alpha * real + (1 - alpha) * fake).requires_grad_()
        with self.autocast():
            score = self.critic(point).float().sum()  # compiled, it can't be differentiated twice
        [gradient] = torch.autograd.grad(score, point, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    def load(self, generator: Arrays, critic: Arrays) -> None:
        """Take over the parameters of both networks in Flax."""
        self.load_generator(generator)
        for number, layer in enumerate([*self.critic.blocks, self.critic.last]):
            _copy(layer.weight, critic[f"Conv_{number}"]["kernel"], (3, 2, 0, 1))

    def load_generator(self, generator: Arrays) -> None:
        """Take over the generator's parameters."""
        convolutions, norms, enlarging = _modules(self.generator)
        for number, block in enumerate(self._double_convs(generator)):
            for place in range(2):
                index = 2 * number + place
                _copy(convolutions[index].weight, block[f"Conv_{place}"]["kernel"], (3, 2, 0, 1))
                _copy(norms[index].weight, block[f"BatchNorm_{place}"]["scale"])
                _copy(norms[index].bias, block[f"BatchNorm_{place}"]["bias"])
        for number, layer in enumerate(enlarging):
            _copy(layer.weight, generator[f"UpConv2x2_{number}"]["kernel"], (2, 3, 0, 1))
            _copy(layer.bias, generator[f"UpConv2x2_{number}"]["bias"])
        _copy(self.generator.last.weight, generator["Conv_0"]["kernel"], (3, 2, 0, 1))
        _copy(self.generator.last.bias, generator["Conv_0"]["bias"])

    def _double_convs(self, generator: Arrays) -> list[Arrays]:
        count = len(self.generator.down) + len(self.generator.up)
        return [generator[f"DoubleConv_{number}"] for number in range(count)]


def _modules(network: nn.Module) -> tuple[list[Any], list[Any], list[Any]]:
    """Return convolutions of the blocks, norms and transposed convolutions, in their order."""
    blocks = [
        layer for block in network.modules() if isinstance(block, DoubleConv) for layer in block
    ]
    return (
        [layer for layer in blocks if isinstance(layer, nn.Conv2d)],
        [layer for layer in blocks if isinstance(layer, nn.BatchNorm2d)],
        [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)],
    )


def _copy(parameter: torch.Tensor, array: Any, axes: tuple[int, ...] | None = None) -> None:
    values = np.asarray(array)
    values = values.transpose(axes) if axes else values
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)))
