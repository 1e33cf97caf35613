"""scenario: what several guest tests do: fio with verification until told to stop, checks of content."""
import hashlib
import re

from cases import expect
from daemon import noise

STAMP_BYTES = 512

# fio again and again until told to stop; a line for each run: "run READ_KIB WRITTEN_KIB ERROR".
FIO = """
while [ ! -e /tmp/stop-{disk} ]; do
    fio --name={disk} --filename=/dev/{disk} --rw=randrw --bs=4k --direct=1 --ioengine=libaio \
        --iodepth={depth} --size={size} --verify=crc32c --verify_backlog=256 --verify_fatal=1 \
        --output-format=terse --terse-version=3 >/tmp/{disk}.out 2>&1 ||
        {{ echo "fio ended with $?"; cat /tmp/{disk}.out; exit 1; }}
    awk -F';' 'NF > 40 {{ print "run", $6, $47, $5 }}' /tmp/{disk}.out
done
"""


class Fio:
    """Verified random reads and writes on a disk of the guest, in the background."""

    def __init__(self, guest, disk, depth=32, size="24m"):
        self.guest, self.disk = guest, disk
        self.job = guest.start(FIO.format(disk=disk, depth=depth, size=size))

    def finish(self, timeout=300):
        """Stop after the run under way; (runs, MiB read and compared, MiB written). Raises on any error."""
        self.guest.run("touch /tmp/stop-" + self.disk)
        done = self.job.wait(timeout)
        runs = [tuple(map(int, run)) for run in
                re.findall(r"^run (\d+) (\d+) (\d+)", self.job.output, re.M)]
        expect(done.status == 0, "fio on %s: %s" % (self.disk, self.job.output[-2000:]))
        expect(runs and not any(run[2] for run in runs), "fio on %s did nothing, or had errors: %s" %
               (self.disk, self.job.output[-2000:]))
        return len(runs), sum(run[0] for run in runs) // 1024, sum(run[1] for run in runs) // 1024

    def check(self):
        expect(self.job.running(), "fio on %s ended: %s" % (self.disk, self.job.output[-2000:]))


def content_sum(name, size):
    """What read_sum() must give for an image of random bytes, its first block left out."""
    return hashlib.md5(noise(name, size)[STAMP_BYTES:]).hexdigest()


def read_sum(guest, disk, size):
    """MD5 of the first @size bytes, the first block left out; an error of the read is raised."""
    done = guest.run("dd if=/dev/%s of=/tmp/read bs=256k count=%d iflag=direct 2>/tmp/error ||"
                     " { cat /tmp/error; exit 1; }; tail -c +%d /tmp/read | md5sum" %
                     (disk, size >> 18, STAMP_BYTES + 1), check=False)
    expect(done.status == 0, "reading %s: %s\n%s" % (disk, done.output, guest.log_tail()))
    return done.output.split()[0]


def write_stamp(guest, disk, text):
    guest.run("printf '%%s' '%s' | dd of=/dev/%s bs=%d conv=sync oflag=direct" %
              (text, disk, STAMP_BYTES))


def check_stamp(path, text):
    with open(path, "rb") as file:
        found = file.read(len(text)).decode(errors="replace")
    expect(found == text, "the image begins with '%s', the guest wrote '%s'" % (found, text))


def median(values):
    return sorted(values)[len(values) // 2]
