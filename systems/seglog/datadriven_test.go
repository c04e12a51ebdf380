package seglog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/systems/seglog/faultdisk"
)

// TestRecoveryFiles runs testdata/recovery: each file is a story of a log and
// its disk. One more test is one more file; `go test -rewrite` fills in what
// happens. The commands are the methods of story named do….
func TestRecoveryFiles(t *testing.T) {
	datadriven.Walk(t, "testdata/recovery", func(t *testing.T, path string) {
		s := newStory()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			commands := map[string]func(*testing.T, *datadriven.TestData) string{
				"append": s.doAppend, "close": s.doClose, "crash": s.doCrash, "powercut": s.doPowerCut,
				"open": s.doOpen, "flip": s.doFlip, "cut": s.doCut, "remove": s.doRemove, "copy": s.doCopy,
				"stage": s.doStage, "submit": s.doSubmit, "write": s.doWrite, "sync": s.doSync, "finish": s.doFinish,
				"fault": s.doFault, "retire": s.doRetire, "read": s.doRead, "files": s.doFiles, "scan": s.doScan,
			}
			run := commands[d.Cmd]
			if run == nil {
				t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			}
			return run(t, d)
		})
	})
}

// story is one log with fixed salts and a fixed clock.
type story struct {
	disk    *faultdisk.Disk
	e       *seglog.Engine
	buffers [3][]byte
	out     []seglog.Commit // submitted and not finished, the oldest first
	salt    uint64
	now     time.Time
	retain  int64
}

func newStory() *story {
	return &story{
		disk:    faultdisk.New(faultdisk.Options{Seed: 1}),
		buffers: [3][]byte{make([]byte, 32<<10), make([]byte, 32<<10), make([]byte, 32<<10)},
		now:     time.Unix(1_700_000_000, 0),
	}
}

// open: recover the log.
func (s *story) doOpen(_ *testing.T, _ *datadriven.TestData) string {
	e, err := seglog.OpenEngine(s.disk, seglog.Options{
		SegmentBytes: 64 << 10, BatchBytes: 32 << 10, RetainBytes: s.retain,
		Now:    func() time.Time { return s.now },
		Random: func() uint64 { s.salt++; return s.salt },
	}, s.buffers[:])
	if err != nil {
		s.e = nil
		return err.Error() + "\n"
	}
	s.e = e
	r := e.Recovery()
	out := fmt.Sprintf("segments %d, records %d", r.Segments, r.Records)
	if r.TornAt != "" {
		out += fmt.Sprintf(", torn: %s, %d bytes cut", r.TornAt, r.TruncatedBytes)
	}
	return out + "\n"
}

// append tenant=1 n=3 size=100 batches=1: batches of n records each.
func (s *story) doAppend(t *testing.T, d *datadriven.TestData) string {
	tenant, n, size, batches := 1, 1, 100, 1
	d.MaybeScanArgs(t, "tenant", &tenant)
	d.MaybeScanArgs(t, "n", &n)
	d.MaybeScanArgs(t, "size", &size)
	d.MaybeScanArgs(t, "batches", &batches)
	var out strings.Builder
	for range batches {
		if err := s.batch(uint32(tenant), n, size); err != nil {
			s.now = s.now.Add(time.Second)
			return fmt.Sprintf("%v\n", err)
		}
	}
	first, last := s.e.Range(uint32(tenant))
	fmt.Fprintf(&out, "tenant %d: %d to %d\n", tenant, first, last)
	return out.String()
}

func (s *story) batch(tenant uint32, n, size int) error {
	if err := s.stage(tenant, n, size); err != nil {
		return err
	}
	k, _ := s.e.Cut()
	return s.e.Finish(s.write(k)).Err
}

