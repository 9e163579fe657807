"""A study of a data set performed on a network, in a run without anything else."""

from types import SimpleNamespace

from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.progress import Silent
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.study import perform
from support.listed_layers import listed_layers


def performed(tmp_path, network, study, labels=(), channels=None, out="run", **settings):
    """The run, and what study.json says."""
    names = [layer.name for layer in network.layers]
    with RunWriter(tmp_path / out, "plan") as writer:
        if not writer.has("run.json"):
            writer.write_info({})
            writer.write_json("layers.json", listed_layers(network))
        context = SimpleNamespace(
            unfinished=None,
            network=network,
            shop=SimpleNamespace(device=None),
            writer=writer,
            settings=Settings(**settings),
            channels={layer.name: channels or tuple(range(layer.out_channels)) for layer in network.layers},
            slugs=slugs(names),
            labels=labels,
            progress=Silent(),
            notes=[],
        )
        info = perform(study, context)
    return Run(tmp_path / out), info
