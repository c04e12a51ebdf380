package uring

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newRing gives a ring on a locked thread and closes it with the test.
func newRing(t testing.TB, o Options) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	return r
}

type event struct {
	data  uint64
	res   int32
	flags uint32
}

// collect waits for n completions, bounded by five seconds.
func collect(t testing.TB, r *Ring, n int) []event {
	t.Helper()
	var got []event
	deadline := Now() + int64(5*time.Second)
	for len(got) < n {
		if _, err := r.SubmitAndWaitUntil(1, deadline); err != nil {
			t.Fatal(err)
		}
		r.ForEach(func(c *CQE) { got = append(got, event{c.UserData, c.Res, c.Flags}) })
		if Now() > deadline {
			t.Fatalf("%d of %d completions: %v", len(got), n, got)
		}
	}
	return got
}

// result waits for exactly one completion with the user data and returns it.
func result(t testing.TB, r *Ring, data uint64) event {
	t.Helper()
	got := collect(t, r, 1)
	if len(got) != 1 || got[0].data != data {
		t.Fatalf("completions %v, want one with user data %d", got, data)
	}
	return got[0]
}

func wantRes(t testing.TB, e event, want int32) {
	t.Helper()
	if e.res != want {
		t.Fatalf("result %d (%v), want %d", e.res, unix.Errno(-e.res), want)
	}
}

func variants(t *testing.T, f func(t *testing.T, o Options)) {
	for name, o := range map[string]Options{
		"plain":         {Entries: 8},
		"single_issuer": {Entries: 8, SingleIssuer: true, RegisterRing: true},
	} {
		t.Run(name, func(t *testing.T) { f(t, o) })
	}
}

func TestFileOperations(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd := int(f.Fd())

		r.SQE().Nop().Data(1)
		wantRes(t, result(t, r, 1), 0)
		r.SQE().Fallocate(fd, 0, 0, 8192).Data(2)
		wantRes(t, result(t, r, 2), 0)
		if info, _ := f.Stat(); info.Size() != 8192 {
			t.Fatalf("size %d after fallocate", info.Size())
		}
		r.SQE().Write(fd, []byte("hello"), 10).Data(3)
		wantRes(t, result(t, r, 3), 5)
		r.SQE().Fsync(fd).Data(4)
		wantRes(t, result(t, r, 4), 0)
		r.SQE().Fdatasync(fd).Data(5)
		wantRes(t, result(t, r, 5), 0)

		a, b := []byte("ab"), []byte("cde")
		iov := []unix.Iovec{{Base: &a[0], Len: 2}, {Base: &b[0], Len: 3}}
		r.SQE().Writev(fd, iov, 15).RWFlags(unix.RWF_DSYNC).Data(6)
		wantRes(t, result(t, r, 6), 5)
		p := make([]byte, 10)
		r.SQE().Read(fd, p, 10).Data(7)
		wantRes(t, result(t, r, 7), 10)
		if string(p) != "helloabcde" {
			t.Fatalf("read %q", p)
		}
		c, d := make([]byte, 5), make([]byte, 5)
		r.SQE().Readv(fd, []unix.Iovec{{Base: &c[0], Len: 5}, {Base: &d[0], Len: 5}}, 10).Data(8)
		wantRes(t, result(t, r, 8), 10)
		if string(c)+string(d) != "helloabcde" {
			t.Fatalf("read %q %q", c, d)
		}
	})
}