func (s *story) stage(tenant uint32, n, size int) error {
	for i := 0; i < n; {
		_, next := s.e.Range(tenant)
		payload := fmt.Appendf(nil, "record %d of tenant %d ", next+uint64(i)+1, tenant)
		_, err := s.e.Stage(tenant, append(payload, make([]byte, max(size-len(payload), 0))...))
		if errors.Is(err, seglog.ErrBusy) {
			if p := s.e.Prepare(); p != nil {
				p.Run()
				s.e.Prepared(p)
			}
			continue
		}
		if err != nil {
			return err
		}
		i++
	}
	return nil
}

func (s *story) write(k seglog.Commit) error {
	return s.disk.Commit(k.File, s.buffers[k.Buffer][:k.Bytes], k.Offset)
}

// stage tenant=1 n=3 size=100: records for the open batch.
func (s *story) doStage(t *testing.T, d *datadriven.TestData) string {
	tenant, n, size := 1, 1, 100
	d.MaybeScanArgs(t, "tenant", &tenant)
	d.MaybeScanArgs(t, "n", &n)
	d.MaybeScanArgs(t, "size", &size)
	return result(s.stage(uint32(tenant), n, size))
}

// submit: the open batch becomes a commit that is out. Its operations are
// commands of their own, in any order: write, sync, finish.
func (s *story) doSubmit(_ *testing.T, _ *datadriven.TestData) string {
	k, ok := s.e.Cut()
	if !ok {
		return "not now\n"
	}
	s.out = append(s.out, k)
	return fmt.Sprintf("commit %d: %d records, %d bytes at %d\n", len(s.out), k.Records, k.Bytes, k.Offset)
}

// write commit=1 bytes=600: that commit's bytes, or the first of them.
func (s *story) doWrite(t *testing.T, d *datadriven.TestData) string {
	n := 0
	d.ScanArgs(t, "commit", &n)
	k := s.out[n-1]
	bytes := k.Bytes
	d.MaybeScanArgs(t, "bytes", &bytes)
	_, err := k.File.WriteAt(s.buffers[k.Buffer][:bytes], k.Offset)
	return result(err)
}

// sync: everything written to the commits' file is durable.
func (s *story) doSync(_ *testing.T, _ *datadriven.TestData) string {
	return result(s.out[0].File.Sync())
}

// finish error=true: the oldest commit ended; error=true: badly.
func (s *story) doFinish(t *testing.T, d *datadriven.TestData) string {
	var failed bool
	d.MaybeScanArgs(t, "error", &failed)
	if !failed {
		s.out = s.out[1:]
		return fmt.Sprintf("%d records\n", s.e.Finish(nil).Records)
	}
	s.out = nil
	o := s.e.Finish(errors.New("the disk said no"))
	return fmt.Sprintf("%v\nbuffers that failed along: %v\n", o.Err, o.AlsoFailed)
}

// close: close the log.
func (s *story) doClose(_ *testing.T, _ *datadriven.TestData) string {
	return result(s.e.Close(s.write))
}

// crash: the process dies, the machine doesn't.
func (s *story) doCrash(_ *testing.T, _ *datadriven.TestData) string {
	s.disk, s.out = s.disk.Reboot(faultdisk.Options{Seed: 2}), nil
	return "ok\n"
}

// powercut: what wasn't synced is at the disk's mercy.
func (s *story) doPowerCut(_ *testing.T, _ *datadriven.TestData) string {
	s.disk.PowerOff()
	return s.doCrash(nil, nil)
}

// fault kind=EIO|ENOSPC after=1: that operation from now on fails.
func (s *story) doFault(t *testing.T, d *datadriven.TestData) string {
	var kind string
	after, sticky := 1, false
	d.ScanArgs(t, "kind", &kind)
	d.MaybeScanArgs(t, "after", &after)
	d.MaybeScanArgs(t, "sticky", &sticky)
	k := map[string]faultdisk.Kind{"none": faultdisk.None, "EIO": faultdisk.EIO, "ENOSPC": faultdisk.ENOSPC, "short": faultdisk.ShortWrite}[kind]
	s.disk.Inject(k, after, sticky)
	return "ok\n"
}

