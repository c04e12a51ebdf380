package rocksprobe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// The tests tell a real RocksDB, Debian's, what to write and demand exactly the
// changes that it committed: its own sequence numbers are the oracle.

// types is parsed once: that takes longer than a test.
var types = btf.NewCache()

func open(t testing.TB, options Options) *Probe {
	t.Helper()
	target, err := Resolve(rocksdbLibrary)
	if errors.Is(err, ErrUnknownBuild) {
		t.Skipf("another build of RocksDB: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	options.Verify, options.Types = true, types
	p, err := Open(target, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	bpftest.Record(t, p.Programs()...)
	return p
}

// drain reads what is there until nothing came for a while.
func drain(t testing.TB, p *Probe) []Change {
	t.Helper()
	var all []Change
	for {
		var c Change
		err := p.Read(&c, time.Now().Add(50*time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Key, c.Value = append([]byte(nil), c.Key...), append([]byte(nil), c.Value...)
		all = append(all, c)
	}
}

func counters(t testing.TB, p *Probe) Counters {
	t.Helper()
	c, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestExactly demands each committed change once, and nothing that was taken
// back, refused or never committed.
func TestExactly(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid, Census: true})
	for name, c := range map[string]struct {
		command string
		puts    int
		deletes int
	}{
		"single puts":    {"put 97 100", 97, 0},
		"batches":        {"batch 13 17", 13 * 17, 0},
		"big batch":      {"batch 1 5000", 5000, 0},
		"deletes":        {"delete 31", 0, 31},
		"commits":        {"commit 29 3", 29 * 3, 0},
		"empty commits":  {"commit 5 0", 0, 0},
		"rollbacks":      {"rollback 41 7", 0, 0},
		"savepoints":     {"savepoint 19", 19, 0},
		"conflicts":      {"conflict 23", 23, 0},
		"threads":        {"threads 8 211 64", 8 * 211, 0},
		"empty value":    {"put 11 0", 11, 0},
		"every size":     {"large 40000", 1, 0},
		"nothing at all": {"sequence", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			old := counters(t, p)
			before, _ := w.do("sequence")
			after, _ := w.do("%s", c.command)
			changes := drain(t, p)
			exactly(t, changes, before, after)
			kinds := map[Kind]int{}
			for _, change := range changes {
				kinds[change.Kind]++
			}
			if kinds[Put] != c.puts || kinds[Delete] != c.deletes || len(changes) != c.puts+c.deletes {
				t.Errorf("published %v, want %d puts and %d deletes", kinds, c.puts, c.deletes)
			}
			got := counters(t, p)
			if got.Lost() != 0 || p.Missing() != 0 || got.Cut != 0 {
				t.Errorf("lost something: %+v, %d missing", got, p.Missing())
			}
			if got.Records-old.Records != uint64(len(changes)) {
				t.Errorf("the kernel counted %d changes, %d were read", got.Records-old.Records, len(changes))
			}
			if got.Puts-old.Puts < uint64(c.puts) {
				t.Errorf("the census has %d puts for %d that were committed", got.Puts-old.Puts, c.puts)
			}
		})
	}
}

// exactly demands every sequence number between two once: the engine numbers
// each committed change and no other.
func exactly(t *testing.T, changes []Change, before, after uint64) {
	t.Helper()
	seen := map[uint64]bool{}
	for _, c := range changes {
		if c.Sequence <= before || c.Sequence > after {
			t.Errorf("change %d (%s %q) is not from %d to %d", c.Sequence, c.Kind, c.Key, before+1, after)
		}
		if seen[c.Sequence] {
			t.Errorf("change %d came twice", c.Sequence)
		}
		seen[c.Sequence] = true
	}
	if uint64(len(seen)) != after-before {
		t.Errorf("%d changes, the engine committed %d", len(seen), after-before)
	}
}

func TestText(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid})
	w.do("value hello")
	w.do("delete 1")
	for _, size := range []int{0, 1, 30, 31, 127, 128, 200, 16383, 16384, 65000, 200000} {
		w.do("large %d", size)
	}
	changes := drain(t, p)
	if len(changes) != 13 {
		t.Fatalf("%d changes, want 13", len(changes))
	}
	if c := changes[0]; string(c.Value) != "hello" || string(c.Key) != "key-000000000000" || c.Process != uint32(w.cmd.Process.Pid) {
		t.Errorf("put: %+v %q %q", c, c.Key, c.Value)
	}
	if c := changes[1]; c.Kind != Delete || string(c.Key) != "key-000000000000" || len(c.Value) != 0 {
		t.Errorf("delete: %+v %q", c, c.Key)
	}
	for _, c := range changes[2:] {
		if c.Cut || string(c.Value) != strings.Repeat("l", c.ValueLen) {
			t.Errorf("a value of %d bytes came as %d, cut %v", c.ValueLen, len(c.Value), c.Cut)
		}
	}
	if last := changes[12]; last.ValueLen != 200000 {
		t.Errorf("the last has %d bytes", last.ValueLen)
	}
}

// TestLargeIsCut sends a value of 10 MB: the key comes whole, and the change
// says that its value has to be fetched from the store.
func TestLargeIsCut(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid})
	const size = 10 << 20
	w.do("large %d", size)
	changes := drain(t, p)
	if len(changes) != 1 {
		t.Fatalf("%d changes", len(changes))
	}
	c := changes[0]
	if !c.Cut || c.ValueLen != size || string(c.Key) != "key-000000000000" || len(c.Value) < 200<<10 || len(c.Value) >= size {
		t.Errorf("cut %v, %d of %d bytes, key %q", c.Cut, len(c.Value), c.ValueLen, c.Key)
	}
	if got := counters(t, p); got.Cut != 1 || got.Lost() != 0 {
		t.Errorf("%+v", got)
	}
}

