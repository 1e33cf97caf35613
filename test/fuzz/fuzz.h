/*
 * fuzz.h -- the input of a fuzzer, taken apart from the front. What is missing is zero, so every
 * input means something and a mutation of one field leaves the others where they were.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include <string.h>

CTX_ANY_BEGIN

/* libFuzzer calls this. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline void fuzz_take(struct fuzz_input *input, void *to, size_t bytes)
{
    size_t there = min_of(bytes, input->left);

    memset(to, 0, bytes);
    if (there > 0) {
        memcpy(to, input->at, there);
    }
    input->at += there;
    input->left -= there;
}

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
    uint8_t value;

    fuzz_take(input, &value, sizeof(value));
    return value;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    uint8_t bytes[2];

    fuzz_take(input, bytes, sizeof(bytes));
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

CTX_ANY_END
