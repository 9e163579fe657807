"""layers.json of a run that a test writes by hand."""

from filterscope.analyzer.run.layout import slugs


def listed_layers(network):
    """Every layer of a network, as analysed in no channel."""
    names = slugs([layer.name for layer in network.layers])
    common = {"analysed": True, "channels": [], "canvas": {}}
    return {"layers": [layer.to_json() | common | {"slug": names[layer.name]} for layer in network.layers]}