// TestPutAloneIsNotCDC is the lesson's design against this one: what a probe on
// Put would have published of transactions that were rolled back.
func TestPutAloneIsNotCDC(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid, Census: true})
	w.do("rollback 100 2")
	w.do("commit 10 2")
	got, changes := counters(t, p), drain(t, p)
	if len(changes) != 20 || got.Commits != 10 || got.Rollbacks != 100 {
		t.Errorf("%d changes, %+v", len(changes), got)
	}
	if got.Puts < 220 {
		t.Errorf("Put was called %d times, the writer called it 220 times", got.Puts)
	}
	t.Logf("committed 20, a probe on Put alone publishes %d", got.Puts)
}

// TestCrash kills the writer inside of a transaction: nothing of it may come out,
// and the next writer's changes must.
func TestCrash(t *testing.T) {
	needRocksDB(t)
	dir := t.TempDir()
	t.Setenv("WRITER_WAL", "1")
	w := startWriter(t, dir)
	p := open(t, Options{})
	sequence, _ := w.do("put 7 10")
	w.crash("crash")
	again := startWriter(t, dir)
	recovered, _ := again.do("sequence")
	if recovered != sequence {
		t.Errorf("recovered up to %d, committed up to %d", recovered, sequence)
	}
	after, _ := again.do("put 5 10")
	changes := drain(t, p)
	for _, c := range changes {
		if strings.Contains(string(c.Value), "never committed") {
			t.Errorf("a change that was never committed came out: %q", c.Key)
		}
	}
	exactly(t, changes, 0, after)
}

// TestFullRing overfills a small ring and demands that every loss is counted, in
// the kernel and by the numbers in the stream. The writer stays on one CPU: what is
// lost at the end of another CPU's numbers shows only when that one publishes again.
func TestFullRing(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	var one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() > 1; cpu++ {
		one.Clear(cpu)
	}
	if err := unix.SchedSetaffinity(w.cmd.Process.Pid, &one); err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Process: w.cmd.Process.Pid, RingBytes: 64 << 10, WakeupBytes: 16 << 10})
	const n = 2003
	w.do("put %d 100", n)
	first := drain(t, p)
	w.do("put 3 100")
	changes := append(first, drain(t, p)...)
	got := counters(t, p)
	if got.LostFull == 0 || got.LostFull+uint64(len(changes)) != n+3 {
		t.Errorf("read %d and lost %d of %d", len(changes), got.LostFull, n+3)
	}
	if p.Missing() != got.LostFull {
		t.Errorf("the streams miss %d, the kernel lost %d", p.Missing(), got.LostFull)
	}
}

func TestWakeups(t *testing.T) {
	needRocksDB(t)
	for _, batch := range []int{0, 4 << 10, 1 << 20} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			w := startWriter(t, t.TempDir())
			p := open(t, Options{Process: w.cmd.Process.Pid, WakeupBytes: batch})
			w.do("put 1009 64")
			if changes := drain(t, p); len(changes) != 1009 {
				t.Errorf("read %d of 1009", len(changes))
			}
		})
	}
}

func TestProve(t *testing.T) {
	needRocksDB(t)
	w := startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid})
	w.do("put 3 10")
	others := 0
	err := p.Prove(context.Background(), func(nonce string) error {
		w.do("value %s", nonce)
		return nil
	}, func(*Change) { others++ })
	if err != nil || others != 3 {
		t.Errorf("%v, %d other changes", err, others)
	}
	broken := errors.New("broken")
	if err := p.Prove(context.Background(), func(string) error { return broken }, nil); !errors.Is(err, broken) {
		t.Errorf("a write that failed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Prove(ctx, func(string) error { return nil }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOtherProcess(t *testing.T) {
	needRocksDB(t)
	w, other := startWriter(t, t.TempDir()), startWriter(t, t.TempDir())
	p := open(t, Options{Process: w.cmd.Process.Pid})
	other.do("put 50 10")
	w.do("put 3 10")
	if changes := drain(t, p); len(changes) != 3 {
		t.Errorf("read %d changes, want the 3 of the process asked for", len(changes))
	}
}

func TestRefusals(t *testing.T) {
	target := Target{Path: "/nonexistent", Layout: Layout{Name: "none"}}
	for name, options := range map[string]Options{
		"ring of 3 pages": {RingBytes: 3 * 4096}, "tiny ring": {RingBytes: 512}, "huge ring": {RingBytes: 2 << 30},
		"wake-up beyond the ring": {RingBytes: 4096, WakeupBytes: 4096}, "negative": {WakeupBytes: -1}, "negative flush": {Flush: -1},
		"routes without tables": {Routes: &Routes{}},
	} {
		if _, err := Open(target, options); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(self); !errors.Is(err, ErrUnknownBuild) {
		t.Errorf("this test as a RocksDB: %v", err)
	}
	if _, err := Resolve("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Resolve("rocksprobe_test.go"); err == nil {
		t.Error("a text was taken for an ELF file")
	}
}
