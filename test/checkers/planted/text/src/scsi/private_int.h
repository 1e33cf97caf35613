/* private_int.h -- stays in scsi/. */
#pragma once
