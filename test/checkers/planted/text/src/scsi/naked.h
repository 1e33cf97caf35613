#include "scsi/private_int.h" // expect: header: does not open
// The line above also lacks the pragma. expect-first: header: no #pragma
