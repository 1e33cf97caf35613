/* wait_int.h -- yielding in two steps, for waits that another thread may end in between. */
#pragma once
#include "co/co.h"

/* I am about to yield: from here on co_wake() is legal. Then leave, or take it back. */
CO_FN
void co_yield_announce(struct co *self);
CO_FN
void co_yield_leave(struct co *self);
/* Nobody has woken me (else it aborts, naming the waker): I go on. */
CO_FN
void co_yield_revoke(struct co *self);
ANY_THREAD
const char *co_last_waker(const struct co *co);
