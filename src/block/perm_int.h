/*
 * perm_int.h -- counting permissions: a trial of changes that is checked and then kept or undone.
 */
#pragma once
#include "block/graph_int.h"

/* Changes made so far, in order, each with what it replaced. Lives between two yields. */
struct blk_perm_trial {
    struct list changes;
};
MAIN_LOOP
void blk_perm_trial_begin(struct blk_perm_trial *trial);
/* @edge (attached) takes @perm and shares @shared from now on, and what passes users on below
 * follows. */
MAIN_LOOP
void blk_perm_trial_set(struct blk_perm_trial *trial, struct blk_edge *edge, unsigned perm,
                        unsigned shared);
/* -EPERM: one of the changed edges conflicts with another parent, both named; -EACCES:
 * read-only. */
MAIN_LOOP
int blk_perm_trial_check(const struct blk_perm_trial *trial, struct err **reterr);
/* Does a driver below have to be told before this can be kept? The first such node, or NULL. */
MAIN_LOOP
struct blk_node *blk_perm_trial_untold(const struct blk_perm_trial *trial);
MAIN_LOOP
void blk_perm_trial_keep(struct blk_perm_trial *trial);
MAIN_LOOP
void blk_perm_trial_undo(struct blk_perm_trial *trial);

/* Tell @node's driver what is committed and claimed, if that is news. */
MAIN_LOOP CO_FN
int blk_node_co_tell_perms(struct blk_node *node, struct err **reterr);

/* What the outside world would be told of @node as the graph stands. */
MAIN_LOOP
void blk_node_outside_perms(const struct blk_node *node, unsigned *ret_perm,
                            unsigned *ret_unshared);
