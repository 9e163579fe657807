"""Three tools that make channel images, each run as its user runs it, in a process of its own.

`ours` is the engine of this program by its default recipe, `strong` by that preset on the whole input; `lucent` is
torch-lucent's `render_vis` with its defaults; `loop` is the plain loop of 2018. Writes an .npz of pictures and times;
knows nothing of comparing them.

    python benchmarks/engine_tools.py job.json
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.compute.allocator import keep_freed_memory
from filterscope.analyzer.compute.pixels import eight_bit, input_map
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.presets import STRETCHED, Recipe, preset_named, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.objectives import objective_for

CPU = torch.device("cpu")
SIDE_BY_SIDE = 2  # tasks at a time, as the program runs them on two processors
LUCENT_STEPS = 512  # its default
LUCENT_INPUT = 224  # it enlarges its picture of 128 pixels to this
WARM = 4  # steps before a timing

Results = dict[str, np.ndarray]


def opened(model: str, preprocessing: str) -> Network:
    """A network of the benchmark."""
    return open_network(model, InputOptions(preprocessing=preset(preprocessing)))


def ours(network: Network, layer: Layer, channels: list[int], rendered: list[int], seed: int) -> Results:
    """The channels by the default recipe on its own canvas."""
    recipe = Recipe(preset_named("filterscope"), quality_named("standard"))
    canvas = canvas_for(network, layer, "channel", recipe.quality.cap)
    return _side_by_side(
        Problem(network, layer, canvas, objective_for("channel", canvas)), recipe, channels, rendered, seed=seed
    )


def strong(network: Network, layer: Layer, channels: list[int], rendered: list[int], seed: int) -> Results:
    """The channels by the preset `strong` on a canvas as large as the network's input."""
    canvas = Canvas(network.input.height, network.input.width, None, None)
    problem = Problem(network, layer, canvas, objective_for("channel", canvas))
    return _side_by_side(problem, Recipe.named("strong"), channels, rendered, seed=seed)


def _side_by_side(problem: Problem, recipe: Recipe, channels: list[int], rendered: list[int], *, seed: int) -> Results:
    """The channels in two tasks side by side, one thread each; set-up included."""
    keep_freed_memory()  # as the program does before its tasks

    def task(part: list[int]):
        torch.set_num_threads(1)  # holds for this thread
        return ascend(problem, part, recipe, seed=seed, device=CPU)

    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        parts = [channels[number::SIDE_BY_SIDE] for number in range(SIDE_BY_SIDE)]
        found = list(pool.map(task, [part for part in parts if part]))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    order = [channel for part in parts for channel in part]
    kept = [order.index(channel) for channel in rendered]
    return {
        "wall": np.array([wall / len(channels)]),
        "cpu": np.array([cpu / len(channels)]),
        "steps": np.concatenate([part.steps for part in found]),
        "tiles": np.concatenate([part.tiles for part in found])[kept],
    }


