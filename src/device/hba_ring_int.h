/* hba_ring_int.h -- what hba_ring.c offers to hba_queue.c and hba.c alone. */
#pragma once
#include "device/hba_int.h"

/* Watch the kick descriptor on the calling thread's loop, which is the ring's home. -errno. */
HOME_LOOP
must_check int hba_ring_attach(struct hba_ring *ring);
/* Let the loop go; what was pushed is flushed. Idempotent. */
HOME_LOOP
void hba_ring_detach(struct hba_ring *ring);
HOME_LOOP
void hba_ring_set_enabled(struct hba_ring *ring, bool enabled);
/* Interrupt the guest. A descriptor that does not take it breaks the ring. */
HOME_LOOP
void hba_ring_call(struct hba_ring *ring);
