"""Fresh weights for an encoder's last layers, which pretraining has fitted to its own task.

Source: Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning, arXiv:2006.05987.
"""

from __future__ import annotations

from typing import Any

import torch

from poolblend.modeling.layers import check_layers, module_depths


def reinitialise(encoder: Any, n_layers: int) -> None:
    """The last `n_layers` layers begin anew, drawn as their family draws them for pretraining.

    torch's global generator is drawn from. Raises UserError where the encoder has fewer layers, or
    layers that share their weights.
    """
    check_layers(encoder, n_layers, "train.reinit_layers")
    n_known = encoder.config.num_hidden_layers
    for name, depth in module_depths(encoder).items():
        if n_known - n_layers < depth <= n_known:
            layer = encoder.get_submodule(name)
            for tensor in (*layer.parameters(), *layer.buffers()):
                # transformers marks what it has loaded, and leaves it alone.
                tensor._is_hf_initialized = False
            with torch.no_grad():
                layer.apply(encoder._init_weights)
