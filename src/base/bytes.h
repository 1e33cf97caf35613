/* bytes.h -- unaligned loads and stores in the byte order a standard names. Any thread. */
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

#define BYTES_DEFINE_(order, width)                                                                \
    static inline uint##width##_t order##width##_load(const void *from)                            \
    {                                                                                              \
        uint##width##_t raw;                                                                       \
        memcpy(&raw, from, sizeof(raw));                                                           \
        return order##width##toh(raw);                                                             \
    }                                                                                              \
    static inline void order##width##_store(void *to, uint##width##_t value)                       \
    {                                                                                              \
        uint##width##_t raw = hto##order##width(value);                                            \
        memcpy(to, &raw, sizeof(raw));                                                             \
    }
/* le16_load(), le16_store(), … be64_store() */
BYTES_DEFINE_(le, 16)
BYTES_DEFINE_(le, 32)
BYTES_DEFINE_(le, 64)
BYTES_DEFINE_(be, 16)
BYTES_DEFINE_(be, 32)
BYTES_DEFINE_(be, 64)

/* SCSI's 24-bit fields. */
static inline uint32_t be24_load(const void *from)
{
    const uint8_t *b = from;
    return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}
static inline void be24_store(void *to, uint32_t value)
{
    uint8_t *b = to;
    b[0] = (uint8_t)(value >> 16);
    b[1] = (uint8_t)(value >> 8);
    b[2] = (uint8_t)value;
}

CTX_ANY_END
