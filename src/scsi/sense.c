/* sense.c -- sense data in both formats, and errno turned into sense. */
#include "scsi/sense.h"
#include <errno.h>
#include <string.h>

size_t scsi_sense_fixed(struct scsi_sense sense, uint8_t *to)
{
    memset(to, 0, SCSI_SENSE_FIXED_BYTES);
    to[0] = 0x70; /* current error, fixed format; VALID is 0: no INFORMATION */
    to[2] = sense.key;
    to[7] = SCSI_SENSE_FIXED_BYTES - 8;
    to[12] = sense.asc;
    to[13] = sense.ascq;
    return SCSI_SENSE_FIXED_BYTES;
}

size_t scsi_sense_descriptor(struct scsi_sense sense, uint8_t *to)
{
    memset(to, 0, SCSI_SENSE_DESCRIPTOR_BYTES);
    to[0] = 0x72; /* current error, descriptor format; no descriptor follows */
    to[1] = sense.key;
    to[2] = sense.asc;
    to[3] = sense.ascq;
    return SCSI_SENSE_DESCRIPTOR_BYTES;
}

struct scsi_sense scsi_sense_from_errno(int rc, bool is_write)
{
    switch (-rc) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return SCSI_SPACE_ALLOCATION_FAILED;
    case EROFS:
    case EPERM:
    case EACCES:
        return SCSI_WRITE_PROTECTED;
    case EINVAL:
        return SCSI_INVALID_FIELD_IN_CDB;
    case ENOMEM:
    case EAGAIN:
    case EBUSY:
        return SCSI_INSUFFICIENT_RESOURCES;
    case ENOMEDIUM:
        return SCSI_NO_MEDIUM;
    case ECANCELED:
    case EINTR:
        return SCSI_COMMAND_ABORTED;
    case ENOTSUP:
    case ENODEV:
    case ENXIO:
    case EREMOTEIO:
    case ETIMEDOUT:
        return SCSI_TARGET_FAILURE; /* what is behind us is broken or gone, not these blocks */
    default:
        return is_write ? SCSI_WRITE_ERROR : SCSI_READ_ERROR;
    }
}
