/*
 * medium.h -- what a logical unit stores its blocks on; all that scsi/ knows of disks.
 *
 * The caller of scsi_co_execute() holds whatever the medium needs (a token of its root), so each
 * call here may be made at once. Offsets and lengths are bytes, whole blocks but for a READ into
 * too small a buffer; lists have exactly @bytes. 0 or -errno. All members are mandatory.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include <sys/uio.h>

enum scsi_medium_flags { SCSI_MEDIUM_FUA = 1 << 0, SCSI_MEDIUM_MAY_UNMAP = 1 << 1 };

struct scsi_medium_ops {
    ANY_SLOT uint64_t (*bytes)(void *medium);
    CO_SLOT int (*co_preadv)(void *medium, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                             size_t count);
    CO_SLOT int (*co_pwritev)(void *medium, uint64_t offset, uint64_t bytes,
                              const struct iovec *iov, size_t count, unsigned flags);
    CO_SLOT int (*co_flush)(void *medium);
    CO_SLOT int (*co_discard)(void *medium, uint64_t offset, uint64_t bytes);
    CO_SLOT int (*co_write_zeroes)(void *medium, uint64_t offset, uint64_t bytes, unsigned flags);
};