class Whole(nn.Module):
    """The whole network in torch behind its preprocessing, with weights that take gradients as a loaded model's do."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.twin = network.twin.module
        self.prepare = input_map(network.input, CPU)
        for parameter in self.twin.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.twin(self.prepare(pictures))


def lucent(network: Network, layer: Layer, channels: list[int], rendered: list[int], steps: list[int]) -> Results:
    """`render_vis` for one channel at a time: timings of some steps with two threads and with one, then pictures.

    Args:
        steps: that are timed, after a warm-up, with two threads and with one; 0: none.
        rendered: channels that get all of their steps, on one thread and with frozen weights, untimed.
    """
    from filterscope.converters.torch_import.onnx2torch_loader import load_torchvision

    load_torchvision()
    from lucent.optvis import render

    whole = Whole(network).eval()
    name = "_".join(("twin", *str(network.twin.calls[layer.node].target).split(".")))

    def seconds(channel: int, count: int) -> tuple[float, float, np.ndarray]:
        wall, cpu = time.perf_counter(), time.process_time()
        images = render.render_vis(
            whole,
            f"{name}:{channel}",
            thresholds=(count,),
            preprocess=False,  # `Whole` does it
            progress=False,
            show_image=False,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        for module in whole.modules():  # its hooks are never removed: with each call a step would run more of them
            module._forward_hooks.clear()
        return wall, cpu, images[0][0]

    found: Results = {}
    for threads, count, wall_name, cpu_name in ((2, steps[0], "wall", "cpu_two"), (1, steps[1], "wall_one", "cpu")):
        if count:
            torch.set_num_threads(threads)
            seconds(channels[0], WARM)
            wall, cpu, _ = seconds(channels[0], count)
            found[wall_name] = np.array([wall / count * LUCENT_STEPS])
            found[cpu_name] = np.array([cpu / count * LUCENT_STEPS])
    torch.set_num_threads(1)
    whole.twin.requires_grad_(False)  # gradients of weights change no picture
    full = [seconds(channel, LUCENT_STEPS) for channel in rendered]
    if full:
        pictures = torch.from_numpy(np.stack([picture for _, _, picture in full])).permute(0, 3, 1, 2)
        found |= {"cpu_frozen": np.array([cpu for _, cpu, _ in full]), "tiles": eight_bit(pictures)}
    return found


def loop(network: Network, layer: Layer, channels: list[int], rendered: list[int], seed: int) -> Results:
    """The loop of 2018: one channel at a time, the whole input, the whole network, 40 steps of a normalised gradient.

    On one thread, so that the processor's seconds are those of work and not of threads that wait for each other.
    """
    torch.set_num_threads(1)
    recipe = preset_named("notebook-2018")
    whole = Whole(network).eval()
    seen: list[torch.Tensor] = []
    handle = whole.twin.get_submodule(str(network.twin.calls[layer.node].target)).register_forward_hook(
        lambda module, given, answer: seen.append(answer)
    )
    shape = (1, network.input.channels, network.input.height, network.input.width)
    pictures, walls, cpus = [], [], []
    for channel in rendered or channels[:1]:
        wall, cpu = time.perf_counter(), time.process_time()
        start = recipe.start.draw(np.random.default_rng([seed, layer.index, channel]), shape)
        picture = torch.tensor(start, dtype=torch.float32)
        for _ in range(recipe.steps):
            picture.requires_grad_(True)
            seen.clear()
            whole(picture)
            (gradient,) = torch.autograd.grad(seen[0][:, channel].mean(), picture)
            picture = picture.detach() + recipe.rate * gradient / (gradient.square().mean().sqrt() + 1e-5)
        mean, spread = STRETCHED
        pictures.append((picture - picture.mean()) / (picture.std() + 1e-5) * spread + mean)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    handle.remove()
    return {"wall": np.array(walls), "cpu": np.array(cpus), "tiles": eight_bit(torch.cat(pictures))}


def matrix_rates(seconds: float = 1.5) -> Results:
    """FLOP a second of square matrix products on one thread, float32 and bfloat16, by the processor's time."""
    torch.set_num_threads(1)
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
        a @ b
        count, began = 0, time.thread_time()
        while time.thread_time() - began < seconds:
            a @ b
            count += 1
        found[name] = np.array([2 * 1024**3 * count / (time.thread_time() - began)])
    return found


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    network = opened(job["model"], job["preprocessing"])
    _ = network.twin
    tool, last = {
        "ours": (ours, "seed"),
        "strong": (strong, "seed"),
        "lucent": (lucent, "steps"),
        "loop": (loop, "seed"),
    }[job["tool"]]
    found: Results = {}
    if job["tool"] == "ours":
        found |= {f"rate/{name}": value for name, value in matrix_rates().items()}
    for name, channels, rendered in job["layers"]:
        torch.manual_seed(job["seed"])
        np.random.seed(job["seed"])  # noqa: NPY002 (Lucent draws its movements from it)
        result = tool(network, network.layer(name), channels, rendered, job[last])
        found |= {f"{name}/{key}": value for key, value in result.items()}
        times = [f"{key} {np.median(value):.3f}" for key, value in result.items() if key.startswith(("wall", "cpu"))]
        print(job["tool"], name, *times, flush=True)
    np.savez(job["out"], **found)


if __name__ == "__main__":
    main()
