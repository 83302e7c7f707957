"""A tiny random encoder that knows a mask token."""

from rig import toys


def write_masked_encoder(folder):
    """Write the toys' encoder, its vocabulary longer by [MASK]."""
    from transformers import AutoModel, AutoTokenizer

    toys.write_encoder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    encoder = AutoModel.from_pretrained(folder)
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
