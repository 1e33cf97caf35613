/* file_int.h -- between file.c (I/O) and file_lock.c (image locking). */
#pragma once
#include "base/list.h"
#include "block/node.h"
#include "loop/io.h"

struct file_state {
    struct io_file io;
    bool can_punch, can_zero_range; /* atomic: cleared when the file system says no */
    int flush_error;                /* atomic: a failed flush is remembered (F3) */

    /* main loop */
    int fd;
    char *path;
    bool is_direct;
    uint64_t device, inode;
    bool uses_locks;
    unsigned locked_perm, locked_unshared; /* bytes we hold */
    struct blk_node *node;
    struct list link; /* of all open files, to name the other user of an image */
};

/* Every open file of this daemon. Main loop. */
extern struct list file_all;

MAIN_LOOP CO_FN
int file_co_set_perms(struct blk_node *node, unsigned perm, unsigned shared, struct err **reterr);

/* Can this file be locked? 0; -errno: no, and why. Pool. */
BLOCKING
int file_lock_probe(int fd);
