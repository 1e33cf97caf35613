/* token.c -- the closing side of tokens: gates and the exact sum. The theory is in token.h. */
#include "block/token.h"

static_assert(sizeof(struct blk_token_cell) == 128, "a cell shares no line with another");

void blk_tokens_gate_close(struct blk_tokens *tokens)
{
    at_store(&tokens->gate_closed, 1);
}

void blk_tokens_gate_open(struct blk_tokens *tokens)
{
    at_store_release(&tokens->gate_closed, 0); /* pairs with blk_tokens_raise() */
}

/* (T3): every dropped before any raised. */
uint64_t blk_tokens_out(const struct blk_tokens *tokens)
{
    uint64_t dropped = 0;
    uint64_t raised = 0;

    for (size_t i = 0; i < BLK_TOKEN_LOOPS; i++) {
        /* Acquire: pairs with blk_tokens_drop(), and keeps the reads of raised behind. */
        dropped += at_load_acquire_buffered(&tokens->cell[i].dropped);
    }
    for (size_t i = 0; i < BLK_TOKEN_LOOPS; i++) {
        raised += at_load_buffered(&tokens->cell[i].raised); /* no earlier than the loop above */
    }
    return raised - dropped;
}

bool blk_tokens_are_idle(const struct blk_tokens *tokens)
{
    return blk_tokens_out(tokens) == 0;
}
