/* reply.c -- how a command is answered: status, sense, data-in. */
#include "scsi/lu_int.h"
#include "base/iov.h"

void scsi_cmd_begin(struct scsi_cmd *cmd)
{
    cmd->status = SCSI_GOOD;
    cmd->transferred = 0;
    cmd->sense_bytes = 0;
    cmd->medium_errno = 0;
}

void scsi_cmd_fail(struct scsi_cmd *cmd, struct scsi_sense sense)
{
    cmd->status = SCSI_CHECK_CONDITION;
    cmd->transferred = 0;
    cmd->sense_bytes = scsi_sense_fixed(sense, cmd->sense);
}

void scsi_cmd_fail_read(struct scsi_cmd *cmd, int rc)
{
    scsi_cmd_fail(cmd, scsi_sense_from_errno(rc, false));
    cmd->medium_errno = -rc;
}

void scsi_cmd_fail_write(struct scsi_cmd *cmd, int rc)
{
    scsi_cmd_fail(cmd, scsi_sense_from_errno(rc, true));
    cmd->medium_errno = -rc;
}

void scsi_cmd_reply(struct scsi_cmd *cmd, const void *data, size_t bytes, uint32_t allocation)
{
    size_t fits = min_of(bytes, (size_t)allocation);

    cmd->transferred = iov_copy_in(cmd->data_in, cmd->data_in_count, 0, data, fits);
}

void scsi_put_text(uint8_t *to, size_t bytes, const char *text)
{
    size_t length = strnlen(text, bytes);

    memcpy(to, text, length);
    memset(to + length, ' ', bytes - length);
}
