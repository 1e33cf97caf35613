/* checked.h -- sums that may not fit. Ranges are half open: offset, bytes. Any thread. */
#pragma once
#include "base/macros.h"
#include "base/ctx.h"

CTX_ANY_BEGIN

#define add_overflows(a, b, ret_sum) __builtin_add_overflow(a, b, ret_sum)
#define mul_overflows(a, b, ret_product) __builtin_mul_overflow(a, b, ret_product)

/* Is [@offset, @offset + @bytes) inside [0, @total)? */
static inline bool range_is_inside(uint64_t offset, uint64_t bytes, uint64_t total)
{
    return offset <= total && bytes <= total - offset;
}

static inline bool ranges_overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes; /* callers have range-checked both */
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* @alignment is a power of two. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return align_down(value + alignment - 1, alignment);
}

CTX_ANY_END