// flip file=… offset=…: one bit changes on the platter.
func (s *story) doFlip(t *testing.T, d *datadriven.TestData) string {
	f, offset := s.at(t, d)
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		return result(err)
	}
	b[0] ^= 1
	_, err := f.WriteAt(b[:], offset)
	return result(errors.Join(err, f.Sync()))
}

// cut file=… offset=…: the file ends there.
func (s *story) doCut(t *testing.T, d *datadriven.TestData) string {
	f, offset := s.at(t, d)
	return result(errors.Join(f.Truncate(offset), f.Sync()))
}

// copy file=… offset=… to=… length=…: bytes appear a second time.
func (s *story) doCopy(t *testing.T, d *datadriven.TestData) string {
	f, offset := s.at(t, d)
	var to, length int
	d.ScanArgs(t, "to", &to)
	d.ScanArgs(t, "length", &length)
	p := make([]byte, length)
	if _, err := f.ReadAt(p, offset); err != nil {
		return result(err)
	}
	_, err := f.WriteAt(p, int64(to))
	return result(errors.Join(err, f.Sync()))
}

func (s *story) at(t *testing.T, d *datadriven.TestData) (seglog.File, int64) {
	var offset int
	d.MaybeScanArgs(t, "offset", &offset)
	f, err := s.disk.Open(fileArg(t, d))
	if err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return f, int64(offset)
}

func fileArg(t *testing.T, d *datadriven.TestData) string {
	var name string
	d.ScanArgs(t, "file", &name)
	if len(name) < 3 {
		return fmt.Sprintf("%016s.seg", name)
	}
	return name
}

// remove file=…
func (s *story) doRemove(t *testing.T, d *datadriven.TestData) string {
	return result(s.disk.Remove(fileArg(t, d)))
}

// retire bytes=…: retention runs with that limit.
func (s *story) doRetire(t *testing.T, d *datadriven.TestData) string {
	var limit int
	d.ScanArgs(t, "bytes", &limit)
	s.retain = int64(limit)
	r := s.e.RetireTo(s.retain, time.Time{})
	if r == nil {
		return "nothing to remove\n"
	}
	if err := r.Run(); err != nil {
		return result(err)
	}
	var half bool
	if d.MaybeScanArgs(t, "half", &half); half {
		return "durable, files not removed\n"
	}
	s.e.Retired(r)
	return result(r.Remove())
}

// read tenant=1 seq=2
func (s *story) doRead(t *testing.T, d *datadriven.TestData) string {
	tenant, seq := 1, 1
	d.MaybeScanArgs(t, "tenant", &tenant)
	d.MaybeScanArgs(t, "seq", &seq)
	at, err := s.e.Find(uint32(tenant), uint64(seq))
	if err != nil {
		return result(err)
	}
	defer at.Release()
	p, err := at.Read(nil)
	if err != nil {
		return result(err)
	}
	return strings.TrimRight(string(p), "\x00 ") + "\n"
}

// files: what is on the disk.
func (s *story) doFiles(t *testing.T, _ *datadriven.TestData) string {
	names, err := s.disk.List()
	if err != nil {
		return result(err)
	}
	var out strings.Builder
	for _, name := range names {
		f, err := s.disk.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		fmt.Fprintf(&out, "%s %d\n", name, size)
	}
	return out.String()
}

// scan: the tenants and sequences that a read-only scan gives.
func (s *story) doScan(_ *testing.T, _ *datadriven.TestData) string {
	ranges := map[uint32][2]uint64{}
	err := seglog.ScanDevice(s.disk, func(tenant uint32, seq uint64, _ []byte) error {
		r, ok := ranges[tenant]
		if !ok {
			r[0] = seq
		}
		ranges[tenant] = [2]uint64{r[0], seq}
		return nil
	})
	if err != nil {
		return result(err)
	}
	return fmt.Sprintln(ranges)
}

func result(err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	return "ok\n"
}
