"""What is hidden from an encoder, what its guesses cost, and what is kept of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from poolblend.errors import UserError
from poolblend.modeling import backbone, masked_lm
from poolblend.modeling.masked_lm import MaskedLanguageModel, hide, load_masked_lm, trained_parts
from poolblend.training.batches import collate
from rig.encoding import encode
from rig.families import DECODERS, ENCODER_DECODERS, FAMILIES, write_family
from rig.masked import write_masked_encoder

ENCODERS = [name for name in FAMILIES if name not in (*DECODERS, *ENCODER_DECODERS)]
TEXTS = ["lovely day on the road", "awful", "then it was sour and cold in the house"]
MASK, WORDS = 3, torch.arange(10, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_masked_encoder(tmp_path_factory.mktemp("masked") / "tiny")


@pytest.fixture(scope="module")
def family(tmp_path_factory, folder):
    """Writes a family's encoder with a tokenizer that knows a mask token."""

    def family(name):
        place = tmp_path_factory.mktemp("families") / name
        write_family(place, name, folder)
        return place

    return family


def batch_of(folder, texts=TEXTS, **options):
    encoded = encode([texts], backbone.load_tokenizer(folder), 16, **options)
    return collate(encoded, np.arange(len(texts)))


def hidden(ids_BT, may_BT, share=0.15):
    torch.manual_seed(0)
    return hide(ids_BT, may_BT, share=share, mask_id=MASK, words_W=WORDS)


