"""Long texts in overlapping windows; each token is read from one of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from poolblend.errors import UserError


class Windowing(NamedTuple):
    """How a row is cut into windows; special tokens around a text are around each window."""

    length: int  # tokens of a full window, those around it included
    overlap: int  # of the text's tokens, shared by two neighbours
    n_before: int  # tokens that the tokenizer puts before a text
    n_after: int

    @property
    def room(self) -> int:
        """The text's tokens that a window holds."""
        return self.length - self.n_before - self.n_after

    @property
    def stride(self) -> int:
        return self.room - self.overlap

    def capacity(self, most: int) -> int:
        """How many of a text's tokens `most` windows hold."""
        return self.room + (most - 1) * self.stride

    def n_windows(self, lengths_N: np.ndarray) -> np.ndarray:
        """How many windows rows of so many tokens are read in."""
        new_N = lengths_N - self.n_before - self.n_after - self.overlap
        return np.maximum(1, -(-new_N // self.stride))

    def cut(self, ids_T: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """A row's windows; for each of its tokens the window it is read from, and its place there.

        They are the same as the tokenizer's (`stride` is its name for the overlap). A token in
        several windows is read where it is farthest from the cuts; of equals, in the earlier.
        """
        n_tokens = len(ids_T) - self.n_before - self.n_after
        starts_W = np.arange(0, max(1, n_tokens - self.overlap), self.stride)
        ends_W = np.minimum(starts_W + self.room, n_tokens)
        before, after = ids_T[: self.n_before], ids_T[self.n_before + n_tokens :]
        text = ids_T[self.n_before : self.n_before + n_tokens]
        windows = [
            np.concatenate([before, text[start:end], after])
            for start, end in zip(starts_W, ends_W, strict=True)
        ]
        token_T1 = np.arange(n_tokens)[:, None]
        last = len(windows) - 1
        # Of full windows it is one of the two whose middles are nearest; the last may be shorter.
        # All windows of all tokens would take memory that grows with the square of the length.
        before_T1 = (2 * token_T1 - self.room + 1) // (2 * self.stride)
        near_T2 = np.hstack([before_T1, before_T1 + 1]).clip(0, max(0, last - 1))
        near_T3 = np.hstack([near_T2, np.full_like(token_T1, last)])
        depth_T3 = np.minimum(token_T1 - starts_W[near_T3], ends_W[near_T3] - 1 - token_T1)
        # Of equals, argmax takes the earlier; outside of a window the depth is below 0.
        best_T = np.take_along_axis(near_T3, depth_T3.argmax(axis=1)[:, None], axis=1)[:, 0]
        window_T = np.concatenate(
            [np.zeros(self.n_before, int), best_T, np.full(self.n_after, last)]
        )
        # The tokens after the text keep their place behind the last window's.
        place_T = np.arange(len(ids_T)) - starts_W[window_T]
        return windows, window_T, place_T


def windowing(length: int, overlap: int, n_before: int, n_after: int) -> Windowing:
    """The windowing; UserError where the overlap leaves a window no new token."""
    made = Windowing(length, overlap, n_before, n_after)
    if made.stride < 1:
        raise UserError(
            f"windows.overlap is {overlap}, and windows of max_length {length} hold {made.room} "
            "tokens of a text; lower windows.overlap"
        )
    return made
