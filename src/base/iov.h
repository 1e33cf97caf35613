/* iov.h -- scatter-gather lists: struct iovec arrays walked and copied. Any thread. */
#pragma once
#include "base/macros.h"
#include <sys/uio.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

enum { IOV_MAX_ELEMENTS = 1024 }; /* what one preadv(2) takes */

size_t iov_bytes(const struct iovec *iov, size_t count);

/* Copy at most @bytes from/to place @offset of the list; the number copied is returned. */
size_t iov_copy_out(const struct iovec *iov, size_t count, size_t offset, void *to, size_t bytes);
size_t iov_copy_in(const struct iovec *iov, size_t count, size_t offset, const void *from,
                   size_t bytes);
size_t iov_fill(const struct iovec *iov, size_t count, size_t offset, uint8_t value, size_t bytes);

/* The part [@offset, @offset + @bytes) of @iov as elements of @to (capacity @to_max).
 * Returns the number of elements, or -1 when they do not fit or @iov is too short. */
int iov_slice(const struct iovec *iov, size_t count, size_t offset, size_t bytes, struct iovec *to,
              size_t to_max);

bool iov_is_zero(const struct iovec *iov, size_t count);

/* Are all bases and lengths multiples of @alignment (a power of two)? */
bool iov_is_aligned(const struct iovec *iov, size_t count, size_t alignment);

CTX_ANY_END
