from poolblend.modeling import backbone
from poolblend.modeling.layers import layer_depths


def test_layer_depths_name_every_parameter_and_rise_with_depth(tiny_backbone):
    encoder = backbone.load(tiny_backbone).encoder
    depths = layer_depths(encoder)
    assert set(depths) == {name for name, _ in encoder.named_parameters()}
    assert depths["embeddings.word_embeddings.weight"] == 0
    assert depths["encoder.layer.0.output.dense.weight"] == 1
    assert depths["encoder.layer.1.output.dense.weight"] == 2
