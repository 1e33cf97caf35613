/*
 * hba_fence.c -- a front end has gone and left requests behind; the next one comes at once.
 *
 * A write that the former session left in flight may still land. Were the next session's requests
 * to run beside it, an old write could undo a newer one. So:
 *
 * (F1) When a session ends and one of its rings still has requests out, every LUN's gate is closed
 *      before the next session can begin, and opened when no token of that LUN is out: what comes
 *      meanwhile is parked, in order (hba_park.c). A LUN without old requests opens at once; a LUN
 *      whose disk hangs holds up itself alone. What needs no medium (INQUIRY, REPORT LUNS…) is
 *      answered meanwhile.
 * (F2) A fence is a coroutine of the main loop and one count of the root's gate. Whoever takes the
 *      LUN apart waits for it first (hba_lun_co_wait_unfenced).
 */
#include "block/drain.h"
#include "device/hba_int.h"

MAIN_LOOP CO_FN
static void fence_co(void *opaque)
{
    struct hba_lun *lun = opaque;

    loop_assert_main();
    blk_root_co_wait_idle(lun->root);
    lun->fenced = false;
    blk_root_gate_open(lun->root);
    co_queue_wake_all(&lun->unfenced);
}

void hba_fence_former_requests(struct hba *hba)
{
    struct hba_lun *lun;

    if (list_is_empty(&hba->rings)) {
        return; /* every request has come back */
    }
    list_for_each(lun, &hba->luns, hba_link) {
        if (!lun->fenced) {
            lun->fenced = true;
            blk_root_gate_close(lun->root);
            loop_co_spawn(loop_main(), fence_co, lun, "hba fence");
        }
    }
}

void hba_lun_co_wait_unfenced(struct hba_lun *lun)
{
    while (lun->fenced) {
        co_queue_wait(&lun->unfenced, NULL);
    }
}
