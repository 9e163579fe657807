"""Two networks whose trained weights the coverage table opens.

ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2) with parameter-free shortcuts: every second pixel, and zeros for
the new channels. MobileNetV2 (Sandler et al. 2018, table 2), its layers numbered as torchvision first did.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3×3 convolutions and the shortcut round them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride = 1 if before == after else 2
        self.grown = after - before
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        half = self.grown // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.grown - half))
        return F.relu(y + shortcut)


class ResNet20(nn.Module):
    """Three stages of three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def resnet20() -> nn.Module:
    """The network without weights."""
    return ResNet20()


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow."""

    def __init__(self, before: int, after: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        widen = [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()] if widening > 1 else []
        self.conv = nn.Sequential(
            *widen,
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.has_shortcut = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Seventeen inverted residuals between two convolutions."""

    ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [self._unit(3, 32, 3, 2)]
        before = 32
        for widening, after, count, stride in self.ROWS:
            for index in range(count):
                layers.append(InvertedResidual(before, after, stride if index == 0 else 1, widening))
                before = after
        layers.append(self._unit(before, 1280, 1, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    @staticmethod
    def _unit(before: int, after: int, kernel: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU6())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2() -> nn.Module:
    """The network without weights."""
    return MobileNetV2()
