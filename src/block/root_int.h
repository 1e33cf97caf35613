/* root_int.h -- between root.c and drain.c. */
#pragma once
#include "block/graph_int.h"

/* A token was dropped behind a closed gate: whoever waits for @root to be idle may go on. */
MAIN_LOOP
void blk_root_look(struct blk_root *root);
