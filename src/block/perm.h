/*
 * perm.h -- what a user of a node does with it, and what it lets others do.
 */
#pragma once
#include "base/ctx.h"

enum blk_perm {
    BLK_PERM_CONSISTENT_READ = 1 << 0,
    BLK_PERM_WRITE = 1 << 1,
    BLK_PERM_WRITE_UNCHANGED = 1 << 2, /* writes that do not change what a reader sees */
    BLK_PERM_RESIZE = 1 << 3,
    BLK_PERM_ALL = (1 << 4) - 1,
};
enum { BLK_PERM_BITS = 4 };

/* "write": as people know it from image locks. */
ANY_THREAD
const char *blk_perm_name(unsigned bit);