def test_of_the_hidden_tokens_most_are_masked_some_replaced_and_some_stay():
    ids_BT = torch.full((200, 500), 5)
    seen = hidden(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
    chosen = seen.ids_BT[seen.chosen_BT]
    assert seen.chosen_BT.float().mean() == pytest.approx(0.15, abs=0.005)
    shares = [(chosen == id).float().mean().item() for id in (MASK, 5)]
    assert shares == pytest.approx([0.8, 0.1], abs=0.01)
    others = chosen[(chosen != MASK) & (chosen != 5)]
    assert others.unique().tolist() == WORDS.tolist()
    assert (seen.ids_BT[~seen.chosen_BT] == 5).all()


def test_only_what_may_be_is_hidden_and_of_each_row_at_least_one_token():
    ids_BT = torch.arange(30).repeat(500, 1)
    may_BT = torch.rand(500, 30) < 0.2
    may_BT[7] = False
    seen = hidden(ids_BT, may_BT, share=0.01)
    assert not (seen.chosen_BT & ~may_BT).any()
    assert (seen.ids_BT == ids_BT)[~seen.chosen_BT].all()
    assert seen.chosen_BT.any(dim=1).tolist() == may_BT.any(dim=1).tolist()
    assert not seen.chosen_BT[7].any()


def test_special_tokens_and_padding_are_never_hidden(folder, monkeypatch):
    _, model = load_masked_lm(folder, share=0.9)
    texts = [*TEXTS, "the [MASK] unheard [PAD] road"]
    batch = batch_of(folder, texts, special_tokens="tokens")
    words = set(backbone.load_tokenizer(folder).get_vocab().values()) - set(range(4)) - {36}
    seen = []
    monkeypatch.setattr(
        masked_lm, "hide", lambda *args, **keys: seen.append((args, keys)) or hide(*args, **keys)
    )
    model(batch)
    [((ids_BT, may_BT), keys)] = seen
    assert set(ids_BT[may_BT].tolist()) <= words
    assert set(keys["words_W"].tolist()) == words
    assert not (may_BT & ~batch.attention_BT).any()
    assert may_BT.sum(dim=1).tolist() == [5, 1, 9, 2]


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_a_rows_loss_is_its_mean_over_the_hidden_tokens_alone(family, name):
    folder = family(name)
    _, model = load_masked_lm(folder, share=0.3)
    model.eval()
    batch = batch_of(folder)
    torch.manual_seed(3)
    loss_B1 = model(batch)
    torch.manual_seed(3)
    seen = hide(
        batch.ids_BT, batch.content_BT, share=0.3, mask_id=model.mask_id, words_W=model.words_W
    )
    logits_BTV = model.language(
        input_ids=seen.ids_BT, attention_mask=batch.attention_BT.long()
    ).logits
    loss_BT = F.cross_entropy(logits_BTV.transpose(1, 2), batch.ids_BT, reduction="none")
    expected = [row[at].mean() for row, at in zip(loss_BT, seen.chosen_BT, strict=True)]
    assert loss_B1.shape == (3, 1)
    assert_close(loss_B1[:, 0], torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_a_row_with_nothing_to_hide_costs_nothing_and_each_pass_hides_other_tokens(folder):
    _, model = load_masked_lm(folder, share=0.3)
    batch = batch_of(folder, ["", *TEXTS])
    first_B1, second_B1 = model.eval()(batch), model(batch)
    assert first_B1.shape == (4, 1)
    assert first_B1[0] == second_B1[0] == 0
    assert (first_B1[1:] != second_B1[1:]).any()


@torch.no_grad()
def test_padding_on_the_left_changes_no_loss(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(masked_lm, "MASKED", 1.0)  # with a share of 1, nothing is left to chance
    tokenizer = backbone.load_tokenizer(folder)
    tokenizer.padding_side = "left"
    backbone.load(folder).encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    _, right = load_masked_lm(folder, share=1.0)
    _, left = load_masked_lm(tmp_path, share=1.0)
    left.language.load_state_dict(right.language.state_dict())
    losses = [m.eval()(batch_of(f)) for m, f in ((right, folder), (left, tmp_path))]
    assert_close(*losses)


@pytest.mark.parametrize("name", ["bert", "electra", "deberta-v3", "modernbert"])
def test_what_is_kept_is_a_backbone_with_the_trained_weights_and_its_own_pooler(
    family, tmp_path, name
):
    source = family(name)
    base, model = load_masked_lm(source, share=0.15)
    assert_close(model.encoder.state_dict(), backbone.load(source).encoder.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    for part in trained_parts(base, model):
        part.save_pretrained(str(tmp_path))
    assert backbone.check(tmp_path, 16) == backbone.check(source, 16)
    kept, before = backbone.load(tmp_path), backbone.load(source)
    assert_close(kept.encoder.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)
    assert len(kept.tokenizer) == len(before.tokenizer)
    assert (kept.own_pooler is None) == (before.own_pooler is None)
    if before.own_pooler is not None:
        assert_close(kept.own_pooler.state_dict(), before.own_pooler.state_dict(), rtol=0, atol=0)


def test_a_checkpoints_own_head_is_taken_and_a_fresh_one_comes_from_the_seed(folder, tmp_path):
    def head(place, seed):
        torch.manual_seed(seed)
        return load_masked_lm(place, share=0.15)[1].language.cls.state_dict()

    torch.manual_seed(0)
    _, model = load_masked_lm(folder, share=0.15)
    model.language.save_pretrained(tmp_path)
    backbone.load_tokenizer(folder).save_pretrained(tmp_path)
    assert_close(head(tmp_path, 1), model.language.cls.state_dict(), rtol=0, atol=0)
    assert_close(head(folder, 0), model.language.cls.state_dict(), rtol=0, atol=0)
    fresh = head(folder, 1)["predictions.transform.dense.weight"]
    assert (fresh != model.language.cls.predictions.transform.dense.weight).any()


def test_the_head_shares_the_encoders_embeddings_and_learns_under_its_own_name(folder):
    model = load_masked_lm(folder, share=0.15)[1]
    assert isinstance(model, MaskedLanguageModel)
    output, embeddings = model.language.get_output_embeddings(), model.encoder.embeddings
    assert output.weight is embeddings.word_embeddings.weight
    names = [name for name, _ in model.named_parameters()]
    assert "encoder.embeddings.word_embeddings.weight" in names
    assert {name.split(".")[0] for name in names if "encoder.layer" in name} == {"encoder"}
    rest = {name for name in names if not name.startswith("encoder.")}
    assert {".".join(name.split(".")[:2]) for name in rest} == {"language.cls"}


def test_what_cannot_guess_is_refused_in_one_line(folder, family, tiny_backbone):
    masked_lm.check(folder, 16)
    line = r"^backbone\.mlm: GPT2Model has no head that guesses masked tokens; leave it out, or "
    with pytest.raises(UserError, match=line):
        masked_lm.check(family("gpt2"), 16)
    with pytest.raises(UserError, match=r"^backbone\.mlm: the tokenizer in .* has no mask token;"):
        masked_lm.check(tiny_backbone, 16)
    with pytest.raises(UserError, match=r"^backbone\.mlm: max_length is 65, but .* at most 64 to"):
        masked_lm.check(folder, 65)
