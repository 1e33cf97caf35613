#include "base/iov.h"
#include <string.h>

size_t iov_bytes(const struct iovec *iov, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

/* Walks the pieces of [@offset, @offset + @bytes); one at a time, through a plain cursor. */
struct cursor {
    const struct iovec *iov;
    size_t count;
    size_t skip;
    size_t bytes_left;
};

static bool next_piece(struct cursor *at, char **ret_base, size_t *ret_bytes)
{
    while (at->count > 0 && at->skip >= at->iov->iov_len) {
        at->skip -= at->iov->iov_len;
        at->iov++;
        at->count--;
    }
    if (at->count == 0 || at->bytes_left == 0) {
        return false;
    }
    *ret_base = (char *)at->iov->iov_base + at->skip;
    *ret_bytes = min_of(at->iov->iov_len - at->skip, at->bytes_left);
    at->skip += *ret_bytes;
    at->bytes_left -= *ret_bytes;
    return true;
}

size_t iov_copy_out(const struct iovec *iov, size_t count, size_t offset, void *to, size_t bytes)
{
    struct cursor at = {iov, count, offset, bytes};
    char *base;
    size_t piece, done = 0;

    while (next_piece(&at, &base, &piece)) {
        memcpy((char *)to + done, base, piece);
        done += piece;
    }
    return done;
}

size_t iov_copy_in(const struct iovec *iov, size_t count, size_t offset, const void *from,
                   size_t bytes)
{
    struct cursor at = {iov, count, offset, bytes};
    char *base;
    size_t piece, done = 0;

    while (next_piece(&at, &base, &piece)) {
        memcpy(base, (const char *)from + done, piece);
        done += piece;
    }
    return done;
}

size_t iov_fill(const struct iovec *iov, size_t count, size_t offset, uint8_t value, size_t bytes)
{
    struct cursor at = {iov, count, offset, bytes};
    char *base;
    size_t piece, done = 0;

    while (next_piece(&at, &base, &piece)) {
        memset(base, value, piece);
        done += piece;
    }
    return done;
}

int iov_slice(const struct iovec *iov, size_t count, size_t offset, size_t bytes, struct iovec *to,
              size_t to_max)
{
    struct cursor at = {iov, count, offset, bytes};
    char *base;
    size_t piece, used = 0;

    while (next_piece(&at, &base, &piece)) {
        if (used == to_max) {
            return -1;
        }
        to[used++] = (struct iovec){.iov_base = base, .iov_len = piece};
    }
    return at.bytes_left == 0 ? (int)used : -1;
}

bool iov_is_zero(const struct iovec *iov, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *base = iov[i].iov_base;
        size_t bytes = iov[i].iov_len;

        if (bytes > 0 && (base[0] != 0 || memcmp(base, base + 1, bytes - 1) != 0)) {
            return false;
        }
    }
    return true;
}

bool iov_is_aligned(const struct iovec *iov, size_t count, size_t alignment)
{
    for (size_t i = 0; i < count; i++) {
        if ((((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (alignment - 1)) != 0) {
            return false;
        }
    }
    return true;
}
