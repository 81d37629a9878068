"""How the gradients of ResNet-20's activations lie in the range of 16-bit floats. Runs in the PyTorch peer's virtual environment:

target/peers/pytorch/bin/python benches/experiments/f16/gradients.py
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

PEERS = Path(__file__).resolve().parents[2] / "peers"
sys.path[:0] = [str(PEERS), str(PEERS / "pytorch")]
from peer import ResNet20
from values import SIDE, images, labels

STEPS = 20


def main():
    model = ResNet20()
    model.fill()
    x, y = torch.from_numpy(images(128)).reshape(128, 3, SIDE, SIDE), torch.from_numpy(labels(128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    gradients = []

    def keep(module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda g: gradients.append((module, g)))

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(keep)
    for step in range(STEPS + 1):
        gradients.clear()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if step % STEPS == 0:
            print(f"step {step + 1}, loss {loss.item():.3f}: gradients of the 19 batch norms' outputs, zeros left out")
            for scale in (1, 1024):
                parts = [g.flatten()[g.flatten() != 0].abs() * scale for _, g in gradients]
                everything = torch.cat(parts)
                lost = (everything < 2**-25).float().mean().item()
                subnormal = (everything < 2**-14).float().mean().item()
                print(f"  times {scale}: {lost:.2%} round to zero, {subnormal:.2%} below the normal range, largest {everything.max():.2e}")
        optimizer.step()


main()
