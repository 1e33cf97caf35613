/*
 * explore_point.h -- what sync/atomic.h turns into under -DEXPLORE: each access first asks the
 * explorer, which may let other actors run.
 */
#pragma once
#include "base/ctx.h"
#include <stdint.h>

CTX_ANY_BEGIN

/* Before an access; @what is its name in atomic.h, static text. */
void explore_point(const char *what, const volatile void *address);

/* A store that stays with its actor until it is flushed: by a fence, a read-modify-write or a store
 * that is more than relaxed of the same actor, by a heavy fence of any, or when the explorer
 * decides. */
void explore_store_buffered(uint64_t *to, uint64_t value);
/* not before those ahead of it */
void explore_store_release_buffered(uint64_t *to, uint64_t value);
void explore_store16_buffered(uint16_t *to, uint16_t value);
void explore_store16_release_buffered(uint16_t *to, uint16_t value);
/* the actor's own buffered value, or memory */
uint64_t explore_load_buffered(const uint64_t *from);

void explore_heavy_fence(void);

/* One turn of a busy wait: not again before another actor has got somewhere. */
void explore_relax(void);

CTX_ANY_END