func TestRegisteredBuffersAndFiles(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 64)
		copy(buffer, "registered")
		if err := r.RegisterBuffers(buffer); err != nil {
			t.Fatal(err)
		}
		if err := r.RegisterFilesSparse(4); err != nil {
			t.Fatal(err)
		}
		r.SQE().WriteFixed(2, buffer[:10], 0, 0).With(FixedFile).Data(1)
		wantRes(t, result(t, r, 1), -int32(unix.EBADF))
		// A pair, so that 64-bit entries (giouring's layout) would show.
		if err := r.UpdateFiles(2, []int32{int32(f.Fd()), -1}); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil { // the table keeps its own reference
			t.Fatal(err)
		}
		r.SQE().WriteFixed(2, buffer[:10], 0, 0).With(FixedFile).Data(2)
		wantRes(t, result(t, r, 2), 10)
		r.SQE().ReadFixed(2, buffer[32:42], 0, 0).With(FixedFile).Data(3)
		wantRes(t, result(t, r, 3), 10)
		if string(buffer[32:42]) != "registered" {
			t.Fatalf("read %q", buffer[32:42])
		}
		r.SQE().ReadFixed(3, buffer[:1], 0, 0).With(FixedFile).Data(4)
		wantRes(t, result(t, r, 4), -int32(unix.EBADF))
		outside := make([]byte, 8)
		r.SQE().ReadFixed(2, outside, 0, 0).With(FixedFile).Data(5)
		wantRes(t, result(t, r, 5), -int32(unix.EFAULT))
	})
	t.Run("bad", func(t *testing.T) {
		r := newRing(t, Options{Entries: 4})
		for name, err := range map[string]error{
			"no buffers":   r.RegisterBuffers(),
			"empty buffer": r.RegisterBuffers(nil),
			"no files":     r.RegisterFiles(nil),
			"no slots":     r.RegisterFilesSparse(0),
			"bad file":     r.RegisterFiles([]int32{1 << 20}),
			"no table":     r.UpdateFiles(0, []int32{-1}),
		} {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}

func TestLinkedFailureCancels(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := r.Reserve(3); err != nil {
			t.Fatal(err)
		}
		r.SQE().Write(int(f.Fd()), []byte("x"), 0).With(Link).Data(1)
		r.SQE().Write(-1, []byte("y"), 0).With(Link).Data(2)
		r.SQE().Fdatasync(int(f.Fd())).Data(3)
		want := map[uint64]int32{1: 1, 2: -int32(unix.EBADF), 3: -int32(unix.ECANCELED)}
		for _, e := range collect(t, r, 3) {
			wantRes(t, e, want[e.data])
		}
		// A short read breaks a chain as well: here one byte of two.
		r.SQE().Read(int(f.Fd()), make([]byte, 2), 0).With(Link).Data(4)
		r.SQE().Nop().Data(5)
		want = map[uint64]int32{4: 1, 5: -int32(unix.ECANCELED)}
		for _, e := range collect(t, r, 2) {
			wantRes(t, e, want[e.data])
		}
	})
}

func TestSkipOnSuccess(t *testing.T) {
	r := newRing(t, Options{Entries: 8, SingleIssuer: true})
	r.SQE().Nop().With(SkipOnSuccess).Data(1)
	r.SQE().Write(-1, []byte("y"), 0).With(SkipOnSuccess).Data(2)
	r.SQE().Nop().Data(3)
	got := collect(t, r, 2)
	if len(got) != 2 || got[0].data == 1 || got[1].data == 1 {
		t.Fatalf("completions %v, want 2 and 3", got)
	}
}

// A completion queue smaller than what is in flight overflows into the kernel
// and nothing is lost.
func TestShortCompletionQueue(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		o.Entries, o.CQEntries = 4, 4
		r := newRing(t, o)
		const total = 64
		seen := make([]bool, total)
		mark := func(c *CQE) {
			if seen[c.UserData] {
				t.Errorf("%d completed twice", c.UserData)
			}
			seen[c.UserData] = true
		}
		overflowed := false
		for i := range total {
			s := r.SQE()
			if s == nil { // the kernel wants its completions read first
				r.ForEach(mark)
				s = r.SQE()
			}
			s.Nop().Data(uint64(i))
			overflowed = overflowed || r.Overflowed()
		}
		if !overflowed {
			t.Error("the completion queue never overflowed")
		}
		deadline := Now() + int64(5*time.Second)
		for slices.Contains(seen, false) && Now() < deadline {
			if _, err := r.SubmitAndWaitUntil(1, deadline); err != nil {
				t.Fatal(err)
			}
			r.ForEach(mark)
		}
		if slices.Contains(seen, false) {
			t.Fatalf("lost completions: %v", seen)
		}
	})
}

