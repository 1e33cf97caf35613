/*
 * file_lock.c -- image locking between processes, in the way QEMU's programs do it.
 *
 * (L1) Per permission i, byte 100 + i of the image is locked (shared) by whoever takes it, and byte
 *      200 + i by whoever does not share it. The bytes need not exist. The locks belong to the open
 *      file description, so two nodes of one process exclude each other too, and a crash frees
 *      them.
 * (L2) To grow: lock the new bytes, then test: taking i, nobody else may hold 200 + i; refusing i,
 *      nobody else may hold 100 + i. Both sides lock before they test, so at least one of two
 *      racers sees the other. On failure the new bytes are given up.
 * (L3) To shrink: unlock.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/protocol/file_int.h"
#include "os/file.h"
#include <errno.h>

enum { PERM_BYTE = 100, UNSHARED_BYTE = 200 };

struct lock_call {
    int fd;
    unsigned perm, unshared;               /* wanted */
    unsigned perm_before, unshared_before; /* held */
    unsigned failed_bit;
    bool failed_is_share;
};

BLOCKING
static int lock_bytes(int fd, uint64_t first, unsigned bits)
{
    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        if (bits >> i & 1) {
            int rc = os_lock(fd, first + i, 1, OS_LOCK_SHARED);

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

BLOCKING
static void unlock_bytes(int fd, uint64_t first, unsigned bits)
{
    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        if (bits >> i & 1) {
            os_unlock(fd, first + i, 1);
        }
    }
}

BLOCKING
static int test_bytes(int fd, uint64_t first, unsigned bits, unsigned *ret_failed_bit)
{
    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        if (bits >> i & 1) {
            int rc = os_lock_test(fd, first + i, 1, OS_LOCK_EXCLUSIVE);

            if (rc < 0) {
                *ret_failed_bit = i;
                return rc;
            }
        }
    }
    return 0;
}

/* (L2) */
BLOCKING
static int grow(struct lock_call *call)
{
    int rc = lock_bytes(call->fd, PERM_BYTE, call->perm & ~call->perm_before);

    if (rc == 0) {
        rc = lock_bytes(call->fd, UNSHARED_BYTE, call->unshared & ~call->unshared_before);
    }
    if (rc == 0) {
        call->failed_is_share = false;
        rc = test_bytes(call->fd, UNSHARED_BYTE, call->perm, &call->failed_bit);
    }
    if (rc == 0) {
        call->failed_is_share = true;
        rc = test_bytes(call->fd, PERM_BYTE, call->unshared, &call->failed_bit);
    }
    if (rc < 0) {
        unlock_bytes(call->fd, PERM_BYTE, call->perm & ~call->perm_before);
        unlock_bytes(call->fd, UNSHARED_BYTE, call->unshared & ~call->unshared_before);
    }
    return rc;
}

BLOCKING
static int64_t lock_blocking(void *opaque)
{
    struct lock_call *call = opaque;
    bool grows = (call->perm & ~call->perm_before) != 0 ||
                 (call->unshared & ~call->unshared_before) != 0;
    int rc = grows ? grow(call) : 0;

    if (rc == 0) { /* (L3) */
        unlock_bytes(call->fd, PERM_BYTE, call->perm_before & ~call->perm);
        unlock_bytes(call->fd, UNSHARED_BYTE, call->unshared_before & ~call->unshared);
    }
    return rc;
}

int file_lock_probe(int fd)
{
    int rc = os_lock_test(fd, 0, 1, OS_LOCK_SHARED);

    return rc == -EAGAIN ? 0 : rc;
}

/* Another node of ours on the same image, or NULL: then it is somebody else's. */
MAIN_LOOP
static const struct file_state *find_rival(const struct file_state *file)
{
    const struct file_state *other;

    list_for_each(other, &file_all, link) {
        if (other != file && other->device == file->device && other->inode == file->inode &&
            (other->locked_perm | other->locked_unshared) != 0) {
            return other;
        }
    }
    return NULL;
}

MAIN_LOOP
static int report(const struct file_state *file, const struct lock_call *call, int rc,
                  struct err **reterr)
{
    const char *shared = call->failed_is_share ? "shared " : "";
    const char *perm = blk_perm_name(call->failed_bit);
    const struct file_state *rival = find_rival(file);

    if (rc != -EAGAIN) {
        return err_set_errno(reterr, -rc, "node '%s': could not lock '%s'",
                             blk_node_name(file->node), file->path);
    }
    if (rival != NULL) {
        return err_set(reterr, EAGAIN,
                       "Failed to get %s\"%s\" lock for node '%s': node '%s' of this daemon uses "
                       "the same image '%s'",
                       shared, perm, blk_node_name(file->node), blk_node_name(rival->node),
                       file->path);
    }
    return err_set(reterr, EAGAIN,
                   "Failed to get %s\"%s\" lock for node '%s': is another process using the image "
                   "'%s'?",
                   shared, perm, blk_node_name(file->node), file->path);
}

int file_co_set_perms(struct blk_node *node, unsigned perm, unsigned shared, struct err **reterr)
{
    struct file_state *file = blk_node_state(node);
    struct lock_call call = {.fd = file->fd,
                             .perm = perm,
                             .unshared = BLK_PERM_ALL & ~shared,
                             .perm_before = file->locked_perm,
                             .unshared_before = file->locked_unshared};
    int rc;

    if (!file->uses_locks) {
        return 0;
    }
    rc = (int)pool_co_call(NULL, lock_blocking, &call);
    if (rc < 0) {
        return report(file, &call, rc, reterr);
    }
    file->locked_perm = call.perm;
    file->locked_unshared = call.unshared;
    return 0;
}