// A full submission queue submits by itself; Reserve refuses the impossible.
func TestFullSubmissionQueue(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		seen := make([]bool, 3*r.Entries())
		for i := range seen {
			r.SQE().Nop().Data(uint64(i))
		}
		for _, e := range collect(t, r, len(seen)) {
			if seen[e.data] {
				t.Fatalf("%d completed twice", e.data)
			}
			seen[e.data] = true
		}
		if err := r.Reserve(r.Entries() + 1); err == nil {
			t.Fatal("reserved more than the queue has")
		}
		r.SQE().Nop()
		if err := r.Reserve(r.Entries()); err != nil {
			t.Fatal(err)
		}
		if r.Room() != r.Entries() {
			t.Fatalf("room %d after Reserve", r.Room())
		}
		collect(t, r, 1)
	})
}

func TestTimeouts(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		start := Now()
		if _, err := r.SubmitAndWait(1, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if waited := time.Duration(Now() - start); waited < 5*time.Millisecond {
			t.Fatalf("waited %v of 5ms", waited)
		}
		deadline := Now() + int64(5*time.Millisecond)
		for Now() < deadline { // a signal may end the wait early
			if _, err := r.SubmitAndWaitUntil(1, deadline); err != nil {
				t.Fatal(err)
			}
		}
		ts := Timespec(time.Millisecond)
		r.SQE().Timeout(&ts, 0, false).Data(1)
		wantRes(t, result(t, r, 1), -int32(unix.ETIME))
		at := unix.NsecToTimespec(Now() + int64(time.Millisecond))
		r.SQE().Timeout(&at, 0, true).Data(2)
		wantRes(t, result(t, r, 2), -int32(unix.ETIME))
		long := Timespec(time.Hour)
		r.SQE().Timeout(&long, 0, false).Data(3)
		r.SQE().Cancel(3, false).Data(4)
		want := map[uint64]int32{3: -int32(unix.ECANCELED), 4: 0}
		for _, e := range collect(t, r, 2) {
			wantRes(t, e, want[e.data])
		}
	})
}

func TestWakerAndMsgRing(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		w, err := NewWaker()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		r := newRing(t, o)
		for range 3 {
			w.Arm(r.SQE()).Data(1)
			done := make(chan error, 1)
			go func() { done <- w.Wake() }()
			wantRes(t, result(t, r, 1), 8)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		failed := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			other, err := New(Options{Entries: 4})
			if err != nil {
				failed <- err
				return
			}
			other.SQE().MsgRing(r.Fd(), 42, 99)
			_, err = other.SubmitAndWait(1, time.Second)
			failed <- errors.Join(err, other.Close())
		}()
		wantRes(t, result(t, r, 99), 42)
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	})
}

func TestNothingAllocatesPerOperation(t *testing.T) {
	r := newRing(t, Options{Entries: 64, SingleIssuer: true})
	count := 0
	f := func(*CQE) { count++ }
	n := testing.AllocsPerRun(100, func() {
		for range 32 {
			r.SQE().Nop()
		}
		_, _ = r.Submit()
		_, _ = r.SubmitAndWaitUntil(1, Now()+1000)
		_, _ = r.SubmitAndWait(0, time.Microsecond)
		r.ForEach(f)
	})
	if n != 0 {
		t.Fatalf("%v allocations per turn", n)
	}
	if count != 32*101 {
		t.Fatalf("%d completions", count)
	}
}

func TestNowIsClockMonotonic(t *testing.T) {
	for range 100 {
		before := Now()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		after := Now()
		const slackNs = 20_000 // width of the calibration, on a busy machine
		if ts.Nano() < before-slackNs || ts.Nano() > after+slackNs {
			t.Fatalf("CLOCK_MONOTONIC %d is outside %d to %d", ts.Nano(), before, after)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Entries: EntriesMax + 1}, {Entries: 8, CQEntries: 4 * EntriesMax}, {Entries: 8, CQEntries: 2}} {
		if r, err := New(o); err == nil {
			_ = r.Close()
			t.Errorf("%+v was accepted", o)
		}
	}
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
}

// Nops per submission: the wrapper's own cost and the kernel's floor.
func BenchmarkNop64(b *testing.B) {
	r := newRing(b, Options{Entries: 64, SingleIssuer: true, RegisterRing: true})
	done := 0
	f := func(*CQE) { done++ }
	b.ReportAllocs()
	for b.Loop() {
		for range 64 {
			r.SQE().Nop()
		}
		_, _ = r.Submit()
		r.ForEach(f)
	}
	if done == 0 {
		b.Fatal("nothing completed")
	}
}
